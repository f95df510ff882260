"""The routes under /api/v1/."""

from django.urls import URLPattern, URLResolver

app_name = "v1"
urlpatterns: list[URLPattern | URLResolver] = []
