"""Decisions on which version serves: what each leaves, what each refuses, and that the record stays for ever."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from apps.training.models import Comparison, ModelVersion, PromotionEvent
from apps.training.promotion_texts import NotPromotableError, OvertakenError, PromotionError
from apps.training.services.comparisons import request_comparison
from apps.training.services.promotion import (
    change_policy,
    freeze_promotion,
    policy_of,
    promote,
    refuse,
    roll_back,
    thaw_promotion,
)
from apps.training.signals import model_promoted
from tests.factories import RegisteredModelFactory, UserFactory
from tests.training.factories import CandidateFactory, ComparisonFactory, DatasetFactory

pytestmark = pytest.mark.django_db
Stage = ModelVersion.Stage


@pytest.fixture
def model():
    return RegisteredModelFactory()


@pytest.fixture
def ada():
    return UserFactory(display_name="Ada")


def candidate(model, **fields) -> ModelVersion:
    return CandidateFactory(registered_model=model, number=model.versions.count() + 1, **fields)


def serving(model) -> ModelVersion:
    version = candidate(model)
    promote(version=version)
    return version


def finished(challenger, champion=None, **fields) -> Comparison:
    rules = [{"code": "map_better", "passed": fields.get("verdict", "passed") == "passed", "difference": 0.1}]
    return ComparisonFactory(
        registered_model=challenger.registered_model,
        challenger=challenger,
        champion=champion,
        **{"status": "done", "verdict": "passed", "rules": rules, "finished_at": timezone.now()} | fields,
    )


def kinds(model) -> list[str]:
    return list(
        PromotionEvent.objects.filter(registered_model=model).order_by("pk").values_list("kind", flat=True)
    )


def test_a_promotion_says_who_when_why_from_and_to_with_its_evidence(
    model, ada, django_capture_on_commit_callbacks
):
    old, new = serving(model), candidate(model)
    comparison = finished(new, old)
    heard = []

    def hear(**news):
        heard.append((news["model_version"], news["previous"], news["kind"]))

    model_promoted.connect(hear)
    with django_capture_on_commit_callbacks(execute=True):
        promote(version=new, by=ada, reason=" Looks right. ", comparison=comparison)
    model_promoted.disconnect(hear)
    event = PromotionEvent.objects.latest("pk")
    assert (event.kind, event.by, event.by_name, event.reason) == ("promoted", ada, "Ada", "Looks right.")
    assert (event.from_version, event.to_version, event.comparison) == (old, new, comparison)
    assert event.evidence["rules"] == comparison.rules
    assert event.at <= timezone.now()
    comparison.refresh_from_db()
    assert comparison.decision == "promoted"
    assert heard == [(new, old, "promoted")]


def test_what_serves_already_stays_and_leaves_no_second_entry(model):
    version = serving(model)
    promote(version=version)
    assert kinds(model) == ["promoted"]


def test_a_refused_version_goes_live_against_the_gate_only_and_with_a_reason(model, ada):
    old, new = serving(model), candidate(model)
    comparison = finished(new, old, verdict="refused")
    refuse(version=new, comparison=comparison, kind="refused_gate")
    assert new.stage == Stage.REFUSED
    with pytest.raises(NotPromotableError) as caught:
        promote(version=new, by=ada)
    assert "was refused" in caught.value.sentence
    with pytest.raises(NotPromotableError, match="reason_needed"):
        promote(version=new, by=ada, kind="overridden", reason="  ")
    promote(version=new, by=ada, kind="overridden", reason="It finds the rare one", comparison=comparison)
    assert model.production_version == new
    comparison.refresh_from_db()
    assert comparison.decision == "overridden"
    assert kinds(model) == ["promoted", "refused_gate", "overridden"]


def test_a_version_refused_by_its_comparison_is_no_candidate_by_another_door(model, ada):
    old, new = serving(model), candidate(model)
    comparison = finished(new, old, verdict="refused")
    with pytest.raises(NotPromotableError, match="refused_by_gate"):
        promote(version=new, by=ada, comparison=comparison)


def test_a_curator_refuses_with_a_reason_and_the_version_in_production_cannot_be_refused(model, ada):
    old, new = serving(model), candidate(model)
    with pytest.raises(PromotionError, match="reason_needed"):
        refuse(version=new, by=ada)
    refuse(version=new, by=ada, reason="Blurred training photos")
    assert new.stage == Stage.REFUSED
    with pytest.raises(PromotionError, match="serves"):
        refuse(version=old, by=ada, reason="No")


def test_going_back_to_any_version_that_served(model, ada):
    first, second, third = serving(model), serving(model), serving(model)
    never = candidate(model)
    roll_back(model=model, to=first, by=ada, reason="Third sees mites everywhere")
    assert model.production_version == first
    roll_back(model=model, to=second, by=ada, reason="Second was better")
    assert model.production_version == second
    assert set(model.versions.filter(stage=Stage.ARCHIVED)) == {first, third}
    with pytest.raises(NotPromotableError, match="never_served"):
        roll_back(model=model, to=never, by=ada, reason="?")
    with pytest.raises(NotPromotableError, match="already_serving"):
        roll_back(model=model, to=second, by=ada, reason="?")
    with pytest.raises(NotPromotableError, match="other_model"):
        roll_back(model=RegisteredModelFactory(), to=first, by=ada, reason="?")
    with pytest.raises(NotPromotableError, match="reason_needed"):
        roll_back(model=model, to=first, by=ada)


def test_while_promotion_is_frozen_nothing_goes_live_and_going_back_stays_possible(model, ada):
    first, second, third = serving(model), serving(model), candidate(model)
    freeze_promotion(model=model, by=ada, reason="Field season.")
    for kind in (None, "promoted_gate", "overridden"):
        with pytest.raises(NotPromotableError, match="frozen") as caught:
            promote(version=third, by=ada, kind=kind, reason="now")
        assert "Field season." in caught.value.sentence
    roll_back(model=model, to=first, by=ada, reason="Second broke")
    with pytest.raises(PromotionError, match="already_frozen"):
        freeze_promotion(model=model, by=ada, reason="again")
    thaw_promotion(model=model, by=ada)
    promote(version=third, by=ada)
    with pytest.raises(PromotionError, match="not_frozen"):
        thaw_promotion(model=model, by=ada)
    assert second.registered_model.production_version == third
    assert kinds(model) == ["promoted", "promoted", "frozen", "rolled_back", "thawed", "promoted"]


def test_a_version_that_cannot_be_loaded_is_neither_promoted_nor_gone_back_to(model, ada):
    first, _second = serving(model), serving(model)
    ModelVersion.objects.filter(pk=first.pk).update(unusable_reason="digest")
    with pytest.raises(NotPromotableError, match="unusable"):
        roll_back(model=model, to=first, by=ada, reason="?")
    with pytest.raises(NotPromotableError, match="unusable"):
        promote(version=first, by=ada)


def test_who_decided_on_numbers_that_are_no_longer_so_is_told(model, ada):
    first, new = serving(model), candidate(model)
    comparison = finished(new, first)
    second = serving(model)
    for how in ({"comparison": comparison}, {"expected": first}, {"expected": None}):
        with pytest.raises(OvertakenError) as caught:
            promote(version=new, by=ada, **how)
        assert str(second) in caught.value.sentence
    with pytest.raises(OvertakenError):
        roll_back(model=model, to=first, by=ada, reason="?", expected=first)
    assert model.production_version == second


def test_a_comparison_must_be_finished_and_about_the_version(model, ada):
    old, new = serving(model), candidate(model)
    with pytest.raises(NotPromotableError, match="other_comparison"):
        promote(version=new, by=ada, comparison=finished(candidate(model), old))
    waiting = ComparisonFactory(registered_model=model, challenger=new, champion=old)
    with pytest.raises(NotPromotableError, match="not_compared_yet"):
        promote(version=new, by=ada, comparison=waiting)


def test_changed_rules_are_in_the_record_with_what_stood_before(model, ada):
    change_policy(model=model, changes={"max_map_loss": 0.01, "promotion": "manual"}, by=ada, reason="Noise")
    event = PromotionEvent.objects.get()
    assert event.kind == "rules_changed"
    assert event.evidence == {
        "changes": {"max_map_loss": [0.005, 0.01], "promotion": ["automatic", "manual"]}
    }
    change_policy(model=model, changes={"max_map_loss": 0.01}, by=ada)
    assert PromotionEvent.objects.count() == 1, "nothing changed"
    with pytest.raises(ValidationError) as caught:
        change_policy(model=model, changes={"max_latency_ratio": 0, "min_test_photos": 1}, by=ada)
    assert set(caught.value.message_dict) == {"max_latency_ratio", "min_test_photos"}
    with pytest.raises(ValueError, match="is_frozen"):
        change_policy(model=model, changes={"is_frozen": True})
    assert policy_of(model).max_latency_ratio == 1.2


class TestRecord:
    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE training_promotionevent SET reason = 'other'",
            "UPDATE training_promotionevent SET kind = 'refused'",
            "UPDATE training_promotionevent SET by_name = 'Eve'",
            "UPDATE training_promotionevent SET by_id = (SELECT max(id) FROM accounts_user)",
            "DELETE FROM training_promotionevent",
        ],
    )
    def test_no_statement_changes_or_deletes_an_entry(self, model, ada, statement):
        promote(version=candidate(model), by=ada)
        UserFactory()
        with (
            pytest.raises(IntegrityError, match="kept for ever"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)
        assert kinds(model) == ["promoted"]

    def test_nor_does_the_orm(self, model):
        serving(model)
        event = PromotionEvent.objects.get()
        event.reason = "other"
        with pytest.raises(IntegrityError), transaction.atomic():
            event.save()
        with pytest.raises(IntegrityError), transaction.atomic():
            event.delete()

    def test_an_account_can_be_deleted_and_the_name_stays(self, model, ada):
        promote(version=candidate(model), by=ada)
        ada.delete()
        event = PromotionEvent.objects.get()
        assert (event.by, event.by_name) == (None, "Ada")

    def test_an_address_is_never_written_into_it(self, model):
        nameless = UserFactory(display_name="")
        promote(version=candidate(model), by=nameless)
        assert PromotionEvent.objects.get().by_name == f"#{nameless.pk}"

    def test_a_decision_that_fails_leaves_no_entry(self, model, monkeypatch):
        old, new = serving(model), candidate(model)

        def fail(*_args, **_kwargs):
            raise RuntimeError

        monkeypatch.setattr("apps.training.services.promotion._write", fail)
        with pytest.raises(RuntimeError):
            promote(version=new)
        assert model.production_version == old
        assert kinds(model) == ["promoted"]


def at_once(*acts):
    """Each in a thread of its own, from the same moment on; gives what each answered or raised."""
    start = Barrier(len(acts))

    def run(act):
        try:
            start.wait(10)
            return act()
        except PromotionError as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))


@pytest.mark.django_db(transaction=True)
class TestRaces:
    def test_two_curators_who_promote_different_versions_from_the_same_page_one_wins(self, model, ada):
        old, one, two = serving(model), candidate(model), candidate(model)
        answers = at_once(
            lambda: promote(version=one, by=ada, expected=old),
            lambda: promote(version=two, by=ada, expected=old),
        )
        assert sorted(type(answer).__name__ for answer in answers) == ["ModelVersion", "OvertakenError"]
        winner = next(answer for answer in answers if isinstance(answer, ModelVersion))
        assert model.production_version == winner
        assert kinds(model) == ["promoted", "promoted"]

    def test_two_who_promote_the_same_version_leave_one_entry(self, model, ada):
        old, new = serving(model), candidate(model)
        at_once(*[lambda: promote(version=new, by=ada, expected=old)] * 4)
        assert model.production_version == new
        assert kinds(model) == ["promoted", "promoted"]
        assert model.versions.filter(stage=Stage.PRODUCTION).count() == 1

    def test_the_gate_and_a_curator_and_a_roll_back_at_once_leave_one_pointer_and_the_whole_record(
        self, model, ada
    ):
        first, second = serving(model), serving(model)
        passed, chosen = candidate(model), candidate(model)
        comparison = finished(passed, second)
        answers = at_once(
            lambda: promote(version=passed, comparison=comparison, kind="promoted_gate"),
            lambda: promote(version=chosen, by=ada, expected=second),
            lambda: roll_back(model=model, to=first, by=ada, reason="back", expected=second),
        )
        assert sum(isinstance(answer, OvertakenError) for answer in answers) == 2
        events = list(PromotionEvent.objects.filter(registered_model=model).order_by("pk"))
        assert len(events) == 3
        assert events[-1].from_version == second
        assert model.production_version == events[-1].to_version

    def test_a_decision_holds_up_nobody_who_only_refers_to_the_model(self, model, ada):
        """Else who asks for a comparison would wait for a decision that waits for the same comparison."""
        new, dataset = candidate(model), DatasetFactory(registered_model=model)

        def ask():
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '2s'")
            try:
                return request_comparison(challenger=new, dataset=dataset)
            finally:
                connection.close()

        with transaction.atomic(), ThreadPoolExecutor(1) as pool:
            refuse(version=new, by=ada, reason="Blurred")
            assert pool.submit(ask).result().challenger == new
