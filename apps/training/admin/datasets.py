"""Frozen datasets: what is in them, split by split; nothing in them can be changed."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import FileResponse, Http404, HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.urls import URLPattern, path
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from apps.common.admin_base import ReadOnlyAdmin, display
from apps.training.models import Dataset, DatasetItem
from apps.training.models.datasets import Split


@admin.register(Dataset)
class DatasetAdmin(ReadOnlyAdmin):
    list_display = ("name_shown", "photo_count", "box_count", "splits", "warned", "created_at", "created_by")
    list_select_related = ("created_by",)
    list_filter = ("name",)
    ordering = ("-pk",)
    search_fields = ("name", "digest")
    search_help_text = _("Name or digest")
    change_form_before_template = "admin/training/dataset_downloads.html"
    fields = (
        "name_shown",
        ("photo_count", "box_count"),
        "counts_shown",
        "warnings_shown",
        "label_list",
        "digest",
        ("created_at", "created_by"),
        "public_id",
    )

    @display(description=_("dataset"), ordering="name")
    def name_shown(self, dataset: Dataset) -> str:
        return str(dataset)

    @display(description=_("training / validation / test"))
    def splits(self, dataset: Dataset) -> str:
        return " / ".join(str(dataset.counts[split]["photos"]) for split in Split.values)

    @display(description=_("state"), label={"complete": "success", "lacking": "warning"})
    def warned(self, dataset: Dataset) -> tuple[str, str]:
        if dataset.warnings:
            return "lacking", gettext("see warnings")
        return "complete", gettext("complete")

    @display(description=_("labels, in fixed order"))
    def label_list(self, dataset: Dataset) -> str:
        return ", ".join(dataset.labels)

    @display(description=_("photos and boxes"))
    def counts_shown(self, dataset: Dataset) -> str:
        splits = [dataset.counts[split] for split in Split.values]
        rows = [
            (gettext("photos"), [split["photos"] for split in splits]),
            (gettext("of these confirmed empty"), [split["empty"] for split in splits]),
            (gettext("boxes"), [split["boxes"] for split in splits]),
            *((code, [split["labels"][code] for split in splits]) for code in dataset.labels),
        ]
        return render_to_string("admin/training/dataset_counts.html", {"heads": Split.labels, "rows": rows})

    @display(description=_("warnings"))
    def warnings_shown(self, dataset: Dataset) -> str:
        texts = [warning_text(warning) for warning in dataset.warnings]
        withdrawn = dataset.items.filter(is_withdrawn=True).count()
        if withdrawn:
            texts.append(gettext("Photos deleted since: %(count)d.") % {"count": withdrawn})
        return render_to_string("admin/training/dataset_warnings.html", {"texts": texts})

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.download_manifest)
        return [path("<int:pk>/manifest/", view, name="training_dataset_manifest"), *super().get_urls()]

    def download_manifest(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        """The frozen content itself, as it was digested."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        dataset = get_object_or_404(Dataset, pk=pk)
        try:
            content = dataset.manifest.open("rb")
        except FileNotFoundError as error:
            raise Http404 from error
        name = f"{dataset.name}-{dataset.number}.json"
        return FileResponse(content, as_attachment=True, filename=name, content_type="application/json")


@admin.register(DatasetItem)
class DatasetItemAdmin(ReadOnlyAdmin):
    list_display = ("photo", "dataset", "split", "box_count", "licence", "attribution", "withdrawn")
    list_select_related = ("dataset",)
    list_filter = ("dataset", "split", "licence", "is_withdrawn")
    ordering = ("-dataset", "position")
    identity_lookups = {"uuid": "photo"}
    search_help_text = _("Identifier of the photo (UUID)")
    fields = (
        "dataset",
        ("photo", "annotation"),
        ("split", "group"),
        ("width_px", "height_px"),
        "box_count",
        ("licence", "attribution"),
        "file_sha256",
        "is_withdrawn",
    )

    @display(description=_("state"), label={"there": "success", "withdrawn": "warning"})
    def withdrawn(self, item: DatasetItem) -> tuple[str, str]:
        return ("withdrawn", gettext("withdrawn")) if item.is_withdrawn else ("there", gettext("there"))


def warning_text(warning: dict[str, Any]) -> str:
    """A warning of a dataset in the reader's language."""
    split = str(Split(warning["split"]).label)
    if warning["code"] == "split_is_empty":
        return gettext("The %(split)s split has no photos.") % {"split": split}
    return gettext("No box of %(label)s in the %(split)s split.") % {
        "label": warning["label"],
        "split": split,
    }
