"""Darwin Core Archives by GBIF's rules, without a place that is not public; and predictions as COCO."""

import io
import json
import xml.etree.ElementTree as ET
from datetime import UTC, datetime

import pytest
from django.contrib.gis.geos import Point
from django.core.management import CommandError, call_command

from apps.annotation.models import AnnotationTask
from apps.annotation.services.occurrences import write_occurrences
from apps.observations.services.geoprivacy import review_public_location
from apps.training.formats.darwin_core import OCCURRENCE_TERMS, REQUIRED_TERMS
from tests.annotation.factories import AnnotatedBoxFactory, AnnotationFactory, TaskFactory
from tests.factories import DetectionFactory, LabelFactory, ModelVersionFactory, PhotoFactory, SurveyFactory
from tests.training.formats.support import files

pytestmark = pytest.mark.django_db
TEXT = "{http://rs.tdwg.org/dwc/text/}"
# Of https://rs.gbif.org/core/dwc_occurrence.xml and https://dwc.tdwg.org/list/
DWC = {
    "occurrenceID", "institutionCode", "collectionCode", "datasetName", "basisOfRecord", "informationWithheld",
    "dataGeneralizations", "recordedBy", "individualCount", "occurrenceStatus", "eventID", "eventDate", "locality",
    "decimalLatitude", "decimalLongitude", "geodeticDatum", "coordinateUncertaintyInMeters", "identifiedBy",
    "dateIdentified", "identificationVerificationStatus", "identificationRemarks", "verbatimIdentification", "taxonID",
    "scientificName", "kingdom", "taxonRank", "vernacularName",
}  # fmt: skip
DC = {
    "type", "modified", "language", "license", "rightsHolder", "references", "format", "identifier", "title", "created",
    "creator",
}  # fmt: skip


@pytest.fixture
def survey():
    return SurveyFactory(slug="springtails", name_en="Springtails & co <1>")


def photo_of(survey, **fields):
    values = {
        "observation__survey": survey,
        "observation__observed_at": datetime(2026, 5, 4, 10, tzinfo=UTC),
        "observation__location": Point(2.2945, 48.8584, srid=4326),
        "observation__location_accuracy_m": 12.0,
        "observation__place_name": "By the tower",
    }
    photo = PhotoFactory(**values | fields)
    review_public_location([photo.observation_id])
    return photo


def answered(photo, labels):
    task = TaskFactory(photo=photo)
    answer = AnnotationFactory(task=task, is_empty=not labels, box_count=len(labels))
    for number, label in enumerate(labels, start=1):
        AnnotatedBoxFactory(annotation=answer, number=number, label=label)
    AnnotationTask.objects.filter(pk=task.pk).update(
        state="done", accepted=answer, accepted_at=datetime(2026, 6, 1, tzinfo=UTC)
    )
    return task


def archive(survey, **options):
    out = io.BytesIO()
    write_occurrences(survey, out, **options)
    return files(out.getvalue())


def rows(content, file="occurrence.txt"):
    lines = content[file].decode().split("\n")
    assert lines.pop() == ""
    header = lines[0].split("\t")
    assert all(line.count("\t") == lines[0].count("\t") for line in lines)
    return [dict(zip(header, line.split("\t"), strict=True)) for line in lines[1:]]


def test_each_label_on_a_photo_is_a_record_with_its_count(survey):
    cer = LabelFactory(survey=survey, code="CER", scientific_name="Ceratophysella", rank="genus", gbif_key=7)
    lep = LabelFactory(survey=survey, code="LEP", scientific_name="", vernacular_en="Lepi")
    photo = photo_of(survey)
    answered(photo, [cer, lep, cer])
    answered(photo_of(survey), [])
    first, second = rows(archive(survey))
    assert first["occurrenceID"] == first["id"] == f"urn:podura:{photo.public_id}:CER"
    assert (first["individualCount"], first["scientificName"], first["taxonRank"]) == (
        "2",
        "Ceratophysella",
        "genus",
    )
    assert first["taxonID"] == "https://www.gbif.org/species/7"
    assert (first["basisOfRecord"], first["identificationVerificationStatus"]) == (
        "HumanObservation",
        "verified by an expert",
    )
    assert (first["decimalLatitude"], first["decimalLongitude"]) == ("48.8584", "2.2945")
    assert (first["coordinateUncertaintyInMeters"], first["locality"]) == ("12.0", "By the tower")
    assert first["eventDate"] == "2026-05-04T10:00:00Z"
    assert first["license"] == "https://creativecommons.org/licenses/by/4.0/"
    assert (second["scientificName"], second["individualCount"]) == ("Lepi", "1")


