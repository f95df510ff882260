"""The model factory's pages: who sees what, what stands on them, and what odd addresses get."""

import uuid
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.core.files.storage import storages
from django.urls import reverse
from django.utils import timezone

from apps.common.leased import WorkStatus
from apps.training.cuts import _last
from apps.training.models import Evaluation, ModelVersion, TrainingRun
from tests.factories import LabelFactory, PhotoFactory, SurveyFactory, UserFactory
from tests.training.factories import (
    CandidateFactory,
    ComparisonFactory,
    DatasetFactory,
    EvaluationFactory,
    PromotionEventFactory,
    TrainingEpochFactory,
    TrainingLogLineFactory,
    TrainingRunFactory,
)
from tests.training.measured import better, measured_evaluation, report_of, stored_photo

pytestmark = pytest.mark.django_db
NOBODY = uuid.UUID(int=7)


@pytest.fixture
def expert(client):
    user = UserFactory(is_expert=True)
    client.force_login(user)
    return user


@pytest.fixture
def curator(client):
    user = UserFactory(is_staff=True)
    user.groups.add(Group.objects.get(name="Curators"))
    client.force_login(user)
    return user


@pytest.fixture
def compared():
    """A champion with mistakes and a challenger with fewer, on the same photos."""
    champion = CandidateFactory(stage=ModelVersion.Stage.PRODUCTION)
    challenger = CandidateFactory(registered_model=champion.registered_model)
    old = measured_evaluation(champion)
    photos = [str(item.photo) for item in old.dataset.items.order_by("position")]
    new = measured_evaluation(challenger, dataset=old.dataset, report=better(report_of(photos)))
    return ComparisonFactory(
        registered_model=champion.registered_model,
        champion=champion,
        challenger=challenger,
        dataset=old.dataset,
        champion_evaluation=old,
        challenger_evaluation=new,
        status=WorkStatus.DONE,
        verdict="passed",
        photo_count=3,
        rules=[{"code": "map_better", "passed": True, "difference": 0.1, "threshold": 0}],
    )


def running(**fields):
    return TrainingRunFactory(
        status="processing",
        stage="training",
        lease_token=uuid.uuid4(),
        lease_until=timezone.now() + timedelta(minutes=5),
        **fields,
    )


def closed_addresses():
    evaluation = measured_evaluation()
    photo = evaluation.dataset.items.first().photo
    return [
        reverse("training:run", args=[TrainingRunFactory().public_id]),
        reverse("training:evaluation", args=[evaluation.public_id]),
        reverse("training:cell", args=[evaluation.public_id, 0, 0]),
        reverse("training:evaluation_photos", args=[evaluation.public_id]),
        reverse("training:report", args=[evaluation.public_id]),
        reverse("training:comparison", args=[ComparisonFactory().public_id]),
        reverse("training:picture", args=[photo]),
        reverse("training:crop", args=[photo, "0-0-10-10"]),
    ]


class TestWhoSeesWhat:
    def test_strangers_are_asked_to_sign_in_where_photos_are_shown(self, client):
        for address in closed_addresses():
            answer = client.get(address)
            assert answer.status_code == 302, address
            assert "/accounts/login/" in answer["Location"]

    def test_contributors_are_told_that_it_is_for_experts(self, client):
        client.force_login(UserFactory())
        for address in closed_addresses():
            answer = client.get(address)
            assert answer.status_code == 403, address
            assert "Only for experts" in answer.content.decode()

    def test_experts_see_all_of_it(self, client, expert):
        for address in closed_addresses():
            assert client.get(address).status_code == 200, address

    def test_models_and_cards_are_for_everybody(self, client):
        version = CandidateFactory()
        name = version.registered_model.name
        for address in ("/models/", f"/models/{name}/", f"/models/{name}/{version.number}/"):
            assert client.get(address).status_code == 200, address

    @pytest.mark.parametrize(
        "address",
        [
            "/models/nothing/",
            "/models/nothing/1/",
            "/models/nothing/1.md",
            f"/models/runs/{NOBODY}/",
            f"/models/evaluations/{NOBODY}/",
            f"/models/comparisons/{NOBODY}/",
            f"/models/pictures/{NOBODY}.jpg",
        ],
    )
    def test_what_does_not_exist_is_not_found(self, client, expert, address):
        assert client.get(address).status_code == 404

    def test_a_huge_version_number_is_not_found(self, client):
        name = CandidateFactory().registered_model.name
        assert client.get(f"/models/{name}/99999999999999999999/").status_code == 404


