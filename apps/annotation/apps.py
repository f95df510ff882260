from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AnnotationConfig(AppConfig):
    name = "apps.annotation"
    verbose_name = _("Annotation")

    def ready(self) -> None:
        from apps.annotation.receivers import connect

        connect()
