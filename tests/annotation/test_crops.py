"""What crops look like as numbers, and how the background work on them goes on."""

import random
from typing import Any

import pytest
from django.core.files.base import ContentFile
from PIL import Image, ImageDraw

from apps.annotation.crops import (
    FEATURES,
    SIDE_PX,
    BoxPx,
    cut,
    features,
    jpeg,
    outlierness,
    usual,
    window,
)
from apps.annotation.models import AnnotationTask, Crop, CropSheet, LabelLook
from apps.annotation.services.bulk import relabel_boxes
from apps.annotation.services.crop_sheets import (
    PhotoPixels,
    describe_next,
    measure_next_label,
    request_looks,
)
from apps.annotation.tasks.crops import describe_crops, measure_looks, sweep_crops
from apps.common.leased import WorkStatus
from apps.observations.models import Label, Photo, TilePyramid
from apps.observations.pyramid import levels_of
from apps.observations.services.tiles import tile_name
from tests.annotation.factories import ExpertFactory
from tests.annotation.test_bulk import accepted, answered
from tests.factories import LabelFactory, PhotoFactory
from tests.support.pictures import saved

BOX = BoxPx(20, 20, 60, 40)


def animal(seed: int, *, colour: tuple[int, int, int] = (60, 40, 160), long: bool = True) -> Image.Image:
    """A pale plate with one animal, a little different each time."""
    dice = random.Random(seed)
    plate = Image.new("RGB", (80, 60), (dice.randint(215, 235),) * 3)
    x, y = dice.randint(18, 22), dice.randint(18, 22)
    width, height = (40, 14) if long else (22, 22)
    shade = tuple(min(255, max(0, c + dice.randint(-12, 12))) for c in colour)
    ImageDraw.Draw(plate).ellipse((x, y, x + width, y + height), fill=shade)
    return plate


def described(picture: Image.Image, box: BoxPx = BOX) -> bytes:
    return features(cut(picture, box, width_px=picture.width, height_px=picture.height), box)


# --- Pure ---------------------------------------------------------------------------------------------------


