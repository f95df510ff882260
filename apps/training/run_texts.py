"""What a run says to people: rows hold codes and numbers, the sentence is made in the reader's language."""

from collections.abc import Mapping
from typing import Any, Final

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext_lazy

from apps.training.models import RunStatus, TrainingLogLine, TrainingRun

Sentences = Mapping[str, Promise | str]

PARAMETER_NAMES: Final[Mapping[str, Promise | str]] = {
    "epochs": gettext_lazy("epochs"),
    "batch": gettext_lazy("batch"),
    "image_size": gettext_lazy("image size (px)"),
    "seed": gettext_lazy("seed"),
    "learning_rate": gettext_lazy("learning rate"),
    "final_learning_rate_share": gettext_lazy("share of the learning rate at the end"),
    "weight_decay": gettext_lazy("weight decay"),
    "warmup_epochs": gettext_lazy("warm-up epochs"),
    "patience": gettext_lazy("patience (epochs)"),
    "frozen_layers": gettext_lazy("frozen layers"),
    "mosaic": gettext_lazy("mosaic"),
    "epochs_without_mosaic": gettext_lazy("last epochs without mosaic"),
    "scale": gettext_lazy("scaling"),
    "translate": gettext_lazy("shifting"),
    "flip_up_down": gettext_lazy("upside down"),
    "flip_left_right": gettext_lazy("mirrored"),
    "hue": gettext_lazy("hue"),
    "saturation": gettext_lazy("saturation"),
    "value": gettext_lazy("brightness"),
    "architecture": gettext_lazy("architecture"),
    "tiling": gettext_lazy("large photos in windows"),
    "mixed_precision": gettext_lazy("half precision on GPUs"),
}

PARAMETER_CHOICES: Final[Sentences] = {
    "auto": gettext_lazy("only where needed"),
    "always": gettext_lazy("always"),
    "never": gettext_lazy("never"),
}

PARAMETER_PROBLEMS: Final[Sentences] = {
    "unknown": gettext_lazy("There is no such parameter."),
    "not_a_number": gettext_lazy("Enter a number."),
    "not_whole": gettext_lazy("Enter a whole number."),
    "not_finite": gettext_lazy("Enter a finite number."),
    "not_true_or_false": gettext_lazy("Choose yes or no."),
    "too_low": gettext_lazy("Enter %(limit)s or more."),
    "too_high": gettext_lazy("Enter %(limit)s or less."),
    "not_a_multiple": gettext_lazy("Enter a multiple of %(of)s."),
    "not_a_choice": gettext_lazy("Choose one of: %(choices)s."),
}

DATASET_PROBLEMS: Final[Sentences] = {
    "no_training_photo": gettext_lazy("No photo is in the training split."),
    "no_validation_photo": gettext_lazy("No photo is in the validation split."),
    "no_box": gettext_lazy("No animal is marked in the training photos."),
    "label_without_training_photo": gettext_lazy("Label %(label)s has no training photo."),
    "label_without_validation_photo": gettext_lazy("Label %(label)s has no validation photo."),
    "labels_do_not_extend": gettext_lazy(
        "The version to start from knows labels that the dataset does not have (%(labels)s); it would forget them."
    ),
    "dataset_of_other_model": gettext_lazy("The dataset %(dataset)s was frozen for another model."),
    "base_unusable": gettext_lazy("The version to start from (%(version)s) cannot be loaded."),
}

FAILURES: Final[Sentences] = {
    "out_of_memory": gettext_lazy(
        "The memory does not suffice, not even for one photo at a time. Choose a smaller image size or architecture."
    ),
    "disk_full": gettext_lazy(
        "The disk of the training machine, or the storage, is full. Make room and try again."
    ),
    "unusable_base": gettext_lazy("The weights to start from cannot be loaded."),
    "no_boxes": DATASET_PROBLEMS["no_box"],
    "no_validation": DATASET_PROBLEMS["no_validation_photo"],
    "picture_unreadable": gettext_lazy("A photo of the dataset cannot be read."),
    "diverged": gettext_lazy(
        "The training diverged: the losses were no numbers any more. Choose a lower learning rate."
    ),
    "dataset_damaged": gettext_lazy("The dataset's files are damaged or gone."),
    "weights_unsound": gettext_lazy("The weights that came out of the training are not sound."),
    "worker_lost": gettext_lazy("The training machine fell silent again and again."),
    "silent": gettext_lazy("The training gave no sign of life for too long."),
    "error": gettext_lazy("The training broke with an error; the log has its last words."),
    "job_ended": gettext_lazy("The training ended without a result; the log has its last words."),
}

