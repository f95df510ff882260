"""A survey's model page: what everybody reads, what experts see, what curators may do."""

from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse
from django.utils import translation

from apps.accounts.curators import GROUP_NAME
from apps.accounts.models import User
from apps.annotation.model_form import StartForm
from apps.annotation.model_page import quality_sentences, read_model_page
from apps.annotation.models import TrainingStart
from apps.annotation.services.training import continue_next_start, request_training, start_training
from apps.common.leased import WorkStatus
from apps.observations.models import Label, Survey
from apps.training.engine.recipe import RULES
from apps.training.models import Dataset, Evaluation, ModelVersion, RunStatus, TrainingRun
from tests.annotation.factories import ExpertFactory, PolicyFactory
from tests.annotation.test_freeze import answered
from tests.annotation.test_training_start import enough
from tests.factories import LabelFactory, ModelVersionFactory, SurveyFactory, UserFactory
from tests.training.factories import (
    CandidateFactory,
    ComparisonFactory,
    DatasetFactory,
    EvaluationFactory,
    TrainingRunFactory,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def survey() -> Survey:
    survey = SurveyFactory(slug="springtails", name_en="Springtails")
    PolicyFactory(survey=survey, train_after=4)
    return survey


@pytest.fixture
def cer(survey: Survey) -> Label:
    return LabelFactory(survey=survey, code="CER", scientific_name="Ceratophysella")


def curator() -> User:
    user = UserFactory(is_staff=True)
    user.groups.add(Group.objects.get(name=GROUP_NAME))
    return user


def signed_in(user: User | None) -> Client:
    client = Client()
    if user:
        client.force_login(user)
    return client


def page(survey: Survey, user: User | None = None, **more: Any) -> str:
    response = signed_in(user).get(reverse("annotation:model", args=[survey.slug]), **more)
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def post(survey: Survey, user: User | None, name: str = "model_start", **fields: Any) -> Any:
    return signed_in(user).post(reverse(f"annotation:{name}", args=[survey.slug]), fields)


def filled(survey: Survey, **changed: Any) -> dict[str, Any]:
    """The form as it is sent when only these were changed."""
    form = StartForm(survey)
    values = {name: form[name].initial for name in RULES}
    values["base"] = form["base"].field.choices[0][0]  # type: ignore[attr-defined]
    values |= changed
    return {name: value for name, value in values.items() if value is not False}


def measured(version: ModelVersion, dataset: Dataset, quality: float, **fields: Any) -> Evaluation:
    metrics = {
        "map50": quality + 0.1,
        "map50_95": quality,
        "map50_95_low": quality - 0.05,
        "map50_95_high": quality + 0.05,
        "recall": 0.82,
        "precision": 0.71,
        "photos": 12,
    }
    by_label = {
        "CER": {"map50_95": quality, "boxes": 10},
        "ISO_MIN": {"map50_95": None, "boxes": 0},
    }
    return EvaluationFactory(
        version=version, dataset=dataset, status=WorkStatus.DONE, metrics=metrics, by_label=by_label, **fields
    )


def trained(survey: Survey, number: int, photos: int, **fields: Any) -> ModelVersion:
    """A version with its run on a dataset of the survey."""
    model = survey.registered_model
    version = CandidateFactory(registered_model=model, number=number, **fields)
    dataset = DatasetFactory(name=survey.slug, number=number, registered_model=model, photo_count=photos)
    TrainingRunFactory(registered_model=model, dataset=dataset, version=version, status=RunStatus.SUCCEEDED)
    return version


# --- What everybody reads -----------------------------------------------------------------------------------


def test_everybody_reads_how_many_photos_are_missing(survey: Survey, cer: Label) -> None:
    answered(survey, boxes=[cer])
    text = page(survey)
    assert "3 more accepted photos needed." in text
    assert "1 of 4 accepted photos" in text
    assert 'max="4" value="1"' in text
    assert "No photo is in the validation split." in text
    assert "Start a training now" not in text
    assert "The last trainings" not in text


def test_without_anything_the_page_says_what_will_come(survey: Survey) -> None:
    text = page(survey)
    assert "No version is in use yet" in text
    assert "There is no version yet" in text
    Survey.objects.filter(pk=survey.pk).update(registered_model=None)
    assert "No model is chosen for this survey." in page(survey)
    assert Client().get(reverse("annotation:model", args=["beetles"])).status_code == 404


def test_rare_animals_of_which_nothing_can_be_told_are_named(survey: Survey, cer: Label) -> None:
    LabelFactory(survey=survey, code="ISO_MIN", scientific_name="Isotomurus")
    version = trained(survey, 2, 80)
    evaluation = measured(version, version.run.dataset, 0.5)
    assert "Nothing can be told yet of Isotomurus: fewer than 5 test animals." in page(survey)
    evaluation.by_label = {"CER": {"map50_95": 0.2, "boxes": 4}, "ISO_MIN": {"map50_95": 0.5, "boxes": 5}}
    evaluation.save()
    text = page(survey)
    assert "Nothing can be told yet of Ceratophysella: fewer" in text
    assert "More photos of Isotomurus would help most." in text


def test_the_version_in_use_is_described_in_words(survey: Survey) -> None:
    version = trained(survey, 2, 80, stage="production")
    measured(version, version.run.dataset, 0.5)
    text = page(survey)
    assert "Of ten animals it finds about 8." in text
    assert "Of ten boxes it draws, about 7 are right, name included." in text
    assert "Measured on 12 photos that it has never learned from." in text


@pytest.mark.parametrize(
    ("share", "words"),
    [(1.0, "all"), (0.97, "nearly all"), (0.5, "about 5"), (0.02, "hardly any"), (0.0, "none")],
)
def test_shares_are_said_in_words(share: float, words: str) -> None:
    evaluation = Evaluation(metrics={"recall": share})
    with translation.override("en"):
        assert quality_sentences(evaluation) == [f"Of ten animals it finds {words}."]


# --- The learning curve -------------------------------------------------------------------------------------


def test_versions_on_the_same_test_photos_make_the_curve(survey: Survey, cer: Label) -> None:
    first, second = trained(survey, 1, 50), trained(survey, 2, 100)
    ModelVersionFactory(registered_model=survey.registered_model, number=3, stage="archived")
    for version, quality in ((first, 0.4), (second, 0.6)):
        measured(version, second.run.dataset, quality)
    measured(first, first.run.dataset, 0.9)
    found = read_model_page(survey)
    assert [(point.photos, point.map50_95) for point in found.curve.common] == [(50, 0.4), (100, 0.6)]
    assert found.curve.apart == []
    assert found.chart is not None
    assert found.chart.series[0].low == [pytest.approx(0.35), pytest.approx(0.55)]
    text = page(survey)
    assert "All points were measured on the same test photos, those of springtails #2." in text
    assert "Ceratophysella" in text


def test_versions_measured_elsewhere_are_marked(survey: Survey) -> None:
    first, second, third = (trained(survey, number, number * 50) for number in (1, 2, 3))
    for version in (second, third):
        measured(version, third.run.dataset, 0.6, is_for_comparison=True)
    measured(first, first.run.dataset, 0.9)
    text = page(survey)
    assert "1 version was measured on other test photos than those of springtails #3" in text
    assert "<sup>*</sup>" in text


def test_a_version_that_learned_from_another_surveys_photos_is_no_point(survey: Survey) -> None:
    other = SurveyFactory(slug="plates", registered_model=survey.registered_model)
    version = trained(other, 1, 50)
    measured(version, DatasetFactory(name=survey.slug, number=1), 0.5)
    found = read_model_page(survey)
    assert found.curve.points == ()
    assert [row.version for row in found.versions] == [version]


def test_the_page_needs_no_more_queries_for_more_versions(
    survey: Survey, cer: Label, django_assert_max_num_queries: Any
) -> None:
    enough(survey, cer)
    for number in range(1, 3):
        measured(
            trained(survey, number, 10 * number), DatasetFactory(name=survey.slug, number=50 + number), 0.5
        )
    expert = ExpertFactory()
    page(survey, expert)
    with django_assert_max_num_queries(40) as counted:
        page(survey, expert)
    before = len(counted)
    for number in range(3, 12):
        version = trained(survey, number, 10 * number)
        measured(version, version.run.dataset, 0.5)
        ComparisonFactory(
            registered_model=survey.registered_model, challenger=version, dataset=version.run.dataset
        )
    with django_assert_max_num_queries(before):
        page(survey, expert)


def test_a_curator_has_all_versions_measured_on_the_newest_test_photos(survey: Survey) -> None:
    first, second = trained(survey, 1, 50), trained(survey, 2, 100)
    measured(second, second.run.dataset, 0.5)
    from tests.training.factories import DatasetItemFactory

    DatasetItemFactory(dataset=second.run.dataset, split="test")
    staff = curator()
    assert "Measure 1 version on the test photos of springtails #2" in page(survey, staff)
    assert "Measure 1 version" not in page(survey, ExpertFactory())
    assert post(survey, UserFactory(), "model_measure").status_code == 403
    assert post(survey, staff, "model_measure").status_code == 302
    asked = Evaluation.objects.get(status=WorkStatus.PENDING)
    assert (asked.version, asked.dataset, asked.split) == (first, second.run.dataset, "test")
    post(survey, staff, "model_measure")
    assert Evaluation.objects.filter(version=first).count() == 1


# --- Starting a training ------------------------------------------------------------------------------------


def test_a_curator_starts_a_training_with_what_they_changed(survey: Survey, cer: Label) -> None:
    enough(survey, cer)
    staff = curator()
    assert "Start a training now" in page(survey, staff)
    response = post(survey, staff, **filled(survey, epochs=3, image_size=96, base="untrained"))
    assert response.status_code == 302
    start = TrainingStart.objects.get()
    assert (start.requested_by, start.parameters, start.is_untrained) == (
        staff,
        {"epochs": 3, "image_size": 96},
        True,
    )
    assert "A training is being prepared." in page(survey, staff)
    assert continue_next_start()
    assert TrainingRun.objects.get().epochs == 3


def test_the_fields_hold_what_suits_the_machine_and_may_be_left(survey: Survey, cer: Label) -> None:
    enough(survey, cer)
    gpu = {
        "cpu": "EPYC",
        "cores": 16,
        "memory_bytes": 1 << 37,
        "gpus": [{"name": "H200", "memory_bytes": 1 << 37}],
    }
    TrainingRunFactory(
        registered_model=survey.registered_model, dataset__name="other", hardware=gpu, status=RunStatus.FAILED
    )
    form = StartForm(survey)
    assert form["architecture"].initial == "yolo11s"  # of a machine with a GPU
    sent = filled(survey)
    assert StartForm(survey, sent).is_valid()
    post(survey, curator(), **sent)
    assert TrainingStart.objects.get().parameters == {}


def test_any_version_can_be_the_base(survey: Survey, cer: Label) -> None:
    enough(survey, cer)
    model = survey.registered_model
    ModelVersionFactory(registered_model=model, number=1, labels=["CER"])
    old = ModelVersionFactory(registered_model=model, number=2, labels=["CER"], stage="archived")
    broken = ModelVersionFactory(registered_model=model, number=3, stage="archived", unusable_reason="torn")
    choices = [value for value, _name in StartForm(survey)["base"].field.choices]  # type: ignore[attr-defined]
    assert choices == ["production", str(old.pk), "untrained"]
    post(survey, curator(), **filled(survey, base=str(old.pk)))
    assert TrainingStart.objects.get().base == old
    assert not StartForm(survey, filled(survey, base=str(broken.pk))).is_valid()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("epochs", "0", "Enter 1 or more."),
        ("epochs", "many", "Enter a whole number."),
        ("image_size", "100", "Enter a multiple of 32."),
        ("hue", "nan", "Enter a number."),
        ("tiling", "sideways", "Select a valid choice."),
        ("base", "999999", "Select a valid choice."),
        ("seed", "1" * 400, ""),
    ],
)
def test_odd_values_are_refused_at_their_field_and_nothing_is_lost(
    survey: Survey, cer: Label, field: str, value: str, words: str
) -> None:
    enough(survey, cer)
    response = post(survey, curator(), **filled(survey, patience=7) | {field: value})
    assert response.status_code == 400
    text = response.content.decode()
    assert words in text
    assert f'id="id_{field}_error"' in text
    assert 'value="7"' in text
    assert not TrainingStart.objects.exists()


