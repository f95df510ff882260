from django.urls import URLPattern, path

from apps.observations.views import comments, downloads, files, observation, photo

urlpatterns: list[URLPattern] = [
    path("photos/<uuid:public_id>/", photo.photo_page, name="photo"),
    path("photos/<uuid:public_id>/progress/", photo.photo_progress, name="photo_progress"),
    path("photos/<uuid:public_id>/again/", photo.detect_again, name="detect_again"),
    path("photos/<uuid:public_id>/thumbnail.jpg", files.thumbnail, name="thumbnail"),
    path("photos/<uuid:public_id>/display.jpg", files.display, name="display"),
    path("photos/<uuid:public_id>/tiles/<int:level>/<int:column>_<int:row>.jpg", files.tile, name="tile"),
    path("photos/<uuid:public_id>/original", files.original, name="original"),
    path("photos/<uuid:public_id>/annotated.jpg", downloads.photo_picture, name="photo_picture"),
    path("photos/<uuid:public_id>/detections.json", downloads.photo_json, name="photo_json"),
    path("photos/<uuid:public_id>/detections.csv", downloads.photo_csv, name="photo_csv"),
    path("photos/<uuid:public_id>/comments/", comments.comment_on_photo, name="comment_on_photo"),
    path("observations/<uuid:public_id>/", observation.observation_page, name="observation"),
    path(
        "observations/<uuid:public_id>/progress/",
        observation.observation_progress,
        name="observation_progress",
    ),
    path("observations/<uuid:public_id>/proposals/", observation.settle_proposals, name="settle_proposals"),
    path(
        "observations/<uuid:public_id>/refused/dismiss/", observation.dismiss_refused, name="dismiss_refused"
    ),
    path("observations/<uuid:public_id>/pictures.zip", downloads.observation_zip, name="observation_zip"),
    path(
        "observations/<uuid:public_id>/detections.json", downloads.observation_json, name="observation_json"
    ),
    path("observations/<uuid:public_id>/detections.csv", downloads.observation_csv, name="observation_csv"),
    path(
        "observations/<uuid:public_id>/comments/",
        comments.comment_on_observation,
        name="comment_on_observation",
    ),
    path("comments/<uuid:public_id>/delete/", comments.delete_comment, name="delete_comment"),
]
