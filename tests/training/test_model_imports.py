"""Weights from outside: quarantine, examination, a person's decision."""

import hashlib
import os
import shutil
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.core.management import CommandError, call_command
from django.utils import timezone

from apps.common.leased import WorkStatus
from apps.training.engine.refusals import RefusedWeightsError
from apps.training.import_texts import problem_text
from apps.training.models import ModelImport, ModelVersion, RegisteredModel
from apps.training.services.model_imports import (
    DecidedError,
    accept_import,
    discard_imports,
    examine_next_import,
    import_notes,
    refuse_import,
    request_model_import,
)
from apps.training.tasks.imports import sweep_imports
from tests.factories import ModelVersionFactory, RegisteredModelFactory, UserFactory
from tests.training.checkpoints import tiny_checkpoint

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _own_folder(settings, tmp_path):
    settings.TRAINING_DIR = tmp_path / "training"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny.pt")


def sent(path, *, model=None, **options):
    model = model or RegisteredModelFactory()
    content = ContentFile(Path(path).read_bytes(), name="tiny.pt")
    return request_model_import(registered_model=model, file=content, name="tiny.pt", **options)


def text_import(**options):
    content = ContentFile(b"no weights at all\n", name="x.pt")
    model = options.pop("model", None) or RegisteredModelFactory()
    return request_model_import(registered_model=model, file=content, name="../../x\x07.pt", **options)


def test_a_file_waits_in_quarantine_under_a_harmless_name():
    row = text_import()
    assert row.status == WorkStatus.PENDING
    assert row.name == "x\N{REPLACEMENT CHARACTER}.pt"
    assert row.file.name == f"quarantine/{row.public_id}.received"
    assert row.sha256 == hashlib.sha256(b"no weights at all\n").hexdigest()
    assert row.file.storage.exists(row.file.name)


def test_a_file_with_another_digest_is_not_taken():
    with pytest.raises(RefusedWeightsError) as refused:
        text_import(expected_sha256="0" * 64)
    assert refused.value.code == "wrong_digest"
    assert not ModelImport.objects.exists()


def test_the_expected_digest_may_be_written_in_capitals():
    digest = hashlib.sha256(b"no weights at all\n").hexdigest()
    assert text_import(expected_sha256=f" {digest.upper()} ").pk


def test_a_file_above_the_limit_is_not_taken(settings):
    settings.MODEL_IMPORT_MAX_BYTES = 5
    with pytest.raises(RefusedWeightsError) as refused:
        text_import()
    assert refused.value.code == "too_large"


def test_the_same_file_sent_twice_waits_once():
    model = RegisteredModelFactory()
    assert text_import(model=model).pk == text_import(model=model).pk
    assert text_import().registered_model != model


def test_more_said_of_the_same_file_is_not_forgotten():
    """The command asks to send it again with the size of the animals."""
    first = text_import(licence="CC0-1.0")
    assert text_import(model=first.registered_model, licence="CC0-1.0") == first
    second = text_import(model=first.registered_model, object_size_px=40.0)
    assert second != first
    assert text_import(model=first.registered_model, object_size_px=40.0) == second
    assert text_import(model=first.registered_model, note="from a friend") not in (first, second)


def test_nothing_can_be_decided_before_the_examination():
    row = text_import()
    with pytest.raises(DecidedError):
        accept_import(model_import=row)
    with pytest.raises(DecidedError):
        refuse_import(model_import=row)


@pytest.mark.slow
def test_a_text_file_is_refused_by_the_examination_and_leaves(settings):
    row = text_import()
    name = row.file.name
    assert examine_next_import()
    row.refresh_from_db()
    assert (row.problem, row.decision, row.file.name) == ("not_weights", "refused", "")
    assert not row.file.storage.exists(name)
    assert "no weights file" in problem_text(row.problem, row.problem_details)
    assert not examine_next_import()
    assert not list((settings.TRAINING_DIR / "imports").glob("*"))


