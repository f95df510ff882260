"""The routes under /api/v1/."""

from django.urls import URLPattern, URLResolver, path

from apps.accounts.api.views import TokenRefreshView, TokenView
from apps.observations.api import views
from apps.observations.api.identify import IdentifyView

urlpatterns: list[URLPattern | URLResolver] = [
    path("token/", TokenView.as_view(), name="token"),
    path("token/refresh/", TokenRefreshView.as_view(), name="token-refresh"),
    path("observations/", views.ObservationsView.as_view(), name="observations"),
    path("observations/<uuid:public_id>/", views.ObservationView.as_view(), name="observation"),
    path(
        "observations/<uuid:public_id>/photos/",
        views.ObservationPhotosView.as_view(),
        name="observation-photos",
    ),
    path("identify/", IdentifyView.as_view(), name="identify"),
    path("surveys/", views.SurveysView.as_view(), name="surveys"),
    path("surveys/<slug:slug>/", views.SurveyView.as_view(), name="survey"),
    path("labels/", views.LabelsView.as_view(), name="labels"),
]
