"""`observations/`, `surveys/` and `labels/`: thin, one class an address."""

import uuid
from http import HTTPStatus
from typing import Any, cast

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.models import User
from apps.common.parsers import StrictMultiPartParser
from apps.observations.api import idempotency, inputs, outputs, reading
from apps.observations.api.catalogue import label_page, production_versions, survey_page
from apps.observations.api.links import Links
from apps.observations.api.paging import PageInput, page
from apps.observations.api.representations import sent_photo_body, survey_body
from apps.observations.api.sending import NothingAcceptedError, Sent, nothing_accepted, send_photos
from apps.observations.models import Observation, Survey
from apps.observations.services.deletion import delete_observation

_IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[ -~]+$"},
    OpenApiParameter.HEADER,
    description="1 to 200 printable ASCII characters: sending the same request again with the same key does it once.",
)


class ObservationsView(APIView):
    parser_classes = (StrictMultiPartParser,)

    def get_throttles(self) -> list[Any]:
        self.throttle_scope = "upload" if self.request.method == "POST" else None
        return super().get_throttles()

    @extend_schema(
        operation_id="observations_list",
        summary="List observations",
        parameters=[inputs.ObservationFilter],
        responses={200: outputs.ObservationPageOutput},
        tags=["observations"],
    )
    def get(self, request: Request) -> Response:
        """Public observations and your own, newest first."""
        filters = inputs.ObservationFilter.validated(request.query_params)
        found = reading.observations_for(request.user, filters)
        bodies, next_key = reading.observation_page(request, found, limit=filters["limit"])
        return Response(page(request, bodies, next_key=next_key))

    @extend_schema(
        operation_id="observations_create",
        summary="Send photos",
        parameters=[_IDEMPOTENCY_KEY],
        request={"multipart/form-data": inputs.ObservationInput},
        responses={202: outputs.SentObservationOutput},
        tags=["observations"],
    )
    def post(self, request: Request) -> Response:
        """Send one or many photos as one observation.

        The photos are stored when the answer comes; the animals on them are found afterwards: ask the observation.
        Files that cannot be taken are listed in `refused`, the others go on; if none can be taken nothing is stored
        (400).
        """
        inputs.NoParameters.validated(request.query_params)
        fields = inputs.ObservationInput.validated(request.data)
        key = idempotency.requested_key(request)
        if key is None:
            return self._response(_send(request, fields, None))
        answer, is_replay = idempotency.once(
            user=_person(request),
            key=key,
            digest=idempotency.request_digest(request),
            act=lambda public_id: _send(request, fields, public_id),
        )
        return self._response(answer, is_replay=is_replay)

    @staticmethod
    def _response(answer: idempotency.Answer, *, is_replay: bool = False) -> Response:
        headers = {"Idempotent-Replayed": "true"} if is_replay else {}
        if answer.status != HTTPStatus.ACCEPTED:
            problem = nothing_accepted(answer.body["refused"])
            problem.headers |= headers
            raise problem
        return Response(
            answer.body, status=answer.status, headers={**headers, "Location": answer.body["links"]["self"]}
        )


def _send(request: Request, fields: dict[str, Any], public_id: uuid.UUID | None) -> idempotency.Answer:
    """Also a refusal of every file is an answer: the same request would meet it again."""
    try:
        sent = send_photos(contributor=_person(request), fields=fields, public_id=public_id)
    except NothingAcceptedError as error:
        return idempotency.Answer(HTTPStatus.BAD_REQUEST, {"refused": [item.body for item in error.refused]})
    return idempotency.Answer(HTTPStatus.ACCEPTED, _sent_body(sent, Links(request)))


