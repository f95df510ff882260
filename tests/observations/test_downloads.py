"""Annotated pictures, JSON, CSV and zip."""

import csv
import io
import json
import zipfile
from typing import Any

import pytest
from django.contrib.gis.geos import Point
from django.core.files.base import ContentFile
from django.test import Client
from django.urls import reverse
from PIL import Image

from apps.observations.models import Photo
from apps.observations.services.exports import csv_cell
from apps.observations.services.observations import update_observation
from tests.factories import (
    DetectionFactory,
    ModelVersionFactory,
    ObservationFactory,
    PhotoFactory,
    UserFactory,
)
from tests.support.pictures import jpeg

pytestmark = pytest.mark.django_db


def identified(**fields: Any) -> Photo:
    """Two animals, of confidence 0.9 and 0.3."""
    version = ModelVersionFactory.create()
    photo = PhotoFactory.create(
        status="done",
        model_version=version,
        detection_count=2,
        display=ContentFile(jpeg(width=320, height=320), name="display.jpg"),
        **fields,
    )
    DetectionFactory.create(photo=photo, model_version=version, number=1, score=0.9, class_scores=[0.9])
    label = photo.detections.get().label
    DetectionFactory.create(
        photo=photo,
        model_version=version,
        number=2,
        score=0.3,
        class_scores=[0.3],
        label=label,
        y_min=200,
        y_max=300,
    )
    return photo


def of_photo(client: Client, photo: Photo, name: str, **query: Any) -> Any:
    return client.get(reverse(f"observations:{name}", args=[photo.public_id]), query)


def of_observation(client: Client, photo: Photo, name: str, **query: Any) -> Any:
    return client.get(reverse(f"observations:{name}", args=[photo.observation.public_id]), query)


def rows(response: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(response.getvalue().decode())))


def test_the_annotated_picture_shows_boxes_and_carries_no_metadata(client: Client) -> None:
    photo = identified()
    response = of_photo(client, photo, "photo_picture")
    assert response["Content-Disposition"].startswith("attachment")
    with Image.open(io.BytesIO(response.content)) as drawn, Image.open(photo.display.open()) as plain:
        assert drawn.size == plain.size
        assert not drawn.getexif()
        assert "CC-BY-4.0" in drawn.info["comment"].decode()
        assert drawn.tobytes() != plain.convert("RGB").tobytes()


def test_the_json_of_a_photo_has_the_api_s_detections(client: Client) -> None:
    body = json.loads(of_photo(client, identified(), "photo_json").content)
    first = body["detections"][0]
    assert first["number"] == 1
    assert first["box"] == {"x": 10.0, "y": 20.0, "width": 100.0, "height": 50.0}
    assert first["scores"] == {"collembola": 0.9}
    assert body["licence"] == "CC-BY-4.0"


def test_the_confidence_chosen_on_the_page_holds_for_downloads(client: Client) -> None:
    photo = identified()
    assert len(json.loads(of_photo(client, photo, "photo_json", confidence="0.5").content)["detections"]) == 1
    assert [row["number"] for row in rows(of_photo(client, photo, "photo_csv", confidence="0.5"))] == ["1"]


@pytest.mark.parametrize("odd", ["nan", "inf", "-1", "x", "", "1e999"])
def test_an_odd_confidence_is_none(client: Client, odd: str) -> None:
    response = of_photo(client, identified(), "photo_json", confidence=odd)
    assert response.status_code == 200


def test_a_csv_has_a_row_per_animal_and_keeps_photos_without_any(client: Client) -> None:
    photo = identified()
    empty = PhotoFactory.create(observation=photo.observation, status="done")
    found = rows(of_observation(client, photo, "observation_csv"))
    assert [row["number"] for row in found] == ["1", "2", ""]
    assert found[2]["photo"] == str(empty.public_id)
    assert found[0]["confidence"] == "0.9"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_texts_that_a_spreadsheet_would_run_are_disarmed(start: str) -> None:
    assert csv_cell(f"{start}cmd") == f"'{start}cmd"
    assert csv_cell(-2.5) == -2.5


def test_a_formula_as_name_is_disarmed_in_the_file(client: Client) -> None:
    photo = identified(name='=HYPERLINK("x")')
    client.force_login(photo.contributor)
    assert rows(of_photo(client, photo, "photo_csv"))[0]["file_name"] == '\'=HYPERLINK("x")'


def test_the_mark_that_excel_needs_is_there_on_request_only(client: Client) -> None:
    photo = identified()
    assert of_photo(client, photo, "photo_csv", bom="1").getvalue().startswith(b"\xef\xbb\xbf")
    assert not of_photo(client, photo, "photo_csv").getvalue().startswith(b"\xef")


def test_the_json_of_an_observation_holds_all_its_photos(client: Client) -> None:
    photo = identified()
    PhotoFactory.create(observation=photo.observation)
    body = json.loads(of_observation(client, photo, "observation_json").getvalue())
    assert [len(entry["detections"]) for entry in body["photos"]] == [2, 0]
    assert [entry["status"] for entry in body["photos"]] == ["done", "pending"]


def test_an_observation_without_photos_gives_sound_empty_files(client: Client) -> None:
    observation = ObservationFactory.create()
    at = [observation.public_id]
    assert (
        json.loads(client.get(reverse("observations:observation_json", args=at)).getvalue())["photos"] == []
    )
    assert client.get(reverse("observations:observation_csv", args=at)).getvalue().startswith(b"observation,")
    pictures = client.get(reverse("observations:observation_zip", args=at)).getvalue()
    assert zipfile.ZipFile(io.BytesIO(pictures)).namelist() == ["observation.json"]


def test_the_zip_holds_the_annotated_pictures_of_finished_photos(client: Client) -> None:
    photo = identified()
    PhotoFactory.create(observation=photo.observation)  # still waits
    PhotoFactory.create(observation=photo.observation, status="done")  # its file is no picture: left out
    archive = zipfile.ZipFile(io.BytesIO(of_observation(client, photo, "observation_zip").getvalue()))
    assert archive.testzip() is None
    assert archive.namelist() == ["observation.json", f"0001-{str(photo.public_id)[:8]}.jpg"]


def test_zips_are_limited_in_number(client: Client, settings: Any) -> None:
    photo = identified()
    codes = [of_observation(client, photo, "observation_zip").status_code for _ in range(11)]
    assert codes[:10] == [200] * 10
    assert codes[10] == 429


def test_no_download_gives_a_stranger_the_exact_place_or_a_file_name(client: Client) -> None:
    photo = identified(name="secret-valley.jpg")
    survey = photo.survey
    survey.geoprivacy = "obscured"
    survey.save()
    update_observation(
        observation=photo.observation,
        location=Point(2.35222, 48.85661, srid=4326),
        place_name="Secret valley",
    )
    files = {"photo_json": of_photo, "photo_csv": of_photo, "observation_json": of_observation}
    files["observation_csv"] = of_observation
    for name, get in files.items():
        text = get(client, photo, name).getvalue().decode().lower()
        assert "48.85661" not in text, name
        assert "secret" not in text, name
        assert "48.9" in text, name
        owner = Client()
        owner.force_login(photo.contributor)
        assert "48.85661" in get(owner, photo, name).getvalue().decode(), name


def test_foreign_private_observations_have_no_downloads() -> None:
    photo = PhotoFactory.create(observation=ObservationFactory.create(visibility="private"))
    stranger = Client()
    stranger.force_login(UserFactory.create())
    for name in ("observation_json", "observation_csv", "observation_zip"):
        assert of_observation(stranger, photo, name).status_code == 404
