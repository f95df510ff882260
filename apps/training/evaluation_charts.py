"""An evaluation's curves, bars and bins as charts."""

import math
from collections.abc import Mapping
from typing import Final

from django.utils.formats import localize
from django.utils.translation import gettext as _

from apps.common.charts import Axis, Chart, Series
from apps.training.engine.report import Report

LABELS_DRAWN: Final = 7
"""Beside all labels together: more lines cannot be told apart. The largest ones are drawn, the report has them all."""
_SIZES: Final = ("small", "medium", "large")


def evaluation_charts(report: Report, names: Mapping[str, str]) -> list[Chart]:
    charts = [_precision_recall(report, names), _f1(report), _reliability(report)]
    if report.sizes:
        charts.append(_sizes(report))
    if any(picture.latency_ms is not None for picture in report.pictures):
        charts.append(_latency(report))
    return [chart for chart in charts if not chart.is_empty]


def _precision_recall(report: Report, names: Mapping[str, str]) -> Chart:
    animals = [0] * len(report.labels)
    for picture in report.pictures:
        for box in picture.truth:
            animals[box[4]] += 1
    largest = sorted(range(len(animals)), key=lambda label: -animals[label])[:LABELS_DRAWN]
    every = report.curves["all"]
    series = [Series(_("all labels"), every.precision)]
    if len(report.labels) > 1:
        series += [
            Series(names.get(code, code), report.curves[code].precision)
            for code in (report.labels[label] for label in sorted(largest) if animals[label])
        ]
    return Chart(
        "precision-recall",
        _("Precision and recall"),
        Axis(_("recall"), low=0, high=1, digits=2),
        Axis(_("precision"), low=0, high=1),
        every.recall,
        series,
        explanation=_("At an overlap (IoU) of 0.5. The nearer to the upper right corner, the better."),
        is_square=True,
    )


def _f1(report: Report) -> Chart:
    every = report.curves["all"]
    return Chart(
        "f1-confidence",
        _("F1 by confidence"),
        Axis(_("confidence"), low=0, high=1, digits=2),
        Axis(_("share"), low=0, high=1),
        every.confidence,
        [
            Series("F1", every.f1),
            Series(_("precision"), every.precision_at),
            Series(_("recall"), every.recall_at),
        ],
        explanation=_(
            "What comes out when only boxes are shown that are at least so sure. This report uses %(confidence)s."
        )
        % {"confidence": localize(report.confidence)},
        is_square=True,
    )


def _reliability(report: Report) -> Chart:
    bins = report.calibration.bins
    middles = [round((one.low + one.high) / 2, 4) for one in bins]
    return Chart(
        "reliability",
        _("Reliability diagram"),
        Axis(_("confidence"), digits=2),
        Axis(_("share that is right"), low=0, high=1),
        [f"{localize(one.low)}–{localize(one.high)}" for one in bins],
        [
            Series(_("right"), [one.accuracy for one in bins], look="bar"),
            Series(_("mean confidence"), [one.confidence for one in bins], look="dots"),
            Series(_("perfectly calibrated"), middles, look="ideal"),
        ],
        notes=[str(one.count) for one in bins],
        notes_name=_("boxes"),
        explanation=_(
            "Bars below the line: it is surer than it should be. Boxes in each bin are in the table."
        ),
        is_square=True,
    )


def _sizes(report: Report) -> Chart:
    said = {"small": _("small"), "medium": _("medium"), "large": _("large")}
    names, notes, maps, recalls = [], [], [], []
    for size in _SIZES:
        if size not in report.sizes:
            continue
        bucket = report.sizes[size]
        span = f"{bucket.from_px:.0f}–{bucket.to_px:.0f} px" if bucket.to_px else f"≥ {bucket.from_px:.0f} px"
        names.append(f"{said[size]} ({span})")
        notes.append(str(bucket.boxes))
        maps.append(bucket.map50_95)
        recalls.append(bucket.recall)
    return Chart(
        "sizes",
        _("By size of the animal"),
        Axis(_("side of the animal on the photo")),
        Axis(_("share"), low=0, high=1),
        names,
        [Series("mAP50-95", maps, look="bar"), Series(_("recall at any confidence"), recalls, look="bar")],
        notes=notes,
        notes_name=_("animals"),
        is_square=True,
    )


def _latency(report: Report) -> Chart:
    known = sorted(picture.latency_ms for picture in report.pictures if picture.latency_ms is not None)
    low, high = known[0], known[-1]
    bins = max(1, min(20, round(math.sqrt(len(known)))))
    width = max((high - low) / bins, 0.1)
    counts = [0] * bins
    for value in known:
        counts[min(bins - 1, int((value - low) / width))] += 1
    return Chart(
        "latency",
        _("Latency"),
        Axis(_("milliseconds a photo")),
        Axis(_("photos"), low=0, digits=0),
        [f"{low + width * place:.0f}–{low + width * (place + 1):.0f}" for place in range(bins)],
        [Series(_("photos"), [float(count) for count in counts], look="bar")],
        is_square=True,
    )
