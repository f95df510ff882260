"""The public site's addresses, one module per part of it."""

from django.urls import URLPattern

from apps.observations.urls import browse, mine, results, send

app_name = "observations"
urlpatterns: list[URLPattern] = [
    *send.urlpatterns,
    *mine.urlpatterns,
    *results.urlpatterns,
    *browse.urlpatterns,
]
