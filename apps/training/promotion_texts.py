"""What the gate and the promotion say to people: rows hold codes and numbers, the sentence is made in the reader's language."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from apps.common.numbers import number
from apps.training.models import Comparison

RULES: Final[Mapping[str, Promise | str]] = {
    "finds_anything": gettext_lazy("It finds animals at all (nothing is in production yet)"),
    "enough_photos": gettext_lazy("Enough test photos to decide"),
    "enough_animals": gettext_lazy("Animals on the test photos"),
    "labels_known": gettext_lazy("It knows every label that the version in production knows"),
    "map_not_worse": gettext_lazy("mAP50-95 is not worse (lower bound of the difference)"),
    "map_better": gettext_lazy("mAP50-95 is better on average"),
    "recent_map": gettext_lazy("mAP50-95 on the most recent photos is not worse on average"),
    "recall": gettext_lazy("Recall"),
    "calibration": gettext_lazy("Calibration error (ECE)"),
    "latency": gettext_lazy("Latency a photo (ms)"),
}

NOTES: Final[Mapping[str, Promise | str]] = {
    "too_few_photos": gettext_lazy("too few photos to tell"),
    "too_few_boxes": gettext_lazy("too few test boxes to tell"),
    "champion_found_nothing": gettext_lazy("the version in production found nothing to compare with"),
}

PROBLEMS: Final[Mapping[str, Promise | str]] = {
    "already_serving": gettext_lazy("%(version)s is in production already."),
    "frozen": gettext_lazy("Promotion of %(model)s is frozen: %(reason)s"),
    "unusable": gettext_lazy("%(version)s cannot be loaded: %(reason)s"),
    "refused_by_gate": gettext_lazy(
        "%(version)s was refused. It goes live only against the gate, with a reason."
    ),
    "overtaken": gettext_lazy(
        "Another version has gone into production meanwhile: %(current)s. Look at the numbers again."
    ),
    "reason_needed": gettext_lazy("Write why: it is kept with the decision."),
    "reason_too_long": gettext_lazy("The reason has more than %(limit)s characters."),
    "serves": gettext_lazy("%(version)s is in production: roll back first."),
    "other_model": gettext_lazy("%(version)s is not a version of %(model)s."),
    "never_served": gettext_lazy("%(version)s has never been in production: there is nothing to go back to."),
    "other_comparison": gettext_lazy("The comparison is not about %(version)s."),
    "not_compared_yet": gettext_lazy("The comparison is not finished."),
    "no_dataset": gettext_lazy("There is no frozen dataset to compare %(version)s on. Freeze one first."),
    "under_way": gettext_lazy("It is being compared on %(dataset)s: ask again when that has ended."),
    "no_test_photo": gettext_lazy("No test photo is left that neither version learned from."),
    "not_frozen": gettext_lazy("Promotion of %(model)s is not frozen."),
    "already_frozen": gettext_lazy("Promotion of %(model)s is frozen already."),
    "rules_invalid": gettext_lazy("The rules are not valid."),
    "challenger_unusable": gettext_lazy("The version cannot be loaded: %(reason)s"),
    "damaged": gettext_lazy("The test photos cannot be read: %(reason)s"),
}


class PromotionError(Exception):
    """A decision that cannot be taken. `code` names why; `sentence` says it in the reader's language."""

    def __init__(self, code: str, **details: Any) -> None:
        super().__init__(f"{code} {details}" if details else code)
        self.code = code
        self.details = details

    @property
    def sentence(self) -> str:
        return str(PROBLEMS[self.code]) % self.details


class NotPromotableError(PromotionError):
    """The version cannot go into production."""


class OvertakenError(NotPromotableError):
    """Another version went into production meanwhile: what was compared is no longer so."""


@dataclass(frozen=True, slots=True)
class RuleShown:
    """One line of the side-by-side report."""

    code: str
    title: str
    passed: bool | None
    mark: str
    """passed, failed, or not decided: read aloud beside the sign."""
    champion: str
    challenger: str
    difference: str
    limit: str
    note: str