def _sent_body(sent: Sent, links: Links) -> dict[str, Any]:
    return {
        "id": str(sent.observation.public_id),
        "is_new": sent.is_new,
        "photos": [
            sent_photo_body(
                item.photo,
                index=item.index,
                name=item.name,
                is_duplicate=item.is_duplicate,
                observation=item.photo.observation.public_id,
                links=links,
            )
            for item in sent.photos
        ],
        "refused": [item.body for item in sent.refused],
        "links": links.observation(sent.observation.public_id),
    }


class ObservationView(APIView):
    @extend_schema(
        operation_id="observations_retrieve",
        summary="Read an observation",
        responses={200: outputs.ObservationOutput},
        tags=["observations"],
    )
    def get(self, request: Request, public_id: uuid.UUID) -> Response:
        """The observation with the state of its photos and the animals found on them."""
        inputs.NoParameters.validated(request.query_params)
        return Response(reading.single_observation(request, _visible(request, public_id)))

    @extend_schema(
        operation_id="observations_destroy",
        summary="Delete an observation",
        responses={204: None},
        tags=["observations"],
    )
    def delete(self, request: Request, public_id: uuid.UUID) -> Response:
        """Delete your observation with its photos, results and files, for good."""
        inputs.NoParameters.validated(request.query_params)
        own = Observation.objects.filter(contributor=_person(request))
        delete_observation(observation=get_object_or_404(own, public_id=public_id))
        return Response(status=HTTPStatus.NO_CONTENT)


class ObservationPhotosView(APIView):
    @extend_schema(
        operation_id="observations_photos",
        summary="List an observation's photos",
        parameters=[PageInput],
        responses={200: outputs.PhotoPageOutput},
        tags=["observations"],
    )
    def get(self, request: Request, public_id: uuid.UUID) -> Response:
        """All photos of an observation, in the order they came."""
        asked = PageInput.validated(request.query_params)
        bodies, next_key = reading.photo_page(
            request, _visible(request, public_id), after=asked.get("cursor", 0), limit=asked["limit"]
        )
        return Response(page(request, bodies, next_key=next_key))


def _person(request: Request) -> User:
    """Whoever calls: no address here is open to anonymous callers."""
    return cast(User, request.user)


def _visible(request: Request, public_id: uuid.UUID) -> Observation:
    visible: QuerySet[Observation] = Observation.objects.visible_to(request.user)
    return get_object_or_404(visible.select_related("survey", "contributor"), public_id=public_id)


class SurveysView(APIView):
    @extend_schema(
        operation_id="surveys_list",
        summary="List surveys",
        parameters=[PageInput],
        responses={200: outputs.SurveyPageOutput},
        tags=["surveys"],
    )
    def get(self, request: Request) -> Response:
        """The surveys that photos can be sent to."""
        asked = PageInput.validated(request.query_params)
        bodies, next_key = survey_page(request, after=asked.get("cursor", 0), limit=asked["limit"])
        return Response(page(request, bodies, next_key=next_key))


class SurveyView(APIView):
    @extend_schema(
        operation_id="surveys_retrieve",
        summary="Read a survey",
        responses={200: outputs.SurveyOutput},
        tags=["surveys"],
    )
    def get(self, request: Request, slug: str) -> Response:
        """One survey, with the version of the model that looks at its photos."""
        inputs.NoParameters.validated(request.query_params)
        survey = get_object_or_404(Survey, slug=slug)
        version = production_versions([survey]).get(survey.registered_model_id)
        return Response(survey_body(survey, version=version, links=Links(request)))


class LabelsView(APIView):
    @extend_schema(
        operation_id="labels_list",
        summary="List labels",
        parameters=[inputs.LabelFilter],
        responses={200: outputs.LabelPageOutput},
        tags=["surveys"],
    )
    def get(self, request: Request) -> Response:
        """What an animal can be called, of one survey or of all."""
        asked = inputs.LabelFilter.validated(request.query_params)
        bodies, next_key = label_page(
            survey=asked.get("survey"), after=asked.get("cursor", 0), limit=asked["limit"]
        )
        return Response(page(request, bodies, next_key=next_key))
