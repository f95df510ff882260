from types import SimpleNamespace

import pytest
from django.contrib.auth.models import Group

from tests.factories import (
    CommentFactory,
    DetectionFactory,
    LabelFactory,
    ModelVersionFactory,
    ObservationFactory,
    PhotoFactory,
    SurveyFactory,
    UserFactory,
)


@pytest.fixture
def curator(db):
    user = UserFactory(is_staff=True)
    user.groups.add(Group.objects.get(name="Curators"))
    return user


@pytest.fixture
def root(db):
    return UserFactory(is_staff=True, is_superuser=True)


@pytest.fixture
def rows(db):
    """One row of what the console shows."""
    from apps.accounts.models import ApiClient, ExpertApplication, OutgoingMail
    from apps.observations.models import ArchiveUpload, PlaceReview, RefusedFile, TilePyramid

    label = LabelFactory(survey=SurveyFactory())
    observation = ObservationFactory(survey=label.survey, title="Moss cushion")
    version = ModelVersionFactory(
        registered_model=label.survey.registered_model,
        metrics={"map50": 0.93, "nested": {"a": 1}},
        card="# Card\n<script>alert(1)</script>",
    )
    photo = PhotoFactory(observation=observation, status="done", model_version=version, detection_count=1)
    detection = DetectionFactory(photo=photo, model_version=version, label=label, number=1)
    client = ApiClient(owner=UserFactory(), name="Field app")
    client.new_secret()
    client.save()
    return SimpleNamespace(
        survey=label.survey,
        label=label,
        observation=observation,
        photo=photo,
        detection=detection,
        comment=CommentFactory(observation=observation),
        archiveupload=ArchiveUpload.objects.create(
            observation=observation, name="plates.zip", file="archives/a.zip", size_bytes=9, status="failed"
        ),
        placereview=PlaceReview.objects.create(survey=label.survey),
        tilepyramid=TilePyramid.objects.create(photo=photo),
        refusedfile=RefusedFile.objects.create(observation=observation, name="x.svg", code="not_a_picture"),
        registeredmodel=version.registered_model,
        modelversion=version,
        expertapplication=ExpertApplication.objects.create(
            user=UserFactory(), motivation="Ten years of mites"
        ),
        apiclient=client,
        outgoingmail=OutgoingMail.objects.create(
            recipient="a@podura.example", subject="Hello", body="secret link"
        ),
    )