def test_only_who_may_starts_a_training(survey: Survey, cer: Label) -> None:
    enough(survey, cer)
    assert "Start a training now" not in page(survey, ExpertFactory())
    assert post(survey, ExpertFactory(), **filled(survey)).status_code == 403
    assert post(survey, UserFactory(is_staff=True), **filled(survey)).status_code == 403
    assert "/accounts/login/" in post(survey, None, **filled(survey)).url
    assert not TrainingStart.objects.exists()


def test_what_keeps_a_curator_from_starting_is_said_instead_of_a_form(survey: Survey, cer: Label) -> None:
    for _photo in range(4):
        answered(survey, boxes=[cer])
    staff = curator()
    assert "Start a training now" not in page(survey, staff)
    response = post(survey, staff, **filled(survey))
    assert response.status_code == 302
    assert not TrainingStart.objects.exists()


def test_why_the_last_start_came_to_nothing_is_told(survey: Survey, cer: Label) -> None:
    enough(survey, cer)
    TrainingStart.objects.create(
        survey=survey, trigger="curator", status=WorkStatus.FAILED, failure_reason="nothing_accepted"
    )
    assert "The last training was not started:" in page(survey, curator())


# --- A run under way ----------------------------------------------------------------------------------------


def test_a_run_under_way_is_followed_and_the_page_loads_anew_at_its_end(survey: Survey, cer: Label) -> None:
    enough(survey, cer)
    run = start_training(survey=survey, parameters={"epochs": 10})
    TrainingRun.objects.filter(pk=run.pk).update(epochs_done=4)
    address = reverse("annotation:model_live", args=[survey.slug])
    expert = signed_in(ExpertFactory())
    text = " ".join(expert.get(address).content.decode().split())
    assert "A run is under way." in text
    assert "Epoch 4 of 10" in text
    assert f'hx-get="{address}"' in text
    assert reverse("training:run", args=[run.public_id]) in text
    stranger = Client().get(address)
    assert str(run.public_id) not in stranger.content.decode()
    assert "HX-Refresh" not in stranger.headers
    TrainingRun.objects.filter(pk=run.pk).update(status=RunStatus.FAILED)
    ended = expert.get(address)
    assert ended.headers["HX-Refresh"] == "true"
    assert "hx-trigger" not in ended.content.decode()


