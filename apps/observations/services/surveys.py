"""Surveys that come with Podura."""

import json
from pathlib import Path
from typing import Any

from django.db import transaction

from apps.observations.models import Label, Survey
from apps.training.models import RegisteredModel

DATA_DIR = Path(__file__).resolve().parent.parent / "data"


@transaction.atomic
def create_survey_from_file(*, path: Path) -> Survey:
    """Create the survey, its labels and its registered model as the file says; what exists is left as it is."""
    data: dict[str, Any] = json.loads(path.read_text())
    model, _created = RegisteredModel.objects.get_or_create(name=data.pop("registered_model"))
    labels = data.pop("labels")
    survey, _created = Survey.objects.get_or_create(
        slug=data.pop("slug"), defaults={**data, "registered_model": model}
    )
    by_code = {label.code: label for label in survey.labels.all()}
    for position, row in enumerate(labels):
        if row["code"] not in by_code:
            parent = by_code.get(row.pop("parent", ""))
            by_code[row["code"]] = Label.objects.create(
                survey=survey, parent=parent, position=position, **row
            )
    return survey
