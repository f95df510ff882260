"""What curators do in the console, and what they cannot do."""

import uuid
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.contrib.gis.geos import Point
from django.urls import reverse
from django.utils import timezone

from apps.accounts.models import ApiClient, ExpertApplication, OutgoingMail, User
from apps.observations.models import Comment, DiscardedFile, Label, Observation, Photo, PlaceReview, Survey
from apps.training.models import ModelVersion
from tests.factories import (
    LabelFactory,
    ModelVersionFactory,
    ObservationFactory,
    PhotoFactory,
    SurveyFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def act(client, curator):
    """Run a list's action on rows; gives what was said."""
    client.force_login(curator)

    def run(action, *rows, **more):
        url = reverse(f"admin:{rows[0]._meta.app_label}_{rows[0]._meta.model_name}_changelist")
        data = {"action": action, "_selected_action": [row.pk for row in rows], **more}
        response = client.post(url, data, follow=True)
        assert response.status_code == 200
        return [str(message) for message in response.context["messages"]]

    return run


def form_data(client, url, **changes):
    """What the browser would post: the form's initial values with changes."""
    form = client.get(url).context["adminform"].form
    data = {}
    for field in form:
        value = field.value()
        if isinstance(value, bool):
            if value:
                data[field.html_name] = "on"
        elif value is not None:
            data[field.html_name] = value
    if "observed_at" in form.fields:
        data.pop("observed_at", None)
        data |= {"observed_at_0": "", "observed_at_1": ""}
    return {**data, **changes}


class TestJobs:
    def test_detect_again_queues_photos_and_leaves_those_a_worker_holds(self, act):
        done, held = (
            PhotoFactory(status="done"),
            PhotoFactory(
                status="processing",
                lease_token=uuid.uuid4(),
                lease_until=timezone.now() + timedelta(minutes=1),
            ),
        )
        said = act("detect_again", done, held)
        assert said == [
            "1 is queued.",
            "1 was left alone: not in such a state, or a worker holds it at this moment.",
        ]
        done.refresh_from_db()
        assert (done.status, done.attempts) == ("pending", 0)

    def test_try_again_takes_failed_ones_only(self, act):
        failed, done = (
            PhotoFactory(status="failed", attempts=3, failure_reason="corrupt"),
            PhotoFactory(status="done"),
        )
        assert "1 is queued." in act("try_again", failed, done)
        assert set(Photo.objects.values_list("status", flat=True)) == {"pending", "done"}

    def test_release_frees_claims_of_silent_workers_only(self, act):
        now = timezone.now()
        silent = PhotoFactory(
            status="processing", lease_token=uuid.uuid4(), lease_until=now - timedelta(minutes=1)
        )
        living = PhotoFactory(
            status="processing", lease_token=uuid.uuid4(), lease_until=now + timedelta(minutes=1)
        )
        act("release", silent, living)
        silent.refresh_from_db()
        living.refresh_from_db()
        assert (silent.status, living.status) == ("pending", "processing")

    def test_a_failed_archive_is_tried_again(self, act, rows):
        assert act("try_again", rows.archiveupload) == ["1 is queued."]
        rows.archiveupload.refresh_from_db()
        assert rows.archiveupload.status == "pending"

    def test_twice_does_no_harm(self, act):
        photo = PhotoFactory(status="failed")
        act("try_again", photo)
        assert act("try_again", photo)[0] == "0 are queued."

    def test_the_lists_of_waiting_and_failed_jobs_filter(self, client, curator):
        waiting, failed = PhotoFactory(), PhotoFactory(status="failed")
        client.force_login(curator)
        for query, photo in (("status__in=pending%2Cprocessing", waiting), ("status__exact=failed", failed)):
            response = client.get(reverse("admin:observations_photo_changelist") + f"?{query}")
            assert list(response.context["cl"].result_list) == [photo]

    def test_without_the_permission_there_is_no_action(self, client):
        staff = UserFactory(is_staff=True)
        staff.user_permissions.add(Permission.objects.get(codename="view_photo"))
        client.force_login(staff)
        photo = PhotoFactory(status="failed")
        data = {"action": "try_again", "_selected_action": [photo.pk]}
        client.post(reverse("admin:observations_photo_changelist"), data)
        photo.refresh_from_db()
        assert photo.status == "failed"

    def test_what_a_worker_wrote_is_not_edited(self, client, root):
        photo = PhotoFactory()
        client.force_login(root)
        url = reverse("admin:observations_photo_change", args=[photo.pk])
        assert client.post(url, {"name": "other.jpg"}).status_code == 403


class TestObservations:
    def test_hiding_takes_public_ones_and_showing_takes_hidden_ones(self, act):
        public, private = ObservationFactory(), ObservationFactory(visibility="private")
        said = act("hide", public, private)
        assert said == ["1 observations were hidden.", "1 were left as they are: private, or so already."]
        act("show_again", public, private)
        assert list(Observation.objects.order_by("pk").values_list("visibility", flat=True)) == [
            "public",
            "private",
        ]

    @pytest.mark.parametrize(
        ("before", "asked", "after"),
        [("private", "public", "private"), ("private", "hidden", "private"), ("public", "hidden", "hidden")],
    )
    def test_the_form_too_leaves_private_what_is_private(self, client, curator, before, asked, after):
        observation = ObservationFactory(visibility=before)
        client.force_login(curator)
        url = reverse("admin:observations_observation_change", args=[observation.pk])
        posted = client.post(url, form_data(client, url, visibility=asked, title="Moss"))
        assert posted.status_code == 302
        observation.refresh_from_db()
        assert (observation.visibility, observation.title) == (after, "Moss")

    def test_deleting_removes_the_files_too(self, act, rows):
        act("delete_selected", rows.observation, post="yes")
        assert not Observation.objects.exists()
        assert DiscardedFile.objects.count() == 4  # three of the photo, one archive

    def test_a_corrected_place_is_blurred_by_the_same_rule(self, client, curator):
        observation = ObservationFactory(survey=SurveyFactory(geoprivacy="obscured"))
        client.force_login(curator)
        url = reverse("admin:observations_observation_change", args=[observation.pk])
        response = client.post(url, form_data(client, url, latitude="48.85678", longitude="2.34567"))
        assert response.status_code == 302, response.context["adminform"].form.errors
        observation.refresh_from_db()
        assert observation.location == Point(2.34567, 48.85678, srid=4326)
        assert observation.public_location == Point(2.3, 48.9, srid=4326)

    @pytest.mark.parametrize(
        "place",
        [
            {"latitude": "91", "longitude": "2"},
            {"latitude": "nan", "longitude": "2"},
            {"latitude": "4", "longitude": ""},
        ],
    )
    def test_a_place_that_is_none_is_refused(self, client, curator, place):
        observation = ObservationFactory()
        client.force_login(curator)
        url = reverse("admin:observations_observation_change", args=[observation.pk])
        response = client.post(url, form_data(client, url, **place))
        assert response.status_code == 200
        assert response.context["adminform"].form.errors

    def test_a_comment_is_deleted_but_not_edited(self, client, curator, rows):
        client.force_login(curator)
        change = reverse("admin:observations_comment_change", args=[rows.comment.pk])
        assert client.post(change, {"body": "other words"}).status_code == 403
        client.post(reverse("admin:observations_comment_delete", args=[rows.comment.pk]), {"post": "yes"})
        assert not Comment.objects.exists()


class TestSurveysAndLabels:
    def test_blurring_a_survey_starts_the_review_of_its_places(self, client, curator):
        survey = SurveyFactory()
        client.force_login(curator)
        url = reverse("admin:observations_survey_change", args=[survey.pk])
        response = client.post(url, form_data(client, url, geoprivacy="obscured"))
        assert response.status_code == 302, response.context["adminform"].form.errors
        assert PlaceReview.objects.get().survey == survey

    def test_other_changes_start_none(self, client, curator):
        survey = SurveyFactory()
        client.force_login(curator)
        url = reverse("admin:observations_survey_change", args=[survey.pk])
        client.post(url, form_data(client, url, name_en="Soil"))
        assert Survey.objects.get().name_en == "Soil"
        assert not PlaceReview.objects.exists()

    def test_marking_a_label_sensitive_starts_the_review(self, client, curator):
        label = LabelFactory()
        client.force_login(curator)
        url = reverse("admin:observations_label_change", args=[label.pk])
        response = client.post(url, form_data(client, url, is_sensitive="on"))
        assert response.status_code == 302, response.context["adminform"].form.errors
        assert PlaceReview.objects.get().survey == label.survey

    def test_the_parent_is_a_label_of_the_same_survey(self, client, curator):
        label, foreign = LabelFactory(), LabelFactory()
        client.force_login(curator)
        url = reverse("admin:observations_label_change", args=[label.pk])
        assert client.post(url, form_data(client, url, parent=foreign.pk)).status_code == 200
        data = {
            "survey": label.survey.pk,
            "code": "NEW",
            "rank": "species",
            "colour": "#112233",
            "position": 0,
            "parent": foreign.pk,
        }
        response = client.post(reverse("admin:observations_label_add"), data)
        assert "same survey" in response.content.decode()
        assert Label.objects.count() == 2

    def test_a_label_cannot_stand_below_itself(self, client, curator):
        upper = LabelFactory()
        lower = LabelFactory(survey=upper.survey, parent=upper)
        client.force_login(curator)
        url = reverse("admin:observations_label_change", args=[upper.pk])
        response = client.post(url, form_data(client, url, parent=lower.pk))
        assert "cannot stand below itself" in response.content.decode()

    def test_the_code_never_changes(self, client, curator):
        label = LabelFactory(code="OLD")
        client.force_login(curator)
        url = reverse("admin:observations_label_change", args=[label.pk])
        client.post(url, form_data(client, url, code="NEW"))
        label.refresh_from_db()
        assert label.code == "OLD"

    def test_labels_are_retired(self, act):
        used, retired = LabelFactory(), LabelFactory(is_active=False)
        assert act("retire", used, retired) == ["1 labels were retired.", "1 were so already."]

    def test_a_label_in_use_cannot_be_deleted_even_by_a_superuser(self, client, root, rows):
        client.force_login(root)
        url = reverse("admin:observations_label_delete", args=[rows.label.pk])
        assert client.post(url, {"post": "yes"}).status_code == 403


class TestPeople:
    def test_a_curator_cannot_make_a_superuser_of_anybody(self, client, curator):
        client.force_login(curator)
        for user in (curator, UserFactory()):
            url = reverse("admin:accounts_user_change", args=[user.pk])
            response = client.post(url, {"email": user.email, "is_superuser": "on", "is_staff": "on"})
            assert response.status_code == 403
        assert not User.objects.filter(is_superuser=True).exists()

    def test_even_with_the_permission_to_change_users_staff_stay_below(self, client):
        staff, victim = UserFactory(is_staff=True), UserFactory(is_staff=True, is_superuser=True)
        staff.user_permissions.set(
            Permission.objects.filter(content_type__app_label__in=["accounts", "auth"])
        )
        client.force_login(staff)
        url = reverse("admin:accounts_user_change", args=[staff.pk])
        assert client.post(url, {"email": staff.email, "is_superuser": "on"}).status_code == 403
        password = reverse("admin:auth_user_password_change", args=[victim.pk])
        assert (
            client.post(password, {"password1": "moss moss moss", "password2": "moss moss moss"}).status_code
            == 403
        )
        assert client.get(reverse("admin:auth_group_add")).status_code == 403
        assert (
            client.post(reverse("admin:accounts_user_delete", args=[victim.pk]), {"post": "yes"}).status_code
            == 403
        )

    def test_a_superuser_may(self, client, root):
        user = UserFactory()
        client.force_login(root)
        url = reverse("admin:accounts_user_change", args=[user.pk])
        response = client.post(url, form_data(client, url, is_staff="on"))
        assert response.status_code == 302, response.context["adminform"].form.errors
        user.refresh_from_db()
        assert user.is_staff


class TestExpertApplications:
    def url(self, application, decision="approve"):
        return reverse("admin:accounts_expertapplication_decide", args=[application.pk, decision])

    @pytest.fixture
    def application(self, rows):
        return rows.expertapplication

    def test_approving_asks_first_then_writes_to_the_applicant(self, client, curator, application):
        client.force_login(curator)
        assert "Ten years of mites" in client.get(self.url(application)).content.decode()
        application.refresh_from_db()
        assert application.status == "pending", "a GET decides nothing"
        OutgoingMail.objects.all().delete()
        client.post(self.url(application), {"note": "Welcome"})
        application.refresh_from_db()
        assert (application.status, application.decided_by, application.decision_note) == (
            "approved",
            curator,
            "Welcome",
        )
        assert User.objects.get(pk=application.user_id).is_expert
        assert OutgoingMail.objects.get().recipient == application.user.email

    def test_refusing(self, client, curator, application):
        client.force_login(curator)
        client.post(self.url(application, "refuse"), {"note": ""})
        application.refresh_from_db()
        assert application.status == "refused"
        assert not User.objects.get(pk=application.user_id).is_expert

    def test_it_refuses_a_second_decision(self, client, curator, application):
        client.force_login(curator)
        client.post(self.url(application), {})
        response = client.post(self.url(application, "refuse"), {}, follow=True)
        assert "Someone decided before" in response.content.decode()
        application.refresh_from_db()
        assert application.status == "approved"

    def test_staff_without_the_permission_cannot_decide(self, client, application):
        client.force_login(UserFactory(is_staff=True))
        assert client.post(self.url(application), {}).status_code == 403
        application.refresh_from_db()
        assert application.status == "pending"

    def test_nobody_decides_on_their_own(self, client, curator):
        own = ExpertApplication.objects.create(user=curator, motivation="Me")
        client.force_login(curator)
        client.post(self.url(own), {})
        own.refresh_from_db()
        assert own.status == "pending"

    def test_one_that_does_not_exist(self, client, curator):
        client.force_login(curator)
        assert (
            client.get(
                reverse("admin:accounts_expertapplication_decide", args=[10**6, "approve"])
            ).status_code
            == 404
        )


class TestApiClients:
    def add(self, client, owner):
        data = {"name": "Field app", "owner": owner.pk, "is_active": "on", "requests_per_minute": 60}
        return client.post(reverse("admin:accounts_apiclient_add"), data)

    def test_the_secret_is_shown_once(self, client, curator):
        client.force_login(curator)
        response = self.add(client, UserFactory())
        made = ApiClient.objects.get()
        secret = response.context["secret"]
        assert made.has_secret(secret)
        assert secret in response.content.decode()
        assert "no-store" in response["Cache-Control"]
        change = client.get(reverse("admin:accounts_apiclient_change", args=[made.pk])).content.decode()
        assert secret not in change
        assert made.secret_hash not in change

    def test_a_new_secret_ends_the_old_one_after_asking(self, client, curator, rows):
        client.force_login(curator)
        url = reverse("admin:accounts_apiclient_new_secret", args=[rows.apiclient.pk])
        before = ApiClient.objects.get().secret_hash
        client.get(url)
        assert ApiClient.objects.get().secret_hash == before
        response = client.post(url)
        assert ApiClient.objects.get().has_secret(response.context["secret"])

    def test_a_curator_makes_no_client_that_acts_as_staff(self, client, curator, root):
        client.force_login(curator)
        assert self.add(client, root).status_code == 200
        assert not ApiClient.objects.exists()

    def test_a_curator_gets_no_secret_of_a_client_that_acts_as_staff(self, client, curator, root):
        theirs = ApiClient(owner=root, name="Root's")
        theirs.new_secret()
        theirs.save()
        client.force_login(curator)
        assert (
            client.post(reverse("admin:accounts_apiclient_new_secret", args=[theirs.pk])).status_code == 403
        )

    def test_revoking(self, act, rows):
        assert act("revoke", rows.apiclient) == ["1 clients were revoked."]
        assert not ApiClient.objects.get().is_active


class TestModelVersions:
    def test_promoting_asks_and_then_moves_one_pointer(self, client, curator, rows):
        candidate = ModelVersionFactory(registered_model=rows.registeredmodel, stage="candidate")
        client.force_login(curator)
        url = reverse("admin:training_modelversion_promote", args=[candidate.pk])
        assert "never measured on the same photos" in client.get(url).content.decode()
        client.post(url)
        stages = dict(ModelVersion.objects.values_list("pk", "stage"))
        assert stages == {candidate.pk: "production", rows.modelversion.pk: "archived"}

    def test_promotion_is_a_permission_of_its_own(self, client, rows):
        staff = UserFactory(is_staff=True)
        staff.user_permissions.set(
            Permission.objects.filter(codename__in=["view_modelversion", "change_modelversion"])
        )
        client.force_login(staff)
        assert (
            client.post(
                reverse("admin:training_modelversion_promote", args=[rows.modelversion.pk])
            ).status_code
            == 403
        )

    def test_a_version_is_never_edited_or_deleted(self, client, root, rows):
        client.force_login(root)
        for name in ("change", "delete"):
            url = reverse(f"admin:training_modelversion_{name}", args=[rows.modelversion.pk])
            assert client.post(url, {"post": "yes"}).status_code == 403
