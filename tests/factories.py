"""The smallest valid row of each table."""

import hashlib
import itertools

import factory
from django.core.files.base import ContentFile
from factory.django import DjangoModelFactory

from apps.accounts.models import ApiClient, User
from apps.observations.models import Comment, Detection, Label, Observation, Photo, Survey
from apps.training.models import ModelVersion, RegisteredModel

PASSWORD = "springtails jump far"
_digests = itertools.count()


def new_digest() -> str:
    return hashlib.sha256(str(next(_digests)).encode()).hexdigest()


class UserFactory(DjangoModelFactory[User]):
    class Meta:
        model = User
        skip_postgeneration_save = True

    email = factory.Sequence(lambda n: f"person{n}@podura.example")
    display_name = factory.Sequence(lambda n: f"Person {n}")
    password = factory.django.Password(PASSWORD)


class ApiClientFactory(DjangoModelFactory[ApiClient]):
    class Meta:
        model = ApiClient

    owner = factory.SubFactory(UserFactory)
    name = factory.Sequence(lambda n: f"App {n}")


class RegisteredModelFactory(DjangoModelFactory[RegisteredModel]):
    class Meta:
        model = RegisteredModel

    name = factory.Sequence(lambda n: f"model-{n}")


class ModelVersionFactory(DjangoModelFactory[ModelVersion]):
    class Meta:
        model = ModelVersion

    registered_model = factory.SubFactory(RegisteredModelFactory)
    number = factory.Sequence(lambda n: n + 1)
    stage = ModelVersion.Stage.PRODUCTION
    weights = "weights/none.safetensors"
    weights_sha256 = factory.LazyFunction(new_digest)
    weights_bytes = 1
    labels = factory.LazyFunction(lambda: ["collembola"])
    image_size_px = 640
    object_size_px = 117.0


class SurveyFactory(DjangoModelFactory[Survey]):
    class Meta:
        model = Survey

    slug = factory.Sequence(lambda n: f"survey-{n}")
    name_en = factory.Sequence(lambda n: f"Survey {n}")
    name_fr = factory.Sequence(lambda n: f"Campagne {n}")
    registered_model = factory.SubFactory(RegisteredModelFactory)


class LabelFactory(DjangoModelFactory[Label]):
    class Meta:
        model = Label

    survey = factory.SubFactory(SurveyFactory)
    code = factory.Sequence(lambda n: f"LAB_{n}")
    scientific_name = factory.Sequence(lambda n: f"Podura species{n}")


class ObservationFactory(DjangoModelFactory[Observation]):
    class Meta:
        model = Observation

    survey = factory.SubFactory(SurveyFactory)
    contributor = factory.SubFactory(UserFactory)


class PhotoFactory(DjangoModelFactory[Photo]):
    """A photo row of an observation; its three files are tiny placeholders in the test storage."""

    class Meta:
        model = Photo

    observation = factory.SubFactory(ObservationFactory)
    contributor = factory.SelfAttribute("observation.contributor")
    survey = factory.SelfAttribute("observation.survey")
    name = factory.Sequence(lambda n: f"plate-{n}.jpg")
    original = factory.LazyFunction(lambda: ContentFile(b"original", name="original.jpg"))
    display = factory.LazyFunction(lambda: ContentFile(b"display", name="display.jpg"))
    thumbnail = factory.LazyFunction(lambda: ContentFile(b"thumbnail", name="thumbnail.jpg"))
    format = "JPEG"
    size_bytes = 8
    width_px = 640
    height_px = 640
    sha256 = factory.LazyFunction(new_digest)


class DetectionFactory(DjangoModelFactory[Detection]):
    """A box of the photo's shown version (`photo.model_version` must be set for it to be current)."""

    class Meta:
        model = Detection

    photo = factory.SubFactory(PhotoFactory)
    model_version = factory.SubFactory(ModelVersionFactory)
    number = factory.Sequence(lambda n: n + 1)
    # Boxes beyond those counted are the weak ones, as detection numbers them.
    is_weak = factory.LazyAttribute(
        lambda box: box.photo.detection_count is not None and box.number > box.photo.detection_count
    )
    label = factory.SubFactory(LabelFactory, survey=factory.SelfAttribute("..photo.survey"))
    score = 0.9
    class_scores = factory.LazyFunction(lambda: [0.9])
    x_min, y_min, x_max, y_max = 10.0, 20.0, 110.0, 70.0


class CommentFactory(DjangoModelFactory[Comment]):
    class Meta:
        model = Comment

    observation = factory.SubFactory(ObservationFactory)
    author = factory.SubFactory(UserFactory)
    body = "A fine springtail"