class TestTheRun:
    def test_it_says_how_far_it_is_and_how_long_it_takes(self, client, expert):
        run = running(epochs=40, epochs_done=10, seconds_spent=120)
        for epoch in range(1, 11):
            TrainingEpochFactory(run=run, epoch=epoch)
        page = client.get(f"/models/runs/{run.public_id}/").content.decode()
        assert "Epoch 10 of 40 is done." in page
        assert "About 6 min left." in page
        assert 'hx-trigger="every 3s"' in page
        assert "Quality on the validation photos" in page

    def test_log_and_parameters_are_in_words(self, client, expert):
        run = running(chosen={"epochs": 40})
        TrainingLogLineFactory(
            run=run, code="out_of_memory", level="warning", text="", details={"batch": 16, "next": 8}
        )
        TrainingLogLineFactory(run=run, text="<b>WARNING</b>")
        page = client.get(f"/models/runs/{run.public_id}/").content.decode()
        assert "The memory does not suffice for a batch of 16: it goes on with 8" in page
        assert "&lt;b&gt;WARNING" in page
        assert "image size (px)" in page
        assert "<td>chosen</td>" in page

    def test_an_open_page_is_told_only_what_is_new(self, client, expert):
        run = running(epochs_done=1)
        TrainingEpochFactory(run=run, epoch=1)
        first = TrainingLogLineFactory(run=run, text="first line")
        page = client.get(f"/models/runs/{run.public_id}/live/?line={first.pk}").content.decode()
        assert "quality-values" in page
        assert "first line" not in page
        row = run.epoch_rows.get()
        seen = f"?line={first.pk}&epoch={row.pk}-{row.epoch}"
        page = client.get(f"/models/runs/{run.public_id}/live/{seen}").content.decode()
        assert "quality-values" not in page
        TrainingLogLineFactory(run=run, text="second line")
        assert "second line" in client.get(f"/models/runs/{run.public_id}/live/{seen}").content.decode()

    def test_it_stops_asking_once_the_run_has_ended(self, client, expert):
        run = TrainingRunFactory(status="failed", failure_reason="disk_full")
        page = client.get(f"/models/runs/{run.public_id}/live/").content.decode()
        assert "hx-trigger" not in page
        assert "Make room and try again" in page

    def test_odd_marks_of_an_open_page_do_no_harm(self, client, expert):
        run = running()
        for query in ("?line=x&epoch=<", "?line=99999999999999999999999", "?line=-1", "?line=٣"):
            assert client.get(f"/models/runs/{run.public_id}/live/{query}").status_code == 200
        assert client.get(f"/models/runs/{run.public_id}/log/?before=zzz").status_code == 200

    def test_older_lines_are_on_pages_of_their_own(self, client, expert, monkeypatch):
        monkeypatch.setattr("apps.training.run_page.LOG_LINES", 2)
        run = running()
        lines = [TrainingLogLineFactory(run=run, text=f"line {number}") for number in range(5)]
        page = client.get(f"/models/runs/{run.public_id}/").content.decode()
        assert "line 4" in page
        assert "line 2" not in page
        assert f"before={lines[3].pk}" in page
        page = client.get(f"/models/runs/{run.public_id}/log/?before={lines[3].pk}").content.decode()
        assert "line 2" in page
        assert "line 3" not in page

    def test_a_curator_cancels_it_and_reads_so_at_once(self, client, curator):
        run = running()
        assert "Cancel this run?" in client.get(f"/models/runs/{run.public_id}/").content.decode()
        answer = client.post(f"/models/runs/{run.public_id}/cancel/", follow=True)
        assert "Being cancelled" in answer.content.decode()
        run.refresh_from_db()
        assert run.cancelled_by == curator

    def test_cancelling_what_has_ended_says_so(self, client, curator):
        run = TrainingRunFactory(status="cancelled")
        answer = client.post(f"/models/runs/{run.public_id}/cancel/", follow=True)
        assert "The run had ended already." in answer.content.decode()

    def test_experts_without_the_permission_cannot_cancel(self, client, expert):
        run = running()
        assert "Cancel this run?" not in client.get(f"/models/runs/{run.public_id}/").content.decode()
        assert client.post(f"/models/runs/{run.public_id}/cancel/").status_code == 403
        assert client.get(f"/models/runs/{run.public_id}/cancel/").status_code == 405
        run.refresh_from_db()
        assert not run.is_being_cancelled

    @pytest.mark.parametrize("status", ["failed", "cancelled"])
    def test_a_curator_starts_it_again_as_a_run_of_its_own(self, client, curator, status):
        run = TrainingRunFactory(status=status, chosen={"epochs": 7})
        page = client.get(f"/models/runs/{run.public_id}/").content.decode()
        assert "Start it again" in page
        answer = client.post(f"/models/runs/{run.public_id}/retry/")
        again = TrainingRun.objects.exclude(pk=run.pk).get()
        assert answer["Location"] == f"/models/runs/{again.public_id}/"
        assert (again.epochs, again.requested_by, again.dataset) == (7, curator, run.dataset)

    def test_it_is_not_started_again_while_another_one_is_under_way(self, client, curator):
        run = TrainingRunFactory(status="failed")
        other = running(registered_model=run.registered_model)
        answer = client.post(f"/models/runs/{run.public_id}/retry/", follow=True)
        assert answer.redirect_chain[0][0] == f"/models/runs/{other.public_id}/"
        assert "Another run of this model is under way" in answer.content.decode()
        assert TrainingRun.objects.count() == 2

    def test_what_cannot_be_trained_on_any_more_is_said(self, client, curator):
        run = TrainingRunFactory(status="failed")
        counts = run.dataset.counts
        counts["validation"]["photos"] = 0
        unfit = DatasetFactory(registered_model=run.registered_model, counts=counts)
        TrainingRun.objects.filter(pk=run.pk).update(dataset=unfit)
        answer = client.post(f"/models/runs/{run.public_id}/retry/", follow=True)
        assert "No photo is in the validation split." in answer.content.decode()

    def test_only_what_ended_badly_is_started_again_and_only_by_those_who_may(self, client, curator):
        run = running()
        client.post(f"/models/runs/{run.public_id}/retry/")
        assert TrainingRun.objects.count() == 1
        client.force_login(UserFactory(is_expert=True))
        assert client.post(f"/models/runs/{run.public_id}/retry/").status_code == 403

    def test_the_page_takes_few_queries_however_long_the_run(
        self, client, expert, django_assert_max_num_queries
    ):
        run = running(epochs_done=30)
        for epoch in range(1, 31):
            TrainingEpochFactory(run=run, epoch=epoch)
            TrainingLogLineFactory(run=run)
        with django_assert_max_num_queries(12):
            client.get(f"/models/runs/{run.public_id}/")