def test_a_blurred_place_stays_blurred(survey):
    rare = LabelFactory(survey=survey, is_sensitive=True)
    photo = photo_of(survey)
    DetectionFactory(photo=photo, label=rare)
    review_public_location([photo.observation_id])
    answered(photo, [rare])
    content = archive(survey)
    (record,) = rows(content)
    assert (record["decimalLatitude"], record["decimalLongitude"]) == ("48.9", "2.3")
    assert 13_000 < int(record["coordinateUncertaintyInMeters"]) < 14_000
    assert "cell of 0.2 degrees" in record["dataGeneralizations"]
    assert record["informationWithheld"]
    everything = b"".join(content.values())
    assert b"48.8584" not in everything
    assert b"By the tower" not in everything


def test_what_is_not_public_or_has_no_date_is_left_out(survey):
    label = LabelFactory(survey=survey)
    for visibility in ("private", "hidden"):
        answered(photo_of(survey, observation__visibility=visibility), [label])
    answered(photo_of(survey, observation__observed_at=None), [label])
    TaskFactory(photo=photo_of(survey))
    answered(photo_of(SurveyFactory()), [])
    assert rows(archive(survey)) == []


def test_predictions_are_marked_as_such_and_only_where_no_answer_counts(survey):
    label = LabelFactory(survey=survey)
    version = ModelVersionFactory()
    done = photo_of(survey, model_version=version, detection_count=1)
    DetectionFactory(photo=done, model_version=version, label=label)
    answered(done, [label])
    waiting = photo_of(survey, model_version=version, detection_count=1)
    DetectionFactory(photo=waiting, model_version=version, label=label, number=1, score=0.876)
    DetectionFactory(photo=waiting, model_version=version, label=label, number=2, score=0.1)
    assert len(rows(archive(survey))) == 1
    human, machine = rows(archive(survey, with_predictions=True))
    assert human["basisOfRecord"] == "HumanObservation"
    assert machine["basisOfRecord"] == "MachineObservation"
    assert machine["occurrenceID"].startswith(f"urn:podura:{waiting.public_id}")
    assert (machine["individualCount"], machine["identifiedBy"]) == ("1", str(version))
    assert machine["identificationVerificationStatus"] == "unverified (machine prediction)"
    assert "0.88" in machine["identificationRemarks"]


def test_the_archive_keeps_gbifs_rules(survey):
    label = LabelFactory(survey=survey, scientific_name="=HYPERLINK(x)\ttab\nline")
    for licence in ("CC0-1.0", "CC-BY-NC-4.0"):
        answered(
            photo_of(survey, observation__licence=licence, observation__place_name="Été\n“dune”"), [label]
        )
    content = archive(survey)
    assert list(content) == ["occurrence.txt", "multimedia.txt", "meta.xml", "eml.xml"]
    descriptor = ET.fromstring(content["meta.xml"])
    assert (descriptor.tag, descriptor.get("metadata")) == (f"{TEXT}archive", "eml.xml")
    core, extension = descriptor
    assert (core.tag, core.get("rowType")) == (f"{TEXT}core", "http://rs.tdwg.org/dwc/terms/Occurrence")
    assert (extension.tag, extension.get("rowType")) == (
        f"{TEXT}extension",
        "http://rs.gbif.org/terms/1.0/Multimedia",
    )
    for part, key in ((core, "id"), (extension, "coreid")):
        file = part.find(f"{TEXT}files/{TEXT}location").text
        header = content[file].decode("utf-8").split("\n")[0].split("\t")
        assert (part.get("encoding"), part.get("ignoreHeaderLines")) == ("UTF-8", "1")
        assert (part.get("fieldsTerminatedBy"), part.get("fieldsEnclosedBy")) == ("\\t", "")
        assert part.find(f"{TEXT}{key}").get("index") == "0"
        fields = part.findall(f"{TEXT}field")
        assert [int(field.get("index")) for field in fields] == list(range(1, len(header)))
        for field, name in zip(fields, header[1:], strict=True):
            space, _slash, word = field.get("term").rpartition("/")
            assert word == name
            known = {"http://rs.tdwg.org/dwc/terms": DWC, "http://purl.org/dc/terms": DC}
            assert word in known[space]
    records = rows(content)
    ids = [record["id"] for record in records]
    assert len(set(ids)) == len(ids) == 2
    assert all(record[term] for record in records for term in REQUIRED_TERMS)
    assert {picture["coreid"] for picture in rows(content, "multimedia.txt")} <= set(ids)
    assert records[0]["scientificName"] == "'=HYPERLINK(x) tab line"
    assert set(OCCURRENCE_TERMS) <= DWC | DC
    eml = ET.fromstring(content["eml.xml"])
    assert eml.tag == "{https://eml.ecoinformatics.org/eml-2.2.0}eml"
    assert {"packageId", "system"} <= set(eml.keys())
    dataset = eml.find("dataset")
    order = [part.tag for part in dataset]
    assert order == [
        "title", "creator", "metadataProvider", "pubDate", "language", "abstract", "intellectualRights", "coverage",
        "contact",
    ]  # fmt: skip
    assert dataset.findtext("title").startswith("Springtails & co <1>")
    assert dataset.findtext("pubDate") == "2026-06-01"
    assert "by-nc" in dataset.find("intellectualRights/para/ulink").get("url")


