"""What is said about weights from outside, in the reader's language. A file's own words are cut and plain text."""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

_ANOTHER_FILE = gettext_lazy(
    "Send a checkpoint that Ultralytics wrote (.pt), a Podura weights file (.podura) or a safetensors file with Podura's "
    "metadata."
)
_CODE = gettext_lazy("Nothing of it was run.")

_TEXTS: Mapping[str, Any] = {
    "empty": gettext_lazy("The file is empty."),
    "too_large": gettext_lazy("The file has %(size)s bytes; at most %(most)s are taken."),
    "too_large_unpacked": gettext_lazy("The file unpacks to more than is taken."),
    "wrong_digest": gettext_lazy(
        "The file's SHA-256 is %(found)s, not %(expected)s: it was altered on its way, or is another file."
    ),
    "not_weights": gettext_lazy("This is no weights file: neither a checkpoint nor safetensors."),
    "onnx": gettext_lazy(
        "This is an ONNX file. It cannot be trained further: send the checkpoint (.pt) that it was made from."
    ),
    "torchscript": gettext_lazy(
        "This is TorchScript, which holds a program. Send the checkpoint (.pt) that it was made from."
    ),
    "legacy_format": gettext_lazy(
        "This checkpoint has the form that PyTorch wrote before version 1.6. Load it where it comes from with a newer PyTorch "
        "and save it again."
    ),
    "tar_format": gettext_lazy("This is a tar archive. Send the checkpoint (.pt) that is in it."),
    "foreign_code": gettext_lazy(
        "The file asks for “%(name)s”, which no checkpoint of a detector needs: loading it elsewhere could run a program."
    ),
    "hidden_code": gettext_lazy(
        "The file hides what it asks for (%(operation)s): loading it elsewhere could run a program."
    ),
    "shadowed": gettext_lazy(
        "The file replaces a function of the net (“%(name)s”): loading it elsewhere could run a program."
    ),
    "pickle_too_large": gettext_lazy("The file's description of the net is larger than that of any net."),
    "too_many_parts": gettext_lazy("The file has %(count)s parts; at most %(most)s are taken."),
    "archive_name": gettext_lazy("The archive has a part with an impossible name: “%(name)s”."),
    "archive_twice": gettext_lazy("The archive has “%(name)s” twice."),
    "archive_part": gettext_lazy("The archive has a part that no checkpoint has: “%(name)s”."),
    "archive_compressed": gettext_lazy("The archive's part “%(name)s” is compressed, which PyTorch never does."),
    "damaged": gettext_lazy("The file is damaged or was cut on its way (%(detail)s)."),
    "tensor_lies": gettext_lazy("The tensor “%(name)s” is larger than the file says, or lies outside of it."),
    "tensors_differ": gettext_lazy("The tensors do not belong to the net that the file describes (%(detail)s)."),
    "tensors_missing": gettext_lazy("The file lacks tensors of its own net (%(detail)s)."),
    "not_finite": gettext_lazy("The weights hold numbers that are infinite or none (%(detail)s)."),
    "no_architecture": gettext_lazy(
        "The file does not say which net its tensors belong to. Send the whole checkpoint as Ultralytics writes it, not only the "
        "tensors."
    ),
    "no_metadata": gettext_lazy("This safetensors file lacks Podura's metadata (net, labels, picture size)."),
    "not_a_detector": gettext_lazy("The file holds “%(kind)s”, not a detector: only detection models can be used."),
    "unknown_layer": gettext_lazy(
        "The net has a layer that is not known here (“%(name)s”): it is of another kind, or newer than this site."
    ),
    "yolov5": gettext_lazy(
        "This is a checkpoint of YOLOv5's own program, which Ultralytics cannot read. Train again from one of its nets, "
        "yolov5nu for example, and send that checkpoint."
    ),
    "architecture": gettext_lazy("The net that the file describes cannot be used (%(detail)s)."),
    "labels": gettext_lazy("The file's labels cannot be used (%(detail)s)."),
    "labels_missing": gettext_lazy("The file does not name its labels one by one."),
    "labels_too_many": gettext_lazy("The file names %(count)s labels; 1 to %(most)s can be used."),
    "label_not_a_name": gettext_lazy(
        "Label %(row)s (“%(label)s”) cannot be a name: it must be printable text without < > { } \\ .. and without spaces around it."
    ),
    "label_twice": gettext_lazy("The label “%(label)s” stands there twice."),
    "label_count_differs": gettext_lazy("The file names %(labels)s labels, but its net tells %(outputs)s apart."),
    "does_not_run": gettext_lazy("The net breaks on a picture (%(detail)s)."),
    "output_not_finite": gettext_lazy("On a picture the net answers with numbers that are no scores."),
    "took_too_long": gettext_lazy("Its examination took more than %(seconds)s seconds."),
    "too_much_memory": gettext_lazy("Its examination needed more memory than any net in use here."),
    "too_much_time_or_memory": gettext_lazy("Its examination needed more time or memory than any net in use here."),
    "examination_failed": gettext_lazy("The examination ended without a result (%(detail)s)."),
    "abandoned": gettext_lazy("Nobody decided on it for 30 days."),
    "file_gone": gettext_lazy("The file is gone from the storage. Send it again."),
}  # fmt: skip
_NOTES: Mapping[str, Any] = {
    "other_order": gettext_lazy("The labels stand in another order than in the version in production."),
    "object_size_assumed": gettext_lazy(
        "The file does not say how large the animals were that it learned from; %(size)s px are assumed. Send it again with the "
        "size if you know it: it decides which photos are looked at in parts."
    ),
    "known_weights": gettext_lazy("The same weights are registered already, as %(version)s."),
    "no_licence": gettext_lazy("Neither the file nor whoever sent it states a licence."),
}
_NOTHING_RUN = frozenset(("foreign_code", "hidden_code", "shadowed", "torchscript"))
_SEND_ANOTHER = frozenset(("not_weights", "no_metadata", "not_a_detector", "unknown_layer", "tar_format"))


