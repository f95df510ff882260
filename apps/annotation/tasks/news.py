"""Wake-ups for what contributors are told."""

from apps.annotation.services.news import mail_due_news, people_to_mail, record_news
from apps.annotation.services.thanks import record_thanks
from apps.common.tasks import is_awake, send_once, task


@task(queue="default", soft_limit_s=120)
def note_news() -> None:
    """Note what contributors are to be told; one wake-up serves all answers accepted since."""
    is_awake(note_news)
    if record_news():
        send_once(note_news)


@task(queue="default", soft_limit_s=300)
def note_thanks() -> None:
    """Note whose photos taught the versions promoted lately."""
    is_awake(note_thanks)
    record_thanks()


@task(queue="default", soft_limit_s=600)
def mail_news_waiting() -> None:
    """Write the mails that are due, some hundred at a time."""
    is_awake(mail_news_waiting)
    if mail_due_news() and people_to_mail().exists():
        send_once(mail_news_waiting)


def sweep_news() -> None:
    """Find what a lost message left out, and the digests whose time has come."""
    record_news()
    record_thanks()
    if people_to_mail().exists():
        send_once(mail_news_waiting)
