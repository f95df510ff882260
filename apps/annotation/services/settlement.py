"""What an answer means for its photo: done, more answers wanted, or experts disagree."""

from functools import partial

from django.db import transaction
from django.db.models.functions import Now

from apps.annotation.models import Annotation, AnnotationTask
from apps.annotation.signals import annotation_accepted


@transaction.atomic
def settle(*, task: AnnotationTask) -> None:
    """Decide where the photo stands after an answer, a correction or an undone one; the same answers decide the same."""
    locked = AnnotationTask.objects.select_for_update(of=("self",)).get(pk=task.pk)
    answers = list(Annotation.objects.current().by_experts().filter(task=locked).order_by("pk"))
    locked.answers = len(answers)
    fields = ["answers"]
    if answers and len(answers) >= locked.answers_needed and locked.accepted_id != answers[-1].pk:
        locked.state, locked.accepted, locked.accepted_at = AnnotationTask.State.DONE, answers[-1], Now()
        fields += ["state", "accepted", "accepted_at"]
        send = partial(
            annotation_accepted.send_robust,
            sender=AnnotationTask,
            task_id=locked.pk,
            annotation_id=answers[-1].pk,
        )
        transaction.on_commit(send)  # type: ignore[arg-type]  # Django forgets what it returns
    locked.save(update_fields=fields)