def shown_rules(rules: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> list[RuleShown]:
    """`names` are the labels'. Those without a test box share one line: among forty of them nobody finds the others."""
    unseen = [rule for rule in rules if _is_unseen(rule)]
    shown = [shown_rule(rule, names) for rule in rules if rule not in unseen[1:]]
    if len(unseen) > 1:
        place = rules.index(unseen[0])
        labels = ", ".join(names.get(str(rule["label"]), str(rule["label"])) for rule in unseen)
        shown[place] = replace(shown[place], title=_("Recall: %(label)s") % {"label": labels})
    return shown


def _is_unseen(rule: Mapping[str, Any]) -> bool:
    return rule.get("code") == "recall" and rule.get("champion") is None and rule.get("challenger") is None


def shown_rule(rule: Mapping[str, Any], names: Mapping[str, str]) -> RuleShown:
    code, passed = str(rule.get("code", "")), rule.get("passed")
    title = str(RULES.get(code, code))
    label = str(rule.get("label", ""))
    note = str(NOTES.get(str(rule.get("note", "")), ""))
    if code == "labels_known" and passed is False:
        lost = ", ".join(names.get(one, one) for one in label.split(", "))
        note = _("unknown to it: %(labels)s") % {"labels": lost}
    elif label:
        title = _("Recall: %(label)s") % {"label": names.get(label, label)}
    whole = code in ("enough_photos", "enough_animals")
    marks = {True: _("passed"), False: _("failed"), None: _("not decided")}
    return RuleShown(
        code=code,
        title=title,
        passed=passed,
        mark=marks[passed],
        champion=_value(code, rule.get("champion"), whole=whole),
        challenger=_value(code, rule.get("challenger"), whole=whole),
        difference=_difference(code, rule),
        limit=_limit(code, rule.get("threshold")),
        note=note,
    )


def verdict_sentence(comparison: Comparison, names: Mapping[str, str]) -> str:
    """What the verdict rests on, and what may be done about it; empty where there is none yet."""
    verdicts = Comparison.Verdict
    if comparison.verdict == verdicts.PASSED:
        return _("No rule speaks against it.")
    if comparison.verdict == verdicts.REFUSED:
        failed = [rule for rule in comparison.rules if rule.get("passed") is False]
        said = "; ".join(shown_rule(rule, names).title for rule in failed)
        text = ngettext("It fails one rule: %(rules)s.", "It fails %(n)s rules: %(rules)s.", len(failed))
        return text % {"n": len(failed), "rules": said}
    if comparison.verdict == verdicts.UNDECIDED:
        return _(
            "The test photos are too few to tell whether it is better: what was measured may be chance. Compare again once "
            "experts have answered more of them, or decide by hand."
        )
    return ""


def rule_sentence(shown: RuleShown) -> str:
    """For mails: one rule in one line."""
    numbers = shown.difference or shown.challenger
    tail = " · ".join(part for part in (numbers, shown.limit, shown.note) if part and part != "–")
    return f"{shown.title}: {shown.mark}" + (f" ({tail})" if tail else "")


def interval(low: Any, high: Any, *, signed: bool = False) -> str:
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return ""
    return _("%(low)s to %(high)s") % {
        "low": number(low, signed=signed),
        "high": number(high, signed=signed),
    }


def _value(code: str, value: Any, *, whole: bool) -> str:
    if code == "latency":
        return number(value, places=1)
    return number(value, places=0 if whole else 3)


def _difference(code: str, rule: Mapping[str, Any]) -> str:
    value = rule.get("difference")
    if not isinstance(value, int | float):
        return "–"
    if code == "latency":
        return "× " + number(value, places=2)
    text = number(value, signed=True)
    bounds = interval(rule.get("low"), rule.get("high"), signed=True)
    return f"{text} ({bounds})" if bounds else text


def _limit(code: str, threshold: Any) -> str:
    if not isinstance(threshold, int | float):
        return ""
    if code == "latency":
        return _("at most × %(limit)s") % {"limit": number(threshold, places=2)}
    if code == "calibration":
        return _("at most %(limit)s") % {"limit": number(threshold, signed=True)}
    if code in ("enough_photos", "enough_animals"):
        return _("at least %(limit)s") % {"limit": number(threshold, places=0)}
    if code in ("map_better", "finds_anything"):
        return _("above %(limit)s") % {"limit": number(threshold, places=0)}
    return _("at least %(limit)s") % {"limit": number(threshold, signed=True)}
