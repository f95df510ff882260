"""Whose pictures they are: `LICENCES.csv` for programs and `ATTRIBUTION.md` for people, in every archive."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from apps.training.formats.archive import ReadArchive, WrittenArchive
from apps.training.formats.model import LabelledSet
from apps.training.formats.problems import Problems
from apps.training.formats.tables import read_table, table

LICENCE_FILE: Final = "LICENCES.csv"
ATTRIBUTION_FILE: Final = "ATTRIBUTION.md"
LICENCE_URLS: Final[Mapping[str, str]] = {
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC-BY-NC-4.0": "https://creativecommons.org/licenses/by-nc/4.0/",
}
_COLUMNS: Final = ("file", "licence", "licence_url", "attribution", "source_id")


@dataclass(frozen=True, slots=True)
class Credit:
    licence: str = ""
    attribution: str = ""
    source_id: str = ""


def write_credits(archive: WrittenArchive, labelled: LabelledSet, paths: Mapping[str, str]) -> None:
    """`paths` gives each image's path in the archive by its `path` in ours."""
    rows = [
        (
            paths[image.path],
            image.licence,
            LICENCE_URLS.get(image.licence, ""),
            image.attribution,
            image.source_id,
        )
        for image in labelled.images
    ]
    archive.add_text(LICENCE_FILE, table(_COLUMNS, rows))
    archive.add_text(ATTRIBUTION_FILE, _attribution(labelled))


def read_credits(archive: ReadArchive, problems: Problems) -> tuple[str, dict[str, Credit]]:
    """The set's title, and credits by path in the archive; nothing where the archive has no such files."""
    title, found = "", {}
    if ATTRIBUTION_FILE in archive:
        first = archive.read_text(ATTRIBUTION_FILE).split("\n", 1)[0]
        title = first.removeprefix("# ") if first.startswith("# ") else ""
    if LICENCE_FILE in archive:
        try:
            for row in read_table(archive.read_text(LICENCE_FILE)):
                credit = Credit(row.get("licence", ""), row.get("attribution", ""), row.get("source_id", ""))
                found[row.get("file", "")] = credit
        except csv.Error:
            problems.add("not_csv", file=LICENCE_FILE, line="?")
    return title, found


def _attribution(labelled: LabelledSet) -> str:
    lines = [f"# {labelled.title}", ""]
    lines += ["The licence of each picture is in LICENCES.csv. To be named where the pictures are used:", ""]
    named = Counter(
        (image.licence, image.attribution) for image in labelled.images if image.licence or image.attribution
    )
    for (licence, attribution), count in sorted(named.items()):
        url = LICENCE_URLS.get(licence)
        terms = f"[{licence}]({url})" if url else licence or "licence not stated"
        who = _escaped(attribution) or "without a name"
        lines.append(f"- {who}: {count} {'picture' if count == 1 else 'pictures'}, {terms}")
    return "\n".join([*lines, ""])


def _escaped(text: str) -> str:
    """A name is a name, not Markdown."""
    flat = " ".join(text.split())
    return "".join(f"\\{c}" if c in "\\`*_[]<>#|!" else c for c in flat)
