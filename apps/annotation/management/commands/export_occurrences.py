"""`manage.py export_occurrences SURVEY FILE`: a Darwin Core Archive, or the model's boxes as COCO with their scores."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.annotation.services.occurrences import write_occurrences
from apps.annotation.services.predictions import predicted_set
from apps.observations.models import Survey
from apps.training.formats import coco


class Command(BaseCommand):
    help = "Write the finds of a survey as a Darwin Core Archive, or the model's boxes as COCO (--coco)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("survey", help="short name of the survey")
        parser.add_argument("file", type=Path, help="the zip to write")
        parser.add_argument(
            "--predictions", action="store_true", help="also what no expert has looked at, as unverified"
        )
        parser.add_argument("--coco", action="store_true", help="the model's boxes with scores, as COCO")

    def handle(self, *args: Any, **options: Any) -> None:
        survey = Survey.objects.filter(slug=options["survey"]).first()
        if survey is None:
            known = ", ".join(Survey.objects.values_list("slug", flat=True)) or "none"
            raise CommandError(f"No survey is called {options['survey']!r}. There are: {known}")
        try:
            with options["file"].open("wb") as target:
                if options["coco"]:
                    labelled = predicted_set(survey)
                    coco.write(labelled, target, None)
                    self.stdout.write(f"{len(labelled.images)} photos")
                else:
                    written = write_occurrences(survey, target, with_predictions=options["predictions"])
                    self.stdout.write(f"{written.records} records, {written.licence}")
        except OSError as error:
            raise CommandError(f"The file cannot be written: {error}") from error
