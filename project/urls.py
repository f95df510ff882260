from django.contrib import admin
from django.urls import include, path, re_path
from django.views.i18n import JavaScriptCatalog

from apps.annotation.api import urls as annotation_api
from apps.common.health import healthz, metrics, readyz
from apps.observations.api import urls as observations_api
from apps.observations.api.schema import DocumentationView, SchemaView, nothing_here
from apps.observations.views.home import home

api_v1 = [
    *observations_api.urlpatterns,
    path("annotation/", include((annotation_api.urlpatterns, "annotation"))),
]
urlpatterns = [
    path("", home, name="home"),
    path("", include("apps.observations.urls")),
    path("annotate/", include("apps.annotation.urls")),
    path("models/", include("apps.training.urls")),
    path("accounts/", include("allauth.urls")),
    path("account/", include("apps.accounts.urls")),
    path("i18n/", include("django.conf.urls.i18n")),
    path("jsi18n/", JavaScriptCatalog.as_view(domain="djangojs"), name="javascript-catalog"),
    path("admin/", admin.site.urls),
    path("api/v1/", include((api_v1, "v1"))),
    path("api/schema/", SchemaView.as_view(), name="api-schema"),
    path("api/docs/", DocumentationView.as_view(url_name="api-schema"), name="api-docs"),
    re_path(r"^api(?:/|$)", nothing_here),
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("metrics", metrics, name="metrics"),
]

handler500 = "apps.common.errors.server_error"