class TestTheEvaluation:
    def test_it_shows_numbers_with_intervals_and_a_matrix_that_leads_to_the_animals(self, client, expert):
        evaluation = measured_evaluation()
        page = client.get(f"/models/evaluations/{evaluation.public_id}/").content.decode()
        assert "0.500" in page
        assert "95 %: 0.400 to 0.600" in page
        assert f"/models/evaluations/{evaluation.public_id}/cell/1/0/" in page
        for chart in ("precision-recall", "f1-confidence", "reliability", "sizes", "latency"):
            assert f'data-chart="{chart}"' in page
        assert "See all 2 photos with mistakes" in page
        assert "few animals" in page

    def test_labels_keep_the_order_of_the_dataset(self, client, expert):
        evaluation = measured_evaluation()
        page = client.get(f"/models/evaluations/{evaluation.public_id}/").content.decode()
        assert page.index('<th scope="row">CER') < page.index('<th scope="row">ISO_MIN')

    def test_labels_have_their_names(self, client, expert):
        evaluation = measured_evaluation()
        survey = SurveyFactory(registered_model=evaluation.version.registered_model)
        LabelFactory(survey=survey, code="CER", scientific_name="Ceratophysella sp.")
        page = client.get(f"/models/evaluations/{evaluation.public_id}/").content.decode()
        assert "Ceratophysella sp., missed" in page

    def test_a_cell_shows_its_crops_with_the_way_to_the_photo(self, client, expert):
        evaluation = measured_evaluation()
        item = evaluation.dataset.items.order_by("position").first()
        PhotoFactory(public_id=item.photo)
        page = client.get(f"/models/evaluations/{evaluation.public_id}/cell/1/0/").content.decode()
        assert "ISO_MIN, found as CER" in page
        assert "CER, 80\u202f% sure" in page
        assert f"/photos/{item.photo}/" in page
        assert 'class="mark-wrong"' in page
        assert f"/models/pictures/{item.photo}/" in page

    @pytest.mark.parametrize("cell", ["2/2", "3/0", "0/3", "99/99"])
    def test_a_cell_that_the_matrix_does_not_have_is_not_found(self, client, expert, cell):
        evaluation = measured_evaluation()
        assert client.get(f"/models/evaluations/{evaluation.public_id}/cell/{cell}/").status_code == 404

    def test_an_empty_cell_says_so(self, client, expert):
        evaluation = measured_evaluation()
        page = client.get(f"/models/evaluations/{evaluation.public_id}/cell/0/1/").content.decode()
        assert "No box of this evaluation is in this cell." in page

    def test_crops_come_in_pages(self, client, expert, monkeypatch):
        monkeypatch.setattr("apps.training.evaluation_page.CROPS_A_PAGE", 1)
        evaluation = measured_evaluation()
        address = f"/models/evaluations/{evaluation.public_id}/cell/0/0/"
        assert "after=1" in client.get(address).content.decode()
        page = client.get(f"{address}?after=1").content.decode()
        assert 'rel="prev"' in page
        assert 'rel="next"' not in page
        assert client.get(f"{address}?after=zzz").status_code == 200

    def test_a_photo_that_was_withdrawn_is_not_shown(self, client, expert):
        evaluation = measured_evaluation()
        item = evaluation.dataset.items.order_by("position").first()
        evaluation.dataset.items.filter(pk=item.pk).update(is_withdrawn=True)
        page = client.get(f"/models/evaluations/{evaluation.public_id}/cell/1/0/").content.decode()
        assert "This photo was deleted by its contributor." in page
        assert f"/models/pictures/{item.photo}" not in page
        assert client.get(f"/models/pictures/{item.photo}.jpg").status_code == 404
        assert client.get(f"/models/pictures/{item.photo}/0-0-9-9.jpg").status_code == 404

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"status": "pending"}, "It waits for a training worker."),
            ({"status": "failed", "failure_reason": "worker_lost"}, "for lack of memory"),
            ({"status": "done"}, "The report is gone from the storage or damaged"),
        ],
    )
    def test_one_without_a_report_says_why(self, client, expert, fields, said):
        evaluation = EvaluationFactory(**fields)
        page = client.get(f"/models/evaluations/{evaluation.public_id}/").content.decode()
        assert said in page
        assert client.get(f"/models/evaluations/{evaluation.public_id}/cell/0/0/").status_code == 404

    def test_an_open_page_is_loaded_anew_when_it_is_done(self, client, expert):
        evaluation = measured_evaluation()
        answer = client.get(f"/models/evaluations/{evaluation.public_id}/live/")
        assert answer["HX-Refresh"] == "true"

    def test_numbers_from_the_training_photos_carry_a_warning(self, client, expert):
        evaluation = measured_evaluation(split="train")
        page = client.get(f"/models/evaluations/{evaluation.public_id}/").content.decode()
        assert "so that the numbers flatter" in page

    def test_the_pages_take_a_fixed_number_of_queries(self, client, expert, django_assert_max_num_queries):
        evaluation = measured_evaluation()
        with django_assert_max_num_queries(10):
            client.get(f"/models/evaluations/{evaluation.public_id}/")
        with django_assert_max_num_queries(10):
            client.get(f"/models/evaluations/{evaluation.public_id}/cell/0/0/")


