"""A model card as Markdown: for repositories, and for people who read with an editor."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from django.utils.formats import localize
from django.utils.translation import gettext as _

from apps.training.cards import Card, Data
from apps.training.evaluation_page import Tally

_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>#|~])")


def markdown_of(card: Card) -> str:
    version = card.version
    lines = [
        f"# {_text(str(version))}",
        "",
        *([_text(card.registered_model.description), ""] if card.registered_model.description else []),
        *_table(
            (_("what"), ""),
            [
                (_("stage"), str(version.get_stage_display())),
                (_("origin"), str(version.get_origin_display())),
                (_("registered at"), f"{version.created_at:%Y-%m-%d}"),
                (_("weights"), f"{localize(round(card.size_mb, 2))} MB, SHA-256 {version.weights_sha256}"),
                (_("image size (px)"), str(version.image_size_px)),
                (
                    _("labels"),
                    ", ".join(name if name == code else f"{name} ({code})" for code, name in card.names),
                ),
            ],
        ),
        *_data(card.data),
        *_quality(card),
        "## " + _("Limits"),
        *(f"- {_text(limit)}" for limit in card.limits),
        "",
        *_lineage(card),
        *_verdict(card),
    ]
    if version.card:  # what came with the weights is Markdown already
        lines += ["## " + _("What came with the weights"), "", version.card.strip(), ""]
    return "\n".join(lines).rstrip() + "\n"


def _data(data: Data | None) -> list[str]:
    if data is None:
        return []
    lines = [
        "## " + _("Data"),
        _text(f"{data.dataset}, SHA-256 {data.dataset.digest}"),
        "",
        *_table(("", *data.splits), [(row.name, *map(str, row.counts)) for row in data.rows]),
        "### " + _("Licences of the photos"),
        *(f"- {_text(licence)}: {count}" for licence, count in data.licences),
        "",
    ]
    if data.attributions:
        lines += ["### " + _("Photos by"), ", ".join(_text(name) for name, _count in data.attributions), ""]
    if data.unnamed:
        lines += [_("and %(n)d others, named in the dataset.") % {"n": data.unnamed}, ""]
    return lines


def _quality(card: Card) -> list[str]:
    lines = ["## " + _("Quality")]
    if card.evaluation:
        said = {"n": card.evaluation.photo_count, "dataset": str(card.evaluation.dataset)}
        lines.append(_text(_("Measured on the test photos (%(n)d) of %(dataset)s.") % said))
    elif card.tallies and card.run:
        lines.append(
            _(
                "Measured by the trainer on the validation photos, which decided what was kept; not measured on test photos yet."
            )
        )
    elif card.tallies:
        lines.append(_("As told by whoever made the weights, on other photos."))
    else:
        lines.append(_("Not measured yet."))
    lines.append("")
    if card.tallies:
        heads = (_("measure"), _("value"), _("95 % interval"))
        lines += _table(heads, [(one.name, _number(one), _interval(one)) for one in card.tallies])
    if card.labels:
        columns = (_("label"), _("animals"), "mAP50-95", "mAP50", _("precision"), _("recall"), "F1")
        keys = ("map50_95", "map50", "precision", "recall", "f1")
        rows = [
            (row.name, str(row.numbers.get("boxes") or 0), *(_share(row.numbers.get(key)) for key in keys))
            for row in card.labels
        ]
        lines += _table(columns, rows)
    return lines


def _lineage(card: Card) -> list[str]:
    lines = ["## " + _("Lineage")]
    if card.lineage:
        lines += [
            _text(_("Fine-tuned from %(version)s.") % {"version": " ← ".join(map(str, card.lineage))}),
            "",
        ]
    elif card.run:
        architecture = card.run.parameters.get("architecture", "")
        lines += [_text(_("From an untrained %(architecture)s.") % {"architecture": architecture}), ""]
    if card.imported:
        parts = [card.imported.licence, card.imported.note]
        lines += [_text(" · ".join(part for part in [_("Came from outside."), *parts] if part)), ""]
    if card.run_facts:
        lines += _table((_("run"), ""), card.run_facts)
    if card.withdrawn:
        said = _(
            "Photos that it, or what it was fine-tuned from, learned from and that were withdrawn since: %(n)d."
        )
        lines += [said % {"n": card.withdrawn}, ""]
    return lines


def _verdict(card: Card) -> list[str]:
    if not card.comparison:
        return []
    champion = str(card.comparison.champion or _("nothing"))
    heads = (_("rule"), _("in production"), _("this version"), _("difference"), _("limit"), _("outcome"))
    return [
        "## " + _("Verdict of the gate"),
        _text(
            _("Against %(champion)s: %(verdict)s.")
            % {"champion": champion, "verdict": card.comparison.get_verdict_display()}
        ),
        "",
        *_table(
            heads,
            [
                (rule.title, rule.champion, rule.challenger, rule.difference, rule.limit, rule.mark)
                for rule in card.rules
            ],
        ),
    ]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(map(_text, heads))} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(map(_text, row))} |" for row in rows]
    return [*lines, ""]


def _text(value: object) -> str:
    """Names are people's own words: they must stay words."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(value).split()))


def _number(tally: Tally) -> str:
    if not isinstance(tally.value, int | float):
        return "–"
    text = str(localize(round(float(tally.value), tally.digits)))
    return f"{text} {tally.unit}".strip()


def _interval(tally: Tally) -> str:
    if not isinstance(tally.low, int | float) or not isinstance(tally.high, int | float):
        return "–"
    return f"{localize(round(tally.low, tally.digits))} – {localize(round(tally.high, tally.digits))}"


def _share(value: object) -> str:
    return str(localize(round(float(value), 3))) if isinstance(value, int | float) else "–"
