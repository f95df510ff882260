"""Absolute addresses, resolved once a request: reversing a route for each of hundreds of photos takes longer."""

import uuid
from functools import cache
from typing import Any

from django.urls import reverse
from rest_framework.request import Request

_PLACEHOLDER = uuid.UUID(int=0)


class Links:
    def __init__(self, request: Request) -> None:
        self._root = request.build_absolute_uri("/").rstrip("/")

    def to(self, name: str, public_id: uuid.UUID) -> str:
        return self._root + _pattern(name).replace(str(_PLACEHOLDER), str(public_id))

    def observation(self, public_id: uuid.UUID) -> dict[str, str]:
        return {
            "self": self.to("v1:observation", public_id),
            "page": self.to("observations:observation", public_id),
            "photos": self.to("v1:observation-photos", public_id),
        }

    def photo(self, public_id: uuid.UUID, *, observation: uuid.UUID, is_owner: bool) -> dict[str, Any]:
        return {
            "observation": self.to("v1:observation", observation),
            "page": self.to("observations:photo", public_id),
            "display": self.to("observations:display", public_id),
            "thumbnail": self.to("observations:thumbnail", public_id),
            "original": self.to("observations:original", public_id) if is_owner else None,
        }

    def survey(self, slug: str) -> dict[str, str]:
        return {
            "self": self._root + reverse("v1:survey", args=[slug]),
            "labels": f"{self._root}{reverse('v1:labels')}?survey={slug}",
        }


@cache
def _pattern(name: str) -> str:
    return reverse(name, args=[_PLACEHOLDER])
