"""The routes under /api/v1/annotation/."""

from django.urls import URLPattern, path

from apps.annotation.api import views

urlpatterns: list[URLPattern] = [
    path("surveys/<slug:slug>/next/", views.NextView.as_view(), name="next"),
    path("tasks/<uuid:task_id>/", views.TaskView.as_view(), name="task"),
    path("tasks/<uuid:task_id>/draft/", views.DraftView.as_view(), name="draft"),
    path("tasks/<uuid:task_id>/lease/", views.LeaseView.as_view(), name="lease"),
    path("tasks/<uuid:task_id>/submit/", views.SubmitView.as_view(), name="submit"),
    path("tasks/<uuid:task_id>/skip/", views.SkipView.as_view(), name="skip"),
    path("tasks/<uuid:task_id>/release/", views.ReleaseView.as_view(), name="release"),
]