class TestThePictures:
    def test_a_crop_is_a_small_jpeg_that_only_its_reader_keeps(self, client, expert):
        item = stored_photo(EvaluationFactory().dataset)
        answer = client.get(f"/models/pictures/{item.photo}/10-10-200-120.jpg")
        assert answer["Content-Type"] == "image/jpeg"
        assert answer["Cache-Control"] == "private, max-age=3600"
        assert answer.content.startswith(b"\xff\xd8\xff")
        assert len(answer.content) < 40_000

    @pytest.mark.parametrize(
        "window",
        ["0-0-0-0", "5-5-1-1", "0-0-641-10", "a-b-c-d", "0-0-10", "-1-0-5-5", "0-0-1e3-9", "٠-0-9-9"],
    )
    def test_a_window_outside_the_photo_is_not_found(self, client, expert, window):
        item = stored_photo(EvaluationFactory().dataset)
        assert client.get(f"/models/pictures/{item.photo}/{window}.jpg").status_code == 404

    def test_a_photo_whose_original_is_gone_is_not_found(self, client, expert):
        item = stored_photo(EvaluationFactory().dataset)
        storages["default"].delete(item.file)
        _last.clear()
        assert client.get(f"/models/pictures/{item.photo}.jpg").status_code == 404


class TestTheComparison:
    def test_it_puts_both_side_by_side_and_shows_where_they_differ(self, client, expert, compared):
        page = client.get(f"/models/comparisons/{compared.public_id}/").content.decode()
        assert "Passes the gate" in page
        assert "mAP50-95 is better on average" in page
        assert "1 animal more right, 1 false box less" in page
        assert 'data-chart="labels"' in page
        for layer in ("layer-old", "layer-new", "layer-both"):
            assert layer in page
        assert "Decide in the console" not in page

    def test_experts_read_all_the_photos_on_which_they_differ(self, client, expert, compared):
        page = client.get(f"/models/comparisons/{compared.public_id}/differences/").content.decode()
        assert "1 photo of 3." in page

    def test_without_a_champion_there_is_nothing_to_differ_from(self, client, expert):
        evaluation = measured_evaluation()
        comparison = ComparisonFactory(
            registered_model=evaluation.version.registered_model,
            challenger=evaluation.version,
            challenger_evaluation=evaluation,
            dataset=evaluation.dataset,
            status="done",
            verdict="passed",
        )
        page = client.get(f"/models/comparisons/{comparison.public_id}/").content.decode()
        assert "with nothing to compare it with yet" in page
        assert "There is no second report to hold it against." in page
        assert client.get(f"/models/comparisons/{comparison.public_id}/differences/").status_code == 404

    def test_a_waiting_one_says_so(self, client, expert):
        comparison = ComparisonFactory()
        page = client.get(f"/models/comparisons/{comparison.public_id}/").content.decode()
        assert "It waits for a training worker." in page

    def test_the_page_takes_a_fixed_number_of_queries(
        self, client, expert, compared, django_assert_max_num_queries
    ):
        with django_assert_max_num_queries(12):
            client.get(f"/models/comparisons/{compared.public_id}/")


