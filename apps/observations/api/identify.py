"""`identify/`: the animals on one photo, at once, nothing stored."""

from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.common.parsers import StrictMultiPartParser
from apps.common.problems import FieldProblem, Problem
from apps.observations.api import inputs, outputs
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
        file: UploadedFile = fields["photo"]
        try:
            found = identify(file.read(), survey=fields["survey"])
        except RefusedPictureError as error:
            problem = FieldProblem("photo", error.code, str(error.message))
            raise Problem(
                status=400, code="photo_refused", detail=problem.detail, errors=[problem]
            ) from error
        except IdentifyBusyError as error:
            raise Problem(
                status=503,
                code="busy",
                detail=_(
                    "Too many photos are being looked at. Try again in a moment, or send it as an observation."
                ),
                headers={"Retry-After": str(max(1, round(error.retry_after_s)))},
            ) from error
        return Response({"survey": fields["survey"].slug, **found})
