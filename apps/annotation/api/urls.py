"""The routes under /api/v1/annotation/."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
