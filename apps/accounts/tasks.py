"""Wake-ups for mails that wait in the outbox."""

from apps.accounts.mails import send_due_mails
from apps.accounts.models import OutgoingMail
from apps.common.tasks import send, task


@task(queue="default", soft_limit_s=600)
def send_mails() -> None:
    """Send what is due; may run twice, each mail is claimed once."""
    if send_due_mails() and OutgoingMail.objects.due().exists():
        send(send_mails)