class _Details(dict[str, Any]):
    def __missing__(self, name: str) -> str:
        return "–"


def problem_text(code: str, details: Mapping[str, Any] | None = None) -> str:
    """The sentence of a refusal; what to do or that nothing happened is said with it."""
    known = _TEXTS.get(code)
    if known is None:
        return _("The file was refused (%(code)s).") % {"code": code}
    given = _Details(details or {})
    given.setdefault("detail", given.get("name", "–"))
    sentences = [str(known) % given]
    if code in _NOTHING_RUN:
        sentences.append(str(_CODE))
    if code in _SEND_ANOTHER:
        sentences.append(str(_ANOTHER_FILE))
    return " ".join(sentences)


def note_text(code: str, details: Mapping[str, Any]) -> str:
    """Something a curator should know before accepting."""
    if code in ("unknown_to_surveys", "lost_labels", "new_labels"):
        labels = list(details.get("labels", ()))
        shown = ", ".join(labels[:20]) + (" …" if len(labels) > 20 else "")
        return _about_labels(code, len(labels)) % {"count": len(labels), "labels": shown}
    known = _NOTES.get(code)
    return str(known) % _Details(details) if known is not None else code


def _about_labels(code: str, count: int) -> str:
    if code == "unknown_to_surveys":
        return ngettext(
            "%(count)d label is unknown to the surveys that use this model: %(labels)s.",
            "%(count)d labels are unknown to the surveys that use this model: %(labels)s.",
            count,
        )
    if code == "lost_labels":
        return ngettext(
            "%(count)d label of the version in production is missing: %(labels)s.",
            "%(count)d labels of the version in production are missing: %(labels)s.",
            count,
        )
    return ngettext(
        "%(count)d label is new compared with the version in production: %(labels)s.",
        "%(count)d labels are new compared with the version in production: %(labels)s.",
        count,
    )
