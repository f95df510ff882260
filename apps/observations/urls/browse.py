from django.urls import URLPattern, path

from apps.observations.views.gallery import gallery
from apps.observations.views.map import map_data, map_page

urlpatterns: list[URLPattern] = [
    path("gallery/", gallery, name="gallery"),
    path("map/", map_page, name="map"),
    path("map/data/", map_data, name="map_data"),
]
