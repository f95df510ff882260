"""`manage.py detect`: files and folders in, JSON, CSV or COCO out."""

import csv
import io
import json

import pytest
from django.core.management import CommandError, call_command

from apps.observations.models import Photo
from apps.training.inference import forget_detectors
from tests.factories import LabelFactory, SurveyFactory
from tests.support.pictures import jpeg, png
from tests.support.stub_detector import expected_boxes, stub_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def survey():
    forget_detectors()
    survey = SurveyFactory(slug="springtails")
    LabelFactory(survey=survey, code="CER", scientific_name="Ceratophysella")
    stub_version(survey.registered_model, "CER", "ISO_MIN")
    yield survey
    forget_detectors()


@pytest.fixture
def folder(tmp_path):
    plates = tmp_path / "plates"
    (plates / "deep").mkdir(parents=True)
    (plates / "a.jpg").write_bytes(jpeg(seed=1))
    (plates / "deep" / "=b.PNG").write_bytes(png(seed=2))
    (plates / "notes.txt").write_text("not a picture, and not named like one")
    return plates


def detect(*arguments) -> str:
    out = io.StringIO()
    call_command("detect", *map(str, arguments), stdout=out, stderr=io.StringIO())
    return out.getvalue()


def test_a_folder_gives_a_list_with_the_boxes_of_each_picture(survey, folder):
    photos = json.loads(detect(folder))
    assert [photo["file"] for photo in photos] == [str(folder / "a.jpg"), str(folder / "deep" / "=b.PNG")]
    for photo, content in zip(photos, (jpeg(seed=1), png(seed=2)), strict=True):
        assert (photo["width"], photo["height"]) == (96, 64)
        assert [row["number"] for row in photo["detections"]] == list(range(1, expected_boxes(content) + 1))
        for row in photo["detections"]:
            assert set(row) == {"number", "label", "confidence", "scores", "box"}
            assert set(row["box"]) == {"x", "y", "width", "height"}
            assert row["confidence"] == max(row["scores"].values())
    assert not Photo.objects.exists()


def test_csv_has_a_row_a_box_and_no_formula(survey, folder, monkeypatch):
    monkeypatch.chdir(folder / "deep")
    rows = list(csv.DictReader(io.StringIO(detect("=b.PNG", "--format", "csv"))))
    assert len(rows) == expected_boxes(png(seed=2))
    assert rows[0]["file"] == "'=b.PNG"
    assert float(rows[0]["width"]) > 0


def test_coco_lists_every_picture_and_every_label(survey, folder, tmp_path):
    output = tmp_path / "coco.json"
    assert detect(folder, "--format", "coco", "--output", output) == ""
    document = json.loads(output.read_text())
    assert len(document["images"]) == 2
    assert [category["name"] for category in document["categories"]] == ["CER", "ISO_MIN"]
    assert len(document["annotations"]) == expected_boxes(jpeg(seed=1)) + expected_boxes(png(seed=2))
    assert len({row["id"] for row in document["annotations"]}) == len(document["annotations"])
    for row in document["annotations"]:
        x, y, width, height = row["bbox"]
        assert x >= 0
        assert y >= 0
        assert row["area"] == pytest.approx(width * height, abs=0.01)


def test_a_broken_picture_is_named_the_others_are_written_and_the_command_fails(survey, folder):
    (folder / "broken.jpg").write_bytes(b"no picture")
    out, err = io.StringIO(), io.StringIO()
    with pytest.raises(CommandError, match="1 of 3"):
        call_command("detect", str(folder), stdout=out, stderr=err)
    assert len(json.loads(out.getvalue())) == 2
    assert "broken.jpg" in err.getvalue()


def test_what_is_missing_is_said_plainly(survey, folder, tmp_path):
    with pytest.raises(CommandError, match="no such file"):
        detect(tmp_path / "nowhere")
    with pytest.raises(CommandError, match=r"no survey 'moths'.*springtails"):
        detect(folder, "--survey", "moths")
    with pytest.raises(CommandError, match="between 0 and 1"):
        detect(folder, "--confidence", "nan")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CommandError, match="no pictures"):
        detect(tmp_path / "empty")
    survey.registered_model.versions.update(stage="archived")
    with pytest.raises(CommandError, match="in production"):
        detect(folder)


def test_without_any_survey_the_way_on_is_named(db, folder):
    with pytest.raises(CommandError, match="make run"):
        detect(folder)


def test_a_database_that_is_not_prepared_is_said_plainly(db, folder, monkeypatch):
    from django.db import ProgrammingError

    from apps.observations.management.commands.detect import Command

    def fail(*_args):
        raise ProgrammingError('relation "observations_survey" does not exist')

    monkeypatch.setattr(Command, "detect", fail)
    with pytest.raises(CommandError, match="make run"):
        detect(folder)
