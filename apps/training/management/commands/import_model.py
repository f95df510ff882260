"""`manage.py import_model`: weights from outside by the same door as the console's."""

import argparse
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.files import File
from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.training.engine.refusals import RefusedWeightsError
from apps.training.import_texts import note_text, problem_text
from apps.training.models import ModelImport, RegisteredModel
from apps.training.services.model_imports import (
    DecidedError,
    accept_import,
    examine_import,
    import_notes,
    request_model_import,
)


class Command(BaseCommand):
    help = "Examine a weights file from outside, show its labels and, when asked, register it as a candidate version."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help=".pt (Ultralytics), .podura or safetensors with metadata")
        parser.add_argument("--model", required=True, help="name of the registered model")
        parser.add_argument("--create-model", action="store_true", help="make the model if there is none")
        parser.add_argument(
            "--sha256", default="", type=_checked("sha256"), help="refuse a file with another digest"
        )
        parser.add_argument("--licence", default="", type=_checked("licence"))
        parser.add_argument("--note", default="", help="where the file comes from")
        parser.add_argument(
            "--object-size", type=_object_size, help="median long side of the trained boxes, in px"
        )
        parser.add_argument("--accept", action="store_true", help="accept without asking")

    def handle(self, *args: Any, **options: Any) -> None:
        model = self._model(options["model"], makes=options["create_model"], path=options["file"])
        try:
            with options["file"].open("rb") as file:
                row = request_model_import(
                    registered_model=model,
                    file=File(file, name=options["file"].name),
                    name=options["file"].name,
                    expected_sha256=options["sha256"],
                    licence=options["licence"],
                    note=options["note"],
                    object_size_px=options["object_size"],
                )
        except RefusedWeightsError as error:
            raise CommandError(problem_text(error.code, error.details)) from error
        except OSError as error:
            raise CommandError(f"{options['file']}: {error.strerror}") from error
        self.stdout.write(f"{row.name}: {row.size_bytes} bytes, SHA-256 {row.sha256}")
        try:
            row = examine_import(row)
        except KeyboardInterrupt:
            raise CommandError("Stopped. A worker examines it; it will wait in the console.") from None
        self._show(row)
        self._decide(row, is_accepted=options["accept"])

    def _model(self, name: str, *, makes: bool, path: Path) -> RegisteredModel:
        try:  # before a model is made for nothing
            is_file = stat.S_ISREG(path.stat().st_mode)
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}") from error
        if not is_file:  # a device has no end, a pipe may have no beginning
            raise CommandError(f"{path}: not a regular file")
        model = RegisteredModel.objects.filter(name=name).first()
        if model is not None:
            return model
        if not makes:
            known = ", ".join(RegisteredModel.objects.values_list("name", flat=True)) or "–"
            raise CommandError(f"There is no model “{name}” (known: {known}). --create-model makes it.")
        model = RegisteredModel(name=name)
        try:
            model.full_clean()
        except ValidationError as error:
            raise CommandError("; ".join(error.messages)) from error
        model.save()
        return model

    def _show(self, row: ModelImport) -> None:
        if row.problem:
            raise CommandError(problem_text(row.problem, row.problem_details))
        if "kind" not in row.findings:
            raise CommandError(row.failure_reason or "The examination is under way elsewhere; look again.")
        found = row.findings
        self.stdout.write(
            f"{found['kind']}, {found['head']}, {found['parameters']:,} parameters, {found['image_size_px']} px, "
            f"typical animal {found['object_size_px']:g} px, licence {'; '.join(found['licences']) or '–'}"
        )
        self.stdout.write(f"{len(found['labels'])} labels:")
        for number, label in enumerate(found["labels"]):
            self.stdout.write(f"  {number:>3}  {label}")
        for code, details in import_notes(row):
            self.stdout.write(f"! {note_text(code, details)}")

    def _decide(self, row: ModelImport, *, is_accepted: bool) -> None:
        if not is_accepted:
            if not self.stdin_is_terminal():
                self.stdout.write("Not accepted: it waits in the console, or say --accept.")
                return
            is_accepted = self._answer(f"Register as the next version of {row.registered_model}? [y/N] ")
        if not is_accepted:
            self.stdout.write("Not accepted; it waits in the console.")
            return
        try:
            version = accept_import(model_import=row)
        except DecidedError as error:
            raise CommandError(f"Decided already: {error}") from error
        except RefusedWeightsError as error:
            raise CommandError(problem_text(error.code, error.details)) from error
        self.stdout.write(self.style.SUCCESS(f"{version} is a candidate now."))

    @staticmethod
    def _answer(question: str) -> bool:
        try:
            return input(question).strip().lower() in ("y", "yes")
        except (EOFError, KeyboardInterrupt):
            return False

    @staticmethod
    def stdin_is_terminal() -> bool:
        import sys

        return sys.stdin is not None and sys.stdin.isatty()


def _checked(name: str) -> Callable[[str], str]:
    """An option held against the column that it goes to."""
    field: Any = ModelImport._meta.get_field(name)

    def read(text: str) -> str:
        value = text.strip().lower() if name == "sha256" else text.strip()
        try:
            checked: str = field.clean(value, None) if value else ""
        except ValidationError as error:
            raise argparse.ArgumentTypeError("; ".join(error.messages)) from error
        return checked

    return read


def _object_size(text: str) -> float:
    try:
        size = float(text)
    except ValueError:
        size = 0.0
    if not 1 <= size <= 100_000:  # nor NaN
        raise argparse.ArgumentTypeError("a number of pixels from 1 to 100,000")
    return size
