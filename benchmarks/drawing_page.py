"""What the drawing page is given when it is measured: a whole plate, its tiles, and a server that only answers."""

import io
import json
import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
SIDE_PX, BOXES, TILE_PX = 10_000, 1_000, 512
SEED = 3
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".woff2": "font/woff2"}


def task() -> dict[str, Any]:
    """A whole plate as the JSON API describes it."""
    draws = random.Random(SEED)
    labels = [
        {"code": f"L{n}", "name": f"Podura species{n}", "vernacular": "", "colour": colour, "rank": "species"}
        for n, colour in enumerate(("#2a7f62", "#c2410c", "#7c3aed", "#2563eb", "#b91c1c"))
    ]
    proposals = []
    for number in range(1, BOXES + 1):
        x, y = draws.uniform(0, SIDE_PX - 200), draws.uniform(0, SIDE_PX - 200)
        width, height, score = draws.uniform(60, 180), draws.uniform(60, 180), draws.uniform(0.3, 0.99)
        label = draws.choice(labels)["code"]
        proposals.append(
            {
                "number": number, "label": label, "score": score, "best": [[label, score]], "is_weak": False,
                "box": {"x_min": x, "y_min": y, "x_max": x + width, "y_max": y + height},
            }
        )  # fmt: skip
    photo = {
        "id": "00000000-0000-0000-0000-000000000002", "name": "plate.jpg", "width": SIDE_PX, "height": SIDE_PX,
        "display": "/whole/2560.jpg", "display_width": 2560, "display_height": 2560, "thumbnail": "/whole/480.jpg",
        "tiles": {"url": "/tiles/{level}/{column}_{row}.jpg", "tile_px": TILE_PX, "levels": _levels()},
    }  # fmt: skip
    return {
        "id": "00000000-0000-0000-0000-000000000001", "survey": "plates", "state": "waiting", "photo": photo,
        "labels": labels, "recent_labels": [], "proposals": proposals, "model_version": "bench v1", "draft": None,
        "my_annotation": None, "lease": {"until": None, "seconds_left": 900, "is_mine": True}, "why": None,
        "comments": [], "progress": None,
    }  # fmt: skip


def _levels() -> list[dict[str, int]]:
    sides = [SIDE_PX]
    while sides[-1] > TILE_PX:
        sides.append(-(-sides[-1] // 2))
    levels = []
    for level, side in enumerate(reversed(sides)):
        tiles = -(-side // TILE_PX)
        levels.append({"level": level, "width": side, "height": side, "columns": tiles, "rows": tiles})
    return levels


def _picture(side_px: int) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.effect_noise((side_px, side_px), 40).convert("RGB").save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _page() -> bytes:
    """The template itself, for nobody in particular."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    import django

    django.setup()
    from django.conf import settings
    from django.contrib.auth.models import AnonymousUser
    from django.template.loader import render_to_string
    from django.test import RequestFactory
    from django.test.utils import override_settings

    request = RequestFactory().get("/annotate/plates/draw/")
    request.user = AnonymousUser()
    survey = SimpleNamespace(slug="plates", name="Plates")
    address = "/annotate/photos/00000000-0000-0000-0000-000000000000/"
    pages = {
        "task": address,
        "draw": "/page",
        "session": "/session",
        "signed_in": "/page",
        "sign_in": "/page",
    }
    config = {"user": "bench", "survey": "plates", "task": None, "api": "/api/v1/annotation/", "pages": pages}
    # A checkout that never ran the site has no list of hashed names.
    plain = {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
    with override_settings(STORAGES=settings.STORAGES | plain):
        return render_to_string(
            "annotation/task.html", {"survey": survey, "config": config}, request
        ).encode()


class _Answers:
    """Path to content type and body; what the page asks for is made before the measuring begins."""

    def __init__(self) -> None:
        self.page = _page()
        self.plate = json.dumps({"task": task(), "waiting": None}).encode()
        self.tiles = [_picture(TILE_PX) for _ in range(8)]
        self.wholes = {f"/whole/{side}.jpg": _picture(side) for side in (480, 2560)}
        self.versions = count(1)

    def __call__(self, path: str) -> tuple[str, bytes]:
        if path.startswith(("/tiles/", "/whole/")):
            return "image/jpeg", self.wholes.get(path) or self.tiles[sum(map(ord, path)) % len(self.tiles)]
        if path.startswith("/static/"):
            file = CHECKOUT / path.removeprefix("/")
            return TYPES.get(file.suffix, "application/octet-stream"), file.read_bytes()
        if path.startswith("/api/"):
            saved = {"version": next(self.versions), "lease": None}
            return "application/json", self.plate if path.endswith("/next/") else json.dumps(saved).encode()
        if path == "/page":
            return "text/html; charset=utf-8", self.page
        return "text/html; charset=utf-8", b"<!doctype html><title>empty</title>"


@contextmanager
def served() -> Iterator[str]:
    """The address of a server with the page at /page, under the project's own policy of content."""
    answers = _Answers()
    from django.conf import settings

    directives = settings.CONTENT_SECURITY_POLICY["DIRECTIVES"]
    policy = "; ".join(f"{name} {' '.join(values)}" for name, values in directives.items())

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def respond(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                (content_type, body), status = answers(self.path), HTTPStatus.OK
            except OSError:
                content_type, body, status = "text/plain", b"", HTTPStatus.NOT_FOUND
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Security-Policy", policy)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = respond  # noqa: N815 (the names that the base class calls)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
