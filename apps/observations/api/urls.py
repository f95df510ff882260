"""The routes under /api/v1/."""

from django.urls import URLPattern, URLResolver, path

from apps.accounts.api.views import TokenRefreshView, TokenView

app_name = "v1"
urlpatterns: list[URLPattern | URLResolver] = [
    path("token/", TokenView.as_view(), name="token"),
    path("token/refresh/", TokenRefreshView.as_view(), name="token-refresh"),
]
