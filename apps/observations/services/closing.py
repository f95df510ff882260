"""Leaving: what a closed account had sent and written is removed by a worker."""

from typing import Final

from django.db import transaction

from apps.accounts.models import User
from apps.accounts.services import close_account
from apps.common.leased import is_stopping
from apps.common.tasks import wake_once
from apps.observations.models import Observation
from apps.observations.services.data_export import discard_exports
from apps.observations.services.deletion import delete_observation

CLOSED_DOMAIN: Final = "@closed.invalid"
_AT_ONCE: Final = 50


@transaction.atomic
def leave(*, user: User) -> None:
    """Close the account now; its photos, comments and files, and then its row, go as soon as a worker comes to it."""
    from apps.observations.tasks import erase_closed  # tasks call services

    close_account(user=user)
    Observation.objects.filter(contributor=user).exclude(visibility=Observation.Visibility.HIDDEN).update(
        visibility=Observation.Visibility.PRIVATE
    )
    wake_once(erase_closed)


def closed_accounts_exist() -> bool:
    return User.objects.filter(is_active=False, email__endswith=CLOSED_DOMAIN).exists()


def erase_closed_accounts() -> int:
    """Erase all that belongs to closed accounts; gives how many accounts went. Interrupted, it goes on next time."""
    erased = 0
    for user in User.objects.filter(is_active=False, email__endswith=CLOSED_DOMAIN).order_by("pk"):
        while batch := list(Observation.objects.filter(contributor=user).order_by("pk")[:_AT_ONCE]):
            for observation in batch:
                delete_observation(observation=observation)
                if is_stopping():
                    return erased
        discard_exports(user=user)
        user.delete()
        erased += 1
    return erased
