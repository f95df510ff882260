"""`manage.py train`: clear words, exit statuses, and with --wait the whole run in this process."""

import hashlib
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.management import CommandError, call_command

from apps.annotation.management.commands.train import UNDER_WAY
from apps.annotation.model_page import read_model_page
from apps.observations.models import Label, Photo, Survey
from apps.training.models import Comparison, ModelVersion, RunStatus, TrainingRun
from tests.annotation.factories import AnnotatedBoxFactory, AnnotationFactory
from tests.annotation.test_freeze import accept, answered
from tests.annotation.test_training_start import enough
from tests.factories import LabelFactory, ModelVersionFactory, SurveyFactory
from tests.support.processes import CHECKOUT
from tests.training.engine.drawn import draw_scenes

pytestmark = pytest.mark.django_db
STAND_IN = [sys.executable, str(CHECKOUT / "tests" / "training" / "stand_in.py")]


@pytest.fixture
def survey(settings: Any, tmp_path: Path) -> Survey:
    """One with four answers whose originals are what their rows say."""
    settings.TRAINING_DIR = tmp_path / "training"
    settings.MODEL_CACHE_DIR = tmp_path / "models"
    settings.TRAINING_COMMAND = STAND_IN
    survey = SurveyFactory(slug="springtails")
    enough(survey, LabelFactory(survey=survey, code="CER"))
    Photo.objects.update(sha256=hashlib.sha256(b"original").hexdigest())
    return survey


def train(*arguments: str) -> str:
    out = StringIO()
    call_command("train", *arguments, stdout=out)
    return out.getvalue()


def refusal(*arguments: str) -> CommandError:
    with pytest.raises(CommandError) as caught:
        train(*arguments)
    return caught.value


def test_it_freezes_and_asks_for_a_run(survey: Survey) -> None:
    text = train(
        "springtails", "--epochs", "3", "--image-size", "96", "--set", "hue=0.02", "--base", "untrained"
    )
    run = TrainingRun.objects.get()
    assert (run.status, run.trigger, run.epochs) == (RunStatus.QUEUED, "command", 3)
    assert (run.parameters["image_size"], run.parameters["hue"]) == (96, 0.02)
    assert f"Run {run.public_id}: springtails #1, 4 photos, from an untrained network, 3 epochs" in text


def test_a_second_one_is_told_to_come_later(survey: Survey) -> None:
    train("springtails")
    error = refusal("springtails")
    assert error.returncode == UNDER_WAY
    assert str(TrainingRun.objects.get().public_id) in str(error)


def test_odd_parameters_are_refused_each_by_its_name(survey: Survey) -> None:
    text = str(refusal("springtails", "--epochs", "many", "--image-size", "100", "--set", "hue=nan"))
    assert "--epochs: Enter a number." in text
    assert "--image-size: Enter a multiple of 32." in text
    assert "--hue: Enter a finite number." in text
    assert "--colour: There is no such parameter." in str(refusal("springtails", "--set", "colour=blue"))
    assert "NAME=VALUE" in str(refusal("springtails", "--set", "hue"))
    assert not TrainingRun.objects.exists()


def test_an_unknown_survey_or_version_is_answered_by_the_known_ones(survey: Survey) -> None:
    assert "There are: springtails" in str(refusal("beetles"))
    ModelVersionFactory(registered_model=survey.registered_model, number=3, stage="archived", labels=["CER"])
    assert "There are: 3" in str(refusal("springtails", "--base", "9"))
    train("springtails", "--base", "3")
    assert TrainingRun.objects.get().base_version == ModelVersion.objects.get()


def test_what_keeps_it_from_training_is_told(survey: Survey) -> None:
    empty = SurveyFactory(slug="empty")
    assert "accepted answer" in str(refusal("empty"))
    Survey.objects.filter(pk=empty.pk).update(registered_model=None)
    assert "No model is chosen" in str(refusal("empty"))
    answered(survey, boxes=[LabelFactory(survey=survey, code="LEP")])
    assert "LEP has no validation photo" in str(refusal("springtails"))


@pytest.mark.django_db(transaction=True)  # its progress is read on another connection
def test_with_wait_the_run_is_worked_off_here(survey: Survey) -> None:
    text = train("springtails", "--epochs", "3", "--batch", "8", "--image-size", "64", "--wait")
    run = TrainingRun.objects.get()
    assert run.status == RunStatus.SUCCEEDED
    assert "epoch 1 of 3" in text
    assert "epoch 3 of 3, 0.0 s, mAP50-95 0.015" in text
    assert f"{run.version}, 0.0 minutes of work" in text


@pytest.mark.django_db(transaction=True)  # its progress is read on another connection
def test_with_wait_a_failure_is_the_commands(survey: Survey, settings: Any) -> None:
    settings.TRAINING_COMMAND = [*STAND_IN, "--fail", "diverged"]
    error = refusal("springtails", "--epochs", "3", "--batch", "8", "--wait")
    assert error.returncode == 1
    assert "diverged" in str(error)


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_with_wait_a_real_training_makes_a_version_and_compares_it(settings: Any, tmp_path: Path) -> None:
    """The engine itself on drawn scenes: from accepted answers to a verdict, in one command."""
    settings.TRAINING_DIR = tmp_path / "training"
    settings.MODEL_CACHE_DIR = tmp_path / "models"
    settings.DETECTOR_LOADER = "apps.training.engine.detector.load_detector"
    survey = SurveyFactory(slug="scenes")
    labels = {code: LabelFactory(survey=survey, code=code) for code in ("disc", "bar")}
    for number, split in enumerate(("train", "validation", "test"), start=1):
        for scene in draw_scenes(tmp_path / split, 6, tuple(labels), seed=number, side=64):
            draw_answer(survey, scene, split, labels)
    text = train(
        "scenes", "--epochs", "2", "--image-size", "64", "--batch", "4", "--base", "untrained", "--wait"
    )
    run = TrainingRun.objects.get()
    assert run.status == RunStatus.SUCCEEDED
    assert run.version.labels == ["disc", "bar"]
    assert "epoch 2 of 2" in text
    assert "Compared with nothing: " in text
    assert Comparison.objects.get(run=run).status == "done"
    found = read_model_page(survey)
    assert [row.version for row in found.versions] == [run.version]
    assert found.curve.measured[0].photos == 18


def draw_answer(survey: Survey, scene: dict[str, Any], split: str, labels: dict[str, Label]) -> None:
    """A photo with this scene and the answer that counts for it."""
    content = Path(scene["path"]).read_bytes()
    task = answered(survey, boxes=[labels[code] for code in scene["labels"]], split=split)
    photo = task.photo
    photo.original.save("scene.png", ContentFile(content), save=False)
    photo.sha256 = hashlib.sha256(content).hexdigest()
    photo.width_px, photo.height_px = scene["width_px"], scene["height_px"]
    photo.save()
    answer = AnnotationFactory(task=task, is_empty=False, box_count=len(scene["boxes"]))
    for number, (box, code) in enumerate(zip(scene["boxes"], scene["labels"], strict=True), start=1):
        x_min, y_min, x_max, y_max = map(float, box)
        AnnotatedBoxFactory(
            annotation=answer,
            number=number,
            label=labels[code],
            x_min=x_min,
            y_min=y_min,
            x_max=x_max,
            y_max=y_max,
        )
    accept(task, answer)
