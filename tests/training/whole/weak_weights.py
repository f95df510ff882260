"""A first detector that is weak: the shipped one with noise on its weights, for pictures of 160 px.

Started as a program it writes the file, registers it as a version and lets it serve, as whoever runs a site does.
"""

import dataclasses
import sys
from pathlib import Path

NOISE = 0.17
"""Of each layer's spread. A mAP50-95 of some 0.16, from which a short training comes to 0.38 to 0.52, whichever photos it
learns from; with 0.15 it was 0.25, and one training in ten was not sure to be better. With 0.2 it finds nothing."""
SIDE_PX = 160


def write_weak(path: Path, shipped: Path) -> None:
    from apps.training.engine.environment import import_ultralytics

    import_ultralytics()
    import torch

    from apps.training.engine.weights import load_torch_model, save_weights

    model, metadata = load_torch_model(shipped)
    dice = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for values in model.parameters():
            if values.ndim > 1:
                values.add_(torch.randn(values.shape, generator=dice) * values.std() * NOISE)
    save_weights(path, model, dataclasses.replace(metadata, image_size=SIDE_PX, trained_size_px=64.0))


def main() -> None:
    path, name = Path(sys.argv[1]), sys.argv[2]
    if not path.exists():
        write_weak(path, Path("models/springtails/weights.podura"))
    import django

    django.setup()
    from apps.training.models import RegisteredModel
    from apps.training.services import promote, register_model_version

    registered_model = RegisteredModel.objects.get(name=name)
    promote(version=register_model_version(registered_model=registered_model, weights_path=path))


if __name__ == "__main__":
    main()
