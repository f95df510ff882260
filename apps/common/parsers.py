"""Parsers as strict as their RFCs: refusals instead of crashes for bodies made to hurt, memory bounded."""

import json
import math
import re
from collections.abc import Mapping
from typing import IO, Any, cast

from django.conf import settings
from django.core.exceptions import RequestDataTooBig, TooManyFilesSent
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.core.files.uploadhandler import FileUploadHandler
from django.http import QueryDict
from django.http.multipartparser import MultiPartParser as DjangoMultiPartParser
from django.http.multipartparser import MultiPartParserError
from django.utils.translation import gettext as _
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser, DataAndFiles

from apps.common.problems import FieldProblem, Problem

_SURROGATE = re.compile("[\ud800-\udfff]")


class StrictJSONParser(BaseParser):
    """UTF-8 JSON (RFC 8259) whose names are unique and whose numbers and texts a database can hold."""

    media_type = "application/json"
    names_odd_numbers = False
    """Whether NaN and infinity go on to the view, which must refuse them by the name of their field."""

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,  # noqa: ARG002 (the framework calls it so)
        parser_context: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> Any:
        """Refuse (400) NaN, infinity, NUL, lone surrogates, repeated names, endless nesting or integers."""
        try:
            data = json.loads(
                read_bounded(stream).decode(),
                parse_constant=float if self.names_odd_numbers else _refuse_constant,
                parse_float=float if self.names_odd_numbers else _finite_float,
                object_pairs_hook=_unique_names,
            )
        except RecursionError as error:
            raise ParseError(_("The JSON is nested too deeply.")) from error
        except ValueError as error:
            raise ParseError(_("This is not valid JSON.")) from error
        _refuse_unstorable_text(data, tells_row=self.names_odd_numbers)
        return data


class StrictFormParser(BaseParser):
    """A URL-encoded form in UTF-8."""

    media_type = "application/x-www-form-urlencoded"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,  # noqa: ARG002 (the framework calls it so)
        parser_context: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> QueryDict:
        return QueryDict(read_bounded(stream), encoding="utf-8")


class StrictMultiPartParser(BaseParser):
    """A multipart form whose files go to disk as they come, each no further than one photo may be large."""

    media_type = "multipart/form-data"
    max_files = 100

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> "DataAndFiles[Any, Any]":
        request = (parser_context or {})["request"]
        meta = {**request.META, "CONTENT_TYPE": media_type}
        handler = BoundedFileUploadHandler(request, max_files=self.max_files)
        counted = _CountedStream(stream)
        try:
            data, files = _MultiPartParser(meta, cast(Any, counted), [handler], "utf-8").parse()
        except (MultiPartParserError, LookupError, ValueError) as error:
            raise ParseError(_("This is not a valid multipart form.")) from error
        if handler.was_cut or counted.bytes_read < int(request.META.get("CONTENT_LENGTH") or 0):
            # The connection broke: what came before the cut must not pass for all that was meant to be sent.
            raise ParseError(_("The form ends too early. Send it again."))
        return DataAndFiles(data, files)


class _CountedStream:
    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.bytes_read = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self.bytes_read += len(data)
        return data


class _MultiPartParser(DjangoMultiPartParser):
    def sanitize_file_name(self, file_name: str) -> str:
        """Django drops a file whose name has nothing usable in it; here it is kept, and answered, without one."""
        return super().sanitize_file_name(file_name) or "photo"


class BoundedFileUploadHandler(FileUploadHandler):
    """Streams each file to disk; of one larger than a photo may be, only the limit and a byte are kept.

    The rest of it is read and forgotten, so that the other files of the request still arrive and the door for
    pictures refuses this one by its size. Open files are bounded too: each holds a descriptor.
    """

    def __init__(self, request: Any, *, max_files: int) -> None:
        super().__init__(request)
        self.max_files = max_files
        self.max_bytes = settings.PICTURE_MAX_BYTES + 1
        self.was_cut = False
        self._files = 0
        self._kept_bytes = 0

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        self._files += 1
        if self._files > self.max_files:
            raise TooManyFilesSent
        super().new_file(*args, **kwargs)
        self._kept_bytes = 0
        self.file = TemporaryUploadedFile(
            self.file_name or "photo", self.content_type, 0, self.charset, self.content_type_extra
        )

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:  # noqa: ARG002 (the framework calls it so)
        kept = raw_data[: self.max_bytes - self._kept_bytes]
        self._kept_bytes += len(kept)
        self.file.write(kept)

    def file_complete(self, file_size: int) -> TemporaryUploadedFile:  # noqa: ARG002 (the framework calls it so)
        self.file.seek(0)
        self.file.size = self._kept_bytes
        return self.file

    def upload_interrupted(self) -> None:
        self.was_cut = True
        self.file.close()


def read_bounded(stream: IO[bytes]) -> bytes:
    """The body of a request that is not a file; Django's own limit is not applied to streams."""
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    body = stream.read(limit + 1)
    if len(body) > limit:
        raise RequestDataTooBig
    return body


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _finite_float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(digits)
    return number


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("repeated name")
    return names


def _refuse_unstorable_text(data: Any, *, tells_row: bool) -> None:
    """NUL and lone surrogates are valid JSON that no database stores. Iterative: depth is the sender's choice.

    The first one is named as `boxes[3].note`, with its row where answers have rows.
    """
    waiting: list[tuple[Any, str, int | None]] = [(data, "", None)]
    while waiting:
        item, place, row = waiting.pop()
        if isinstance(item, dict):
            for name, value in reversed(item.items()):
                if _is_storable(name):
                    waiting.append((value, f"{place}.{name}"[-200:] if place else name[:200], row))
                else:
                    waiting.append((name, place, row))
        elif isinstance(item, list):
            for number, value in reversed(list(enumerate(item))):
                if isinstance(value, dict | list | str):
                    waiting.append((value, f"{place}[{number}]", number if row is None else row))
        elif isinstance(item, str) and not _is_storable(item):
            detail = _("The text contains characters that cannot be stored.")
            problem = FieldProblem(place or None, "control", detail, row if tells_row else None)
            raise Problem(status=400, code="parse_error", detail=detail, errors=[problem])


def _is_storable(text: str) -> bool:
    return "\0" not in text and (text.isascii() or not _SURROGATE.search(text))
