"""What the agreement page adds up: each two answers for one photo, compared once when the photo is settled."""

from collections.abc import Iterable
from itertools import combinations

from apps.annotation.agreement.boxes import LabelledBoxes
from apps.annotation.agreement.matching import compare
from apps.annotation.models import Annotation, AnswerComparison
from apps.annotation.services.answer_sets import AnswerSet, boxes_of, labelled, shown

_REFERENCES = (Annotation.Origin.CONSENSUS, Annotation.Origin.CURATOR)
"""Answers that stand over those of the experts."""
Kind = AnswerComparison.Kind
_Key = tuple[str, int, int | None]


def write_comparisons(given: AnswerSet) -> None:
    """Bring the comparisons of a photo up to date: those of corrected answers go, those that stand are not touched."""
    rows = AnswerComparison.objects.filter(task=given.task)
    known: dict[_Key, int] = {
        (kind, first, second): pk
        for pk, kind, first, second in rows.values_list("pk", "kind", "first", "second")
    }
    wanted = list(_wanted(given))
    keys = {_key(row) for row in wanted}
    if gone := [pk for key, pk in known.items() if key not in keys]:
        AnswerComparison.objects.filter(pk__in=gone).delete()
    AnswerComparison.objects.bulk_create(_measure(row, given) for row in wanted if _key(row) not in known)


def _key(row: AnswerComparison) -> _Key:
    return row.kind, row.first_id, row.second_id


def _wanted(given: AnswerSet) -> Iterable[AnswerComparison]:
    # One direction for each pair of people, so that what they said adds up in one table.
    people = sorted(given.answers, key=lambda answer: (answer.author_id or 0, answer.pk))
    for first, second in combinations(people, 2):
        yield _row(given, Kind.EXPERTS, first, second)
    reference = given.task.accepted
    for answer in given.answers:
        if reference and reference.origin in _REFERENCES and len(given.answers) > 1:
            yield _row(given, Kind.CONSENSUS, answer, reference)
        if answer.model_version_id:
            yield _row(given, Kind.MODEL, answer, None)


def _row(given: AnswerSet, kind: str, first: Annotation, second: Annotation | None) -> AnswerComparison:
    return AnswerComparison(
        task=given.task,
        kind=kind,
        first=first,
        second=second,
        first_expert_id=first.author_id,
        second_expert_id=second.author_id if second and kind == Kind.EXPERTS else None,
    )


def _measure(row: AnswerComparison, given: AnswerSet) -> AnswerComparison:
    sets = {answer.pk: boxes for answer, boxes in zip(given.answers, given.labelled, strict=True)}
    found = compare(sets[row.first_id], _second(row, given, sets), min_iou=given.min_iou)
    row.matched, row.missed, row.extra = found.matched, found.missed, found.extra
    row.iou_sum, row.label_pairs = found.iou_sum, [list(pair) for pair in found.label_pairs]
    row.by_label = {label: list(sums) for label, sums in found.by_label.items()}
    return row


def _second(row: AnswerComparison, given: AnswerSet, sets: dict[int, LabelledBoxes]) -> LabelledBoxes:
    if row.kind == Kind.MODEL:
        return shown(given.proposals[row.first.model_version_id or 0])
    second = row.second_id or 0
    if second not in sets:
        sets[second] = labelled(boxes_of([second]).get(second, []))
    return sets[second]
