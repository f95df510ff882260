from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ObservationsConfig(AppConfig):
    name = "apps.observations"
    verbose_name = _("Observations")

    def ready(self) -> None:
        from apps.observations.receivers import connect

        connect()
