"""The numbers of an evaluation: by hand where a person can count, and against the reference where not."""

import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.training.engine.matches import IOU_THRESHOLDS
from apps.training.engine.matching import (
    MAX_DETECTIONS,
    Found,
    TableBuilder,
    Truth,
    found_of,
    greedy_partners,
    ious,
    shown_of,
)
from apps.training.engine.measures import Measurement, average_precision, calibration_of, size_ranges
from apps.training.engine.reference import coco_precisions
from apps.training.engine.report import Report
from apps.training.engine.tables import TableDamagedError, decode_table, encode_table
from apps.training.engine.types import DetectedBoxes

LABELS = ("CER", "ISO_MIN", "LEP")


def truth(*rows) -> Truth:
    """Rows of (x1, y1, x2, y2, label)."""
    values = np.array(rows, np.float64).reshape(-1, 5)
    return Truth(values[:, :4].astype(np.float32), values[:, 4].astype(np.int64))


def found(*rows) -> Found:
    """Rows of (x1, y1, x2, y2, label, score), in any order."""
    values = np.array(rows, np.float64).reshape(-1, 6)
    values = values[np.argsort(-values[:, 5], kind="stable")]
    return Found(
        values[:, :4].astype(np.float32), values[:, 4].astype(np.int64), values[:, 5].astype(np.float32)
    )


def measured(pictures, labels=LABELS):
    measurement = Measurement(labels)
    for number, (animals, boxes) in enumerate(pictures):
        measurement.add(photo=str(number), width_px=100, height_px=100, truth=animals, found=boxes)
    return measurement.measured(latency_ms=np.full(len(pictures), np.nan))


def scene(dice, *, animals=8, labels=3):
    """A picture as a middling detector sees it: loose boxes, several for one animal, wrong names, boxes on nothing."""
    count = int(dice.integers(0, animals + 1))
    corner, size = dice.uniform(0, 600, (count, 2)), dice.uniform(10, 120, (count, 2))
    boxes = np.hstack([corner, corner + size])
    names = dice.integers(0, labels, count)
    rows = []
    for box, name in zip(boxes, names, strict=True):
        for _ in range(dice.integers(0, 4)):
            guess = name if dice.random() < 0.8 else dice.integers(0, labels)
            moved = box + dice.normal(0, 6, 4)
            moved[2:] = np.maximum(moved[2:], moved[:2] + 1)
            rows.append([*moved, guess, round(dice.random(), 2)])  # scores that are alike must not matter
    for _ in range(dice.integers(0, 6)):
        place = dice.uniform(0, 600, 2)
        rows.append(
            [*place, *(place + dice.uniform(10, 100, 2)), dice.integers(0, labels), dice.random() * 0.6]
        )
    return truth(*np.column_stack([boxes, names])), found(*rows)


A, B, C = (10, 10, 30, 30), (50, 50, 70, 70), (10, 50, 30, 70)


