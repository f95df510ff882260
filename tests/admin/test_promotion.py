"""Curators decide on versions in the console: what the pages show, what they do, who may."""

import uuid

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse
from django.utils import timezone, translation

from apps.training.models import Comparison, ModelVersion, PromotionEvent, PromotionPolicy
from apps.training.services.promotion import freeze_promotion, promote
from tests.factories import RegisteredModelFactory, UserFactory
from tests.training.factories import CandidateFactory, ComparisonFactory, DatasetFactory, EvaluationFactory

pytestmark = pytest.mark.django_db
RULES = [
    {
        "code": "map_not_worse", "passed": True, "champion": 0.61, "challenger": 0.63, "difference": 0.02,
        "low": -0.001, "high": 0.04, "threshold": -0.005,
    },
    {"code": "recall", "label": "CER", "passed": False, "champion": 0.9, "challenger": 0.8, "difference": -0.1,
     "threshold": -0.05},
    {"code": "recall", "label": "POD", "passed": None, "note": "too_few_boxes"},
]  # fmt: skip


@pytest.fixture
def model():
    return RegisteredModelFactory(name="springtails")


def candidate(model, **fields):
    return CandidateFactory(registered_model=model, number=model.versions.count() + 1, **fields)


@pytest.fixture
def champion(model):
    version = candidate(model, metrics={"map50": 0.93})
    promote(version=version)
    return version


@pytest.fixture
def challenger(model, champion):
    return candidate(model, metrics={"map50": 0.95})


@pytest.fixture
def comparison(model, champion, challenger):
    dataset = DatasetFactory(registered_model=model)

    def evaluation(version, map50_95):
        return EvaluationFactory(
            version=version, dataset=dataset, is_for_comparison=True, status="done",
            metrics={"map50_95": map50_95, "ece": None, "latency_ms": 12.5, "photos": 40},
            by_label={"CER": {"map50_95": map50_95, "recall": 0.8, "boxes": 60}},
        )  # fmt: skip

    return ComparisonFactory(
        registered_model=model, champion=champion, challenger=challenger, dataset=dataset, status="done",
        verdict="passed", rules=RULES, photo_count=40, finished_at=timezone.now(),
        champion_evaluation=evaluation(champion, 0.61), challenger_evaluation=evaluation(challenger, 0.63),
    )  # fmt: skip


def page(name, row, query=""):
    return reverse(f"admin:training_{name}", args=[row.pk]) + query


@pytest.fixture
def signed_in(client, curator):
    client.force_login(curator)
    return client


def hidden(response):
    return {"expected": response.context["form"].initial["expected"]}


class TestComparisonPage:
    def test_shows_rules_numbers_and_labels_side_by_side(self, signed_in, comparison):
        text = signed_in.get(page("comparison_change", comparison)).content.decode()
        for part in (
            "+0.020 (−0.001 to +0.040)",
            "at least −0.005",
            "failed",
            "not decided",
            "0.610",
            "12.5",
        ):
            assert part in text
        assert text.count("podura-mark--bad") == 1
        for action in ("promote", "refuse"):
            address = reverse(f"admin:training_modelversion_{action}", args=[comparison.challenger_id])
            assert f"{address}?comparison={comparison.pk}" in text

    @pytest.mark.parametrize("language", ["en", "fr"])
    @pytest.mark.parametrize("status", ["pending", "failed"])
    def test_one_that_waits_or_failed_is_shown_too(self, signed_in, comparison, language, status):
        Comparison.objects.filter(pk=comparison.pk).update(
            status=status, verdict="", rules=[], champion_evaluation=None, challenger_evaluation=None, champion=None,
            failure_reason="no_test_photo:",
        )  # fmt: skip
        with translation.override(language):
            response = signed_in.get(
                page("comparison_change", comparison), headers={"Accept-Language": language}
            )
        assert response.status_code == 200

    def test_the_list_shows_them(self, signed_in, comparison, django_assert_max_num_queries):
        url = reverse("admin:training_comparison_changelist")
        for _ in range(8):
            ComparisonFactory()
        with django_assert_max_num_queries(20):
            assert "passes the gate" in signed_in.get(url).content.decode()

    def test_promoting_from_it_settles_it(self, signed_in, curator, comparison, challenger, model):
        url = page("modelversion_promote", challenger, f"?comparison={comparison.pk}")
        shown = signed_in.get(url)
        assert "Recall: CER" in shown.content.decode()
        response = signed_in.post(url, hidden(shown) | {"reason": "Better on the rare one"})
        assert response.url == page("comparison_change", comparison)
        assert model.production_version == challenger
        event = PromotionEvent.objects.latest("pk")
        assert (event.by, event.comparison, event.reason) == (curator, comparison, "Better on the rare one")

    def test_a_curator_who_looked_at_old_numbers_is_told_and_nothing_moves(
        self, signed_in, comparison, challenger, model
    ):
        url = page("modelversion_promote", challenger)
        shown = signed_in.get(url)
        other = candidate(model)
        promote(version=other)
        response = signed_in.post(url, hidden(shown))
        assert response.status_code == 422
        assert str(other) in response.content.decode()
        assert model.production_version == other

    @pytest.mark.parametrize(("status", "reason"), [("failed", "worker_lost"), ("done", "")])
    def test_one_that_failed_or_could_not_decide_can_be_asked_for_again(
        self, signed_in, comparison, challenger, status, reason
    ):
        Comparison.objects.filter(pk=comparison.pk).update(
            status=status, verdict="undecided" if status == "done" else "", failure_reason=reason
        )
        again = page("modelversion_compare", challenger)
        assert again in signed_in.get(page("comparison_change", comparison)).content.decode()
        for_experts = signed_in.get(reverse("training:comparison", args=[comparison.public_id]))
        assert page("comparison_change", comparison) in for_experts.content.decode()


