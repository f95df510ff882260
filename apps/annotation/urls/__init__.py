"""The experts' pages, by what they are for."""

from apps.annotation.urls import agreement, home, model, review, task

app_name = "annotation"
urlpatterns = [
    *home.urlpatterns,
    *task.urlpatterns,
    *review.urlpatterns,
    *agreement.urlpatterns,
    *model.urlpatterns,
]
