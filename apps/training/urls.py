from django.urls import path

from apps.training.views import comparisons, evaluations, models, pictures, runs

app_name = "training"
urlpatterns = [
    path("", models.model_list, name="models"),
    path("runs/<uuid:public_id>/", runs.run, name="run"),
    path("runs/<uuid:public_id>/live/", runs.live, name="run_live"),
    path("runs/<uuid:public_id>/log/", runs.log, name="run_log"),
    path("runs/<uuid:public_id>/retry/", runs.retry, name="run_retry"),
    path("runs/<uuid:public_id>/cancel/", runs.cancel, name="run_cancel"),
    path("evaluations/<uuid:public_id>/", evaluations.evaluation, name="evaluation"),
    path("evaluations/<uuid:public_id>/live/", evaluations.live, name="evaluation_live"),
    path("evaluations/<uuid:public_id>/cell/<int:row>/<int:column>/", evaluations.cell, name="cell"),
    path("evaluations/<uuid:public_id>/photos/", evaluations.photos, name="evaluation_photos"),
    path("evaluations/<uuid:public_id>/report.json", evaluations.report, name="report"),
    path("comparisons/<uuid:public_id>/", comparisons.comparison, name="comparison"),
    path("comparisons/<uuid:public_id>/live/", comparisons.live, name="comparison_live"),
    path("comparisons/<uuid:public_id>/differences/", comparisons.differences, name="differences"),
    path("pictures/<uuid:photo>.jpg", pictures.picture, name="picture"),
    path("pictures/<uuid:photo>/<str:window>.jpg", pictures.crop, name="crop"),
    path("<slug:name>/", models.versions, name="versions"),
    path("<slug:name>/<int:number>/", models.card, name="card"),
    path("<slug:name>/<int:number>.md", models.card_markdown, name="card_markdown"),
]
