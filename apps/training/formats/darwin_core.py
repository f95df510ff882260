"""Darwin Core Archive: what GBIF and other portals read. `occurrence.txt`, `multimedia.txt`, `meta.xml`, `eml.xml`.

Tab separated UTF-8 without quotes: tabs and line breaks in a text become spaces. The core's id is the occurrenceID.

https://dwc.tdwg.org/text/, https://ipt.gbif.org/manual/en/ipt/latest/dwca-guide,
https://ipt.gbif.org/manual/en/ipt/latest/occurrence-data (required terms)
"""

from __future__ import annotations

import datetime as dt
import io
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, BinaryIO, Final

from apps.training.formats.archive import WrittenArchive
from apps.training.formats.credits import LICENCE_URLS
from apps.training.formats.tables import Cell, safe_cell

_DWC: Final = "http://rs.tdwg.org/dwc/terms/"
_DC: Final = "http://purl.org/dc/terms/"
_DC_WORDS: Final = {
    "type", "license", "rightsHolder", "modified", "language", "references", "format", "identifier", "title",
    "created", "creator",
}  # fmt: skip
OCCURRENCE_TERMS: Final = (
    "occurrenceID", "type", "modified", "language", "license", "rightsHolder", "references", "institutionCode",
    "collectionCode", "datasetName", "basisOfRecord", "informationWithheld", "dataGeneralizations", "recordedBy",
    "individualCount", "occurrenceStatus", "eventID", "eventDate", "locality", "decimalLatitude",
    "decimalLongitude", "geodeticDatum", "coordinateUncertaintyInMeters", "identifiedBy", "dateIdentified",
    "identificationVerificationStatus", "identificationRemarks", "verbatimIdentification", "taxonID",
    "scientificName", "kingdom", "taxonRank", "vernacularName",
)  # fmt: skip
MULTIMEDIA_TERMS: Final = (
    "type", "format", "identifier", "references", "title", "created", "creator", "license", "rightsHolder",
)  # fmt: skip
REQUIRED_TERMS: Final = ("occurrenceID", "basisOfRecord", "scientificName", "eventDate")
_STRICTEST: Final = ("CC-BY-NC-4.0", "CC-BY-4.0", "CC0-1.0")

Record = Mapping[str, Cell]


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One record and the pictures it was seen on; terms that are not given stay empty."""

    terms: Record
    pictures: tuple[Record, ...]
    licence: str


@dataclass(frozen=True, slots=True)
class Source:
    """Who publishes, and what."""

    title: str
    abstract: str
    organisation: str
    address: str
    """Of the site."""
    email: str
    package_id: str


@dataclass(slots=True)
class Written:
    records: int = 0
    pictures: int = 0
    licence: str = "CC0-1.0"
    """The strictest of the records'."""
    modified: str = ""
    first_date: str = ""
    last_date: str = ""


def write(occurrences: Iterable[Occurrence], source: Source, target: BinaryIO) -> Written:
    """Write the archive in one pass, so that core and extension cannot disagree; gives what is in it."""
    written = Written()
    with WrittenArchive(target) as archive, tempfile.SpooledTemporaryFile(8 << 20) as raw:
        with io.TextIOWrapper(raw, "utf-8", newline="", write_through=True) as pictures:
            pictures.write(_line(("coreid", *MULTIMEDIA_TERMS)))
            with archive.open_text("occurrence.txt") as core:
                core.write(_line(("id", *OCCURRENCE_TERMS)))
                for occurrence in occurrences:
                    _write_one(occurrence, core, pictures, written)
            pictures.seek(0)
            with archive.open_text("multimedia.txt") as extension:
                while piece := pictures.read(1 << 20):
                    extension.write(piece)
        archive.add_text("meta.xml", meta())
        archive.add_text("eml.xml", eml(source, written))
    return written


def _write_one(occurrence: Occurrence, core: IO[str], pictures: IO[str], written: Written) -> None:
    terms = occurrence.terms
    key = terms["occurrenceID"]
    core.write(_line([key, *(terms.get(term) for term in OCCURRENCE_TERMS)]))
    for picture in occurrence.pictures:
        pictures.write(_line([key, *(picture.get(term) for term in MULTIMEDIA_TERMS)]))
    written.records += 1
    written.pictures += len(occurrence.pictures)
    written.licence = min(written.licence, occurrence.licence, key=_strictness)
    written.modified = max(written.modified, str(terms.get("modified") or ""))
    day = str(terms.get("eventDate") or "")[:10]
    if day:
        written.first_date = min(written.first_date or day, day)
        written.last_date = max(written.last_date, day)


