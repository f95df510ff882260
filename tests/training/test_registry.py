"""Model versions: registered from sound weights only, one in production at a time."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.core.files.storage import storages
from django.db import IntegrityError, connection, transaction

from apps.training.engine.weights import WeightsError, WeightsMetadata
from apps.training.models import ModelVersion
from apps.training.services import promote, register_model_version
from apps.training.services import registry as services
from tests.factories import ModelVersionFactory, RegisteredModelFactory

pytestmark = pytest.mark.django_db
METADATA = WeightsMetadata(
    architecture={"nc": 2, "backbone": [[-1, 1, "Conv", [16, 3, 2]]], "head": []},
    labels=("CER", "ISO_MIN"),
    image_size=640,
    object_size_px=117.0,
)


@pytest.fixture
def weights(tmp_path, monkeypatch) -> Path:
    """A file that stands for sound weights of two labels."""
    monkeypatch.setattr(services, "read_metadata", lambda _path: METADATA)
    path = tmp_path / "weights.podura"
    path.write_bytes(b"weights")
    return path


def test_a_version_takes_its_labels_and_sizes_from_the_weights(weights):
    model = RegisteredModelFactory()
    version = register_model_version(
        registered_model=model, weights_path=weights, metrics={"mAP50": 0.9}, card="# Card"
    )
    version.refresh_from_db()
    assert (version.number, version.stage) == (1, ModelVersion.Stage.CANDIDATE)
    assert version.labels == ["CER", "ISO_MIN"]
    assert (version.image_size_px, version.object_size_px) == (640, 117.0)
    assert version.weights_sha256 == hashlib.sha256(b"weights").hexdigest()
    assert version.weights.read() == b"weights"
    assert version.weights_bytes == 7
    assert version.metrics == {"mAP50": 0.9}
    assert register_model_version(registered_model=model, weights_path=weights).number == 2


def test_weights_that_are_not_sound_are_not_registered(tmp_path):
    path = tmp_path / "weights.podura"
    path.write_bytes(b"\x80\x04\x95cos\nsystem\n")
    with pytest.raises(WeightsError):
        register_model_version(registered_model=RegisteredModelFactory(), weights_path=path)
    assert not ModelVersion.objects.exists()


def test_weights_whose_row_cannot_be_written_are_removed(weights, monkeypatch):
    folder = Path(storages["default"].path("weights"))
    before = set(folder.iterdir()) if folder.is_dir() else set()

    def fail(*_args, **_kwargs):
        raise IntegrityError

    monkeypatch.setattr(ModelVersion, "save", fail)
    with pytest.raises(IntegrityError):
        register_model_version(registered_model=RegisteredModelFactory(), weights_path=weights)
    assert set(folder.iterdir()) == before


def test_promotion_archives_the_former_version_in_the_same_moment():
    old = ModelVersionFactory()
    new = ModelVersionFactory(registered_model=old.registered_model, stage="candidate")
    promote(version=new)
    old.refresh_from_db()
    assert old.stage == ModelVersion.Stage.ARCHIVED
    assert new.registered_model.production_version == new
    assert new.promoted_at is not None
    first = new.promoted_at
    promote(version=new)
    new.refresh_from_db()
    assert new.promoted_at == first, "promoting again changes nothing"


def test_rolling_back_is_a_promotion_of_the_older_one():
    old = ModelVersionFactory()
    promote(version=ModelVersionFactory(registered_model=old.registered_model, stage="candidate"))
    promote(version=old)
    assert old.registered_model.production_version == old


def test_the_database_refuses_a_second_production_version():
    version = ModelVersionFactory()
    with pytest.raises(IntegrityError), transaction.atomic():
        ModelVersionFactory(registered_model=version.registered_model)


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_promotions_at_the_same_time_leave_one_in_production():
    model = RegisteredModelFactory()
    versions = [ModelVersionFactory(registered_model=model, stage="candidate") for _ in range(4)]

    def promoted(version):
        try:
            promote(version=version)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(promoted, versions))
    assert model.versions.filter(stage=ModelVersion.Stage.PRODUCTION).count() == 1
