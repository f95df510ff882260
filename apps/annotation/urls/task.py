from django.urls import URLPattern, path

from apps.annotation.views import task

urlpatterns: list[URLPattern] = [
    path("session/", task.session_state, name="session"),
    path("signed-in/", task.signed_in, name="signed_in"),
    path("photos/<uuid:task_id>/", task.draw_task, name="task"),
    path("<slug:slug>/draw/", task.draw_next, name="draw"),
]
