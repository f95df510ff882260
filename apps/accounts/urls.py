from django.urls import URLPattern, path

from apps.accounts import views

app_name = "accounts"
urlpatterns: list[URLPattern] = [
    path("", views.profile, name="profile"),
    path("expert/", views.apply_expert, name="apply_expert"),
    path("clients/<uuid:client_id>/revoke/", views.revoke_client, name="revoke_client"),
    path("news/<str:token>/", views.news, name="news"),
    path("mailbox/", views.mailbox, name="mailbox"),
]
