from django.urls import URLPattern, path

from apps.annotation.views import model

urlpatterns: list[URLPattern] = [
    path("<slug:slug>/model/", model.model, name="model"),
    path("<slug:slug>/model/live/", model.live, name="model_live"),
    path("<slug:slug>/model/start/", model.start, name="model_start"),
    path("<slug:slug>/model/measure/", model.measure, name="model_measure"),
]