@pytest.mark.slow
def test_a_checkpoint_is_examined_accepted_once_and_finds_the_same(checkpoint, settings):
    by, model = UserFactory(), RegisteredModelFactory()
    ModelVersionFactory(registered_model=model, labels=["bar", "cross"], number=1)
    row = sent(checkpoint, model=model, by=by, licence="CC0-1.0", object_size_px=22.0)
    received = row.file.name
    assert examine_next_import()
    row.refresh_from_db()
    assert (row.status, row.problem, row.decision) == ("done", "", "open"), row.failure_reason
    assert row.findings["labels"] == ["disc", "bar"]
    assert row.findings["object_size_px"] == 22.0
    assert "CC0-1.0" in row.findings["licences"]
    assert row.file.name.startswith(f"quarantine/{row.public_id}.")
    assert row.file.name.endswith(".podura")
    assert not row.file.storage.exists(received)
    codes = {code for code, _details in import_notes(row)}
    assert {"lost_labels", "new_labels"} <= codes
    assert "object_size_assumed" not in codes

    version = accept_import(model_import=row, by=by)
    again = accept_import(model_import=row, by=by)
    assert version == again
    assert (version.origin, version.stage, version.number) == ("imported", "candidate", 2)
    assert version.labels == ["disc", "bar"]
    assert ModelVersion.objects.filter(registered_model=model).count() == 2
    with pytest.raises(DecidedError):
        refuse_import(model_import=row, by=by)
    row.refresh_from_db()
    assert (row.decision, row.decided_by, row.version, row.file.name) == ("accepted", by, version, "")

    from apps.training.engine.weights import load_checkpoint_model, load_torch_model
    from apps.training.inference import local_weights

    settings.MODEL_CACHE_DIR = settings.TRAINING_DIR / "cache"
    import torch

    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        before = load_checkpoint_model(checkpoint).eval()(picture)[0]
        after = load_torch_model(local_weights(version))[0](picture)[0]
    assert torch.allclose(before, after, atol=0.05)


@pytest.mark.slow
def test_a_refused_candidate_leaves_quarantine(checkpoint):
    row = sent(checkpoint)
    assert examine_next_import()
    row.refresh_from_db()
    storage, name = row.file.storage, row.file.name
    refuse_import(model_import=row)
    row.refresh_from_db()
    assert row.decision == "refused"
    with pytest.raises(DecidedError):
        accept_import(model_import=row)
    assert not ModelVersion.objects.exists()
    assert name
    storage.delete(name)


def test_what_nobody_decided_on_is_removed_after_thirty_days(django_capture_on_commit_callbacks):
    row = text_import()
    name = row.file.name
    long_ago = timezone.now() - timedelta(days=31)
    ModelImport.objects.filter(pk=row.pk).update(status="done", finished_at=long_ago)
    recent = text_import(model=row.registered_model)
    ModelImport.objects.filter(pk=recent.pk).update(finished_at=long_ago)
    assert discard_imports() == 1
    row.refresh_from_db()
    assert (row.decision, row.problem) == ("refused", "abandoned")
    assert not row.file.storage.exists(name)
    assert discard_imports() == 0


def test_scratch_of_a_killed_worker_is_swept(settings):
    left = Path(settings.TRAINING_DIR) / "imports" / "left"
    left.mkdir(parents=True)
    old = (timezone.now() - timedelta(hours=2)).timestamp()
    os.utime(left, (old, old))
    sweep_imports()
    assert not left.exists()


def test_a_file_that_no_row_names_leaves_quarantine():
    """Its process was killed between two steps: before the row was there, or after it had let go."""
    row = text_import()
    storage = row.file.storage
    old, new = (storage.save(f"quarantine/{name}.received", ContentFile(b"x")) for name in ("old", "new"))
    long_ago = (timezone.now() - timedelta(hours=2)).timestamp()
    for name in (old, str(row.file.name)):
        os.utime(storage.path(name), (long_ago, long_ago))
    sweep_imports()
    assert not storage.exists(old)
    assert storage.exists(new)
    assert storage.exists(row.file.name)
    storage.delete(new)


