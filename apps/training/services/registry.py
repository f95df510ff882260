"""Registering model versions."""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.files import File
from django.db import transaction
from django.db.models import Max

from apps.training.engine.weights import file_sha256, read_metadata
from apps.training.models import ModelVersion, RegisteredModel


def register_model_version(
    *,
    registered_model: RegisteredModel,
    weights_path: Path,
    metrics: Mapping[str, Any] | None = None,
    card: str = "",
    origin: ModelVersion.Origin = ModelVersion.Origin.IMPORTED,
    parent: ModelVersion | None = None,
) -> ModelVersion:
    """Store weights as the model's next version, a candidate. Raises `WeightsError` for a file that is not sound.

    Label list and sizes are read from the weights themselves, so that they cannot disagree with the class scores.
    """
    metadata = read_metadata(weights_path)
    version = ModelVersion(
        registered_model=registered_model,
        weights_sha256=file_sha256(weights_path),
        weights_bytes=weights_path.stat().st_size,
        labels=list(metadata.labels),
        image_size_px=metadata.image_size,
        object_size_px=metadata.object_size_px,
        metrics=dict(metrics if metrics is not None else metadata.metrics),
        card=card,
        origin=origin,
        parent=parent,
    )
    try:
        _store(version, weights_path)
        with transaction.atomic():
            # Locked, so that two registrations at once get two numbers.
            RegisteredModel.objects.select_for_update(no_key=True).get(pk=registered_model.pk)
            numbers = ModelVersion.objects.filter(registered_model=registered_model)
            version.number = (numbers.aggregate(last=Max("number"))["last"] or 0) + 1
            version.save(force_insert=True)
    except BaseException:
        version.weights.storage.delete(str(version.weights.name))
        raise
    return version


def _store(version: ModelVersion, weights_path: Path) -> None:
    """Under a name of its own, known beforehand: a storage that is full leaves half a file and does not say where."""
    name = f"{version.weights_sha256[:16]}-{uuid.uuid4().hex[:12]}.podura"
    version.weights.name = version.weights.field.generate_filename(version, name)
    with weights_path.open("rb") as file:
        version.weights.save(name, File(file), save=False)
