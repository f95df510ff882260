"""What a survey's model page shows: whether it can be trained, its versions, how good they are, what would help."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from apps.annotation.learning_curve import (
    MIN_TEST_BOXES,
    Curve,
    LabelQuality,
    Outlook,
    Point,
    advice,
    curve,
    outlooks,
)
from apps.annotation.models import TrainingStart
from apps.annotation.services.readiness import Readiness, ready_to_train
from apps.annotation.services.training import start_failure
from apps.common.charts import Axis, Chart, Series
from apps.common.leased import WorkStatus
from apps.observations.models import Label, Survey
from apps.training.models import Comparison, Dataset, Evaluation, ModelVersion, Split, TrainingRun
from apps.training.run_page import RunPage, read_run_page

VERSIONS: Final = 30
RUNS: Final = 5
_OF_TEN: Final = 10


@dataclass(frozen=True, slots=True)
class VersionRow:
    version: ModelVersion
    run: TrainingRun | None
    evaluation: Evaluation | None
    is_common: bool
    comparison: Comparison | None
    """The last one in which it was the challenger."""

    @property
    def photos(self) -> int | None:
        return self.run.dataset.photo_count if self.run else None

    @property
    def map50_95(self) -> float | None:
        return _metric(self.evaluation, "map50_95")

    @property
    def low(self) -> float | None:
        return _metric(self.evaluation, "map50_95_low")

    @property
    def high(self) -> float | None:
        return _metric(self.evaluation, "map50_95_high")


@dataclass(frozen=True, slots=True)
class LabelOutlook:
    label: Label | str
    outlook: Outlook


@dataclass(frozen=True, slots=True)
class ModelPage:
    survey: Survey
    readiness: Readiness
    progress: RunPage | None
    """Of the run under way."""
    failed_start: str
    production: ModelVersion | None
    quality: list[str]
    """Of the production version, in sentences for everybody."""
    versions: list[VersionRow]
    runs: list[TrainingRun]
    curve: Curve
    chart: Chart | None
    advice: str
    untold: str
    """Of which labels too few test boxes are there to say anything; those are the rare ones."""
    outlooks: list[LabelOutlook]
    test_set: Dataset | None
    """On which most versions were measured."""
    unmeasured: list[ModelVersion]
    """What a curator could have measured on the newest test set."""
    newest: Dataset | None


def read_model_page(survey: Survey) -> ModelPage:
    """The number of queries does not grow with versions, photos and labels."""
    readiness = ready_to_train(survey)
    rows, chosen = _version_rows(survey)
    drawn = curve([_point(row) for row in rows if _is_of_survey(row, survey)])
    ranked = outlooks(drawn.common)
    labels = {label.code: label for label in Label.objects.filter(survey=survey)}
    names: Mapping[str, str] = {code: label.name for code, label in labels.items()}
    serving = next((row for row in rows if row.version.stage == ModelVersion.Stage.PRODUCTION), None)
    newest = Dataset.objects.filter(name=survey.slug).order_by("-number").first()
    return ModelPage(
        survey=survey,
        readiness=readiness,
        progress=progress_of(readiness),
        failed_start=_failed_start(survey, readiness),
        production=serving.version if serving else None,
        quality=quality_sentences(serving.evaluation) if serving and serving.evaluation else [],
        versions=rows,
        runs=_runs(survey),
        curve=drawn,
        chart=chart_of(drawn),
        advice=advice(ranked, names),
        untold=_untold(rows, names),
        outlooks=[LabelOutlook(labels.get(one.label, one.label), one) for one in ranked],
        test_set=chosen,
        unmeasured=_unmeasured(rows, newest),
        newest=newest if newest and newest.counts[Split.TEST]["photos"] else None,
    )


def progress_of(readiness: Readiness) -> RunPage | None:
    return read_run_page(readiness.run) if readiness.run is not None else None


def _failed_start(survey: Survey, readiness: Readiness) -> str:
    """Why what was asked for last came to nothing; told for a day, or until another one succeeds."""
    if readiness.run is not None:
        return ""
    lately = timezone.now() - timedelta(days=1)
    last = TrainingStart.objects.filter(survey=survey, queued_at__gte=lately).order_by("-pk").first()
    return start_failure(last) if last else ""


def _runs(survey: Survey) -> list[TrainingRun]:
    runs = TrainingRun.objects.filter(registered_model=survey.registered_model_id)
    return list(runs.select_related("dataset", "version", "requested_by").order_by("-pk")[:RUNS])


# --- Versions and what was measured of them -----------------------------------------------------------------


def _version_rows(survey: Survey) -> tuple[list[VersionRow], Dataset | None]:
    """The newest first, each with the evaluation that is comparable with the most others."""
    versions = list(
        ModelVersion.objects.filter(registered_model=survey.registered_model_id)
        .select_related("registered_model", "run__dataset")
        .order_by("-number")[:VERSIONS]
    )
    evaluations = list(
        Evaluation.objects.filter(
            version__in=versions, dataset__name=survey.slug, split=Split.TEST, status=WorkStatus.DONE
        )
        .select_related("dataset")
        .order_by("pk")
    )
    common = _most_common(evaluations)
    best: dict[int, Evaluation] = {}
    for evaluation in evaluations:
        known = best.get(evaluation.version_id)
        if known is None or _set_of(evaluation) == common or _set_of(known) != common:
            best[evaluation.version_id] = evaluation
    comparisons = {
        row.challenger_id: row for row in Comparison.objects.filter(challenger__in=versions).order_by("pk")
    }
    rows = [
        VersionRow(
            version,
            getattr(version, "run", None),
            found := best.get(version.pk),
            found is not None and _set_of(found) == common,
            comparisons.get(version.pk),
        )
        for version in versions
    ]
    test_set = next((one.dataset for one in evaluations if _set_of(one) == common), None)
    return rows, test_set


def _set_of(evaluation: Evaluation) -> tuple[int, bool]:
    """Evaluations of the same dataset saw the same photos, unless a comparison left some out."""
    return evaluation.dataset.number, not evaluation.is_for_comparison


def _most_common(evaluations: Sequence[Evaluation]) -> tuple[int, bool] | None:
    """The test photos on which the most versions were measured; of several the newest."""
    measured: dict[tuple[int, bool], set[int]] = {}
    for one in evaluations:
        measured.setdefault(_set_of(one), set()).add(one.version_id)
    return max(measured, key=lambda photos: (len(measured[photos]), photos), default=None)


def _unmeasured(rows: Sequence[VersionRow], newest: Dataset | None) -> list[ModelVersion]:
    """Versions that have no evaluation of their own on the newest dataset's test photos."""
    if newest is None or not newest.counts[Split.TEST]["photos"]:
        return []
    wanted = [
        row.version
        for row in rows
        if not row.version.unusable_reason and set(row.version.labels) & set(newest.labels)
    ]
    done = Evaluation.objects.filter(
        version__in=wanted, dataset=newest, split=Split.TEST, is_for_comparison=False
    ).exclude(status=WorkStatus.FAILED)
    measured = set(done.values_list("version", flat=True))
    return [version for version in wanted if version.pk not in measured]