def test_a_worker_that_lost_its_lease_leaves_what_the_next_one_wrote(monkeypatch):
    row = text_import()

    def examined_twice(path, *, folder, **_options):
        """While this one sleeps, another claims the row and ends."""
        monkeypatch.setattr("apps.training.services.model_imports.examine_weights", examined_once)
        ModelImport.objects.update(lease_until=timezone.now() - timedelta(minutes=5))
        assert examine_next_import()
        return examined_once(path, folder=folder)

    def examined_once(_path, *, folder, **_options):
        folder.mkdir()
        (folder / "examined.podura").write_bytes(b"examined")
        return folder / "examined.podura", {"sha256": hashlib.sha256(b"examined").hexdigest()}

    monkeypatch.setattr("apps.training.services.model_imports.examine_weights", examined_twice)
    assert examine_next_import()
    row.refresh_from_db()
    assert (row.status, row.attempts) == (WorkStatus.DONE, 2)
    assert row.file.storage.open(row.file.name).read() == b"examined"


def test_a_file_that_is_gone_from_the_storage_is_told():
    row = text_import()
    row.file.storage.delete(row.file.name)
    assert examine_next_import()
    row.refresh_from_db()
    assert row.problem == "file_gone"


def test_weights_altered_in_quarantine_are_refused():
    row = text_import()
    Path(row.file.storage.path(row.file.name)).write_bytes(b"something else")
    assert examine_next_import()
    row.refresh_from_db()
    assert row.problem == "wrong_digest"


def test_a_worker_told_to_stop_gives_the_file_back(monkeypatch):
    row = text_import()
    monkeypatch.setattr("apps.training.services.model_imports.is_stopping", lambda: True)
    assert examine_next_import()
    row.refresh_from_db()
    assert (row.status, row.attempts) == ("pending", 0)
    assert row.file.storage.exists(row.file.name)


def import_by_command(path, *arguments):
    out = StringIO()
    call_command("import_model", str(path), *arguments, stdout=out)
    return out.getvalue()


def test_the_command_names_the_models_there_are(tmp_path):
    RegisteredModelFactory(name="springtails")
    (tmp_path / "x.pt").write_bytes(b"x")
    with pytest.raises(CommandError, match="springtails"):
        import_by_command(tmp_path / "x.pt", "--model", "mites")
    with pytest.raises(CommandError, match="No such file"):
        import_by_command(tmp_path / "y.pt", "--model", "mites", "--create-model")
    assert not RegisteredModel.objects.filter(name="mites").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--object-size", "nan"], "number of pixels"),
        (["--object-size", "0"], "number of pixels"),
        (["--sha256", "abc"], "64 lower-case hexadecimal digits"),
        (["--licence", "x" * 200], "at most 120 characters"),
    ],
    ids=["no-number", "nought", "digest", "licence"],
)
def test_the_command_says_what_is_wrong_with_an_option(tmp_path, arguments, said):
    (tmp_path / "x.pt").write_bytes(b"x")
    with pytest.raises(CommandError, match=said):
        import_by_command(tmp_path / "x.pt", "--model", "mites", "--create-model", *arguments)
    assert not RegisteredModel.objects.exists()


def test_the_command_reads_files_only(tmp_path):
    pipe, device = tmp_path / "pipe.pt", tmp_path / "device.pt"
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    for path in (pipe, device, tmp_path):
        with pytest.raises(CommandError, match="not a regular file"):
            import_by_command(path, "--model", "mites", "--create-model")
    with pytest.raises(CommandError, match="File name too long"):
        import_by_command(tmp_path / ("x" * 300), "--model", "mites", "--create-model")
    assert not RegisteredModel.objects.exists()


@pytest.mark.slow
def test_the_command_shows_the_labels_and_accepts_only_when_told(checkpoint, tmp_path):
    told = import_by_command(checkpoint, "--model", "drawn", "--create-model")
    assert "0  disc" in told
    assert "1  bar" in told
    assert "Not accepted" in told
    assert not ModelVersion.objects.exists()
    told = import_by_command(checkpoint, "--model", "drawn", "--accept")
    assert "drawn v1 is a candidate now" in told
    assert ModelVersion.objects.get().origin == "imported"
    bad = shutil.copy(checkpoint, tmp_path / "bad.pt")
    Path(bad).write_bytes(Path(bad).read_bytes()[:1000])
    with pytest.raises(CommandError, match="damaged"):
        import_by_command(bad, "--model", "drawn", "--accept")