def test_overlap_is_what_a_person_computes():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [3, 3, 3, 9]], np.float64)
    expected = [[1, 1 / 3, 0, 0], [1 / 3, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert ious(boxes, boxes) == pytest.approx(np.array(expected))


def test_boxes_choose_by_score_and_the_best_free_animal_at_each_threshold():
    animals = truth((0, 0, 100, 10, 0), (0, 0, 100, 12, 0))
    boxes = found((0, 0, 100, 12, 0, 0.9), (0, 0, 100, 11, 0, 0.8), (0, 0, 100, 10, 0, 0.1))
    partners = greedy_partners(animals, boxes)
    assert partners[0].tolist() == [1] * 10  # exact
    # 10/11 = 0.909: the second takes the first animal as long as that is enough
    assert partners[1].tolist() == [0] * 9 + [-1]
    assert partners[2].tolist() == [-1] * 9 + [0]


def test_another_name_is_no_match():
    assert (greedy_partners(truth((*A, 0)), found((*A, 1, 0.9))) == -1).all()
    assert greedy_partners(truth((*A, 0)), found((*A, 1, 0.9)), same_label=False).max() == 0


def test_precision_recall_and_f1_by_hand():
    """Three animals of label 0, one of label 1. Found: two right, one wrong name, one on nothing, one too weak."""
    result = measured(
        [
            (truth((*A, 0), (*B, 0)), found((*A, 0, 0.9), (*B, 1, 0.8))),
            (truth((*A, 0), (*C, 1)), found((*A, 0, 0.7), (*B, 0, 0.6), (*C, 1, 0.2))),
        ]
    )
    metrics = result.metrics
    assert metrics["confidence"] == 0.25
    assert (metrics["photos"], metrics["boxes"]) == (2, 4)
    assert metrics["precision"] == pytest.approx(2 / 4)
    assert metrics["recall"] == pytest.approx(2 / 4)
    assert metrics["f1"] == pytest.approx(2 / 4)
    first, second, third = (result.by_label[code] for code in LABELS)
    assert (first["boxes"], first["precision"], first["recall"]) == (
        3,
        pytest.approx(2 / 3),
        pytest.approx(2 / 3),
    )
    assert (second["boxes"], second["precision"], second["recall"], second["f1"]) == (1, 0, 0, 0)
    assert third["boxes"] == 0
    assert [third[name] for name in ("map50", "map50_95", "precision", "recall", "f1", "ece")] == [None] * 6
    # The weak box is right: at 0.2 three of five boxes are.
    assert metrics["best_confidence"] == pytest.approx(0.05)
    assert metrics["best_f1"] == pytest.approx(2 * 3 / (5 + 4))


def test_the_matrix_and_its_cells_by_hand():
    result = measured(
        [
            (truth((*A, 0), (*B, 0), (*C, 2)), found((*A, 0, 0.9), (*B, 1, 0.8))),
            (truth((*A, 1)), found((*A, 1, 0.3), (*B, 0, 0.6), (*C, 2, 0.2))),
        ]
    )
    report = result.report
    assert report.confusion == (
        (1, 1, 0, 0),  # animals of the first label: one right, one called the second
        (0, 1, 0, 0),
        (0, 0, 0, 1),  # missed
        (1, 0, 0, 0),  # a box on nothing; the one below the confidence does not count
    )
    assert report.cells == {
        "0,0": ((0, 0, 0),),
        "0,1": ((0, 1, 1),),
        "1,1": ((1, 0, 1),),
        "2,3": ((0, 2, None),),
        "3,0": ((1, None, 0),),
    }
    first, second = report.pictures
    assert (first.tp, first.fp, first.fn) == (1, 1, 2)
    assert (second.tp, second.fp, second.fn) == (1, 1, 0)
    assert first.pairs == ((0, 0), (1, 1))
    assert second.found[0] == (50, 50, 70, 70, 0, 0.6)


def test_a_right_name_goes_before_a_stronger_wrong_one():
    """The matrix's diagonal must be what recall counts."""
    result = measured([(truth((*A, 0)), found((*A, 1, 0.9), (10, 10, 30, 28, 0, 0.4)))])
    assert result.report.confusion[0] == (1, 0, 0, 0)
    assert result.report.confusion[3] == (0, 1, 0, 0)
    assert result.by_label["CER"]["recall"] == 1


@pytest.mark.parametrize("seed", range(5))
def test_the_matrix_adds_up_to_precision_and_recall(seed):
    dice = np.random.default_rng(seed)
    result = measured([scene(dice) for _ in range(20)])
    matrix = np.array(result.report.confusion)
    for label, code in enumerate(LABELS):
        numbers = result.by_label[code]
        assert matrix[label].sum() == numbers["boxes"]
        assert matrix[label, label] / matrix[label].sum() == pytest.approx(numbers["recall"])
        assert matrix[label, label] / matrix[:, label].sum() == pytest.approx(numbers["precision"])
    assert sum(p.tp for p in result.report.pictures) == matrix[:-1, :-1].trace()
    assert {name: len(rows) for name, rows in result.report.cells.items()} == {
        f"{row},{column}": matrix[row, column] for row, column in np.argwhere(matrix)
    }


def test_duplicates_are_suppressed_as_in_production_in_what_people_see_only():
    boxes = found((*A, 0, 0.9), (10, 10, 30, 26, 0, 0.8), (*B, 0, 0.01))
    shown = shown_of(truth((*A, 0)), boxes)
    assert len(shown.found) == 1
    assert len(measured([(truth((*A, 0)), boxes)]).table.score) == 3


def test_calibration_by_hand():
    """Two bins: three boxes sure of 0.9 of which one is right, one box sure of 0.35 that is right."""
    found_it = calibration_of(np.array([0.9, 0.9, 0.9, 0.35]), np.array([True, False, False, True]))
    assert found_it.ece == pytest.approx((3 * abs(0.9 - 1 / 3) + abs(0.35 - 1)) / 4)
    assert [bin_.count for bin_ in found_it.bins] == [0, 0, 0, 1, 0, 0, 0, 0, 0, 3]
    assert (found_it.bins[9].confidence, found_it.bins[9].accuracy) == (
        pytest.approx(0.9),
        pytest.approx(1 / 3),
    )
    assert found_it.bins[0].accuracy is None


def test_a_score_of_one_is_in_the_last_bin_and_no_box_has_no_error():
    assert calibration_of(np.array([1.0]), np.array([True])).bins[9].count == 1
    assert calibration_of(np.array([1.0]), np.array([True])).ece == 0
    assert calibration_of(np.zeros(0), np.zeros(0, np.bool_)).ece is None


def test_a_detector_as_sure_as_it_is_right_has_no_error():
    dice = np.random.default_rng(1)
    score = dice.uniform(0.05, 1, 200_000)
    assert calibration_of(score, dice.random(200_000) < score).ece < 0.005


def test_sizes_are_thirds_of_the_animals():
    sides = np.arange(1, 10) * 10.0
    places = [(200 * n, 0, 200 * n + side, side, 0) for n, side in enumerate(sides)]
    animals = truth(*places)
    ranges = size_ranges([animals])
    assert [r.name for r in ranges] == ["small", "medium", "large"]
    # Finds all but the three smallest.
    boxes = found(*[(*place, 0.9) for place in places[3:]])
    sizes = measured([(animals, boxes)]).report.sizes
    assert [sizes[name].boxes for name in ("small", "medium", "large")] == [3, 3, 3]
    assert (sizes["small"].recall, sizes["small"].map50_95) == (0, 0)
    assert (sizes["large"].recall, sizes["large"].map50_95) == (1, 1)
    assert sizes["small"].from_px == 0
    assert sizes["medium"].from_px == pytest.approx(40)
    assert sizes["large"].to_px is None


def test_animals_of_one_size_are_in_one_bucket():
    sizes = measured([(truth((*A, 0), (*B, 0)), found((*A, 0, 0.9)))]).report.sizes
    assert [bucket.boxes for bucket in sizes.values()] == [0, 0, 2]
    assert sizes["small"].recall is None


@pytest.mark.parametrize("seed", range(8))
def test_three_implementations_agree(seed):
    """Pycocotools, faster-coco-eval and the table of matches."""
    dice = np.random.default_rng(seed)
    pictures = [scene(dice) for _ in range(25)]
    precisions = coco_precisions(*zip(*pictures, strict=True), labels=LABELS)
    assert precisions.precision == pytest.approx(pycocotools_precision(pictures), abs=1e-6, nan_ok=True)
    builder = TableBuilder(LABELS)
    for animals, boxes in pictures:
        builder.add(animals, boxes)
    table = average_precision(builder.table())
    assert table == pytest.approx(precisions.precision.mean(axis=1), abs=1e-6, nan_ok=True)
    assert np.nanmean(table) == pytest.approx(precisions.map50_95, abs=1e-6)
    assert np.nanmean(table[0]) == pytest.approx(precisions.map50, abs=1e-6)


def pycocotools_precision(pictures, labels=LABELS):
    """(10, 101, L), by the original."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations, rows = [], []
    for image, (animals, boxes) in enumerate(pictures):
        for (x1, y1, x2, y2), label in zip(
            animals.boxes_xyxy_px.tolist(), animals.labels.tolist(), strict=True
        ):
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
            annotations.append(box | {"id": len(annotations) + 1, "image_id": image, "category_id": label})
        for (x1, y1, x2, y2), label, score in zip(
            boxes.boxes_xyxy_px.tolist(), boxes.labels.tolist(), boxes.scores.tolist(), strict=True
        ):
            box = [x1, y1, x2 - x1, y2 - y1]
            rows.append({"image_id": image, "category_id": label, "bbox": box, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        ground.dataset = {
            "images": [{"id": n} for n in range(len(pictures))],
            "categories": [{"id": n, "name": name} for n, name in enumerate(labels)],
            "annotations": annotations,
            "info": {},
        }
        ground.createIndex()
        evaluator = COCOeval(ground, ground.loadRes(rows), "bbox")
        evaluator.params.maxDets = [1, 100, MAX_DETECTIONS]
        evaluator.evaluate()
        evaluator.accumulate()
    precision = evaluator.eval["precision"][:, :, :, 0, -1]
    return np.where(precision < 0, np.nan, precision)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(0, 30))
def test_matching_is_that_of_the_original_box_by_box(seed, labels, animals):
    """Against pycocotools' loop, written out; scores and boxes that are alike included."""
    dice = np.random.default_rng(seed)
    animals, boxes = scene(dice, animals=animals, labels=labels)
    if len(animals):  # two that lie on each other
        animals = Truth(np.repeat(animals.boxes_xyxy_px, 2, 0), np.repeat(animals.labels, 2))
    overlap = ious(boxes.boxes_xyxy_px.astype(np.float64), animals.boxes_xyxy_px.astype(np.float64))
    expected = np.full((len(boxes), 10), -1)
    for place, threshold in enumerate(IOU_THRESHOLDS):
        taken = set()
        for row in range(len(boxes)):
            best, limit = -1, min(threshold, 1 - 1e-10)
            for animal in range(len(animals)):
                if (
                    animal in taken
                    or animals.labels[animal] != boxes.labels[row]
                    or overlap[row, animal] < limit
                ):
                    continue
                best, limit = animal, overlap[row, animal]
            if best >= 0:
                taken.add(best)
                expected[row, place] = best
    assert greedy_partners(animals, boxes).tolist() == expected.tolist()


def test_a_crowded_picture_counts_all_and_takes_no_second():
    dice = np.random.default_rng(3)
    corner = dice.uniform(0, 9000, (1000, 2))
    animals = truth(*np.column_stack([corner, corner + 60, np.zeros(1000)]))
    rows = np.repeat(animals.boxes_xyxy_px, 4, axis=0) + dice.normal(0, 4, (4000, 4))
    boxes = found(*np.column_stack([rows, np.zeros(4000), dice.random(4000)]))
    result = measured([(animals, boxes)], labels=("CER",))
    assert len(result.table.score) == MAX_DETECTIONS
    assert result.metrics["map50"] == pytest.approx(np.nanmean(average_precision(result.table)[0]), abs=1e-6)
    exact = measured(
        [(animals, replace(boxes.take(np.arange(1000)), boxes_xyxy_px=animals.boxes_xyxy_px))], ("CER",)
    )
    assert exact.metrics["recall"] > 0.98  # animals that lie on each other are one in production
    assert exact.metrics["map50_95"] == pytest.approx(1)


def test_without_animals_there_is_no_average_and_without_boxes_it_is_zero():
    nothing = measured([(truth(), found((*A, 0, 0.9))), (truth(), found())])
    assert nothing.metrics["map50_95"] is nothing.metrics["recall"] is nothing.metrics["f1"] is None
    assert nothing.metrics["precision"] == 0
    assert np.isnan(average_precision(nothing.table)).all()
    assert not nothing.metrics["precision"] >= 0.1
    blind = measured([(truth((*A, 0)), found())])
    assert (blind.metrics["map50_95"], blind.metrics["recall"], blind.metrics["f1"]) == (0, 0, 0)
    assert blind.metrics["precision"] is blind.metrics["ece"] is None
    assert blind.metrics["best_f1"] == 0


def test_no_picture_at_all_is_told_by_numbers_that_are_not_there():
    result = measured([])
    assert result.metrics["map50"] is result.metrics["latency_ms"] is None
    assert result.table.pictures == 0
    assert Report.decoded(result.report.encoded()) == result.report


def test_a_report_and_a_table_read_back_are_the_same():
    dice = np.random.default_rng(9)
    result = measured([scene(dice) for _ in range(10)])
    assert Report.decoded(result.report.encoded()) == result.report
    assert result.report.encoded() == result.report.encoded()
    again = decode_table(encode_table(result.table))
    for name in ("picture", "label", "score", "is_match", "truths"):
        assert (getattr(again, name) == getattr(result.table, name)).all()
        assert getattr(again, name).dtype == getattr(result.table, name).dtype
    assert again.labels == LABELS


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04nothing", b"\x80\x04N."])
def test_what_is_no_table_is_refused(content):
    with pytest.raises(TableDamagedError):
        decode_table(content)


def test_a_table_that_does_not_fit_itself_is_refused():
    table = measured([(truth((*A, 0)), found((*A, 0, 0.9)))]).table
    for change in ({"picture": np.array([5])}, {"label": np.array([3])}, {"labels": ("CER",)}):
        with pytest.raises(TableDamagedError):
            decode_table(encode_table(replace(table, **change)))


def detected(boxes, class_scores):
    scores = np.array(class_scores, np.float32).reshape(len(boxes), 2)
    best = scores.argmax(axis=1).astype(np.int64)
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    return DetectedBoxes(corners, scores.max(axis=1, initial=0), best, scores, 100, 100, 1.0)


def test_scores_are_taken_by_code_and_unknown_classes_are_not_among_them():
    boxes = detected([A, B, C], [[0.9, 0.1], [0.2, 0.6], [0.3, 0.4]])
    # The detector's second class is the list's first; its first class is not in the list.
    taken = found_of(boxes, np.array([1, -1]))
    assert taken.labels.tolist() == [0, 0, 0]
    assert taken.scores.tolist() == pytest.approx([0.6, 0.4, 0.1])
    assert taken.boxes_xyxy_px[0].tolist() == list(B)
    assert len(found_of(detected([], []), np.array([0, -1]))) == 0


def test_curves_start_and_end_where_they_must():
    dice = np.random.default_rng(2)
    curves = measured([scene(dice) for _ in range(20)]).report.curves
    assert set(curves) == {*LABELS, "all"}
    for curve in curves.values():
        assert len(curve.recall) == len(curve.precision) == 101
        assert len(curve.confidence) == len(curve.f1) == len(curve.precision_at) == len(curve.recall_at)
        assert (curve.confidence[0], curve.confidence[-1]) == (0.05, 1.0)
        assert list(curve.recall_at) == sorted(curve.recall_at, reverse=True)
        assert list(curve.precision) == sorted(curve.precision, reverse=True)
    assert 0.25 in curves["all"].confidence


def test_the_interval_holds_the_average_and_is_the_same_each_time():
    dice = np.random.default_rng(11)
    pictures = [scene(dice) for _ in range(30)]
    first, second = measured(pictures).metrics, measured(pictures).metrics
    for name in ("map50_95", "map50", "precision", "recall", "f1"):
        assert first[f"{name}_low"] < first[name] < first[f"{name}_high"]
    assert first == second
    few = measured(pictures[:8]).metrics
    assert few["map50_95_high"] - few["map50_95_low"] > first["map50_95_high"] - first["map50_95_low"]
    assert measured([(truth(), found())]).metrics["map50_95_low"] is None