def test_the_last_runs_are_for_experts(survey: Survey) -> None:
    version = trained(survey, 1, 50)
    assert reverse("training:run", args=[version.run.public_id]) in page(survey, ExpertFactory())
    assert str(version.run.public_id) not in page(survey, UserFactory())


# --- Elsewhere ----------------------------------------------------------------------------------------------


def test_the_experts_home_says_when_the_next_training_is(survey: Survey, cer: Label) -> None:
    answered(survey, boxes=[cer])
    text = " ".join(signed_in(ExpertFactory()).get(reverse("annotation:home")).content.decode().split())
    assert "Next training: 3 more accepted photos needed." in text
    assert reverse("annotation:model", args=[survey.slug]) in text


def test_the_console_says_it_on_the_pages_of_the_survey_and_its_rules(survey: Survey, cer: Label) -> None:
    answered(survey, boxes=[cer])
    staff = signed_in(curator())
    for address in (
        reverse("admin:observations_survey_change", args=[survey.pk]),
        reverse("admin:annotation_annotationpolicy_change", args=[survey.annotation_policy.pk]),
    ):
        text = staff.get(address).content.decode()
        assert "3 more accepted photos needed." in text
        assert reverse("annotation:model", args=[survey.slug]) in text
    assert staff.get(reverse("admin:observations_survey_add")).status_code == 200


def test_the_console_lists_what_was_asked_for_and_why_it_was_refused(survey: Survey) -> None:
    start, _is_new = request_training(survey=survey, by=curator())
    continue_next_start()
    staff = signed_in(curator())
    text = staff.get(reverse("admin:annotation_trainingstart_changelist")).content.decode()
    assert "No photo of this survey has an accepted answer yet." in text
    assert staff.get(reverse("admin:annotation_thanks_changelist")).status_code == 200
    assert start.pk