class TestTheLists:
    def test_no_model_yet(self, client):
        assert "No model yet" in client.get("/models/").content.decode()

    def test_a_model_without_a_version_says_what_comes(self, client):
        version = CandidateFactory()
        model, name = version.registered_model, version.registered_model.name
        version.delete()
        assert "No version yet." in client.get(f"/models/{name}/").content.decode()
        assert "Nothing is in production yet." in client.get("/models/").content.decode()
        assert model.pk

    def test_the_public_reads_what_was_decided_but_not_by_whom_or_why(self, client):
        version = CandidateFactory(stage=ModelVersion.Stage.PRODUCTION)
        model = version.registered_model
        PromotionEventFactory(
            registered_model=model, to_version=version, by_name="Inès Curator", reason="Because of X"
        )
        PromotionEventFactory(registered_model=model, kind="frozen", reason="internal")
        for address in (f"/models/{model.name}/", f"/models/{model.name}/{version.number}/"):
            page = client.get(address).content.decode()
            assert "Promoted" in page
            assert "Inès" not in page
            assert "Because of X" not in page
            assert "frozen" not in page

    def test_curators_read_who_and_why(self, client, curator):
        version = CandidateFactory()
        PromotionEventFactory(
            registered_model=version.registered_model,
            to_version=version,
            by_name="Inès Curator",
            reason="Because of X",
        )
        page = client.get(f"/models/{version.registered_model.name}/").content.decode()
        assert "Inès Curator" in page
        assert "Because of X" in page

    def test_runs_are_listed_for_experts_only(self, client):
        run = TrainingRunFactory()
        address = f"/models/{run.registered_model.name}/"
        assert str(run.public_id) not in client.get(address).content.decode()
        client.force_login(UserFactory(is_expert=True))
        assert str(run.public_id) in client.get(address).content.decode()

    def test_many_versions_come_in_pages_and_take_a_fixed_number_of_queries(
        self, client, django_assert_max_num_queries
    ):
        model = CandidateFactory(number=1).registered_model
        for number in range(2, 40):
            CandidateFactory(registered_model=model, number=number)
        with django_assert_max_num_queries(6):
            page = client.get(f"/models/{model.name}/").content.decode()
        assert ">v39<" in page
        assert ">v9<" not in page
        page = client.get(f"/models/{model.name}/?before=10").content.decode()
        assert ">v9<" in page
        assert client.get(f"/models/{model.name}/?before=x&events=y").status_code == 200


