"""Large requests go to disk piece by piece: the web process does not grow with them."""

import io
import tracemalloc
from collections.abc import Iterator

import pytest
from django.conf import settings

from apps.observations.models import Photo
from tests.support.pictures import jpeg

PATH = "/api/v1/observations/"
MEGABYTE = 1024 * 1024


class Pieces(io.RawIOBase):
    """A request body that is made while it is read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._left = pieces, b""

    def read(self, size: int = -1) -> bytes:
        while len(self._left) < size and (piece := next(self._pieces, None)):
            self._left += piece
        taken, self._left = self._left[:size], self._left[size:]
        return taken


def body(*sizes_mb: int) -> Iterator[bytes]:
    yield b'--b\r\nContent-Disposition: form-data; name="survey"\r\n\r\nspringtails\r\n'
    for index, size_mb in enumerate(sizes_mb):
        yield f'--b\r\nContent-Disposition: form-data; name="photos"; filename="{index}.jpg"\r\n\r\n'.encode()
        yield jpeg(seed=index)
        for _megabyte in range(size_mb):
            yield b"\0" * MEGABYTE
        yield b"\r\n"
    yield b"--b--\r\n"


@pytest.mark.slow
def test_a_request_of_two_hundred_megabytes_takes_little_memory(caller, survey):
    sizes_mb = (30, 80, 30, 80)
    length = sum(len(piece) for piece in body(*sizes_mb))
    assert length > 200 * MEGABYTE
    tracemalloc.start()
    try:
        response = caller.generic(
            "POST",
            PATH,
            **{
                "wsgi.input": Pieces(body(*sizes_mb)),
                "CONTENT_LENGTH": str(length),
                "CONTENT_TYPE": "multipart/form-data; boundary=b",
            },
        )
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert response.status_code == 202, response.content
    answer = response.json()
    assert [photo["index"] for photo in answer["photos"]] == [0, 2]
    assert [(file["index"], file["code"]) for file in answer["refused"]] == [
        (1, "too_many_bytes"),
        (3, "too_many_bytes"),
    ]
    assert peak < 40 * MEGABYTE, f"{peak / MEGABYTE:.0f} MB"
    for photo in Photo.objects.all():
        photo.original.delete(save=False)


def test_a_form_whose_end_got_lost_is_refused_whole(caller, survey):
    """Cut after the first of two photos: taking the one would answer a request that nobody made."""
    whole = b"".join(body(0, 0))
    for kept in (
        whole[: whole.rindex(b"--b\r\n") + 5],
        whole[: whole.rindex(b'"photos"')],
        whole[:-9],
        whole[:60],
    ):
        response = caller.generic(
            "POST",
            PATH,
            **{
                "wsgi.input": Pieces(iter([kept])),
                "CONTENT_LENGTH": str(len(whole)),
                "CONTENT_TYPE": "multipart/form-data; boundary=b",
            },
        )
        assert response.status_code == 400
        assert response.json()["code"] == "parse_error"
    assert not Photo.objects.exists()


def test_a_request_beyond_the_limit_is_refused_unread(caller, survey):
    class Unread(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise AssertionError("read")

    response = caller.generic(
        "POST",
        PATH,
        content_type="multipart/form-data; boundary=b",
        **{"wsgi.input": Unread(), "CONTENT_LENGTH": str(settings.ARCHIVE_MAX_BYTES + 1)},
    )
    assert response.status_code == 413
