from django.urls import URLPattern, path

from apps.observations.views import send

urlpatterns: list[URLPattern] = [
    path("send/", send.send_page, name="send"),
    path("send/<uuid:batch>/", send.begin, name="send_begin"),
    path("send/<uuid:batch>/known/", send.known, name="send_known"),
    path("send/<uuid:batch>/file/", send.take_file, name="send_file"),
    path("send/<uuid:batch>/end/", send.end, name="send_end"),
]