LOG: Final[Sentences] = {
    "asked_for": gettext_lazy("Asked for: dataset %(dataset)s, starting from %(base)s"),
    "started": gettext_lazy("Started on %(machine)s"),
    "continued": gettext_lazy("Taken up again on %(machine)s"),
    "withdrawn_left_out": ngettext_lazy(
        "%(n)d photo that was deleted meanwhile is left out",
        "%(n)d photos that were deleted meanwhile are left out",
        "n",
    ),
    "pictures_fetched": ngettext_lazy("%(n)d photo fetched", "%(n)d photos fetched", "n"),
    "label_never_seen": gettext_lazy("Nothing is learned about what no training photo shows: %(label)s"),
    "out_of_memory": gettext_lazy(
        "The memory does not suffice for a batch of %(batch)s: it goes on with %(next)s"
    ),
    "killed_by_system": gettext_lazy(
        "The operating system ended the training, most likely for lack of memory: the batch is made smaller,"
        " from %(batch)s to %(next)s"
    ),
    "worker_stopped": gettext_lazy(
        "The worker was stopped; the training goes on as soon as one is there again"
    ),
    "broke": gettext_lazy("Broke with an error; it is tried again: %(error)s"),
    "checkpoint_not_kept": gettext_lazy("A checkpoint could not be stored (%(error)s). The training goes on"),
    "checkpoint_unusable": gettext_lazy(
        "The stored checkpoint is damaged or gone: it starts from the beginning"
    ),
    "cancelled": gettext_lazy("Cancelled"),
    "succeeded": gettext_lazy("Finished: %(version)s"),
    "not_compared": gettext_lazy(
        "The new version could not be compared with the one in production: %(error)s"
    ),
    "prepared": gettext_lazy(
        "Learns from %(training)s pictures and is measured on %(validation)s (windows of large photos counted singly)"
    ),
    # The engine's own.
    "windows": gettext_lazy(
        "Large photos are trained on in windows: %(pictures)s photos in %(windows)s windows of %(side_px)s px"
    ),
    "untrained": gettext_lazy("Starts from an untrained network: %(architecture)s"),
    "head_extended": gettext_lazy("Labels carried over from the base: %(known)s. New labels: %(new)s"),
    "device": gettext_lazy("Trained on %(device)s with batches of %(batch)s"),
    "resumed": gettext_lazy("Goes on after epoch %(epoch)s"),
    "checkpoint_unreadable": gettext_lazy(
        "A checkpoint could not be read (%(name)s); an earlier one is used"
    ),
    "recovered": gettext_lazy(
        "The loss of epoch %(epoch)s was no number; the epoch is done again from the last checkpoint"
    ),
    "stopped_early": gettext_lazy(
        "Ended after epoch %(epoch)s: nothing better for %(patience)s epochs, epoch %(best_epoch)s was the best"
    ),
    "log_cut": gettext_lazy("The trainer says too much: the rest of its words is left out"),
}


def log_text(line: TrainingLogLine) -> str:
    """The line in the reader's language; the trainer's own words stay as they are."""
    return _said(LOG, line.code, line.details) or _failure(line) or line.text or line.code


def _failure(line: TrainingLogLine) -> str:
    """With what is known of it: which photo, which error."""
    sentence = _said(FAILURES, line.code, line.details)
    detail = line.details.get("detail")
    return f"{sentence} ({detail})" if sentence and detail else sentence


def failure_text(run: TrainingRun) -> str:
    """Why the run failed; empty for one that did not."""
    if run.status != RunStatus.FAILED:
        return ""
    return _said(FAILURES, run.failure_reason, {}) or _("Something went wrong: %(reason)s") % {
        "reason": run.failure_reason
    }


def problem_sentence(code: str, details: Mapping[str, Any] | None = None) -> str:
    """What is wrong with a dataset; empty for a code that is none of ours."""
    return _said(DATASET_PROBLEMS, code, details or {})


def parameter_problem(problem: Mapping[str, Any]) -> str:
    """What is wrong with one parameter, without its name."""
    said = _said(PARAMETER_PROBLEMS, str(problem.get("code", "")), problem)
    return said or str(problem.get("message", ""))


def parameter_sentence(problem: Mapping[str, Any]) -> str:
    """The same with the name."""
    name = parameter_name(str(problem.get("field", "")))
    return _("%(name)s: %(problem)s") % {"name": name, "problem": parameter_problem(problem)}


def parameter_name(field: str) -> str:
    return str(PARAMETER_NAMES.get(field, field))


def choice_name(value: str) -> str:
    return str(PARAMETER_CHOICES.get(value, value))


def _said(sentences: Sentences, code: str, details: Mapping[str, Any]) -> str:
    if code not in sentences:
        return ""
    shown = {
        key: ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        for key, value in details.items()
    }
    try:
        return str(sentences[code] % shown)
    except (KeyError, TypeError, ValueError):  # a line of an older version: its numbers have other names
        return ""
