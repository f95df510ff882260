from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminTextInputWidget

from apps.common.admin_base import FastAdmin, display
from apps.common.tasks import wake
from apps.observations.hooks import survey_notes
from apps.observations.models import Label, Survey
from apps.observations.services.geoprivacy import reobscure
from apps.observations.tasks import review_places

_BEING_REVIEWED = _("The public places of this survey are being computed anew; this takes some minutes.")


@admin.register(Survey)
class SurveyAdmin(FastAdmin):
    list_display = (
        "name_en",
        "slug",
        "registered_model",
        "open_state",
        "geoprivacy",
        "confidence_threshold",
        "position",
    )
    list_display_links = ("name_en",)
    list_select_related = ("registered_model",)
    search_fields = ("slug", "name_en", "name_fr")
    search_help_text = _("Name or short name")
    list_filter = ("is_open", "geoprivacy")
    autocomplete_fields = ("registered_model",)
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("slug", "position"),
                    ("name_en", "name_fr"),
                    "description_en",
                    "description_fr",
                    "is_open",
                )
            },
        ),
        (
            _("Detection"),
            {
                "fields": (
                    "registered_model",
                    ("confidence_threshold", "kept_threshold"),
                    ("object_size_px", "minimum_photos"),
                ),
                "description": _("A new threshold or size counts for photos detected from now on."),
            },
        ),
        (_("Sensitive places"), {"fields": ("geoprivacy",)}),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Survey | None = None) -> tuple[str, ...]:
        return ("slug", "state") if obj else ()  # partner apps name surveys by it

    def get_fieldsets(self, request: HttpRequest, obj: Survey | None = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        return [*fieldsets, (_("How things stand"), {"fields": ("state",)})] if obj else fieldsets

    @display(description=_("state"))
    def state(self, survey: Survey) -> SafeString | str:
        """What apps to the right say of it."""
        lines = format_html_join(
            mark_safe("<br>"),
            '{}: {} <a href="{}">{}</a>',
            (
                (title, sentence, address, _("more"))
                for title, sentence, address in survey_notes.sound_answers(survey)
            ),
        )
        return lines or "–"

    @display(description=_("photos"), label={True: "success", False: "warning"})
    def open_state(self, survey: Survey) -> tuple[bool, str]:
        return survey.is_open, str(_("open") if survey.is_open else _("closed"))

    def save_model(self, request: HttpRequest, obj: Survey, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if change and "geoprivacy" in form.changed_data:
            reobscure(obj)
            wake(review_places)
            self.say(request, str(_BEING_REVIEWED))

    def has_delete_permission(self, request: HttpRequest, obj: Survey | None = None) -> bool:
        return super().has_delete_permission(request, obj) and (obj is None or not obj.observations.exists())


class ColourInput(UnfoldAdminTextInputWidget):  # type: ignore[misc]
    input_type = "color"


class LabelForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = Label
        exclude: tuple[str, ...] = ()
        widgets = {"colour": ColourInput(attrs={"class": "podura-colour"})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk and "parent" in self.fields:
            field = self.fields["parent"]
            assert isinstance(field, forms.ModelChoiceField)
            others = Label.objects.filter(survey=self.instance.survey_id).exclude(pk=self.instance.pk)
            field.queryset = others.order_by("scientific_name", "code")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        survey = cleaned.get("survey") or (self.instance.survey if self.instance.pk else None)
        above: Label | None = cleaned.get("parent")
        if above and survey and above.survey_id != survey.pk:
            raise ValidationError({"parent": _("The parent must be a label of the same survey.")})
        while above is not None and self.instance.pk:
            if above.pk == self.instance.pk:
                raise ValidationError({"parent": _("A label cannot stand below itself.")})
            above = above.parent
        return cleaned


@admin.register(Label)
class LabelAdmin(FastAdmin):
    form = LabelForm
    list_display = (
        "swatch",
        "scientific_name",
        "code",
        "vernacular_en",
        "vernacular_fr",
        "rank",
        "parent",
        "survey",
        "state",
    )
    list_display_links = ("swatch", "scientific_name", "code")
    list_select_related = ("survey", "parent")
    search_fields = ("code", "scientific_name", "vernacular_en", "vernacular_fr")
    search_help_text = _("Code or name")
    list_filter = ("survey", "rank", "is_active", "is_sensitive")
    ordering = ("survey", "position", "code")
    actions = ("retire", "use_again")
    fieldsets = (
        (None, {"fields": (("survey", "code"), "scientific_name", ("vernacular_en", "vernacular_fr"))}),
        (_("Classification"), {"fields": (("rank", "parent"), "gbif_key")}),
        (_("Appearance and use"), {"fields": (("colour", "position"), ("is_active", "is_sensitive"))}),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Label | None = None) -> tuple[str, ...]:
        return ("survey", "code") if obj else ()  # datasets and models name labels by them

    @display(description=_("colour"))
    def swatch(self, label: Label) -> SafeString:
        return format_html(
            '<svg viewBox="0 0 2 2" width="18" height="18" role="img" aria-label="{0}"><circle cx="1" cy="1" r="1" fill="{0}"/></svg>',
            label.colour,
        )

    @display(description=_("state"), label={"active": "success", "retired": "warning", "sensitive": "danger"})
    def state(self, label: Label) -> tuple[str, str]:
        if not label.is_active:
            return "retired", str(_("retired"))
        return ("sensitive", str(_("sensitive"))) if label.is_sensitive else ("active", str(_("in use")))

    def save_model(self, request: HttpRequest, obj: Label, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if {"is_sensitive", "parent"} & set(form.changed_data) and (change or obj.is_sensitive):
            reobscure(obj)
            wake(review_places)
            self.say(request, str(_BEING_REVIEWED))

    def has_delete_permission(self, request: HttpRequest, obj: Label | None = None) -> bool:
        """A label in use is retired, not deleted."""
        is_free = obj is None or not (obj.detections.exists() or obj.children.exists())
        return super().has_delete_permission(request, obj) and is_free

    @admin.action(description=_("Retire: no longer offered"), permissions=["change"])
    def retire(self, request: HttpRequest, queryset: Any) -> None:
        self._set_active(request, queryset, is_active=False)

    @admin.action(description=_("Use again"), permissions=["change"])
    def use_again(self, request: HttpRequest, queryset: Any) -> None:
        self._set_active(request, queryset, is_active=True)

    def _set_active(self, request: HttpRequest, queryset: Any, *, is_active: bool) -> None:
        chosen = queryset.count()
        done = queryset.exclude(is_active=is_active).update(is_active=is_active)
        text = _("%(count)d labels are in use again.") if is_active else _("%(count)d labels were retired.")
        skipped = _("%(count)d were so already.") % {"count": chosen - done} if chosen > done else ""
        self.say(request, str(text % {"count": done}), skipped=str(skipped))