def _strictness(licence: str) -> int:
    return _STRICTEST.index(licence) if licence in _STRICTEST else -1


def _line(cells: Sequence[Cell]) -> str:
    return "\t".join(map(_cell, cells)) + "\n"


def _cell(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        return str(safe_cell(" ".join(cell.split())))
    return str(cell)


def meta() -> str:
    """The descriptor: which column is which term."""
    archive = ET.Element("archive", xmlns=f"{_DWC.removesuffix('terms/')}text/", metadata="eml.xml")
    core = _table(archive, "core", f"{_DWC}Occurrence", "occurrence.txt", "id")
    _fields(core, OCCURRENCE_TERMS, is_core=True)
    extension = _table(
        archive, "extension", "http://rs.gbif.org/terms/1.0/Multimedia", "multimedia.txt", "coreid"
    )
    _fields(extension, MULTIMEDIA_TERMS, is_core=False)
    return _document(archive)


def _table(parent: ET.Element, tag: str, row_type: str, file: str, key: str) -> ET.Element:
    table = ET.SubElement(
        parent,
        tag,
        encoding="UTF-8",
        fieldsTerminatedBy="\\t",
        linesTerminatedBy="\\n",
        fieldsEnclosedBy="",
        ignoreHeaderLines="1",
        rowType=row_type,
    )
    ET.SubElement(ET.SubElement(table, "files"), "location").text = file
    ET.SubElement(table, key, index="0")
    return table


def _fields(table: ET.Element, terms: Sequence[str], *, is_core: bool) -> None:
    for index, term in enumerate(terms, start=1):
        space = _DC if not is_core or term in _DC_WORDS else _DWC
        ET.SubElement(table, "field", index=str(index), term=f"{space}{term}")


def eml(source: Source, written: Written) -> str:
    """The least that GBIF's profile asks for, with the period that the records span."""
    root = ET.Element(
        "eml:eml",
        {
            "xmlns:eml": "https://eml.ecoinformatics.org/eml-2.2.0",
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:schemaLocation": "https://eml.ecoinformatics.org/eml-2.2.0 https://rs.gbif.org/schema/eml-gbif-profile/1.3/eml.xsd",
            "packageId": source.package_id,
            "system": source.address,
            "scope": "system",
            "xml:lang": "en",
        },
    )
    dataset = ET.SubElement(root, "dataset")
    _text(dataset, "title", source.title).set("xml:lang", "en")
    for role in ("creator", "metadataProvider"):
        _party(dataset, role, source)
    day = written.modified[:10] or dt.date(1970, 1, 1).isoformat()
    _text(dataset, "pubDate", day)
    _text(dataset, "language", "en")
    _text(ET.SubElement(dataset, "abstract"), "para", source.abstract or source.title)
    rights = ET.SubElement(ET.SubElement(dataset, "intellectualRights"), "para")
    rights.text = "Each record states its own licence. As a whole this work is licensed under "
    link = ET.SubElement(rights, "ulink", url=LICENCE_URLS.get(written.licence, ""))
    _text(link, "citetitle", written.licence)
    if written.first_date:
        span = ET.SubElement(
            ET.SubElement(ET.SubElement(dataset, "coverage"), "temporalCoverage"), "rangeOfDates"
        )
        for tag, value in (("beginDate", written.first_date), ("endDate", written.last_date)):
            _text(ET.SubElement(span, tag), "calendarDate", value)
    _party(dataset, "contact", source)
    return _document(root)


def _party(dataset: ET.Element, role: str, source: Source) -> None:
    party = ET.SubElement(dataset, role)
    _text(party, "organizationName", source.organisation)
    _text(party, "electronicMailAddress", source.email)
    _text(party, "onlineUrl", source.address)


def _text(parent: ET.Element, tag: str, text: str) -> ET.Element:
    element = ET.SubElement(parent, tag)
    element.text = "".join(c for c in text if c.isprintable() or c in " \n")
    return element


def _document(root: ET.Element) -> str:
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"
