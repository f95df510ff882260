"""What the answers mean for their photo: done, more answers wanted, or experts disagree.

- A photo that needs one answer is done with it. One that needs several is done when they have a consensus (see
  `agreement.consensus`), which becomes an answer of its own; else it waits for a curator.
- A correction decides anew: the former consensus is superseded, or the photo becomes a disagreement.
- What a person decided over the experts' heads (a curator, a review of crops, an import) stands, whatever experts correct
  afterwards.
"""

from functools import partial
from typing import Final

from django.db import transaction
from django.db.models.functions import Now

from apps.annotation.models import Annotation, AnnotationTask, GoldenPhoto, Review
from apps.annotation.services.answer_sets import AnswerSet, answers_to
from apps.annotation.services.comparisons import write_comparisons
from apps.annotation.services.golden import record_results
from apps.annotation.services.policies import policy_of
from apps.annotation.signals import annotation_accepted

_DECIDED: Final = (Annotation.Origin.CURATOR, Annotation.Origin.BULK, Annotation.Origin.IMPORT)
_SETTLED: Final = (AnnotationTask.State.DONE, AnnotationTask.State.CONFLICT)


@transaction.atomic
def settle(*, task: AnnotationTask) -> None:
    """Decide where the photo stands after an answer, a correction or an undone one; the same answers decide the same."""
    tasks = AnnotationTask.objects.select_for_update(of=("self",)).select_related("accepted")
    locked = tasks.get(pk=task.pk)
    min_iou = policy_of(locked.survey_id).consensus_iou
    record_results(locked, min_iou=min_iou)
    given = AnswerSet.of(locked, list(answers_to(locked)), min_iou=min_iou)
    AnnotationTask.objects.filter(pk=locked.pk).update(answers=len(given.answers))
    _decide(locked, given)
    write_comparisons(given)


def accept(task: AnnotationTask, answer: Annotation) -> None:
    """Let this answer count for a locked photo, and tell of it after the commit. Counting already is no error."""
    before = task.accepted_id
    if before == answer.pk and task.state == AnnotationTask.State.DONE:
        return
    _end_consensus(task, except_for=answer)
    AnnotationTask.objects.filter(pk=task.pk).update(
        state=AnnotationTask.State.DONE, accepted=answer, accepted_at=Now()
    )
    task.state, task.accepted = AnnotationTask.State.DONE, answer
    if before:
        GoldenPhoto.objects.filter(task=task, answer=before).update(answer=answer)
    transaction.on_commit(
        partial(
            annotation_accepted.send_robust,
            sender=AnnotationTask,
            task_id=task.pk,
            annotation_id=answer.pk,
        )
    )


def _decide(task: AnnotationTask, given: AnswerSet) -> None:
    accepted = task.accepted
    if accepted and accepted.is_current and accepted.origin in _DECIDED:
        return
    if task.state == AnnotationTask.State.CONFLICT and (drawn := _drawn_by_curator(task)):
        Review.objects.create(task=task, reviewer=drawn.author, kind=Review.Kind.SETTLED, after=drawn)
        accept(task, drawn)
        return
    # A photo that was settled once is settled anew with whatever answers it has; a correction does not reopen it.
    if not given.answers or (len(given.answers) < task.answers_needed and task.state not in _SETTLED):
        return
    if len(given.answers) == 1:
        accept(task, given.answers[0])
    elif given.consensus.is_settled:
        accept(task, _consensus_answer(given))
    else:
        _disagree(task)


def _consensus_answer(given: AnswerSet) -> Annotation:
    """The answer of these answers: the one that is there already, or a new one that supersedes the former."""
    former = Annotation.objects.filter(task=given.task, origin=Annotation.Origin.CONSENSUS).order_by("-pk")
    last = former.first()
    made_of = [str(answer.public_id) for answer in given.answers]
    if last and last.is_current and last.changes.get("answers") == made_of:
        return last
    is_free = last is not None and not Annotation.objects.filter(supersedes=last).exists()
    former.filter(is_current=True).update(is_current=False)
    return given.write(
        [given.piece(animal) for animal in given.consensus.agreed],
        origin=Annotation.Origin.CONSENSUS,
        version_id=given.version_id,
        supersedes=last if is_free else None,
    )


def _disagree(task: AnnotationTask) -> None:
    if task.state == AnnotationTask.State.CONFLICT and task.accepted_id is None:
        return
    _end_consensus(task)
    AnnotationTask.objects.filter(pk=task.pk).update(
        state=AnnotationTask.State.CONFLICT, accepted=None, accepted_at=None
    )
    task.state, task.accepted = AnnotationTask.State.CONFLICT, None
    # Whether its answer is known after all is for a curator to say again.
    GoldenPhoto.objects.filter(task=task).update(is_active=False)


def _end_consensus(task: AnnotationTask, *, except_for: Annotation | None = None) -> None:
    standing = Annotation.objects.current().filter(task=task, origin=Annotation.Origin.CONSENSUS)
    if except_for:
        standing = standing.exclude(pk=except_for.pk)
    standing.update(is_current=False)


def _drawn_by_curator(task: AnnotationTask) -> Annotation | None:
    drawn = Annotation.objects.current().filter(task=task, origin=Annotation.Origin.CURATOR)
    return drawn.select_related("author").order_by("pk").last()
