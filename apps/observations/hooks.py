"""What apps to the right add to the pages and files of this one, which must not import them.

They register functions when their app is ready:

    from apps.observations.hooks import photo_panels
    photo_panels.register(news_for_contributor)
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from django.http import HttpRequest

from apps.accounts.models import User
from apps.common.hooks import Hook
from apps.observations.models import Photo, Survey


class Panel(NamedTuple):
    """A fragment for the photo page, below the list of animals."""

    template: str
    context: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BoxMark:
    """What experts said of one of the model's boxes: shown beside it in the list, and as a class on the picture."""

    kind: Literal["confirmed", "corrected", "removed"]
    text: str
    """A short sentence in the reader's language. Plain text: it is escaped."""


photo_panels: Hook[[HttpRequest, Photo], Panel | tuple[str, dict[str, Any]] | None] = Hook()
"""`(request, photo) -> (template, context) | None`. The context is given on top of the page's own."""

mine_notes: Hook[[HttpRequest], Panel | tuple[str, dict[str, Any]] | None] = Hook()
"""`(request) -> (template, context) | None`: a note above one's own observations."""

box_marks: Hook[[HttpRequest, Photo], Mapping[int, BoxMark]] = Hook()
"""`(request, photo) -> {number of the box: mark}`; where two apps mark a box, the first one's counts."""

survey_notes: Hook[[Survey], tuple[str, str, str]] = Hook()
"""`(survey) -> (title, sentence, address)`: how things stand, for the survey's page in the console; plain text."""

settled_photos: Hook[[Sequence[int]], Iterable[int]] = Hook()
"""`(keys of photos) -> those of them` that a new model version must leave as they are: somebody decided on them, or has them
before their eyes."""

personal_data: Hook[[User], Iterable[tuple[str, Iterable[Mapping[str, Any]]]]] = Hook()
"""`(user) -> (filename, rows) ...` for the zip of a person's own data.

A `.json` file becomes an array with a row a line, a `.csv` file a table with the keys of the first row as columns. Rows may be
a generator: they are written one at a time. An error fails the export, because half of somebody's data is none.
"""
