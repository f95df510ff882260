"""Parameters of a training: what is refused and how it is told, and what a machine is offered."""

import json
import math
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from apps.training.engine.hardware import Gpu, Hardware, describe_hardware
from apps.training.engine.recipe import RULES, Recipe, RecipeError, automatic_batch, default_recipe

GIB = 1 << 30
SMALL = Hardware("a CPU", 2, 4 * GIB)
LAPTOP = Hardware("a CPU", 8, 16 * GIB)
SERVER = Hardware("a CPU", 32, 256 * GIB, (Gpu("a GPU", 24 * GIB), Gpu("a GPU", 24 * GIB)))


def problems(record):
    with pytest.raises(RecipeError) as refused:
        Recipe.checked(record)
    return [(problem["field"], problem["code"]) for problem in refused.value.problems]


def test_a_record_comes_back_as_the_recipe_that_wrote_it():
    recipe = Recipe(epochs=7, batch=4, tiling="never", mixed_precision=False, learning_rate=0.01)
    assert Recipe.checked(json.loads(json.dumps(recipe.as_record()))) == recipe


def test_what_is_not_said_keeps_its_default():
    assert Recipe.checked({}) == Recipe()
    assert Recipe.checked({"epochs": 3}).image_size == Recipe().image_size


def test_whole_numbers_may_come_as_fractions_of_one():
    recipe = Recipe.checked({"epochs": 3.0, "scale": 0})
    assert recipe.epochs == 3
    assert isinstance(recipe.epochs, int)
    assert isinstance(recipe.scale, float)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"epoch": 3}, ("epoch", "unknown")),
        ({"epochs": "3"}, ("epochs", "not_a_number")),
        ({"epochs": True}, ("epochs", "not_a_number")),
        ({"epochs": None}, ("epochs", "not_a_number")),
        ({"epochs": [3]}, ("epochs", "not_a_number")),
        ({"epochs": 2.5}, ("epochs", "not_whole")),
        ({"epochs": 0}, ("epochs", "too_low")),
        ({"epochs": 10**9}, ("epochs", "too_high")),
        ({"epochs": math.nan}, ("epochs", "not_finite")),
        ({"learning_rate": math.inf}, ("learning_rate", "not_finite")),
        ({"learning_rate": -1.0}, ("learning_rate", "too_low")),
        ({"image_size": 650}, ("image_size", "not_a_multiple")),
        ({"image_size": 32}, ("image_size", "too_low")),
        ({"batch": -1}, ("batch", "too_low")),
        ({"frozen_layers": 23}, ("frozen_layers", "too_high")),
        ({"architecture": "yolo11n.pt"}, ("architecture", "not_a_choice")),
        ({"architecture": ["yolo11n"]}, ("architecture", "not_a_choice")),
        ({"tiling": True}, ("tiling", "not_a_choice")),
        ({"mixed_precision": 1}, ("mixed_precision", "not_true_or_false")),
    ],
)
def test_a_bad_parameter_is_named_with_its_reason(record, expected):
    assert problems(record) == [expected]


def test_all_problems_are_told_at_once_with_their_limits():
    with pytest.raises(RecipeError, match="epochs: must be at least 1") as refused:
        Recipe.checked({"epochs": 0, "mosaic": 2, "image_size": 100})
    assert [problem["field"] for problem in refused.value.problems] == ["epochs", "mosaic", "image_size"]
    assert refused.value.problems[1]["limit"] == 1
    assert refused.value.problems[2]["of"] == 32


def test_every_parameter_has_a_rule_that_its_default_keeps():
    for field in fields(Recipe):
        value, problem = RULES[field.name].read(field.name, field.default)
        assert problem is None
        assert value == field.default


@pytest.mark.parametrize("hardware", [SMALL, LAPTOP, SERVER])
@pytest.mark.parametrize("pictures", [1, 50, 3000, 200_000])
def test_what_is_proposed_passes_the_check(hardware, pictures):
    recipe = default_recipe(hardware, pictures)
    assert Recipe.checked(recipe.as_record()) == recipe
    assert recipe.patience <= recipe.epochs
    assert recipe.epochs_without_mosaic < recipe.epochs


def test_a_gpu_is_offered_a_larger_net_and_few_pictures_more_epochs():
    assert default_recipe(LAPTOP, 200).architecture == "yolo11n"
    assert default_recipe(SERVER, 200).architecture == "yolo11s"
    assert default_recipe(SERVER, 200).epochs > default_recipe(LAPTOP, 200).epochs
    assert default_recipe(LAPTOP, 50).epochs > default_recipe(LAPTOP, 5000).epochs


def test_the_batch_follows_memory_size_of_pictures_and_their_number():
    def batch(hardware, image_size=640, pictures=1000, **more):
        return automatic_batch(hardware, image_size=image_size, pictures=pictures, **more)

    assert batch(LAPTOP) == 8
    assert batch(SMALL) == 4
    assert batch(SMALL, image_size=1280) == 1
    assert batch(SMALL, size="m") == 1
    assert batch(SERVER) > batch(LAPTOP)
    assert batch(SERVER, pictures=20) == 8


def test_a_batch_that_had_to_shrink_still_steps_after_as_many_pictures():
    assert Recipe(batch=16).overrides(batch=4) | {} == Recipe(batch=16).overrides() | {"batch": 4}
    assert Recipe(batch=16).overrides(batch=4)["nbs"] == 16


def test_the_hardware_can_be_told_without_pytorch():
    program = (
        "import json, sys; from apps.training.engine.hardware import describe_hardware; "
        "told = describe_hardware(); assert 'torch' not in sys.modules; print(json.dumps(told))"
    )
    told = json.loads(
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parents[3],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )
    assert told["cores"] >= 1
    assert told["memory_bytes"] > GIB / 4
    assert told["gpus"] == []
    assert {"torch", "ultralytics", "python"} <= set(told["versions"])
    assert told["cpu"] == describe_hardware()["cpu"]


def test_a_training_counts_only_on_the_devices_it_is_given():
    assert SERVER.only("cpu").gpus == ()
    assert len(SERVER.only("0").gpus) == 1
    assert len(SERVER.only("0,1").gpus) == 2
