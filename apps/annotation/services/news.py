"""What contributors are told of experts' answers, and of what their photos taught: in a mail at most once a day."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from django.urls import reverse
from django.utils import timezone, translation

from apps.accounts.models import OutgoingMail, User
from apps.accounts.services import write_to
from apps.accounts.unsubscribing import unsubscribe_address
from apps.annotation.models import AnnotatedBox, Annotation, ContributorNews, Thanks
from apps.annotation.services.thanks import latest_of_each_model, thanks_sentence
from apps.annotation.stories import BoxStory, Story, sentences, story_of
from apps.observations.models import Detection, Label, Observation

RESTS_FOR = timedelta(hours=1)
"""An answer is told when it has stood for so long: experts correct themselves, and undo."""
BETWEEN_MAILS = timedelta(hours=24)
OLDEST = timedelta(days=7)
"""Who asks for news again is not sent last year's."""
PHOTOS_IN_A_MAIL = 20
_PEOPLE_AT_ONCE = 200
_NOTED_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class PhotoNews:
    """One photo of a mail."""

    title: str
    address: str
    sentences: list[str] = field(default_factory=list)


def record_news(*, since: timedelta = timedelta(days=2)) -> int:
    """Note which contributors are to be told of answers that count; each answer is told once, whoever asks how often.

    Nothing is noted of what contributors answered themselves, or imported with the photos. Gives how many are new.
    """
    told = ContributorNews.objects.filter(annotation=OuterRef("pk"))
    answers = _to_tell().filter(~Exists(told), accepted_for__accepted_at__gte=Now() - since)
    found = answers.values_list("pk", "task__photo", "task__photo__contributor")[:_NOTED_AT_ONCE]
    rows = [
        ContributorNews(annotation_id=pk, photo_id=photo, contributor_id=contributor)
        for pk, photo, contributor in found
    ]
    ContributorNews.objects.bulk_create(rows, ignore_conflicts=True)
    return len(rows)


def _to_tell() -> QuerySet[Annotation]:
    """Answers that count, of photos that are on the site, by somebody else than the contributor."""
    return (
        Annotation.objects.filter(accepted_for__isnull=False, task__photo__contributor__is_active=True)
        .exclude(origin=Annotation.Origin.IMPORT)
        .exclude(task__photo__observation__visibility=Observation.Visibility.HIDDEN)
        .filter(Q(author=None) | ~Q(author=F("task__photo__contributor")))
    )


# --- The story of an answer ---------------------------------------------------------------------------------


def tell_answers(answers: Sequence[Annotation]) -> dict[int, Story]:
    """What became of the model's boxes in each answer, by its key; two queries and the labels, however many they are."""
    labels: dict[int, Label] = {}
    proposals: dict[tuple[int, int], dict[int, tuple[int, bool]]] = {}
    versions = {answer.model_version_id for answer in answers if answer.model_version_id}
    rows = Detection.objects.filter(
        photo__in=[answer.task.photo_id for answer in answers], model_version__in=versions
    ).values_list("photo", "model_version", "number", "label", "is_weak")
    for photo, version, number, label, is_weak in rows:
        proposals.setdefault((photo, version), {})[number] = (label, is_weak)
    boxes: dict[int, list[AnnotatedBox]] = {answer.pk: [] for answer in answers}
    for box in AnnotatedBox.objects.filter(annotation__in=boxes).select_related("label").defer("box"):
        boxes[box.annotation_id].append(box)
        labels[box.label_id] = box.label
    missing = {label for known in proposals.values() for label, _is_weak in known.values()} - labels.keys()
    labels.update(Label.objects.in_bulk(missing))
    return {
        answer.pk: story_of(
            is_empty=answer.is_empty,
            moved=answer.changes.get("moved", []),
            proposals={
                number: (labels[label], is_weak)
                for number, (label, is_weak) in proposals.get(
                    (answer.task.photo_id, answer.model_version_id or 0), {}
                ).items()
            },
            boxes=[BoxStory(box.proposal_number, box.label) for box in boxes[answer.pk]],
        )
        for answer in answers
    }


# --- The mail -----------------------------------------------------------------------------------------------


def people_to_mail() -> QuerySet[User]:
    """Those who want news, have some that rested, and had no mail of it for a day."""
    rested, fresh = Q(), Q()
    for told in (ContributorNews, Thanks):
        of_person = told._default_manager.filter(contributor=OuterRef("pk"))
        waiting = of_person.filter(
            mailed_at=None, created_at__lt=Now() - RESTS_FOR, created_at__gte=Now() - OLDEST
        )
        rested |= Q(Exists(waiting))
        fresh |= Q(Exists(of_person.filter(mailed_at__gte=Now() - BETWEEN_MAILS + timedelta(minutes=5))))
    return User.objects.filter(rested, ~fresh, is_active=True, wants_news=True)


def mail_due_news() -> int:
    """Write the mails that are due; gives how many. Killed between, each is written once."""
    return sum(
        mail_news(user_id=pk) for pk in people_to_mail().values_list("pk", flat=True)[:_PEOPLE_AT_ONCE]
    )


@transaction.atomic
def mail_news(*, user_id: int) -> bool:
    """One person's mail and the mark that they had it, in one transaction."""
    user = people_to_mail().filter(pk=user_id).select_for_update(of=("self",), skip_locked=True).first()
    if user is None:
        return False
    waiting = ContributorNews.objects.filter(contributor=user, mailed_at=None, created_at__gte=Now() - OLDEST)
    pks = list(waiting.values_list("pk", flat=True))
    stale = waiting.filter(
        Q(annotation__accepted_for__isnull=True)
        | Q(photo__observation__visibility=Observation.Visibility.HIDDEN)
    )
    # What counts no longer, or was taken off the site, is not told; it may never come back.
    stale.filter(pk__in=pks).delete()
    news = list(
        waiting.filter(pk__in=pks)
        .select_related("annotation__task", "photo__observation__survey")
        .order_by("-pk")
    )
    due = Thanks.objects.filter(contributor=user, mailed_at=None, created_at__gte=Now() - OLDEST)
    thanks = Thanks.objects.filter(pk__in=list(due.values_list("pk", flat=True)))  # not what comes meanwhile
    lessons = latest_of_each_model(thanks)
    if not news and not lessons:
        return False
    key = f"photo-news-{user.pk}-{timezone.now():%Y-%m-%d}"
    if OutgoingMail.objects.filter(key=key).exists():
        return False
    shown = news[:PHOTOS_IN_A_MAIL]
    stories = tell_answers([row.annotation for row in shown])
    address = unsubscribe_address(user)
    with translation.override(user.language or settings.LANGUAGE_CODE):
        photos = [_photo_news(row, stories[row.annotation_id]) for row in shown]
        taught = [thanks_sentence(row) for row in lessons]
    write_to(
        user=user,
        template="photo_news",
        context={
            "photos": photos,
            "lessons": taught,
            "total": len(news),
            "more": len(news) - len(shown),
            "mine": settings.SITE_URL + reverse("observations:mine"),
            "unsubscribe": address,
        },
        key=key,
        unsubscribe_address=address,
    )
    ContributorNews.objects.filter(pk__in=[row.pk for row in news]).update(mailed_at=Now())
    thanks.update(mailed_at=Now())
    return True


def _photo_news(news: ContributorNews, story: Story) -> PhotoNews:
    observation = news.photo.observation
    return PhotoNews(
        title=observation.title or news.photo.name,
        address=settings.SITE_URL + reverse("observations:photo", args=[news.photo.public_id]),
        sentences=sentences(story),
    )
