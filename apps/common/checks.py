"""Combinations of settings that cannot be right, found at start and by `manage.py check --deploy`.

Each id is stable and listed in docs/settings.md.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004  (Django's own name)

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]", "::1", "testserver"})
SHORTEST_LEASE_S = 15


def _is_production() -> bool:
    return not (settings.DEBUG or settings.DEMO)


def _is_public() -> bool:
    return bool(set(settings.ALLOWED_HOSTS) - LOCAL_HOSTS)


@register
def check_exposure(app_configs: Sequence[Any] | None, **_kwargs: Any) -> Iterator[CheckMessage]:
    """What is meant for one's own machine must not be on the internet."""
    for name, number in (("DEBUG", 1), ("DEMO", 2)):
        if getattr(settings, name) and _is_public():
            yield Error(
                f"{name} is on, and ALLOWED_HOSTS names hosts that others can reach.",
                hint=f"Set {name}=0, or leave only localhost in ALLOWED_HOSTS.",
                id=f"podura.E00{number}",
            )
    if _is_production() and "*" in settings.ALLOWED_HOSTS:
        yield Error(
            "ALLOWED_HOSTS accepts every host name: links in mails could be made to lead elsewhere.",
            hint="Name the site's hosts, e.g. ALLOWED_HOSTS=podura.example.org",
            id="podura.E003",
        )


@register
def check_address(app_configs: Sequence[Any] | None, **_kwargs: Any) -> Iterator[CheckMessage]:
    """SITE_URL, HTTPS and the proxies in front tell one story."""
    site = urlsplit(settings.SITE_URL)
    if site.scheme not in ("http", "https") or not site.netloc or site.path:
        yield Error(
            f"SITE_URL is {settings.SITE_URL!r}, not an address such as https://podura.example.org",
            hint="Give scheme and host, without a path.",
            id="podura.E004",
        )
    elif _is_production() and settings.HTTPS and site.scheme != "https":
        yield Error(
            "HTTPS is on and SITE_URL begins with http: links in mails and tokens would name the wrong address.",
            hint="Set SITE_URL=https://... (or HTTPS=0 on a machine of your own).",
            id="podura.E005",
        )
    if settings.HTTPS and not settings.TRUSTED_PROXIES:
        yield Warning(
            "HTTPS is on and no reverse proxy is trusted: every request would be redirected, for ever.",
            hint="Set TRUSTED_PROXIES=1 behind one proxy that ends TLS and sets X-Forwarded-Proto.",
            id="podura.W006",
        )


@register
def check_jobs(app_configs: Sequence[Any] | None, **_kwargs: Any) -> Iterator[CheckMessage]:
    """A lease outlives the pauses of a healthy worker, and the sweeper looks before people do."""
    if settings.JOB_LEASE_SECONDS < SHORTEST_LEASE_S:
        yield Error(
            f"JOB_LEASE_SECONDS={settings.JOB_LEASE_SECONDS}: a busy worker would lose its photos to another one.",
            hint=f"At least {SHORTEST_LEASE_S}; 60 is a good value.",
            id="podura.E007",
        )
    for name in ("JOB_MAX_ATTEMPTS", "JOB_SWEEP_SECONDS", "DETECTION_BATCH_PHOTOS", "PICTURE_MAX_BYTES",
                 "PICTURE_MAX_PIXELS", "PICTURE_MAX_SIDE_PX", "ARCHIVE_MAX_BYTES", "ARCHIVE_MAX_ENTRIES"):  # fmt: skip
        if getattr(settings, name) < 1:
            yield Error(
                f"{name} must be at least 1.", hint=f"Leave {name} out for its default.", id="podura.E008"
            )
    if settings.READY_MAX_WAIT_SECONDS < settings.JOB_SWEEP_SECONDS:
        yield Warning(
            "READY_MAX_WAIT_SECONDS is shorter than JOB_SWEEP_SECONDS: a lost wake-up would count as an outage.",
            hint="Make it several times JOB_SWEEP_SECONDS.",
            id="podura.W009",
        )


@register
def check_map(app_configs: Sequence[Any] | None, **_kwargs: Any) -> Iterator[CheckMessage]:
    """A tile server that the browser may not ask shows grey squares."""
    if not settings.MAP_TILE_URL:
        return
    missing = [part for part in ("{z}", "{x}", "{y}") if part not in settings.MAP_TILE_URL]
    if missing:
        yield Error(
            f"MAP_TILE_URL lacks {', '.join(missing)}.",
            hint="e.g. MAP_TILE_URL=https://tile.example.org/{z}/{x}/{y}.png",
            id="podura.E010",
        )
    sources = settings.CONTENT_SECURITY_POLICY["DIRECTIVES"]["img-src"]
    host = urlsplit(settings.MAP_TILE_URL.replace("{s}", "a")).netloc
    if host and not any(host == urlsplit(s if "//" in s else f"//{s}").netloc for s in sources):
        yield Error(
            f"The tile server {host} is not in PICTURE_HOSTS: browsers would refuse its pictures.",
            hint=f"Add {host} to PICTURE_HOSTS.",
            id="podura.E011",
        )


@register(deploy=True)
def check_production(app_configs: Sequence[Any] | None, **_kwargs: Any) -> Iterator[CheckMessage]:
    """What works on one machine and hurts in production."""
    if settings.CACHE_URL == settings.REDIS_URL:
        yield Warning(
            "The cache shares the queue's Redis: a full cache would stop the queue.",
            hint="Give the cache an instance of its own: CACHE_URL=redis://cache:6379/0",
            id="podura.W012",
        )
    if settings.EMAIL_BACKEND.endswith(("console.EmailBackend", "filebased.EmailBackend")):
        yield Warning(
            "Mails are not sent: nobody can confirm an address or reset a password.",
            hint="Set EMAIL_URL=smtp+tls://user:password@mail.example.org:587",
            id="podura.W013",
        )
    if settings.DEFAULT_FROM_EMAIL.rstrip(">").endswith("podura.example"):
        yield Warning(
            "DEFAULT_FROM_EMAIL is the example address.",
            hint="Set an address that you own.",
            id="podura.W014",
        )


ALL: tuple[Callable[..., Iterator[CheckMessage]], ...] = (
    check_exposure, check_address, check_jobs, check_map, check_production,
)  # fmt: skip
