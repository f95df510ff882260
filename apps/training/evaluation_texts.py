"""What evaluations and comparisons say to people: rows hold codes, the sentence is made in the reader's language."""

from collections.abc import Mapping
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

from apps.training.models import Comparison, Evaluation
from apps.training.services.evaluations import EvaluationRefusedError

REFUSALS: Final[Mapping[str, Promise | str]] = {
    "unknown_split": gettext_lazy("There is no split called “%(split)s”: choose train, validation or test."),
    "version_unusable": gettext_lazy("%(version)s cannot be loaded, so that nothing can be measured."),
    "no_common_label": gettext_lazy(
        "%(version)s knows none of the labels of %(dataset)s: there is nothing to measure."
    ),
    "split_is_empty": gettext_lazy("%(dataset)s has no photo in the split “%(split)s”."),
}

FAILURES: Final[Mapping[str, Promise | str]] = {
    "photo_damaged": gettext_lazy(
        "The original of photo %(detail)s is missing, is not the one that was frozen, or cannot be read. "
        "Put it back into the storage, or delete the photo, and ask again."
    ),
    "dataset_damaged": gettext_lazy("The dataset cannot be read: %(detail)s. Freeze it again."),
    "no_common_label": gettext_lazy("The version knows none of the dataset's labels: %(detail)s."),
    "split_is_empty": gettext_lazy("All photos of this split were deleted."),
    "model_unavailable": gettext_lazy("The version could not be loaded: %(detail)s"),
    "no_test_photo": gettext_lazy("No test photo is left that neither version learned from."),
    "already_serving": gettext_lazy("The version went into production meanwhile."),
    "challenger_unusable": gettext_lazy("The version cannot be loaded: %(detail)s"),
    "worker_lost": gettext_lazy(
        "The worker ended three times without a word, most likely for lack of memory. Ask again on a larger machine."
    ),
    "error": gettext_lazy("Something unexpected happened: %(detail)s"),
}


def refusal_sentence(error: EvaluationRefusedError) -> str:
    """Why an evaluation cannot be asked for."""
    return str(REFUSALS[error.code]) % error.details


def failure_sentence(row: Evaluation | Comparison) -> str:
    """Why it failed; empty where it did not."""
    code, _colon, detail = row.failure_reason.partition(":")
    if not code:
        return ""
    sentence = FAILURES.get(code)
    return str(sentence) % {"detail": detail.strip()} if sentence else row.failure_reason
