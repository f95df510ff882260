import re
from typing import Any

from django import forms
from django.conf import settings
from django.http import HttpRequest
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.accounts.models import ExpertApplication, User
from apps.common.texts import clean_line, clean_text

_ORCID = re.compile(r"^(?:https?://(?:www\.)?orcid\.org/)?(\d{4}-\d{4}-\d{4}-\d{3}[\dX])/?$")
_NAME_LENGTH = User._meta.get_field("display_name").max_length


def has_orcid_checksum(orcid: str) -> bool:
    """ISO 7064 MOD 11-2 over the sixteen characters, as ORCID's identifier documentation describes it."""
    total = 0
    for digit in orcid.replace("-", "")[:-1]:
        total = (total + int(digit)) * 2
    check = (12 - total % 11) % 11
    return orcid[-1] == ("X" if check == 10 else str(check))


class SignupForm(forms.Form):
    """What sign-up asks beside e-mail and password."""

    display_name = forms.CharField(
        label=gettext_lazy("Public name"),
        max_length=_NAME_LENGTH,
        required=False,
        help_text=gettext_lazy("Shown beside your photos and comments. Leave empty to stay anonymous."),
    )

    def clean_display_name(self) -> str:
        return clean_line(self.cleaned_data["display_name"])[:_NAME_LENGTH]

    def signup(self, request: HttpRequest, user: User) -> None:  # noqa: ARG002 (allauth calls it so)
        user.display_name = self.cleaned_data["display_name"]
        user.language = spoken_language()
        user.save(update_fields=["display_name", "language"])


def spoken_language() -> str:
    """The language of the current page, if mails exist in it."""
    language = (translation.get_language() or "")[:2]
    return language if language in dict(settings.LANGUAGES) else ""


class ProfileForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = User
        fields = ("display_name", "language", "wants_news")
        labels = {
            "language": gettext_lazy("Language"),
            "wants_news": gettext_lazy("News about my photos by mail"),
        }
        help_texts = {
            "display_name": gettext_lazy(
                "Shown beside your photos and comments. Leave empty to stay anonymous."
            ),
            "language": gettext_lazy("Of these pages and of the mails we send you."),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["language"] = forms.ChoiceField(
            label=self.fields["language"].label,
            help_text=self.fields["language"].help_text,
            choices=settings.LANGUAGES,
        )
        if not self.instance.language:
            self.initial["language"] = spoken_language() or settings.LANGUAGE_CODE

    def clean_display_name(self) -> str:
        return clean_line(self.cleaned_data["display_name"])[:_NAME_LENGTH]


class ExpertApplicationForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = ExpertApplication
        fields = ("motivation", "affiliation", "orcid")
        widgets = {"motivation": forms.Textarea({"rows": 7})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["orcid"] = forms.CharField(
            label="ORCID",
            required=False,
            max_length=60,
            help_text=gettext_lazy("Such as 0000-0002-1825-0097, if you have one."),
        )

    def clean_motivation(self) -> str:
        return clean_text(self.cleaned_data["motivation"])

    def clean_affiliation(self) -> str:
        return clean_line(self.cleaned_data["affiliation"])

    def clean_orcid(self) -> str:
        text = self.cleaned_data["orcid"].strip().upper().replace("HTTPS", "https").replace("HTTP:", "http:")
        text = text.replace("ORCID.ORG", "orcid.org").replace("WWW.", "www.")
        if not text:
            return ""
        match = _ORCID.match(text)
        if match is None or not has_orcid_checksum(match[1]):
            raise forms.ValidationError(
                _(
                    "This is not a valid ORCID. It has four groups of four digits, and the last one checks the others."
                ),
                code="invalid_orcid",
            )
        return match[1]
