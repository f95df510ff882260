"""kill -9 of a worker that imports, again and again: every picture and every answer is there exactly once."""

import random
import subprocess
import sys
import time

import pytest

from apps.annotation.models import AnnotatedBox, Annotation, AnnotationTask, DatasetImport
from apps.observations.models import Observation, Photo
from apps.training.formats import LabelledBox, LabelledImage, LabelledSet
from tests.annotation.test_imports import archive, requested
from tests.factories import LabelFactory, SurveyFactory, UserFactory
from tests.support.processes import CHECKOUT, site_environment, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.serial, pytest.mark.django_db(transaction=True)]
PICTURES = 40
_WORK = """
import django
django.setup()
from apps.annotation.services.imports import continue_next_import
while continue_next_import(seconds=600):
    pass
"""


def start():
    environment = site_environment() | {"JOB_LEASE_SECONDS": "1", "PATH": "/usr/bin:/bin"}
    return subprocess.Popen([sys.executable, "-c", _WORK], cwd=CHECKOUT, env=environment)


def progress():
    return DatasetImport.objects.values_list("is_checked", "next_picture", "status").get()


def test_an_import_killed_again_and_again_is_whole_at_the_end():
    dice = random.Random(5)
    survey = SurveyFactory()
    LabelFactory(survey=survey, code="CER")
    images = tuple(
        LabelledImage(
            f"{number}.png",
            300 + number,
            300,
            tuple(LabelledBox(x, 1, x + 9, 9, 0) for x in range(number % 4)),
        )
        for number in range(PICTURES)
    )
    requested(survey, UserFactory(), archive(LabelledSet(("CER",), images)))
    deaths = 0
    for _death in range(8):
        before = progress()
        if before[2] == "done":
            break
        process = start()
        wait_until(lambda before=before: progress() != before and progress()[1] != before[1], seconds=60)
        time.sleep(dice.uniform(0, 0.4))
        process.kill()
        process.wait()
        deaths += 1
        time.sleep(1.1)  # its lease
    process = start()
    wait_until(lambda: progress()[2] in ("done", "failed"), seconds=90)
    process.kill()
    process.wait()
    row = DatasetImport.objects.get()
    assert deaths >= 3
    assert (row.status, row.problems, row.duplicates, row.next_picture) == ("done", [], 0, PICTURES)
    assert Observation.objects.count() == 1
    assert Photo.objects.count() == PICTURES
    assert AnnotationTask.objects.filter(state="done", accepted__isnull=False).count() == PICTURES
    assert Annotation.objects.count() == PICTURES
    assert AnnotatedBox.objects.count() == sum(number % 4 for number in range(PICTURES))