def test_the_same_finds_give_the_same_bytes(survey):
    answered(photo_of(survey), [LabelFactory(survey=survey)])
    first, second = io.BytesIO(), io.BytesIO()
    write_occurrences(survey, first)
    write_occurrences(survey, second)
    assert first.getvalue() == second.getvalue()


def test_many_records_take_few_queries(survey, django_assert_max_num_queries):
    label = LabelFactory(survey=survey)
    for _number in range(6):
        answered(photo_of(survey), [label])
    with django_assert_max_num_queries(4):
        assert len(rows(archive(survey))) == 6


def test_predictions_are_written_as_coco_with_scores(survey, tmp_path, capsys):
    label = LabelFactory(survey=survey, code="CER")
    version = ModelVersionFactory(registered_model=survey.registered_model, labels=["LEP", "CER"])
    LabelFactory(survey=survey, code="LEP")
    photo = photo_of(survey, model_version=version, detection_count=1)
    DetectionFactory(photo=photo, model_version=version, label=label, number=1, score=0.75)
    DetectionFactory(photo=photo, model_version=version, label=label, number=2, score=0.06)
    photo_of(survey, model_version=version, detection_count=0)
    photo_of(survey, model_version=version, observation__visibility="private")
    call_command("export_occurrences", "springtails", str(tmp_path / "x.zip"), "--coco")
    content = files((tmp_path / "x.zip").read_bytes())
    document = json.loads(content["annotations/instances_default.json"])
    assert [category["name"] for category in document["categories"]] == ["LEP", "CER"]
    assert len(document["images"]) == 2
    assert [(row["score"], row["bbox"]) for row in document["annotations"]] == [
        (0.75, [10.0, 20.0, 100.0, 50.0])
    ]
    assert json.loads(content["annotations/results_default.json"])[0]["score"] == 0.75
    assert "2 photos" in capsys.readouterr().out


def test_the_command_names_what_is_there(survey, tmp_path):
    with pytest.raises(CommandError, match="There are: springtails"):
        call_command("export_occurrences", "bees", str(tmp_path / "x.zip"))
    call_command("export_occurrences", "springtails", str(tmp_path / "x.zip"))
    with pytest.raises(CommandError, match="cannot be written"):
        call_command("export_occurrences", "springtails", str(tmp_path / "none" / "x.zip"))


def test_a_curator_downloads_the_finds_in_the_console(survey, client):
    from django.contrib.auth.models import Group

    from tests.factories import UserFactory

    answered(photo_of(survey), [LabelFactory(survey=survey)])
    address = "/admin/training/datasetexport/occurrences/"
    client.force_login(UserFactory(is_staff=True))
    assert client.get(address, {"survey": "springtails"}).status_code == 403
    curator = UserFactory(is_staff=True)
    curator.groups.add(Group.objects.get(name="Curators"))
    client.force_login(curator)
    assert "springtails" in client.get("/admin/training/datasetexport/").content.decode()
    for kind, name in (
        ("answers", "eml.xml"),
        ("all", "eml.xml"),
        ("coco", "annotations/instances_default.json"),
    ):
        response = client.get(address, {"survey": "springtails", "kind": kind})
        assert name in files(b"".join(response.streaming_content))
    assert client.get(address, {"survey": "bees"}).status_code == 404
    SurveyFactory(slug="bare")
    page = client.get(address, {"survey": "bare", "kind": "coco"}, follow=True).content.decode()
    assert "The set names no classes." in page
