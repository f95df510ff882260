"""STORAGE_URL to Django's STORAGES: a folder (file:///path) or an S3 bucket (s3://key:secret@host/bucket)."""

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured


def storages_from_url(url: str, *, static_backend: str) -> dict[str, dict[str, Any]]:
    """The storages "default" (private), "renditions" (public pictures) and "staticfiles".

    S3 form: `s3://KEY:SECRET@endpoint[:port]/bucket?region=eu-west-3&tls=1`; without a host, Amazon's own;
    without a key, the machine's role; `public=1` says that browsers reach the store (`is_public_store`). Both storages never overwrite: django-storages would by default.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.path:
        return {
            alias: {
                "BACKEND": "django.core.files.storage.FileSystemStorage",
                "OPTIONS": {"location": f"{parts.path}/{folder}"},
            }
            for alias, folder in (("default", "private"), ("renditions", "renditions"))
        } | {"staticfiles": {"BACKEND": static_backend}}
    if parts.scheme == "s3" and parts.path.strip("/"):
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        options: dict[str, Any] = {
            "bucket_name": parts.path.strip("/"),
            "file_overwrite": False,
            "signature_version": "s3v4",
            "default_acl": None,
            "querystring_auth": True,
            "querystring_expire": 300,
            # Read files lie on disk above this size; without it an archive of 2 GB would lie in memory.
            "max_memory_size": 8 * 1024 * 1024,
            "region_name": query.get("region"),
            "addressing_style": query.get("addressing", "path" if parts.hostname else "virtual"),
        }
        if parts.hostname:
            scheme = "https" if query.get("tls", "1") == "1" else "http"
            options["endpoint_url"] = f"{scheme}://{parts.hostname}" + (
                f":{parts.port}" if parts.port else ""
            )
        if parts.username:
            options |= {"access_key": unquote(parts.username), "secret_key": unquote(parts.password or "")}
        return {
            alias: {
                "BACKEND": "storages.backends.s3.S3Storage",
                "OPTIONS": options | {"location": folder},
            }
            for alias, folder in (("default", "private"), ("renditions", "renditions"))
        } | {"staticfiles": {"BACKEND": static_backend}}
    raise ImproperlyConfigured(
        "STORAGE_URL must be file:///absolute/folder or s3://KEY:SECRET@host/bucket (see docs/settings.md)"
    )


def is_public_store(url: str) -> bool:
    """Whether browsers may be sent to the store itself, by signed addresses.

    Not unless the operator says so: a store beside the site, as in `compose.yaml`, has an address that only we know.
    """
    parts = urlsplit(url)
    return parts.scheme == "s3" and parse_qs(parts.query).get("public", ["0"])[-1] == "1"
