"""`manage.py freeze_dataset SURVEY`: the accepted answers as an immutable dataset, now."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.annotation.services.datasets import NothingAcceptedError, freeze_dataset
from apps.observations.models import Survey


class Command(BaseCommand):
    help = "Freeze the accepted answers of a survey into an immutable dataset."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("survey", help="short name of the survey")

    def handle(self, *args: Any, **options: Any) -> None:
        survey = Survey.objects.filter(slug=options["survey"]).first()
        if survey is None:
            known = ", ".join(Survey.objects.values_list("slug", flat=True)) or "none"
            raise CommandError(f"No survey is called {options['survey']!r}. There are: {known}")
        try:
            dataset = freeze_dataset(survey)
        except NothingAcceptedError:
            raise CommandError("No photo of this survey has an accepted answer yet.") from None
        self.stdout.write(
            f"{dataset}: {dataset.photo_count} photos, {dataset.box_count} boxes, {dataset.digest}"
        )
