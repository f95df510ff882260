"""The console's pages for weights from outside."""

import hashlib

import pytest
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from apps.accounts.curators import GROUP_NAME
from apps.training.models import ModelImport, ModelVersion
from tests.factories import RegisteredModelFactory, UserFactory

pytestmark = pytest.mark.django_db
ADD = "admin:training_modelimport_add"
CONTENT = b"no weights at all\n"


@pytest.fixture(autouse=True)
def _own_folder(settings, tmp_path):
    settings.TRAINING_DIR = tmp_path / "training"


@pytest.fixture
def curator(client):
    user = UserFactory(is_staff=True)
    user.groups.add(Group.objects.get(name=GROUP_NAME))
    client.force_login(user)
    return user


def form(model, **values):
    file = SimpleUploadedFile("tiny.pt", CONTENT)
    fields = {"registered_model": model.pk, "file": file, "licence": "CC0-1.0", "note": "a friend"}
    return fields | {"expected_sha256": "", "object_size_px": ""} | values


def examined(**fields):
    findings = {
        "kind": "checkpoint", "labels": ["<b>disc</b>", "bar"], "layers": 8, "head": "Detect", "scale": "n",
        "parameters": 12345, "image_size_px": 64, "object_size_px": 9.6, "licences": ["CC0"], "milliseconds": 3.1,
        "notes": ["object_size_assumed"], "sha256": "a" * 64, "bytes": 1000,
    }  # fmt: skip
    values = {"name": "tiny.pt", "size_bytes": 10, "sha256": "b" * 64, "status": "done", "findings": findings}
    values |= {"file": "quarantine/none.podura", "registered_model": RegisteredModelFactory()}
    return ModelImport.objects.create(**values | fields)


def test_a_curator_sends_weights_and_lands_on_their_page(client, curator):
    model = RegisteredModelFactory()
    answer = client.post(reverse(ADD), form(model, expected_sha256=hashlib.sha256(CONTENT).hexdigest()))
    row = ModelImport.objects.get()
    assert answer.status_code == 302
    assert answer["Location"] == reverse("admin:training_modelimport_change", args=[row.pk])
    assert (row.requested_by, row.licence, row.note, row.status) == (
        curator,
        "CC0-1.0",
        "a friend",
        "pending",
    )
    page = client.get(answer["Location"]).content.decode()
    assert "is being examined" in page
    assert client.get(answer["Location"])["Refresh"] == "5"
    assert "Accept" not in page


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"expected_sha256": "0" * 64}, "SHA-256"),
        ({"expected_sha256": "abc"}, "64 lower-case hexadecimal digits"),
        ({"object_size_px": "-1"}, "greater than or equal to 1"),
        ({"file": SimpleUploadedFile("x.pt", b"")}, "empty"),
        ({"file": ""}, "required"),
        ({"registered_model": 0}, "valid choice"),
    ],
)
def test_what_cannot_be_taken_is_said_beside_its_field(client, curator, values, said):
    answer = client.post(reverse(ADD), form(RegisteredModelFactory()) | values)
    assert answer.status_code == 200
    assert said in answer.content.decode()
    assert not ModelImport.objects.exists()


def test_a_file_above_the_limit_is_refused_in_words(client, curator, settings):
    settings.MODEL_IMPORT_MAX_BYTES = 5
    answer = client.post(reverse(ADD), form(RegisteredModelFactory()))
    assert "at most 5 are taken" in answer.content.decode()


def test_the_page_shows_the_labels_as_text_and_what_to_consider(client, curator):
    row = examined()
    page = client.get(reverse("admin:training_modelimport_change", args=[row.pk])).content.decode()
    assert "&lt;b&gt;disc&lt;/b&gt;" in page
    assert "<b>disc</b>" not in page
    assert "9.6 px are assumed" in page
    assert "(&#x27;to_decide" not in page
    assert reverse("admin:training_modelimport_accept", args=[row.pk]) in page
    question = client.get(reverse("admin:training_modelimport_accept", args=[row.pk])).content.decode()
    assert "9.6 px are assumed" in question
    assert "<li>&lt;b&gt;disc&lt;/b&gt;</li>" in question
    assert row.sha256 in question
    assert row.decision == "open"


def test_refusing_asks_first_and_is_written_down(client, curator):
    row = examined()
    address = reverse("admin:training_modelimport_refuse", args=[row.pk])
    assert client.get(address).status_code == 200
    row.refresh_from_db()
    assert row.decision == "open"
    assert client.post(address, follow=True).status_code == 200
    row.refresh_from_db()
    assert (row.decision, row.decided_by, row.file.name) == ("refused", curator, "")
    again = client.post(reverse("admin:training_modelimport_accept", args=[row.pk]), follow=True)
    assert "nothing to decide" in again.content.decode()
    assert not ModelVersion.objects.exists()


def test_accepting_without_the_file_is_told(client, curator):
    row = examined()
    page = client.post(reverse("admin:training_modelimport_accept", args=[row.pk]), follow=True)
    assert "gone from the storage" in page.content.decode()
    row.refresh_from_db()
    assert row.decision == "open"


def test_a_refusal_is_explained_on_the_page(client, curator):
    row = examined(
        findings={},
        problem="foreign_code",
        problem_details={"name": "posix.system"},
        decision="refused",
        file="",
    )
    page = client.get(reverse("admin:training_modelimport_change", args=[row.pk])).content.decode()
    assert "posix.system" in page
    assert "Nothing of it was run." in page
    assert client.get(reverse("admin:training_modelimport_changelist")).status_code == 200


@pytest.mark.parametrize("page", ["add", "accept", "refuse", "change", "changelist"])
def test_others_may_not(client, page):
    row = examined()
    arguments = [row.pk] if page in ("accept", "refuse", "change") else []
    address = reverse(f"admin:training_modelimport_{page}", args=arguments)
    assert client.get(address).status_code == 302
    client.force_login(UserFactory())
    assert client.get(address).status_code == 302
    client.force_login(UserFactory(is_staff=True))
    assert client.get(address).status_code == 403
    if page in ("accept", "refuse"):
        assert client.post(address).status_code == 403
    row.refresh_from_db()
    assert row.decision == "open"


def test_the_list_asks_a_bounded_number_of_queries(client, curator, django_assert_max_num_queries):
    for _ in range(5):
        examined(requested_by=UserFactory())
    with django_assert_max_num_queries(20):
        client.get(reverse("admin:training_modelimport_changelist"))


def test_a_failed_examination_can_be_asked_for_again(client, curator):
    failed, done = examined(status="failed", failure_reason="worker_lost", attempts=3), examined()
    values = {"action": "examine_again", "_selected_action": [failed.pk, done.pk]}
    page = client.post(reverse("admin:training_modelimport_changelist"), values, follow=True).content.decode()
    assert "1 is examined again." in page
    assert "1 was left alone" in page
    failed.refresh_from_db()
    assert (failed.status, failed.attempts) == ("pending", 0)
