"""What a training run's page shows: figures, curves and the log, as they are now."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Final

from django.utils.formats import localize
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from apps.common.charts import Axis, Chart, Series
from apps.training.engine.recipe import AUTOMATIC_BATCH, Recipe
from apps.training.models import RunStatus, TrainingEpoch, TrainingLogLine, TrainingRun
from apps.training.run_texts import choice_name, failure_text, log_text, parameter_name

LOG_LINES: Final = 200
_GIB: Final = 1 << 30
_BADGES: Final = {
    RunStatus.QUEUED: "waiting",
    RunStatus.RUNNING: "processing",
    RunStatus.SUCCEEDED: "done",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "waiting",
}


@dataclass(frozen=True, slots=True)
class LogLine:
    key: int
    at: Any
    level: str
    text: str
    level_shown: str
    is_own_words: bool
    """Said by the trainer itself, in English."""


@dataclass(frozen=True, slots=True)
class LogPage:
    lines: list[LogLine]
    """The newest last."""
    before: int | None
    """Key for the page with older ones."""
    newest: int
    """Key of the last one that there is."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What an open page has already."""

    epoch: str
    line: int


@dataclass(frozen=True, slots=True)
class RunPage:
    run: TrainingRun
    charts: list[Chart]
    """Empty in an update when there is nothing new."""
    log: LogPage
    newest_epoch: str

    @property
    def badge(self) -> str:
        return _BADGES[RunStatus(self.run.status)]

    @property
    def percent(self) -> int:
        return min(100, self.run.epochs_done * 100 // max(1, self.run.epochs))

    @property
    def time_left(self) -> str:
        left = self.run.eta
        return span_text(left) if left is not None else ""

    @property
    def time_spent(self) -> str:
        return span_text(timedelta(seconds=self.run.seconds_spent)) if self.run.seconds_spent else ""

    @property
    def failure(self) -> str:
        return failure_text(self.run)

    @property
    def parameters(self) -> list[tuple[str, str, bool]]:
        return parameter_rows(self.run)

    @property
    def hardware(self) -> list[tuple[str, str]]:
        return hardware_rows(self.run.hardware)


def read_run_page(run: TrainingRun, *, seen: Seen | None = None) -> RunPage:
    """All of it; or for a page that has `seen` some of it, what came since."""
    newest = run.epoch_rows.order_by("-finished_at").values_list("pk", "epoch").first()
    mark = f"{newest[0]}-{newest[1]}" if newest else ""
    is_new = seen is None or seen.epoch != mark
    charts = charts_of(run.epoch_rows.order_by("epoch")) if is_new else []
    return RunPage(run, charts, log_page(run, after=seen.line if seen else None), mark)


def log_page(run: TrainingRun, *, before: int | None = None, after: int | None = None) -> LogPage:
    lines = TrainingLogLine.objects.filter(run=run)
    if before is not None:
        lines = lines.filter(pk__lt=before)
    if after is not None:
        lines = lines.filter(pk__gt=after)
    found = list(lines.order_by("-pk")[: LOG_LINES + 1])
    shown = found[:LOG_LINES][::-1]
    return LogPage(
        [
            LogLine(line.pk, line.at, line.level, log_text(line), line.get_level_display(), not line.code)
            for line in shown
        ],
        shown[0].pk if len(found) > LOG_LINES else None,
        shown[-1].pk if shown else after or 0,
    )


def charts_of(epochs: Iterable[TrainingEpoch]) -> list[Chart]:
    """Losses, quality and learning rate, epoch by epoch."""
    rows = list(epochs)
    numbers = [row.epoch for row in rows]

    def values(name: str) -> list[float | None]:
        return [_number(row.metrics, name) for row in rows]

    def chart(name: str, title: str, y: Axis, series: list[Series], explanation: str = "") -> Chart:
        known = [one for one in series if any(value is not None for value in one.values)]
        x = Axis(_("epoch"), digits=0)
        return Chart(name, title, x, y, numbers, known or series, explanation=explanation)

    quality = [
        Series("mAP50", values("map50")),
        Series("mAP50-95", values("map50_95")),
        Series(_("precision"), values("precision")),
        Series(_("recall"), values("recall")),
    ]
    losses = [
        Series(_("boxes, training"), values("box_loss")),
        Series(_("boxes, validation"), values("val_box_loss"), look="dashed"),
        Series(_("labels, training"), values("cls_loss")),
        Series(_("labels, validation"), values("val_cls_loss"), look="dashed"),
        Series(_("edges (DFL), training"), values("dfl_loss")),
        Series(_("edges (DFL), validation"), values("val_dfl_loss"), look="dashed"),
    ]
    return [
        chart(
            "quality",
            _("Quality on the validation photos"),
            Axis(_("share"), low=0, high=1),
            quality,
            _(
                "Measured by the trainer after each epoch; the verdict on the version comes from the test photos."
            ),
        ),
        chart(
            "losses",
            _("Losses"),
            Axis(_("loss"), low=0),
            losses,
            _("When the validation losses rise while the training losses fall, it learns by heart."),
        ),
        chart(
            "learning-rate",
            _("Learning rate"),
            Axis(_("learning rate"), low=0, digits=6),
            [Series(_("learning rate"), values("learning_rate"))],
        ),
    ]


def span_text(span: timedelta) -> str:
    """As people say it: "2 h 5 min", "12 min", "40 s"."""
    seconds = round(span.total_seconds())
    if seconds < 90:
        return _("%(n)d s") % {"n": seconds}
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours:
        return _("%(hours)d h %(minutes)d min") % {"hours": hours, "minutes": minutes}
    return _("%(n)d min") % {"n": minutes}


def parameter_rows(run: TrainingRun) -> list[tuple[str, str, bool]]:
    """Name, value, and whether somebody chose it, in the recipe's own order."""
    order = {field.name: place for place, field in enumerate(fields(Recipe))}
    # What is fine-tuned keeps its architecture, whatever stands there.
    told = [name for name in run.parameters if name != "architecture" or run.base_version_id is None]
    names = sorted(told, key=lambda name: (order.get(name, len(order)), name))
    return [(parameter_name(name), _value(name, run.parameters[name]), name in run.chosen) for name in names]


def hardware_rows(hardware: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A machine as `describe_hardware` told it."""
    if not hardware:
        return []
    rows = []
    if hardware.get("cpu"):
        cores = int(hardware.get("cores") or 0)
        said = ngettext("%(n)d core", "%(n)d cores", cores) % {"n": cores}
        rows.append((_("processor"), f"{hardware['cpu']}, {said}"))
    if hardware.get("memory_bytes"):
        rows.append((_("memory"), f"{localize(round(hardware['memory_bytes'] / _GIB, 1))} GiB"))
    for gpu in hardware.get("gpus") or []:
        memory = f", {localize(round(gpu['memory_bytes'] / _GIB, 1))} GiB" if gpu.get("memory_bytes") else ""
        rows.append((_("GPU"), f"{gpu.get('name', '')}{memory}"))
    versions = hardware.get("versions") or {}
    if versions:
        rows.append((_("software"), ", ".join(f"{name} {number}" for name, number in versions.items())))
    if hardware.get("runtime"):
        rows.append((_("runtime"), str(hardware["runtime"])))
    return rows


def _number(metrics: Mapping[str, Any], name: str) -> float | None:
    value = metrics.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _value(name: str, value: Any) -> str:
    if name == "batch" and value == AUTOMATIC_BATCH:
        return _("automatic")
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, int | float):
        return str(localize(value))
    return choice_name(str(value))
