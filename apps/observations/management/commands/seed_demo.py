"""What `make run` shows a newcomer: the first survey, the shipped model, sample photos, three accounts."""

import json
import secrets
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from allauth.account.models import EmailAddress
from django.conf import settings
from django.contrib.auth.models import Group
from django.contrib.gis.geos import Point
from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from apps.accounts.models import User
from apps.observations.models import Licence, Observation, Photo, Survey
from apps.observations.services.detection import detect_batch
from apps.observations.services.intake import receive_photo
from apps.observations.services.observations import create_observation
from apps.observations.services.surveys import DATA_DIR, create_survey_from_file
from apps.training.models import ModelVersion, RegisteredModel
from apps.training.services import promote, register_model_version

SHIPPED = settings.BASE_DIR / "models" / "springtails"
PEOPLE: tuple[tuple[str, str, dict[str, bool]], ...] = (
    ("contributor", "Camille (demo)", {}),
    ("expert", "Émile (demo)", {"is_expert": True}),
    ("curator", "Inès (demo)", {"is_expert": True, "is_staff": True}),
)
# Invented places and days: the pictures themselves come from one laboratory plate.
PLACES = (
    ("Forêt de Brocéliande", -2.17, 48.02, datetime(2026, 4, 11, 9, 30, tzinfo=UTC)),
    ("Jardin des plantes, Toulouse", 1.45, 43.59, datetime(2026, 5, 2, 14, 5, tzinfo=UTC)),
    ("Massif du Vercors", 5.48, 44.95, datetime(2026, 6, 20, 8, 15, tzinfo=UTC)),
    ("Osijek", 18.69, 45.55, datetime(2026, 9, 5, 11, 0, tzinfo=UTC)),
)


class Command(BaseCommand):
    help = (
        "Create the Springtails survey, its model, sample photos with results and demo accounts (DEMO only)."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEMO:
            raise CommandError(
                "Demo data is only made with DEMO=1; a real site starts empty (docs/deploy.md)."
            )
        password = demo_password()
        people = [create_person(name, shown, password, flags) for name, shown, flags in PEOPLE]
        survey = create_survey_from_file(path=DATA_DIR / "springtails.json")
        install_shipped_model(survey)
        self.send_samples(survey, people[0])
        self.stdout.write("\nDemo accounts (one password for all three):")
        for person in people:
            self.stdout.write(f"  {person.email}")
        self.stdout.write(f"  password: {password}\n")

    def send_samples(self, survey: Survey, contributor: User) -> None:
        """Send the sample photos through the same door as everyone's, and detect what waits."""
        samples = sorted((SHIPPED / "samples").glob("*.jpg"))
        sent = (
            settings.STATE_DIR / "demo_samples_sent"
        )  # once a checkout: what a person deletes stays deleted
        if not sent.exists():
            # The queue of a new survey opens at 20 photos; there are 18 samples, and a newcomer wants to see it.
            Survey.objects.filter(pk=survey.pk, minimum_photos__gt=len(samples)).update(
                minimum_photos=len(samples)
            )
            for index, (place, longitude, latitude, day) in enumerate(PLACES):
                public_id = uuid.uuid5(uuid.NAMESPACE_URL, f"podura-demo-{index}")
                observation = Observation.objects.filter(public_id=public_id).first() or create_observation(
                    public_id=public_id,
                    contributor=contributor,
                    survey=survey,
                    title=place,
                    observed_at=day,
                    location=Point(longitude, latitude, srid=4326),
                    place_name=place,
                    comment="Demonstration: this date and place are invented.",
                    licence=Licence.CC_BY_NC,
                )
                for sample in samples[index :: len(PLACES)]:
                    with sample.open("rb") as file:
                        receive_photo(observation=observation, file=file, name=sample.name)
            sent.touch()
        waiting = Photo.objects.filter(survey=survey).claimable().count()
        if not waiting:
            return
        with tqdm(total=waiting, desc="Finding animals on the sample photos", unit="photo") as bar:
            while done := detect_batch():
                bar.update(done)


def demo_password() -> str:
    """One password a checkout, made once."""
    path: Path = settings.STATE_DIR / "demo_password"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(f"springtail-{secrets.token_hex(3)}")
    return path.read_text()


def create_person(name: str, display_name: str, password: str, flags: dict[str, bool]) -> User:
    email = f"{name}@podura.example"
    user = User.objects.filter(email=email).first()
    if user is None:
        user = User.objects.create_user(email, password, display_name=display_name, **flags)
        EmailAddress.objects.create(user=user, email=email, primary=True, verified=True)
    if user.is_staff:
        user.groups.add(Group.objects.get_or_create(name="Curators")[0])
    return user


def install_shipped_model(survey: Survey) -> ModelVersion:
    """Register the shipped weights once; a version that curators promoted since then stays in production."""
    model: RegisteredModel = survey.registered_model or RegisteredModel.objects.get(name="springtails")
    version = model.versions.order_by("number").first()
    if version is None:
        metrics = json.loads((SHIPPED / "metrics.json").read_text())
        version = register_model_version(
            registered_model=model,
            weights_path=next(SHIPPED.glob("weights*")),
            metrics=metrics,
            card=(SHIPPED / "card.md").read_text(),
        )
    if model.production_version is None:
        promote(version=version)
    return version
