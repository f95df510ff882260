"""Photos with a known answer: chosen by curators, woven in by the queue, and what experts' answers to them say."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Count, Exists, F, OuterRef, QuerySet, Sum
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from apps.accounts.models import User
from apps.annotation.agreement.kappa import wilson_interval
from apps.annotation.agreement.matching import compare
from apps.annotation.models import Annotation, AnnotationTask, Assignment, GoldenPhoto, GoldenResult
from apps.annotation.services.answer_sets import boxes_of, labelled
from apps.observations.models import Survey


@dataclass(frozen=True, slots=True)
class Share:
    """Of `n` cases; the interval is Wilson's, of 95 %."""

    successes: int
    n: int

    @property
    def value(self) -> float | None:
        return self.successes / self.n if self.n else None

    @property
    def low(self) -> float:
        return wilson_interval(self.successes, self.n)[0]

    @property
    def high(self) -> float:
        return wilson_interval(self.successes, self.n)[1]


@dataclass(frozen=True, slots=True)
class Reliability:
    """What an expert's first answers to photos with a known answer say."""

    photos: int
    matched: int
    mislabelled: int
    missed: int
    extra: int
    iou_sum: float

    @property
    def found(self) -> int:
        return self.matched + self.mislabelled

    @property
    def precision(self) -> Share:
        """Of the boxes they drew, those that are an animal."""
        return Share(self.found, self.found + self.extra)

    @property
    def recall(self) -> Share:
        """Of the animals that are there, those they drew."""
        return Share(self.found, self.found + self.missed)

    @property
    def label_accuracy(self) -> Share:
        """Of the animals they drew, those they gave the known name."""
        return Share(self.matched, self.found)

    @property
    def mean_iou(self) -> float | None:
        return self.iou_sum / self.found if self.found else None


NOTHING_KNOWN = Reliability(0, 0, 0, 0, 0, 0.0)


@transaction.atomic
def choose_golden(*, tasks: Iterable[AnnotationTask], by: User) -> int:
    """Make the answer that counts of done photos a known one; gives how many are in use that were not."""
    pks = [task.pk for task in tasks]
    done = AnnotationTask.objects.filter(pk__in=pks, state=AnnotationTask.State.DONE, accepted__isnull=False)
    done = done.select_related("accepted").select_for_update(of=("self",))
    chosen = 0
    for task in done.order_by("pk"):
        assert task.accepted is not None
        golden, is_new = GoldenPhoto.objects.get_or_create(
            task=task, defaults={"answer": task.accepted, "added_by": by}
        )
        if is_new:
            chosen += 1
        elif not golden.is_active or golden.answer_id != task.accepted_id:
            chosen += not golden.is_active
            golden.answer, golden.is_active = task.accepted, True
            golden.save(update_fields=["answer", "is_active"])
    return chosen


def retire_golden(photos: QuerySet[GoldenPhoto]) -> int:
    """They are not given any more; results stay."""
    return _set_use(photos, now=False)


def use_golden(photos: QuerySet[GoldenPhoto]) -> int:
    """Give them again, where their known answer is still the one that counts."""
    return _set_use(photos.filter(task__accepted=F("answer")), now=True)


def _set_use(photos: QuerySet[GoldenPhoto], *, now: bool) -> int:
    keys = list(photos.order_by("pk").values_list("pk", flat=True))
    return GoldenPhoto.objects.filter(pk__in=keys, is_active=not now).update(is_active=now)


def record_results(task: AnnotationTask, *, min_iou: float) -> None:
    """Compare answers to a photo with a known answer that were not compared yet.

    Only an expert's first answer counts: after it they have been told what differs.
    """
    golden = GoldenPhoto.objects.filter(task=task).first()
    if golden is None:
        return
    tried = Assignment.objects.filter(task=OuterRef("task"), expert=OuterRef("author"), given_as="golden")
    answers = Annotation.objects.by_experts().filter(
        Exists(tried), task=task, supersedes=None, golden_result=None
    )
    fresh = list(answers.exclude(pk=golden.answer_id))
    if not fresh:
        return
    boxes = boxes_of([golden.answer_id, *(answer.pk for answer in fresh)])
    known = labelled(boxes.get(golden.answer_id, []))
    for answer in fresh:
        found = compare(labelled(boxes.get(answer.pk, [])), known, min_iou=min_iou)
        GoldenResult.objects.create(
            golden=golden,
            annotation=answer,
            expert_id=answer.author_id,
            matched=found.same_label,
            mislabelled=found.matched - found.same_label,
            missed=found.missed,
            extra=found.extra,
            iou_sum=found.iou_sum,
        )


def feedback_on(annotation: Annotation) -> dict[str, Any] | None:
    """What is told right after a photo whose answer was known; None for any other."""
    result = GoldenResult.objects.filter(annotation=annotation).first()
    if result is None:
        return None
    counts = {name: getattr(result, name) for name in ("matched", "mislabelled", "missed", "extra")}
    return {**counts, "text": feedback_text(result)}


def feedback_text(result: GoldenResult) -> str:
    """Kind and plain: what was alike, then what differs; a known answer may be the one that is wrong."""
    found = result.matched + result.mislabelled
    known = found + result.missed
    parts = [_("The answer to this photo was known.")]
    if not known and not result.extra:
        parts.append(_("It is empty, as you say."))
    elif result.matched == known and not result.extra:
        parts.append(
            ngettext(
                "You found its animal, under the same name.",
                "You found all its %(n)s animals, under the same names.",
                known,
            )
            % {"n": known}
        )
    else:
        if known:
            parts.append(
                ngettext(
                    "You found %(found)s of its %(n)s animal.",
                    "You found %(found)s of its %(n)s animals.",
                    known,
                )
                % {"found": found, "n": known}
            )
        if result.mislabelled:
            parts.append(
                ngettext(
                    "%(n)s has another name there.", "%(n)s have another name there.", result.mislabelled
                )
                % {"n": result.mislabelled}
            )
        if result.extra:
            parts.append(
                ngettext(
                    "%(n)s of your boxes is not in it.", "%(n)s of your boxes are not in it.", result.extra
                )
                % {"n": result.extra}
            )
        parts.append(_("Known answers can be wrong too: a comment on the photo tells a curator."))
    return " ".join(parts)


def reliability_of(expert: User, survey: Survey | None = None) -> Reliability:
    """All of an expert's results, or those of one survey."""
    results = GoldenResult.objects.filter(expert=expert)
    if survey is not None:
        results = results.filter(golden__task__survey=survey)
    sums = results.aggregate(photos=Count("pk"), **_SUMS)
    return Reliability(**{name: value or 0 for name, value in sums.items()})


def reliability_table(
    survey: Survey | None = None, *, limit: int = 500
) -> list[tuple[User | None, Reliability]]:
    """Experts with the most photos first; somebody who closed their account is None."""
    results = (
        GoldenResult.objects.filter(golden__task__survey=survey) if survey else GoldenResult.objects.all()
    )
    sums = results.order_by().values("expert").annotate(photos=Count("pk"), **_SUMS)
    rows: list[dict[str, Any]] = list(sums.order_by("-photos", "expert")[:limit])  # type: ignore[arg-type]
    people = User.objects.in_bulk([row["expert"] for row in rows if row["expert"]])
    return [
        (people.get(row["expert"] or 0), Reliability(row["photos"], *(row[name] for name in _SUMS)))
        for row in rows
    ]


_SUMS = {name: Sum(name) for name in ("matched", "mislabelled", "missed", "extra", "iou_sum")}
