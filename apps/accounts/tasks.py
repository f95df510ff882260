"""Wake-ups for the outbox; they may come twice, late or not at all."""

from apps.accounts import mails
from apps.common.tasks import task


@task(queue="mail", soft_limit_s=300)
def send_mails() -> None:
    mails.send_due_mails()
