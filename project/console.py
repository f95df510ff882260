"""The Django admin's theme: Podura's colours, one menu by task, nothing fetched from elsewhere."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as _


def _may(permission: str) -> Callable[[HttpRequest], bool]:
    return lambda request: request.user.has_perm(permission)


def _entry(title: Any, icon: str, model: str, query: str = "", *, may: str = "") -> dict[str, Any]:
    """A link to a model's list, shown to those who may see it, or `may`; `model` is `app_model`."""
    app, _separator, name = model.partition("_")
    link = reverse_lazy(f"admin:{model}_changelist")
    return {
        "title": title,
        "icon": icon,
        "link": (lambda _request: f"{link}?{query}") if query else link,
        "permission": _may(may or f"{app}.view_{name}"),
    }


def console(site_name: str) -> dict[str, Any]:
    """The UNFOLD setting."""
    return {
        "SITE_TITLE": site_name,
        "SITE_HEADER": site_name,
        "SITE_SUBHEADER": _("Curators' console"),
        "SITE_URL": "/",
        "SITE_SYMBOL": "pest_control",
        "SITE_FAVICONS": [
            {"rel": "icon", "type": "image/svg+xml", "href": lambda _request: static("common/favicon.svg")}
        ],
        "SHOW_HISTORY": True,
        "SHOW_VIEW_ON_SITE": True,
        "SHOW_LANGUAGES": True,
        "BORDER_RADIUS": "4px",
        "STYLES": [lambda _request: static("admin_podura/admin.css")],
        "DASHBOARD_CALLBACK": "apps.observations.admin.dashboard.dashboard",
        "COLORS": {"base": _PAPER, "primary": _MOSS},
        "SIDEBAR": {"show_search": True, "show_all_applications": False, "navigation": _navigation()},
    }


def _navigation() -> list[dict[str, Any]]:
    return [
        {"items": [{"title": _("Overview"), "icon": "dashboard", "link": reverse_lazy("admin:index")}]},
        {
            "title": _("Surveys"),
            "separator": True,
            "items": [
                _entry(_("Surveys"), "explore", "observations_survey"),
                _entry(_("Labels"), "sell", "observations_label"),
            ],
        },
        {
            "title": _("What came in"),
            "separator": True,
            "items": [
                _entry(_("Observations"), "eco", "observations_observation"),
                _entry(_("Photos"), "photo_library", "observations_photo"),
                _entry(_("Detections"), "select_all", "observations_detection"),
                _entry(_("Comments"), "chat", "observations_comment"),
                _entry(_("Refused files"), "block", "observations_refusedfile"),
            ],
        },
        {
            "title": _("Experts' loop"),
            "separator": True,
            "items": [
                _entry(_("Photos in the queue"), "low_priority", "annotation_annotationtask"),
                _entry(_("Disagreements"), "rule", "annotation_conflict", may="annotation.add_review"),
                _entry(_("Answers"), "draw", "annotation_annotation"),
                _entry(_("Reviews"), "rate_review", "annotation_review"),
                _entry(_("News for contributors"), "campaign", "annotation_contributornews"),
                _entry(_("Thanks to contributors"), "volunteer_activism", "annotation_thanks"),
                _entry(_("Proposed labels"), "new_label", "annotation_labelproposal"),
                _entry(_("Golden photos"), "verified", "annotation_goldenphoto"),
                _entry(_("Rules of the queues"), "tune", "annotation_annotationpolicy"),
                _entry(_("Updates of queues"), "sync", "annotation_queueupdate"),
            ],
        },
        {
            "title": _("Labelled data"),
            "separator": True,
            "items": [
                _entry(_("Frozen datasets"), "ac_unit", "training_dataset"),
                _entry(_("Freezing"), "severe_cold", "annotation_datasetfreeze"),
                _entry(_("Exports"), "archive", "training_datasetexport"),
                _entry(_("Imports"), "unarchive", "annotation_datasetimport"),
            ],
        },
        {
            "title": _("Models"),
            "separator": True,
            "items": [
                _entry(_("Registered models"), "deployed_code", "training_registeredmodel"),
                _entry(_("Model versions"), "history", "training_modelversion"),
                _entry(_("Training runs"), "model_training", "training_trainingrun"),
                _entry(_("Evaluations"), "monitoring", "training_evaluation"),
                _entry(_("Comparisons"), "compare", "training_comparison"),
                _entry(_("Decisions on promotion"), "gavel", "training_promotionevent"),
                _entry(_("Starts of trainings"), "play_circle", "annotation_trainingstart"),
                _entry(_("Weights from outside"), "input", "training_modelimport"),
            ],
        },
        {
            "title": _("Jobs"),
            "separator": True,
            "items": [
                _entry(
                    _("Photos waiting"),
                    "hourglass_top",
                    "observations_photo",
                    "status__in=pending%2Cprocessing",
                ),
                _entry(_("Photos failed"), "error", "observations_photo", "status__exact=failed"),
                _entry(_("Zip archives"), "folder_zip", "observations_archiveupload"),
                _entry(_("Reviews of places"), "location_off", "observations_placereview"),
                _entry(_("Tiles of large photos"), "grid_on", "observations_tilepyramid"),
                _entry(_("Mails"), "mail", "accounts_outgoingmail"),
            ],
        },
        {
            "title": _("People"),
            "separator": True,
            "items": [
                _entry(_("Users"), "person", "accounts_user"),
                _entry(_("Expert applications"), "school", "accounts_expertapplication"),
                _entry(_("API clients"), "key", "accounts_apiclient"),
                _entry(_("Groups"), "group", "auth_group"),
            ],
        },
    ]


# The site's paper and ink, as a scale.
_PAPER = {
    "50": "#fbf9f1",
    "100": "#f1eee2",
    "200": "#e0dbc9",
    "300": "#cbc5b1",
    "400": "#a09c8b",
    "500": "#6f6e62",
    "600": "#55574e",
    "700": "#3b423c",
    "800": "#26302d",
    "900": "#141c1d",
    "950": "#0c1213",
}
# The site's moss.
_MOSS = {
    "50": "#f3f7e6",
    "100": "#e4edcb",
    "200": "#cde09f",
    "300": "#b7d86f",
    "400": "#9cc253",
    "500": "#6f9a35",
    "600": "#4a7a28",
    "700": "#3a6320",
    "800": "#2f4f1c",
    "900": "#294817",
    "950": "#16290b",
}
