"""What a photo's own page says of experts' answers: a panel, the boxes on the picture, a mark at each of the model's."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from apps.accounts.models import User
from apps.annotation.models import AnnotatedBox, Annotation, AnnotationTask, ContributorNews, Review, Thanks
from apps.annotation.services.news import tell_answers
from apps.annotation.services.thanks import latest_of_each_model, lesson_sentence, thanks_sentence
from apps.annotation.stories import Story, sentences
from apps.observations.hooks import BoxMark, Panel
from apps.observations.models import Photo
from apps.observations.views.photo import letter_px

_HISTORY = 10
_LATELY = timedelta(days=14)
_NAMED = 8
_COUNTED = 1_000
_ATTRIBUTE = "_answer_that_counts"


@dataclass(frozen=True, slots=True)
class Told:
    """The answer that counts for a photo, and what it means for the model's boxes."""

    answer: Annotation
    story: Story
    are_numbers_shown: bool
    """Whether the photo still shows the boxes that the answer's numbers name."""


def photo_panel(request: HttpRequest, photo: Photo) -> Panel | None:
    """The panel below the list of animals: what experts said, who, when, and what they said before."""
    told = _told(request, photo)
    if told is None:
        if _is_looked_at_again(photo):
            return Panel("annotation/panel.html", {"is_again": True})
        return None
    answer = told.answer
    earlier = _earlier(answer)
    boxes = list(
        AnnotatedBox.objects.filter(annotation=answer).select_related("label").defer("box").order_by("number")
    )
    return Panel(
        "annotation/panel.html",
        {
            "answer": answer,
            "who": who(answer, earlier),
            "sentences": sentences(told.story),
            "are_numbers_shown": told.are_numbers_shown,
            "uncertain": sum(box.is_uncertain for box in boxes),
            "answer_marks": answer_marks(boxes, photo),
            "letter_px": letter_px(photo),
            "earlier": [(one, who(one, earlier[place + 1 :])) for place, one in enumerate(earlier)],
        },
    )


def lesson_panel(request: HttpRequest, photo: Photo) -> Panel | None:
    """What the photo taught the detector, for everybody, and with thanks for who took it."""
    sentence = lesson_sentence(photo, request.user)
    if not sentence:
        return None
    is_own = request.user.pk == photo.contributor_id
    return Panel("annotation/panel_lesson.html", {"sentence": sentence, "is_own": is_own})


def mine_note(request: HttpRequest) -> Panel | None:
    """Above one's own observations: which photos experts have answered lately, and what photos taught."""
    if not isinstance(request.user, User):
        return None
    news = ContributorNews.objects.filter(
        contributor=request.user,
        created_at__gte=timezone.now() - _LATELY,
        annotation__accepted_for__isnull=False,
    )
    photos = list(news.select_related("photo").order_by("-pk")[: _NAMED + 1])
    thanks = Thanks.objects.filter(contributor=request.user, created_at__gte=timezone.now() - _LATELY)
    lessons = [thanks_sentence(row) for row in latest_of_each_model(thanks)]
    if not photos and not lessons:
        return None
    count = len(photos) if len(photos) <= _NAMED else news.order_by()[:_COUNTED].count()
    return Panel(
        "annotation/panel_mine.html",
        {
            "photos": [row.photo for row in photos[:_NAMED]],
            "count": count,
            "is_capped": count == _COUNTED,
            "lessons": lessons,
        },
    )


def photo_marks(request: HttpRequest, photo: Photo) -> Mapping[int, BoxMark]:
    """By the number of the model's box: what became of it."""
    told = _told(request, photo)
    if told is None or not told.are_numbers_shown:
        return {}
    story = told.story
    marks = {number: BoxMark("confirmed", _("Confirmed by an expert")) for number in story.confirmed}
    marks |= {
        number: BoxMark("confirmed", _("Confirmed by an expert, with a better outline"))
        for number in story.moved
    }
    marks |= {
        number: BoxMark("corrected", _("Corrected by an expert: %(label)s") % {"label": after.name})
        for number, _before, after in story.corrected
    }
    marks |= {number: BoxMark("removed", _("No animal, says an expert")) for number in story.removed}
    return marks


