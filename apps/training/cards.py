"""A version's model card: what it is for, what it learned from, how good it is, what it cannot do; from the database alone.

After Mitchell et al., "Model cards for model reporting", FAT* 2019. The page and the Markdown file say the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from django.db.models import Count
from django.utils.formats import localize
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from apps.common.leased import WorkStatus
from apps.training.evaluation_page import SPARSE_BOXES, LabelRow, Tally, label_rows, tallies_of
from apps.training.hooks import names_of
from apps.training.models import (
    Comparison,
    Dataset,
    DatasetItem,
    Evaluation,
    ModelImport,
    ModelVersion,
    PromotionEvent,
    Split,
    TrainingRun,
)
from apps.training.promotion_texts import RuleShown, shown_rules
from apps.training.run_page import hardware_rows, span_text
from apps.training.services.datasets import withdrawn_photos

ATTRIBUTIONS_NAMED: Final = 200
ANCESTORS_NAMED: Final = 50
_WEAK_RECALL: Final = 0.5
_POOR_ECE: Final = 0.1


@dataclass(frozen=True, slots=True)
class SplitRow:
    """A row of the table of counts: a label, or photos and boxes as a whole; one number for each split."""

    name: str
    counts: list[int]


@dataclass(frozen=True, slots=True)
class Data:
    dataset: Dataset
    rows: list[SplitRow]
    licences: list[tuple[str, int]]
    attributions: list[tuple[str, int]]
    unnamed: int
    """Attributions beyond those that are named."""

    @property
    def splits(self) -> list[str]:
        return [str(label) for label in Split.labels]


@dataclass(frozen=True, slots=True)
class Card:
    version: ModelVersion
    names: list[tuple[str, str]]
    """Label code and name, in the order of the class scores."""
    data: Data | None
    evaluation: Evaluation | None
    """On test photos: the newest."""
    tallies: list[Tally]
    labels: list[LabelRow]
    limits: list[str]
    lineage: list[ModelVersion]
    """What it was fine-tuned from, the nearest first."""
    run: TrainingRun | None
    run_facts: list[tuple[str, str]]
    comparison: Comparison | None
    rules: list[RuleShown]
    withdrawn: int
    imported: ModelImport | None
    events: list[PromotionEvent] = field(default_factory=list)

    @property
    def registered_model(self) -> Any:
        return self.version.registered_model

    @property
    def size_mb(self) -> float:
        return self.version.weights_bytes / 1e6


def read_card(version: ModelVersion) -> Card:
    names = names_of(version.registered_model)
    run = (
        TrainingRun.objects.filter(version=version)
        .select_related("dataset", "base_version__registered_model")
        .first()
    )
    evaluation = _test_evaluation(version)
    comparison = (
        Comparison.objects.filter(challenger=version, status=WorkStatus.DONE)
        .select_related("champion__registered_model", "dataset")
        .order_by("-pk")
        .first()
    )
    labels = label_rows(evaluation.by_label, names, version.labels) if evaluation else []
    withdrawn = withdrawn_photos(version).count()
    return Card(
        version=version,
        names=[(code, names.get(code, code)) for code in version.labels],
        data=_data(run.dataset, names) if run else None,
        evaluation=evaluation,
        tallies=tallies_of(evaluation.metrics) if evaluation else _told_metrics(version),
        labels=labels,
        limits=_limits(version, names, evaluation, labels),
        lineage=_lineage(version),
        run=run,
        run_facts=_run_facts(run) if run else [],
        comparison=comparison,
        rules=shown_rules(comparison.rules, names) if comparison else [],
        withdrawn=withdrawn,
        imported=ModelImport.objects.filter(version=version).first(),
        events=list(
            PromotionEvent.objects.filter(to_version=version)
            .select_related("from_version__registered_model", "to_version__registered_model")
            .order_by("-pk")[:ANCESTORS_NAMED]
        ),
    )


def _test_evaluation(version: ModelVersion) -> Evaluation | None:
    done = Evaluation.objects.filter(version=version, status=WorkStatus.DONE, split=Split.TEST)
    return done.select_related("dataset").order_by("-pk").first()


def _told_metrics(version: ModelVersion) -> list[Tally]:
    """What came with weights from outside, or from the trainer: measured by somebody else, on other photos."""
    return [tally for tally in tallies_of(version.metrics) if isinstance(tally.value, int | float)]


def _data(dataset: Dataset, names: Mapping[str, str]) -> Data:
    splits = [dataset.counts[split] for split in Split.values]
    rows = [
        SplitRow(_("photos"), [split["photos"] for split in splits]),
        SplitRow(_("of these without an animal"), [split["empty"] for split in splits]),
        SplitRow(_("animals"), [split["boxes"] for split in splits]),
        *(
            SplitRow(names.get(code, code), [split["labels"].get(code, 0) for split in splits])
            for code in dataset.labels
        ),
    ]
    items = DatasetItem.objects.filter(dataset=dataset).order_by()
    licences = items.values_list("licence").annotate(n=Count("pk")).order_by("-n", "licence")
    people = (
        items.exclude(attribution="")
        .filter(is_withdrawn=False)
        .values_list("attribution")
        .annotate(n=Count("pk"))
        .order_by("-n", "attribution")
    )
    named = list(people[: ATTRIBUTIONS_NAMED + 1])
    unnamed = people.count() - ATTRIBUTIONS_NAMED if len(named) > ATTRIBUTIONS_NAMED else 0
    return Data(dataset, rows, list(licences), named[:ATTRIBUTIONS_NAMED], unnamed)


def _lineage(version: ModelVersion) -> list[ModelVersion]:
    line: list[ModelVersion] = []
    seen = {version.pk}
    key = version.parent_id
    while key is not None and key not in seen and len(line) < ANCESTORS_NAMED:
        parent = ModelVersion.objects.select_related("registered_model").get(pk=key)
        line.append(parent)
        seen.add(parent.pk)
        key = parent.parent_id
    return line


def _run_facts(run: TrainingRun) -> list[tuple[str, str]]:
    facts = [
        (_("epochs"), f"{localize(run.epochs_done)} / {localize(run.epochs)}"),
        (_("batch"), str(run.batch or run.parameters.get("batch") or "–")),
        (_("image size (px)"), str(run.parameters.get("image_size", "–"))),
        (_("seed"), str(run.parameters.get("seed", "–"))),
    ]
    if run.seconds_spent:
        facts.append((_("time"), span_text(timedelta(seconds=run.seconds_spent))))
    facts += hardware_rows(run.hardware)
    if run.code_commit:
        facts.append((_("code"), run.code_commit[:12]))
    return facts


def _limits(
    version: ModelVersion, names: Mapping[str, str], evaluation: Evaluation | None, labels: list[LabelRow]
) -> list[str]:
    """Sentences on what not to expect."""
    found = []
    unknown = [name for code, name in names.items() if code not in version.labels]
    if unknown:
        found.append(
            _("It does not know %(labels)s: such animals are missed or get another name.")
            % {"labels": ", ".join(unknown)}
        )
    if version.object_size_px:
        found.append(
            _("It learned from animals of about %(px)d px; much smaller or larger ones are found less well.")
            % {"px": round(version.object_size_px)}
        )
    if evaluation is None:
        found.append(_("It was not measured on test photos here yet: nothing is known of how good it is."))
        return found
    sparse = [row.name for row in labels if row.is_sparse]
    if sparse:
        found.append(
            ngettext(
                "Too few test animals to say much (fewer than %(limit)d): %(labels)s.",
                "Too few test animals to say much (fewer than %(limit)d): %(labels)s.",
                len(sparse),
            )
            % {"limit": SPARSE_BOXES, "labels": ", ".join(sparse)}
        )
    weak = [
        row.name for row in labels if not row.is_sparse and (row.numbers.get("recall") or 0) < _WEAK_RECALL
    ]
    if weak:
        found.append(_("Of %(labels)s it misses more than half.") % {"labels": ", ".join(weak)})
    error = evaluation.metrics.get("ece")
    if isinstance(error, int | float) and error > _POOR_ECE:
        found.append(
            _("Its scores are no probabilities: on average they are off by %(points)d points.")
            % {"points": round(error * 100)}
        )
    return found
