from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class AccountsConfig(AppConfig):
    name = "apps.accounts"
    verbose_name = _("Accounts")

    def ready(self) -> None:
        from apps.accounts.curators import give_curators_their_permissions
        from apps.common import checks  # noqa: F401  (registers the system checks; the lowest app does it for all)

        post_migrate.connect(give_curators_their_permissions, dispatch_uid="curators")
