"""The gate: whether a challenger may take the champion's place. Pure rules over what was measured (docs/gate.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from apps.training.engine.label_codes import label_code

if TYPE_CHECKING:
    from apps.training.engine.resampling import Difference
    from apps.training.models import PromotionPolicy

Verdict = Literal["passed", "refused", "undecided"]
_ROUNDING: Final = 1e-9
"""0.80 - 0.75 is more than 0.05 to a computer."""


@dataclass(frozen=True, slots=True)
class Gate:
    """The numbers of a `PromotionPolicy`."""

    max_map_loss: float = 0.005
    max_recall_loss: float = 0.05
    min_label_boxes: int = 10
    max_calibration_loss: float = 0.02
    max_latency_ratio: float = 1.2
    min_test_photos: int = 10
    recent_photos: int = 100
    bootstrap_samples: int = 1000
    confidence: float = 0.95

    @classmethod
    def of(cls, policy: PromotionPolicy) -> Self:
        return cls(**{field.name: getattr(policy, field.name) for field in fields(cls)})

    def as_record(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Side:
    """What was measured of one version; `metrics` and `by_label` as in `Evaluation`."""

    labels: Sequence[str]
    """That the version knows."""
    metrics: Mapping[str, Any]
    by_label: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, its numbers, and what came out. `passed` is None where the rule does not decide; `note` says why."""

    code: str
    passed: bool | None
    champion: float | None = None
    challenger: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    threshold: float | None = None
    label: str = ""
    scope: str = ""
    note: str = ""

    def as_record(self) -> dict[str, Any]:
        """For JSON, without what does not apply; what is no number is null."""
        record = {name: value for name, value in asdict(self).items() if value not in ("", None)}
        record = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in record.items()
        }
        return record | {"passed": self.passed}


@dataclass(frozen=True, slots=True)
class Judgement:
    verdict: Verdict
    rules: tuple[Rule, ...]

    def as_records(self) -> list[dict[str, Any]]:
        return [rule.as_record() for rule in self.rules]


def judge(
    gate: Gate,
    *,
    champion: Side | None,
    challenger: Side,
    difference: Difference | None = None,
    recent: Difference | None = None,
) -> Judgement:
    """Every rule, also after one has failed: who decides wants to see all. A number that is none passes nothing.

    `difference` is challenger minus champion on all photos of the gate, `recent` on the newest of them.
    """
    if champion is None:
        return _first(challenger)
    if difference is None:
        raise ValueError("two versions are compared by their difference")
    enough = _enough(gate, challenger)
    rules = (
        *enough,
        _labels_known(champion, challenger),
        *_map_rules(gate, difference),
        _recent_rule(gate, recent),
        *_recall_rules(gate, champion, challenger),
        _calibration_rule(gate, champion, challenger),
        _latency_rule(gate, champion, challenger),
    )
    if any(rule.passed is False for rule in enough):
        return Judgement("undecided", rules)
    return Judgement("refused" if any(rule.passed is False for rule in rules) else "passed", rules)


def _first(challenger: Side) -> Judgement:
    """Nothing serves yet: whatever finds animals is better than that."""
    found = _number(challenger.metrics.get("map50_95"))
    rule = Rule("finds_anything", found > 0, challenger=found, threshold=0.0)
    return Judgement("passed" if rule.passed else "refused", (rule,))


def _enough(gate: Gate, challenger: Side) -> tuple[Rule, ...]:
    photos, boxes = _number(challenger.metrics.get("photos")), _number(challenger.metrics.get("boxes"))
    least = float(gate.min_test_photos)
    return (
        Rule("enough_photos", photos >= least, challenger=photos, threshold=least),
        Rule("enough_animals", boxes >= 1, challenger=boxes, threshold=1.0),
    )


def _labels_known(champion: Side, challenger: Side) -> Rule:
    lost = sorted(set(map(label_code, champion.labels)) - set(map(label_code, challenger.labels)))
    return Rule("labels_known", not lost, label=", ".join(lost))


def _map_rules(gate: Gate, difference: Difference) -> tuple[Rule, Rule]:
    numbers: dict[str, Any] = {
        "champion": difference.first,
        "challenger": difference.second,
        "difference": difference.observed,
        "low": difference.low,
        "high": difference.high,
    }
    return (
        Rule(
            "map_not_worse",
            _least(difference.low, -gate.max_map_loss),
            threshold=-gate.max_map_loss,
            **numbers,
        ),
        # Both, so that neither a lucky draw nor the luck of these photos is taken for better.
        Rule("map_better", difference.observed > _ROUNDING < difference.mean, threshold=0.0, **numbers),
    )


def _recent_rule(gate: Gate, recent: Difference | None) -> Rule:
    """On average only: the interval of a hundred photos is so wide that hardly any version would pass."""
    if recent is None or recent.pictures < gate.min_test_photos or math.isnan(recent.observed):
        return Rule("recent_map", None, threshold=-gate.max_map_loss, scope="recent", note="too_few_photos")
    return Rule(
        "recent_map",
        recent.observed >= -gate.max_map_loss - _ROUNDING,
        champion=recent.first,
        challenger=recent.second,
        difference=recent.observed,
        low=recent.low,
        high=recent.high,
        threshold=-gate.max_map_loss,
        scope="recent",
    )


def _recall_rules(gate: Gate, champion: Side, challenger: Side) -> tuple[Rule, ...]:
    rules = []
    for label, new in challenger.by_label.items():
        before = _number(champion.by_label.get(label, {}).get("recall"))
        after = _number(new.get("recall"))
        boxes = _number(new.get("boxes"))
        numbers: dict[str, Any] = {
            "champion": before,
            "challenger": after,
            "difference": after - before,
            "threshold": -gate.max_recall_loss,
            "label": label,
        }
        if not boxes >= gate.min_label_boxes:
            rules.append(Rule("recall", None, note="too_few_boxes", **numbers))
        else:
            rules.append(Rule("recall", _least(after - before, -gate.max_recall_loss), **numbers))
    return tuple(rules)


def _calibration_rule(gate: Gate, champion: Side, challenger: Side) -> Rule:
    before, after = _number(champion.metrics.get("ece")), _number(challenger.metrics.get("ece"))
    numbers: dict[str, Any] = {"challenger": after, "threshold": gate.max_calibration_loss}
    if math.isnan(before) and not math.isnan(after):
        return Rule("calibration", None, note="champion_found_nothing", **numbers)
    difference = after - before
    return Rule(
        "calibration",
        _least(-difference, -gate.max_calibration_loss),
        champion=before,
        difference=difference,
        **numbers,
    )


def _latency_rule(gate: Gate, champion: Side, challenger: Side) -> Rule:
    before, after = (_number(side.metrics.get("latency_ms")) for side in (champion, challenger))
    ratio = after / before if before > 0 else math.nan
    return Rule(
        "latency",
        ratio <= gate.max_latency_ratio + _ROUNDING,
        champion=before,
        challenger=after,
        difference=ratio,
        threshold=gate.max_latency_ratio,
    )


def _least(value: float, threshold: float) -> bool:
    """NaN is not enough."""
    return value >= threshold - _ROUNDING


def _number(value: Any) -> float:
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return math.nan
