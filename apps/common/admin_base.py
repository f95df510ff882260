"""What all admin classes share: lists that stay fast at a million rows, and machine-written tables that only show."""

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, cast

from django.contrib import messages
from django.contrib.admin import helpers
from django.contrib.admin.utils import flatten
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.decorators import display as unfold_display

COUNT_LIMIT = 5_000
Method = TypeVar("Method", bound=Callable[..., Any])


def display(**options: Any) -> Callable[[Method], Method]:
    """Unfold's `@display`, with the method's type kept."""
    return cast("Callable[[Method], Method]", unfold_display(**options))


class CappedPaginator(Paginator):  # type: ignore[type-arg]  # not subscriptable at run time
    """Counts to a limit and no further: a full count of a million rows takes longer than the page itself.

    Rows beyond are reached by searching and filtering; an offset of a million would take seconds as well.
    """

    @cached_property
    def count(self) -> int:
        rows = self.object_list
        if not isinstance(rows, QuerySet):
            return len(rows)
        return rows.order_by()[:COUNT_LIMIT].count()


class FastAdmin(ModelAdmin):  # type: ignore[misc]
    """Capped counts, related rows in the list's own query, search by identity instead of by text in every column."""

    paginator = CappedPaginator
    show_full_result_count = False
    list_per_page = 50
    list_filter_submit = True
    warn_unsaved_form = True
    #: Lookups tried by the form of the search text: `{"uuid": ..., "email": ..., "number": ..., "text": ...}`.
    identity_lookups: ClassVar[dict[str, str]] = {}
    search_help_text: ClassVar[Any] = _("Whole number, identifier (UUID) or e-mail address")

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return tuple(self.search_fields) or tuple(self.identity_lookups.values())

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip().replace("\0", "")
        if not term or not self.identity_lookups:
            return super().get_search_results(request, queryset, search_term)  # type: ignore[no-any-return]
        lookup = self.identity_lookups.get(_kind(term))
        return (queryset.filter(**{lookup: term}) if lookup else queryset.none()), False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """What no database could look for, in the address or among the ticked rows, is left out instead of a crash."""
        if any("\0" in str(value) for value in request.GET.values()):
            request.GET = _without_nul(request.GET)  # type: ignore[assignment]  # it takes a mutable one
        if request.method == "POST" and helpers.ACTION_CHECKBOX_NAME in request.POST:
            ticked = request.POST.copy()
            chosen = ticked.getlist(helpers.ACTION_CHECKBOX_NAME)
            ticked.setlist(helpers.ACTION_CHECKBOX_NAME, [key for key in chosen if self._is_key(key)])
            request.POST = ticked  # type: ignore[assignment]
        return super().changelist_view(request, extra_context)  # type: ignore[no-any-return]

    def _is_key(self, text: str) -> bool:
        try:
            self.opts.pk.to_python(text)
        except ValidationError:
            return False
        return "\0" not in text

    def say(self, request: HttpRequest, done: str, *, skipped: str = "") -> None:
        """Tell what an action did, and what it left alone and why."""
        messages.success(request, done)
        if skipped:
            messages.warning(request, skipped)


class DeletedByService(FastAdmin):
    """Rows whose service takes all that hangs on them, files too; who may delete the row may delete that.

    Django's own confirmation lists every dependent row: thousands of boxes for one plate.
    """

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[Any]]:
        names = [str(row) for row in objs]
        missing = set() if self.has_delete_permission(request) else {str(self.opts.verbose_name)}
        return names, {str(self.opts.verbose_name_plural): len(names)}, missing, []


class ReadOnlyAdmin(FastAdmin):
    """For what a machine wrote: to be looked at."""

    warn_unsaved_form = False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return tuple(flatten(self.fields or ()))

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def _without_nul(query: QueryDict) -> QueryDict:
    clean = query.copy()
    for name in query:
        clean.setlist(name, [value.replace("\0", "") for value in query.getlist(name)])
    return clean


def _kind(term: str) -> str:
    if "@" in term:
        return "email"
    if term.isascii() and term.isdecimal() and len(term) < 19:
        return "number"
    bare = term.replace("-", "").lower()
    if len(bare) in (32, 64) and all(character in "0123456789abcdef" for character in bare):
        return "uuid" if len(bare) == 32 else "sha256"
    return "text"
