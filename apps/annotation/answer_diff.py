"""An answer beside the model's boxes it started from, box by box. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from apps.annotation.answer_rules import SAME_IOU, ModelBox, iou
from apps.annotation.models import AnnotatedBox

VERDICTS: dict[str, Promise] = {
    "kept": _("kept"),
    "moved": _("moved"),
    "relabelled": _("relabelled"),
    "both": _("moved and relabelled"),
    "deleted": _("deleted"),
    "drawn": _("drawn"),
}


@dataclass(frozen=True, slots=True)
class DiffRow:
    """One animal: in the answer, in the proposals, or in both."""

    verdict: str
    box: AnnotatedBox | None
    proposal: ModelBox | None
    overlap: float | None

    @property
    def verdict_shown(self) -> Promise:
        return VERDICTS[self.verdict]


def diff_rows(boxes: Iterable[AnnotatedBox], proposals: Mapping[int, ModelBox]) -> list[DiffRow]:
    """In the order of the answer's numbers, then what was deleted. Weak proposals nobody took up are left out."""
    rows: list[DiffRow] = []
    used: set[int] = set()
    for box in boxes:
        proposal = proposals.get(box.proposal_number) if box.proposal_number else None
        if proposal is None:
            rows.append(DiffRow("drawn", box, None, None))
            continue
        used.add(proposal.number)
        overlap = iou(proposal.corners, (box.x_min, box.y_min, box.x_max, box.y_max))
        is_moved, is_relabelled = overlap < SAME_IOU, proposal.label != box.label.code
        verdict = {(False, False): "kept", (True, False): "moved", (False, True): "relabelled"}
        rows.append(DiffRow(verdict.get((is_moved, is_relabelled), "both"), box, proposal, overlap))
    deleted = [p for number, p in sorted(proposals.items()) if number not in used and not p.is_weak]
    return rows + [DiffRow("deleted", None, proposal, None) for proposal in deleted]
