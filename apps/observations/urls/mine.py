from django.urls import URLPattern, path

from apps.observations.views import edit, leaving, mine

urlpatterns: list[URLPattern] = [
    path("mine/", mine.mine, name="mine"),
    path("mine/delete/", mine.mine_delete, name="mine_delete"),
    path("observations/<uuid:public_id>/edit/", edit.edit, name="edit"),
    path("observations/<uuid:public_id>/delete/", edit.delete, name="delete"),
    path("photos/<uuid:public_id>/delete/", edit.photo_delete, name="photo_delete"),
    path("account/data/", leaving.export, name="export"),
    path("account/data/<uuid:public_id>/", leaving.export_file, name="export_file"),
    path("account/leave/", leaving.leave, name="leave"),
]
