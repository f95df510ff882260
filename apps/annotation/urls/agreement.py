from django.urls import URLPattern, path

from apps.annotation.views import agreement

urlpatterns: list[URLPattern] = [
    path("agreement/<slug:slug>/", agreement.agreement, name="agreement"),
    path("me/", agreement.me, name="me"),
]
