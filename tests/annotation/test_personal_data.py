"""An expert's answers and unfinished work are in the download of their own data, and nobody else's are."""

import io
import json
import uuid
import zipfile

import pytest

from apps.annotation.personal_data import experts_data
from apps.annotation.services.answers import Answer, save_draft, submit_answer
from apps.observations.models import DataExport
from apps.observations.services import data_export
from tests.annotation.drawing import drawing_survey, drawn, queued
from tests.annotation.factories import ExpertFactory
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db


def give(task, expert, *boxes, **fields):
    sent = Answer(boxes=list(boxes), is_empty=not boxes, key=uuid.uuid4(), seconds=5, **fields)
    return submit_answer(task=task, expert=expert, answer=sent).annotation


def test_the_download_holds_each_answer_and_the_work_left(django_assert_max_num_queries):
    expert, survey = ExpertFactory(), drawing_survey()
    first, second, third = (queued(survey) for _ in range(3))
    old = give(first, expert, drawn(note="a mite?", is_uncertain=True, proposed_label="Mite"))
    new = give(first, expert, supersedes=old.public_id)
    draft = {"boxes": [drawn()], "is_empty": False, "seconds": 2.0}
    save_draft(task=second, expert=expert, content=draft, base_version=0, client=uuid.uuid4())
    give(third, ExpertFactory(), drawn(note="somebody else's"))
    data_export.request_export(user=expert)
    data_export.pack_next_export()
    archive = zipfile.ZipFile(io.BytesIO(DataExport.objects.get().file.read()))
    answers = json.loads(archive.read("annotations.json"))
    assert [(row["id"], row["corrects"], row["is_current"]) for row in answers] == [
        (str(old.public_id), None, False),
        (str(new.public_id), str(old.public_id), True),
    ]
    [box] = answers[0]["boxes"]
    assert (box["note"], box["is_uncertain"], box["proposed_label"]) == ("a mite?", True, "Mite")
    work = json.loads(archive.read("annotation-work.json"))
    assert {row["state"] for row in work} == {"submitted", "open"}
    assert [row["draft"]["boxes"][0]["label"] for row in work if row["draft"]] == ["CER"]
    with django_assert_max_num_queries(8):
        for _name, rows in experts_data(expert):
            list(rows)


def test_who_never_answered_gets_no_such_file():
    assert list(experts_data(UserFactory())) == []
