"""What an expert's own data holds of the experts' loop: each answer, and the work that did not become one."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from apps.accounts.models import User
from apps.annotation.models import AnnotatedBox, Annotation, Assignment, Thanks
from apps.observations.api.representations import moment

_AT_ONCE = 200


def experts_data(user: User) -> Iterable[tuple[str, Iterable[Mapping[str, Any]]]]:
    """For `hooks.personal_data`; nothing for those who never answered nor opened a photo, nor taught the detector."""
    if Annotation.objects.filter(author=user).exists():
        yield "annotations.json", _answers(user)
    if Assignment.objects.filter(expert=user).exists():
        yield "annotation-work.json", _work(user)
    if Thanks.objects.filter(contributor=user).exists():
        yield "photos-that-taught.json", _thanks(user)


def _answers(user: User) -> Iterator[dict[str, Any]]:
    """Oldest first, corrected ones too."""
    answers = Annotation.objects.filter(author=user).select_related(
        "task__photo", "task__survey", "model_version__registered_model", "supersedes"
    )
    boxes = ("boxes__label", "boxes__label_proposal")
    for answer in answers.prefetch_related(*boxes).order_by("pk").iterator(chunk_size=_AT_ONCE):
        yield {
            "id": str(answer.public_id),
            "survey": answer.task.survey.slug,
            "photo": str(answer.task.photo.public_id),
            "made_by": answer.origin,
            "answered_at": moment(answer.created_at),
            "seconds_spent": answer.seconds_spent,
            "model_version": str(answer.model_version) if answer.model_version else None,
            "changes": answer.changes,
            "corrects": str(answer.supersedes.public_id) if answer.supersedes else None,
            "is_current": answer.is_current,
            "is_empty": answer.is_empty,
            "boxes": [_box(box) for box in answer.boxes.all()],
        }


def _box(box: AnnotatedBox) -> dict[str, Any]:
    return {
        "number": box.number,
        "label": box.label.code,
        "x_min": box.x_min,
        "y_min": box.y_min,
        "x_max": box.x_max,
        "y_max": box.y_max,
        "proposal": box.proposal_number,
        "note": box.note,
        "is_uncertain": box.is_uncertain,
        "proposed_label": box.label_proposal.name if box.label_proposal else "",
    }


def _work(user: User) -> Iterator[dict[str, Any]]:
    """Photos opened, with how that ended and the draft that was left."""
    work = Assignment.objects.filter(expert=user).select_related("task__photo", "task__survey")
    for assignment in work.order_by("pk").iterator(chunk_size=_AT_ONCE):
        yield {
            "survey": assignment.task.survey.slug,
            "photo": str(assignment.task.photo.public_id),
            "state": assignment.state,
            "opened_at": moment(assignment.opened_at),
            "ended_at": moment(assignment.closed_at),
            "seconds_spent": assignment.seconds,
            "skip_reason": assignment.skip_reason,
            "skip_note": assignment.skip_note,
            "draft": assignment.draft,
        }


def _thanks(user: User) -> Iterator[dict[str, Any]]:
    """Which versions of the detector this person's photos taught."""
    for thanks in (
        Thanks.objects.filter(contributor=user).select_related("version__registered_model").order_by("pk")
    ):
        yield {
            "model_version": str(thanks.version),
            "photos": thanks.photos,
            "told_at": moment(thanks.created_at),
            "mailed_at": moment(thanks.mailed_at),
        }