def who(answer: Annotation, earlier: Iterable[Annotation] = ()) -> str:
    """Who answered, as everybody may read it: the public name, if they chose one.

    Reviewing crops makes an answer of somebody's boxes: `earlier` ones say whose they are.
    """
    origins = Annotation.Origin
    if answer.origin == origins.BULK:
        drawn = next((one for one in earlier if one.origin != origins.BULK), None)
        name = (answer.author.display_name if answer.author else "") or _("an expert")
        if drawn is not None and drawn.author_id != answer.author_id:
            return _("%(expert)s, reviewed by %(reviewer)s") % {"expert": who(drawn), "reviewer": name}
    if answer.origin == origins.CONSENSUS:
        n = answer.task.answers
        return ngettext("%(n)s expert", "%(n)s experts together", n) % {"n": n}
    if answer.origin == origins.IMPORT:
        return _("Labelled before it came here")
    name = answer.author.display_name if answer.author else ""
    if answer.origin == origins.CURATOR:
        return name or _("A curator")
    return name or _("An expert")


def answer_marks(boxes: Iterable[AnnotatedBox], photo: Photo) -> SafeString:
    """As `observations.templatetags.boxes.box_marks`, for the boxes of an answer: nothing in the list to lead to."""
    parts = []
    for box in boxes:
        name, colour = escape(box.label.name), escape(box.label.colour)
        shape = (
            f'x="{box.x_min:.1f}" y="{box.y_min:.1f}" '
            f'width="{box.x_max - box.x_min:.1f}" height="{box.y_max - box.y_min:.1f}"'
        )
        x = (
            f'text-anchor="end" x="{box.x_max:.1f}" dx="-.1em"'
            if box.x_min > photo.width_px * 0.6
            else f'x="{box.x_min:.1f}" dx=".1em"'
        )
        dy = "1.1em" if box.y_min < photo.height_px * 0.03 else "-.35em"
        parts.append(
            f'<g class="mark"><rect class="mark__casing" {shape}/>'
            f'<rect class="mark__line" stroke="{colour}" {shape}/>'
            f'<text {x} y="{box.y_min:.1f}" dy="{dy}"><tspan class="mark__name">{name}</tspan></text></g>'
        )
    return mark_safe("\n".join(parts))  # noqa: S308 (numbers, and names escaped above)


def _told(request: HttpRequest, photo: Photo) -> Told | None:
    """Looked up once for a page, though it is asked for by the list, the picture and the panel."""
    known: dict[int, Told | None] = request.__dict__.setdefault(_ATTRIBUTE, {})
    if photo.pk not in known:
        known[photo.pk] = _look_up(photo)
    return known[photo.pk]


def _look_up(photo: Photo) -> Told | None:
    answers = Annotation.objects.filter(accepted_for__photo=photo)
    answer = answers.select_related("task", "author", "model_version__registered_model").first()
    if answer is None:
        return None
    story = tell_answers([answer])[answer.pk]
    is_shown = answer.model_version_id is not None and answer.model_version_id == photo.model_version_id
    return Told(answer, story, is_shown)


def _is_looked_at_again(photo: Photo) -> bool:
    return Review.objects.filter(
        task__photo=photo,
        task__state=AnnotationTask.State.WAITING,
        kind=Review.Kind.SENT_BACK,
        undone_at=None,
    ).exists()


def _earlier(answer: Annotation) -> list[Annotation]:
    """Answers that this one corrects, newest first; others' answers that never counted stay theirs."""
    if answer.supersedes_id is None:
        return []
    others: Any = Annotation.objects.filter(task=answer.task_id).select_related("task", "author")
    by_pk = {one.pk: one for one in others.order_by("-pk")[:100]}
    earlier: list[Annotation] = []
    pk = answer.supersedes_id
    while pk in by_pk and len(earlier) < _HISTORY:
        earlier.append(by_pk[pk])
        pk = by_pk[pk].supersedes_id
    return earlier