class TestVersionPage:
    def test_shows_what_was_compared_measured_and_decided(self, signed_in, comparison, champion, challenger):
        text = signed_in.get(page("modelversion_change", challenger)).content.decode()
        assert page("comparison_change", comparison) in text
        assert reverse("training:evaluation", args=[comparison.challenger_evaluation.public_id]) in text
        text = signed_in.get(page("modelversion_change", champion)).content.decode()
        assert page("promotionevent_change", PromotionEvent.objects.get()) in text

    def test_a_refused_one_goes_live_against_the_gate_with_a_reason(self, signed_in, challenger, model):
        ModelVersion.objects.filter(pk=challenger.pk).update(stage="refused")
        assert page("modelversion_override", challenger) in (
            signed_in.get(page("modelversion_change", challenger)).content.decode()
        )
        refused = signed_in.post(page("modelversion_promote", challenger))
        assert refused.status_code == 422
        without = signed_in.post(page("modelversion_override", challenger), {"reason": " "})
        assert without.status_code == 422
        assert model.production_version != challenger
        signed_in.post(page("modelversion_override", challenger), {"reason": "For the rare one"})
        assert model.production_version == challenger
        assert PromotionEvent.objects.latest("pk").kind == "overridden"

    def test_refusing_takes_a_reason(self, signed_in, challenger):
        signed_in.post(page("modelversion_refuse", challenger), {"reason": "Blurred"})
        challenger.refresh_from_db()
        assert challenger.stage == "refused"

    def test_rolling_back(self, signed_in, champion, challenger, model):
        promote(version=challenger)
        url = page("modelversion_roll_back", champion)
        assert url in signed_in.get(page("registeredmodel_change", model)).content.decode()
        shown = signed_in.get(url)
        response = signed_in.post(url, hidden(shown) | {"reason": "Sees mites everywhere"})
        assert response.url == page("registeredmodel_change", model)
        assert model.production_version == champion

    def test_rolling_back_shows_what_was_measured_of_the_two_each_on_its_side(
        self, signed_in, comparison, champion, challenger
    ):
        first = signed_in.get(page("modelversion_promote", challenger))
        assert first.context["page"].rows[0] == ("mAP50-95", "0.610", "0.630")
        promote(version=challenger)
        back = signed_in.get(page("modelversion_roll_back", champion))
        assert back.context["page"].heads == (str(challenger), str(champion))
        assert back.context["page"].rows[0] == ("mAP50-95", "0.630", "0.610")
        assert ">0.630<" in back.content.decode()

    def test_what_serves_is_not_compared_with_itself(self, signed_in, champion):
        text = signed_in.get(page("modelversion_roll_back", champion)).content.decode()
        assert "is in production already" in text
        assert "never measured on the same photos" not in text

    def test_comparing_by_hand(self, signed_in, curator, challenger, model):
        url = page("modelversion_compare", challenger)
        assert signed_in.post(url, {}).status_code == 422
        foreign = DatasetFactory()
        assert signed_in.post(url, {"dataset": foreign.pk}).status_code == 422
        signed_in.post(url, {"dataset": DatasetFactory(registered_model=model).pk})
        asked = Comparison.objects.get()
        assert (asked.requested_by, asked.priority) == (curator, 0)

    def test_one_under_way_on_other_photos_is_named(self, signed_in, challenger, model):
        first, second = (DatasetFactory(registered_model=model) for _ in range(2))
        url = page("modelversion_compare", challenger)
        assert signed_in.post(url, {"dataset": first.pk}).status_code == 302
        assert signed_in.post(url, {"dataset": first.pk}).status_code == 302
        response = signed_in.post(url, {"dataset": second.pk})
        assert response.status_code == 422
        assert str(first) in " ".join(response.context["form"].non_field_errors())
        assert Comparison.objects.count() == 1

    def test_what_the_surveys_do_not_know_is_said_before(self, signed_in, challenger):
        from tests.factories import SurveyFactory

        SurveyFactory(registered_model=challenger.registered_model, name_en="Garden soil")
        text = signed_in.get(page("modelversion_promote", challenger)).content.decode()
        assert "Garden soil" in text
        assert "ISO_MIN" in text


