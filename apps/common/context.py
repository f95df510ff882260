from django.conf import settings
from django.http import HttpRequest


def site(request: HttpRequest) -> dict[str, object]:
    """What every page may say about the site it is on."""
    return {
        "SITE_NAME": settings.SITE_NAME,
        "DEMO": settings.DEMO,
        "SOURCE_URL": settings.SOURCE_URL,
        "request_id": getattr(request, "id", ""),
    }
