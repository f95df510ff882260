"""What the model sees on a survey's public photos, with scores, as a labelled set for the formats."""

from collections.abc import Iterator
from itertools import islice

from django.utils.encoding import force_str

from apps.observations.models import Detection, Label, Observation, Photo, Survey
from apps.observations.services.detection_results import labels_of
from apps.training.formats import LabelledBox, LabelledImage, LabelledSet

_AT_ONCE = 500


def predicted_set(survey: Survey) -> LabelledSet:
    """The boxes shown on the photos that everybody may see; photos on which nothing was found are in it too.

    Labels stand in the order of the production version's class scores, then the survey's others.
    """
    model = survey.registered_model
    version = model.production_version if model else None
    first = [label.code for label in labels_of(survey, version.labels)] if version else []
    since = Label.objects.filter(survey=survey).order_by("pk").values_list("code", flat=True)
    codes = tuple(dict.fromkeys([*first, *since]))
    index = {code: number for number, code in enumerate(codes)}
    images = tuple(image for batch in _photos(survey) for image in _images(batch, index))
    return LabelledSet(codes, images, f"{survey.name_en}: predictions")


def _photos(survey: Survey) -> Iterator[list[Photo]]:
    photos = Photo.objects.filter(
        survey=survey, observation__visibility=Observation.Visibility.PUBLIC, model_version__isnull=False
    )
    rows = photos.select_related("observation__contributor").order_by("pk").iterator(chunk_size=_AT_ONCE)
    return iter(lambda: list(islice(rows, _AT_ONCE)), [])


def _images(photos: list[Photo], index: dict[str, int]) -> Iterator[LabelledImage]:
    boxes: dict[int, list[LabelledBox]] = {}
    rows = (
        Detection.objects.filter(photo__in=[photo.pk for photo in photos])
        .current()
        .order_by("photo", "number")
    )
    for row in rows.values_list("photo", "x_min", "y_min", "x_max", "y_max", "label__code", "score"):
        photo_id, x_min, y_min, x_max, y_max, code, score = row
        box = LabelledBox(x_min, y_min, x_max, y_max, index[code], round(score, 6))
        boxes.setdefault(photo_id, []).append(box)
    for photo in photos:
        yield LabelledImage(
            file_name=f"{photo.public_id}.jpg",
            width_px=photo.width_px,
            height_px=photo.height_px,
            boxes=tuple(_clipped(box, photo) for box in boxes.get(photo.pk, ())),
            licence=photo.observation.licence,
            attribution=force_str(photo.observation.contributor),
            source_id=str(photo.public_id),
        )


def _clipped(box: LabelledBox, photo: Photo) -> LabelledBox:
    """Detectors' boxes may reach out of the picture by a rounding."""
    return LabelledBox(
        max(0.0, box.x_min),
        max(0.0, box.y_min),
        min(float(photo.width_px), box.x_max),
        min(float(photo.height_px), box.y_max),
        box.label,
        box.score,
    )
