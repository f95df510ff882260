from django.urls import URLPattern, path

from apps.annotation.views import home

urlpatterns: list[URLPattern] = [path("", home.home, name="home")]