class TestTheConsole:
    def test_curators_list_runs_and_stop_them(self, client, curator):
        run, ended = running(), TrainingRunFactory(status="cancelled")
        address = reverse("admin:training_trainingrun_changelist")
        assert client.get(address).status_code == 200
        assert client.get(reverse("admin:training_trainingrun_change", args=[run.pk])).status_code == 200
        answer = client.post(
            address, {"action": "cancel", "_selected_action": [run.pk, ended.pk]}, follow=True
        )
        page = answer.content.decode()
        assert "1 run is being cancelled." in page
        assert "1 run had ended already." in page
        assert TrainingRun.objects.get(pk=run.pk).is_being_cancelled

    def test_curators_have_a_version_measured(self, client, curator):
        dataset = EvaluationFactory(status="done").dataset
        stored_photo(dataset)
        version = CandidateFactory(registered_model=dataset.registered_model)
        address = reverse("admin:training_evaluation_add")
        assert client.get(f"{address}?version={version.pk}").status_code == 200
        answer = client.post(address, {"version": version.pk, "measured_on": dataset.pk, "split": "test"})
        evaluation = Evaluation.objects.get(version=version)
        assert answer["Location"] == f"/models/evaluations/{evaluation.public_id}/"
        assert evaluation.requested_by == curator
        assert client.get(reverse("admin:training_evaluation_changelist")).status_code == 200
        change = reverse("admin:training_evaluation_change", args=[evaluation.pk])
        assert client.get(change).status_code == 200

    def test_a_split_without_photos_is_refused_in_words(self, client, curator):
        evaluation = EvaluationFactory(status="done")
        answer = client.post(
            reverse("admin:training_evaluation_add"),
            {"version": evaluation.version.pk, "measured_on": evaluation.dataset.pk, "split": "test"},
        )
        assert answer.status_code == 200
        assert "has no photo in the split" in answer.content.decode()
        assert Evaluation.objects.count() == 1

    def test_what_is_under_way_is_given_again(self, client, curator):
        evaluation = EvaluationFactory()
        stored_photo(evaluation.dataset)
        answer = client.post(
            reverse("admin:training_evaluation_add"),
            {"version": evaluation.version.pk, "measured_on": evaluation.dataset.pk, "split": "test"},
        )
        assert answer["Location"] == f"/models/evaluations/{evaluation.public_id}/"
        assert Evaluation.objects.count() == 1
