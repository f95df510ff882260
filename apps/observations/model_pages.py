"""What the model factory's pages ask of observations: where a photo's page is, and what a label code means."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from django.urls import reverse

from apps.observations.models import Label, Photo
from apps.training.hooks import label_names, photo_addresses
from apps.training.models import RegisteredModel


def connect() -> None:
    photo_addresses.register(addresses_of_photos)
    label_names.register(names_of_labels)


def addresses_of_photos(photos: Sequence[str]) -> Mapping[str, str]:
    there = Photo.objects.filter(public_id__in={UUID(photo) for photo in photos})
    return {
        str(public_id): reverse("observations:photo", args=[public_id])
        for public_id in there.values_list("public_id", flat=True)
    }


def names_of_labels(registered_model: RegisteredModel) -> Mapping[str, str]:
    labels = Label.objects.filter(survey__registered_model=registered_model).order_by("-survey")
    return {label.code: label.name for label in labels}
