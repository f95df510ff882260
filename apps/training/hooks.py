"""What apps to the right tell the model factory, which must not import them. They register when their app is ready."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from apps.common.hooks import Hook
from apps.training.models import ModelVersion, RegisteredModel

photo_times: Hook[[Sequence[str]], Mapping[str, datetime]] = Hook()
"""`(identifiers of photos) -> {identifier: when it was sent}`, for those that are known."""

serving_warnings: Hook[[ModelVersion], Iterable[str]] = Hook()
"""`(version) -> sentences` that a curator should read before it serves, in the language of the moment."""

photo_addresses: Hook[[Sequence[str]], Mapping[str, str]] = Hook()
"""`(public identifiers of photos) -> {identifier: address of the photo's page}`, without those that are gone."""

label_names: Hook[[RegisteredModel], Mapping[str, str]] = Hook()
"""`(registered model) -> {label code: name}` of the animals that its surveys look for."""

training_pages: Hook[[RegisteredModel], Iterable[tuple[str, str]]] = Hook()
"""`(registered model) -> (name, address)` of the surveys it serves: of the page where its trainings start."""


def addresses_of(photos: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for answer in photo_addresses.sound_answers(photos):
        found |= answer
    return found


def names_of(registered_model: RegisteredModel) -> dict[str, str]:
    found: dict[str, str] = {}
    for answer in label_names.sound_answers(registered_model):
        found |= answer
    return found