def _is_of_survey(row: VersionRow, survey: Survey) -> bool:
    """A model that several surveys share learned from others' photos too: such versions are no point of this curve."""
    return row.run is None or row.run.dataset.name == survey.slug


def _point(row: VersionRow) -> Point:
    counts = row.run.dataset.counts if row.run else {}
    learned = counts.get(Split.TRAIN, {}).get("labels", {})
    by_label = row.evaluation.by_label if row.evaluation else {}
    return Point(
        version=row.version.number,
        photos=row.run.dataset.photo_count if row.run else 0,
        map50=_metric(row.evaluation, "map50"),
        map50_95=row.map50_95,
        low=row.low,
        high=row.high,
        is_common=row.is_common,
        is_refused=row.version.stage == ModelVersion.Stage.REFUSED,
        labels={
            code: LabelQuality(
                int(learned.get(code, 0)), int(known.get("boxes") or 0), float(known["map50_95"])
            )
            for code, known in by_label.items()
            if known.get("map50_95") is not None
        },
    )


def _untold(rows: Sequence[VersionRow], names: Mapping[str, str]) -> str:
    newest = next((row.evaluation for row in rows if row.is_common and row.evaluation), None)
    boxes = {
        code: int(known.get("boxes") or 0) for code, known in (newest.by_label if newest else {}).items()
    }
    few = [names[code] for code in names if boxes.get(code, MIN_TEST_BOXES) < MIN_TEST_BOXES]
    if not few:
        return ""
    return _(
        "Nothing can be told yet of %(labels)s: fewer than %(limit)d test animals. Any photo that shows them helps."
    ) % {"labels": ", ".join(few), "limit": MIN_TEST_BOXES}