class TestModelPage:
    def test_freezing_shows_a_banner_and_stops_promotion(self, signed_in, challenger, model):
        signed_in.post(page("registeredmodel_freeze", model), {"reason": "Field season."})
        text = signed_in.get(page("registeredmodel_change", model)).content.decode()
        assert "Promotion is frozen: Field season." in text
        response = signed_in.post(page("modelversion_promote", challenger))
        assert response.status_code == 422
        assert "Field season." in response.content.decode()
        signed_in.post(page("registeredmodel_thaw", model))
        assert not PromotionPolicy.objects.get().is_frozen

    def test_rules_are_changed_with_a_record_and_wrong_numbers_are_named(self, signed_in, curator, model):
        url = page("registeredmodel_rules", model)
        form = signed_in.get(url).context["form"]
        data = {name: form[name].value() for name in form.fields if form[name].value() is not None}
        bad = signed_in.post(url, data | {"max_latency_ratio": "0", "max_map_loss": "nan"})
        assert bad.status_code == 422
        assert set(bad.context["form"].errors) == {"max_latency_ratio", "max_map_loss"}
        signed_in.post(url, data | {"promotion": "manual", "max_latency_ratio": "1.5", "reason": "GPU"})
        policy = PromotionPolicy.objects.get()
        assert (policy.promotion, policy.max_latency_ratio) == ("manual", 1.5)
        event = PromotionEvent.objects.get()
        assert (event.kind, event.by, event.reason) == ("rules_changed", curator, "GPU")
        text = signed_in.get(page("promotionevent_change", event)).content.decode()
        assert "latency may be higher by the factor" in text.lower()

    def test_who_looks_changes_nothing(self, signed_in, challenger, model):
        PromotionPolicy.objects.all().delete()
        for name, row in (
            ("registeredmodel_change", model),
            ("registeredmodel_rules", model),
            ("registeredmodel_freeze", model),
            *((f"modelversion_{one}", challenger) for one in ("promote", "override", "refuse", "compare")),
        ):
            assert signed_in.get(page(name, row)).status_code == 200
        assert not PromotionPolicy.objects.exists()
        challenger.refresh_from_db()
        assert challenger.stage == "candidate"
        assert not Comparison.objects.exists()

    def test_a_model_without_anything_and_a_frozen_one_are_shown_in_the_list(self, signed_in, model):
        freeze_promotion(model=RegisteredModelFactory(), reason="x")
        response = signed_in.get(reverse("admin:training_registeredmodel_changelist"))
        assert "frozen" in response.content.decode()

    def test_numbers_of_the_rules_are_those_of_the_reader(self, signed_in, model):
        text = signed_in.get(page("registeredmodel_change", model), headers={"Accept-Language": "fr"})
        assert ">0,005<" in text.content.decode()

    @pytest.mark.parametrize(("status", "looks_again"), [("processing", True), ("done", False)])
    def test_a_comparison_under_way_shows_itself_anew(self, signed_in, comparison, status, looks_again):
        Comparison.objects.filter(pk=comparison.pk).update(
            status=status,
            lease_token=uuid.uuid4() if looks_again else None,
            lease_until=timezone.now() if looks_again else None,
        )
        text = signed_in.get(page("comparison_change", comparison)).content.decode()
        assert ('hx-trigger="every 5s"' in text) == looks_again
        assert "htmx" in text


class TestPermissions:
    @pytest.mark.parametrize("action", ["promote", "override", "refuse", "roll_back", "compare"])
    def test_deciding_on_a_version_is_a_permission_of_its_own(self, client, challenger, action):
        staff = UserFactory(is_staff=True)
        staff.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
        client.force_login(staff)
        for method in (client.get, client.post):
            assert method(page(f"modelversion_{action}", challenger)).status_code == 403

    @pytest.mark.parametrize("action", ["freeze", "thaw", "rules"])
    def test_so_is_deciding_on_a_model(self, client, model, action):
        staff = UserFactory(is_staff=True)
        staff.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
        client.force_login(staff)
        assert client.post(page(f"registeredmodel_{action}", model), {"reason": "x"}).status_code == 403

    def test_nobody_edits_the_record(self, client, root, champion):
        client.force_login(root)
        event = PromotionEvent.objects.get()
        assert client.post(page("promotionevent_change", event), {"reason": "other"}).status_code == 403
        assert client.post(page("promotionevent_delete", event), {"post": "yes"}).status_code == 403
        assert client.get(reverse("admin:training_promotionevent_add")).status_code == 403
        assert client.get(reverse("admin:training_promotionevent_changelist")).status_code == 200