def test_a_crop_is_square_with_the_box_in_its_middle_and_dark_beyond_the_border() -> None:
    left, top, right, bottom = window(BOX, width_px=80, height_px=60)
    assert (left + right, top + bottom) == (80, 60)
    assert right - left == bottom - top
    assert right - left > 40
    corner = cut(Image.new("RGB", (80, 60), "white"), BoxPx(0, 0, 20, 20), width_px=80, height_px=60)
    assert corner.size == (SIDE_PX, SIDE_PX)
    assert corner.getpixel((0, 0)) == (0, 0, 0)
    assert corner.getpixel((SIDE_PX // 2, SIDE_PX // 2)) == (255, 255, 255)


def test_the_scale_of_the_rendition_does_not_move_the_crop() -> None:
    plate = animal(1)
    large = plate.resize((320, 240), Image.Resampling.NEAREST)
    one = cut(plate, BOX, width_px=80, height_px=60)
    four = cut(large, BOX, width_px=80, height_px=60)
    middle = (SIDE_PX // 2, SIDE_PX // 3)
    assert one.getpixel(middle) == pytest.approx(four.getpixel(middle), abs=12)


@pytest.mark.parametrize(
    "box", [BoxPx(0, 0, 0.01, 0.01), BoxPx(0, 0, 80, 60), BoxPx(79, 59, 80, 60), BoxPx(-5, -5, 900, 2)]
)
def test_any_box_has_a_crop_and_features(box: BoxPx) -> None:
    picture = cut(animal(2), box, width_px=80, height_px=60)
    assert picture.size == (SIDE_PX, SIDE_PX)
    assert len(features(picture, box)) == FEATURES
    assert jpeg(picture)[:2] == b"\xff\xd8"


def test_even_pictures_have_features() -> None:
    for colour in ("black", "white", "#808080"):
        assert len(described(Image.new("RGB", (80, 60), colour))) == FEATURES


def test_what_lies_in_the_wrong_drawer_is_the_most_unusual() -> None:
    rows = [described(animal(seed)) for seed in range(30)]
    wrong = [
        described(animal(100, colour=(170, 60, 20))),
        described(Image.new("RGB", (80, 60), (200, 210, 190))),
        described(animal(102, colour=(20, 20, 20), long=False), BoxPx(10, 10, 52, 48)),
    ]
    values = outlierness(rows + wrong, *usual(rows + wrong))
    assert min(values[30:]) > max(values[:30])


def test_turning_an_animal_by_a_right_angle_changes_little() -> None:
    rows = [described(animal(seed)) for seed in range(30)]
    turned = animal(200).rotate(90, expand=True)
    box = BoxPx(20, 20, 40, 60)
    values = outlierness(
        [*rows, described(turned, box), described(animal(7, colour=(170, 60, 20)))], *usual(rows)
    )
    assert values[30] < values[31]


def test_nothing_is_unusual_among_equals_and_nothing_gives_nothing() -> None:
    rows = [described(animal(1))] * 10
    assert outlierness(rows, *usual(rows)) == [0] * 10
    assert outlierness([], [], []) == []


# --- In the background --------------------------------------------------------------------------------------


@pytest.fixture
def label(db: None) -> Label:
    return LabelFactory(code="A")


def show(photo: Photo, picture: Image.Image) -> None:
    photo.width_px, photo.height_px = 80, 60
    for kind in ("display", "thumbnail"):
        setattr(photo, kind, ContentFile(saved(picture, "JPEG", quality=95), name=f"{kind}.jpg"))
    photo.save()


def run_to_the_end() -> None:
    while describe_next():
        pass
    request_looks()
    while measure_next_label():
        pass


@pytest.mark.django_db
def test_crops_are_described_once_and_the_odd_one_comes_first(label: Label) -> None:
    answers = [answered(label.survey, label, boxes=1) for _ in range(12)]
    for seed, answer in enumerate(answers):
        colour = (170, 60, 20) if seed == 5 else (60, 40, 160)
        show(answer.task.photo, animal(seed, colour=colour))
    run_to_the_end()
    crops = Crop.objects.order_by("-outlierness")
    assert crops[0].box.annotation == answers[5]
    assert all(crop.features and crop.picture and crop.outlierness >= 0 for crop in crops)
    assert not CropSheet.objects.exclude(status=WorkStatus.DONE).exists()
    assert LabelLook.objects.get().crops == 12
    assert request_looks() == 0


@pytest.mark.django_db
def test_a_relabelled_crop_is_measured_against_its_new_label_without_its_picture(label: Label) -> None:
    other = LabelFactory(survey=label.survey, code="B")
    groups = [[answered(label.survey, one, boxes=1) for _ in range(9)] for one in (label, other)]
    for place, group in enumerate(groups):
        for seed, answer in enumerate(group):
            show(answer.task.photo, animal(seed, colour=((60, 40, 160), (170, 60, 20))[place]))
    run_to_the_end()
    moved = groups[0][0]
    moved.task.photo.display.delete()
    relabel_boxes(survey=label.survey, by=ExpertFactory(), boxes=[(moved.public_id, 1)], code="B")
    crop = Crop.objects.get(box__annotation=accepted(moved))
    assert crop.outlierness == -1
    run_to_the_end()
    crop.refresh_from_db()
    assert crop.outlierness > max(
        Crop.objects.filter(label=other).exclude(pk=crop.pk).values_list("outlierness", flat=True)
    )


@pytest.mark.django_db
def test_a_damaged_picture_is_given_up_after_three_attempts_and_holds_nobody_up(label: Label) -> None:
    bad, good = answered(label.survey, label), answered(label.survey, label)
    show(good.task.photo, animal(1))
    for _attempt in range(5):
        describe_next()
    assert CropSheet.objects.get(task=bad.task).status == WorkStatus.FAILED
    assert CropSheet.objects.get(task=good.task).status == WorkStatus.DONE


@pytest.mark.django_db
def test_the_wake_ups_may_run_twice_and_the_sweep_finds_what_waits(label: Label) -> None:
    answer = answered(label.survey, label)
    show(answer.task.photo, animal(1))
    sweep_crops()
    for _run in range(2):
        describe_crops()
        measure_looks()
    assert Crop.objects.filter(features__isnull=False).count() == 2


@pytest.mark.django_db
def test_when_the_answer_goes_its_crops_go(label: Label) -> None:
    answer = answered(label.survey, label)
    assert Crop.objects.count() == 2
    AnnotationTask.objects.filter(pk=answer.task_id).update(state="waiting", accepted=None)
    assert not Crop.objects.exists()


@pytest.mark.django_db
def test_a_small_animal_on_a_huge_plate_is_cut_from_the_tiles(django_assert_num_queries: Any) -> None:
    photo = PhotoFactory(width_px=8_000, height_px=6_000)
    pyramid = TilePyramid.objects.create(
        photo=photo,
        status=WorkStatus.DONE,
        folder="12345678-1234-5678-1234-567812345678",
        tiles=1,
        size_bytes=1,
    )
    last = levels_of(8_000, 6_000)[-1]
    colours = {(5, 4): "#ff0000", (6, 4): "#0000ff"}
    for (column, row), colour in colours.items():
        name = tile_name(pyramid.folder, last.level, column, row)  # type: ignore[arg-type]
        photo.display.storage.save(name, ContentFile(saved(Image.new("RGB", (512, 512), colour), "JPEG")))
    border = 6 * 512
    crop = PhotoPixels(photo).crop(BoxPx(border - 40, 2_250, border + 40, 2_310))
    assert crop.getpixel((20, 80)) == pytest.approx((254, 0, 0), abs=3)
    assert crop.getpixel((140, 80)) == pytest.approx((0, 0, 254), abs=3)