def _metric(evaluation: Evaluation | None, name: str) -> float | None:
    value = evaluation.metrics.get(name) if evaluation else None
    return float(value) if isinstance(value, int | float) else None


# --- In words and as a chart --------------------------------------------------------------------------------


def quality_sentences(evaluation: Evaluation) -> list[str]:
    """What the figures mean for somebody who looks for animals."""
    said = []
    recall, precision = _metric(evaluation, "recall"), _metric(evaluation, "precision")
    if recall is not None:
        said.append(_("Of ten animals it finds %(n)s.") % {"n": _of_ten(recall)})
    if precision is not None:
        said.append(_("Of ten boxes it draws, %(n)s are right, name included.") % {"n": _of_ten(precision)})
    photos = int(evaluation.metrics.get("photos") or 0)
    if photos:
        said.append(
            ngettext(
                "Measured on %(n)s photo that it has never learned from.",
                "Measured on %(n)s photos that it has never learned from.",
                photos,
            )
            % {"n": photos}
        )
    return said


def _of_ten(share: float) -> str:
    """As "about 8", and at the ends no more than is known."""
    tenth = round(share * _OF_TEN)
    if share >= 1:
        return _("all")
    if share <= 0:
        return _("none")
    if tenth == _OF_TEN:
        return _("nearly all")
    if tenth == 0:
        return _("hardly any")
    return _("about %(n)s") % {"n": tenth}


def chart_of(drawn: Curve) -> Chart | None:
    """Quality against photos, with the interval; versions measured on other photos stand apart."""
    points = drawn.measured
    if not points:
        return None
    common = [point if point in drawn.common else None for point in points]

    def values(name: str) -> list[float | None]:
        return [getattr(point, name) if point else None for point in common]

    series = [
        Series("mAP50-95", values("map50_95"), low=values("low"), high=values("high")),
        Series("mAP50", values("map50"), look="dashed"),
    ]
    if drawn.refused:
        refused = [point.map50_95 if point in drawn.refused else None for point in points]
        series.append(Series(_("mAP50-95, refused versions"), refused, look="dots"))
    if drawn.apart:
        apart = [None if point.is_common else point.map50_95 for point in points]
        series.append(Series(_("mAP50-95, on other test photos"), apart, look="dots"))
    return Chart(
        "learning-curve",
        _("Quality and photos"),
        Axis(_("annotated photos"), digits=0, low=0),
        Axis(_("quality"), low=0, high=1, digits=3),
        [point.photos for point in points],
        series,
        notes=[_("version %(number)s") % {"number": point.version} for point in points],
        notes_name=_("version"),
        explanation=_(
            "Each point is a version: how good it is on the test photos, and how many annotated photos its dataset had. The "
            "band is the 95 % interval; where bands overlap, the difference may be chance."
        ),
    )
