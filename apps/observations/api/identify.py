"""`identify/`: the animals on one photo, at once, nothing stored."""

import math
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.common.parsers import StrictMultiPartParser
from apps.common.problems import FieldProblem, Problem
from apps.observations.api import inputs, outputs
from apps.observations.api.catalogue import production_versions
from apps.observations.models import Label, Survey
from apps.observations.services.identify import IdentifyBusyError, identify
from apps.observations.services.intake import RefusedPictureError


class IdentifyView(APIView):
    parser_classes = (StrictMultiPartParser,)
    throttle_scope = "identify"

    @extend_schema(
        operation_id="identify",
        summary="Identify a photo without keeping it",
        request={"multipart/form-data": inputs.IdentifyInput},
        responses={200: outputs.IdentificationOutput},
        tags=["identify"],
    )
    def post(self, request: Request) -> Response:
        """The animals on one photo, at once. Nothing is stored; 503 with Retry-After when too many ask."""
        inputs.NoParameters.validated(request.query_params)
        fields = inputs.IdentifyInput.validated(request.data)
        survey: Survey = fields["survey"]
        file: UploadedFile[Any] = fields["photo"]
        if not production_versions([survey]):
            detail = _("This survey has no model yet. Send the photo as an observation: it waits for one.")
            raise _try_again(code="no_model", detail=detail, seconds=3600)
        try:
            found = identify(file.read(), survey=survey)
        except RefusedPictureError as error:
            problem = FieldProblem("photo", error.code, error.message)
            raise Problem(
                status=400, code="photo_refused", detail=problem.detail, errors=[problem]
            ) from error
        except IdentifyBusyError as error:
            detail = _(
                "Too many photos are being looked at. Try again in a moment, or send it as an observation."
            )
            raise _try_again(code="busy", detail=detail, seconds=error.retry_after_s) from error
        return Response(_body(found, survey))


def _body(found: dict[str, Any], survey: Survey) -> dict[str, Any]:
    """What the worker found, with the names of the labels in the caller's language instead of the worker's."""
    codes = {box["label"]["code"] for box in found["detections"]}
    names = {label.code: label.name for label in Label.objects.filter(survey=survey, code__in=codes)}
    for box in found["detections"]:
        code = box["label"]["code"]
        box["label"] = {"code": code, "name": names.get(code, code)}
    return {"survey": survey.slug, **found}


def _try_again(*, code: str, detail: str, seconds: float) -> Problem:
    return Problem(status=503, code=code, detail=detail, headers={"Retry-After": str(math.ceil(seconds))})
