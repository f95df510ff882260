from django.urls import URLPattern, path

from apps.annotation.views import review

urlpatterns: list[URLPattern] = [
    path("review/<slug:slug>/", review.review, name="review"),
    path("review/<slug:slug>/act/", review.review_act, name="review_act"),
    path("review/<slug:slug>/undo/<uuid:batch>/", review.review_undo, name="review_undo"),
    path("review/<slug:slug>/history/", review.review_history, name="review_history"),
    path("review/<slug:slug>/discussed/", review.discussed, name="discussed"),
    path("crops/<uuid:public_id>/<int:number>.jpg", review.crop, name="crop"),
    path(
        "crops/photos/<uuid:public_id>/<int:version>/<int:number>.jpg", review.model_crop, name="model_crop"
    ),
]
