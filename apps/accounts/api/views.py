"""`token/` and `token/refresh/`."""

from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.api.credentials import check_client, check_person, refused
from apps.accounts.api.tokens import TokenPair, give_tokens, renew
from apps.common.inputs import StrictSerializer
from apps.common.parsers import StrictFormParser, StrictJSONParser


class CredentialsInput(StrictSerializer):
    """Either a person's e-mail address and password, or a partner app's id and secret."""

    email = serializers.CharField(max_length=254, required=False)
    password = serializers.CharField(
        max_length=1024, required=False, trim_whitespace=False, style={"input_type": "password"}
    )
    code = serializers.CharField(
        max_length=32,
        required=False,
        help_text=_("Two-factor code, if the account has two-factor authentication."),
    )
    client_id = serializers.UUIDField(required=False)
    client_secret = serializers.CharField(max_length=1024, required=False, trim_whitespace=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        person, client = {"email", "password"}, {"client_id", "client_secret"}
        given = set(attrs) - {"code"}
        if given not in (person, client):
            raise ValidationError(
                _("Send email and password, or client_id and client_secret."), code="required"
            )
        return attrs


class RefreshInput(StrictSerializer):
    """A refresh token that was not used before."""

    refresh = serializers.CharField(max_length=4096)


class TokensOutput(serializers.Serializer[Any]):
    access = serializers.CharField(help_text=_("Send it with each request: Authorization: Bearer …"))
    refresh = serializers.CharField(
        help_text=_("Works once, at token/refresh/; using it again ends the session.")
    )
    token_type = serializers.ChoiceField(choices=["Bearer"])
    expires_in = serializers.IntegerField(help_text=_("Seconds until the access token expires."))


class _OpenView(APIView):
    authentication_classes = ()
    permission_classes = (AllowAny,)
    parser_classes = (StrictJSONParser, StrictFormParser)
    throttle_scope = "token"


class TokenView(_OpenView):
    @extend_schema(
        operation_id="token_create",
        request=CredentialsInput,
        responses={200: TokensOutput},
        summary="Get tokens",
        tags=["token"],
    )
    def post(self, request: Request) -> Response:
        """Exchange an e-mail address and password, or a partner app's credentials, for tokens."""
        fields = CredentialsInput.validated(request.data)
        if "client_id" in fields:
            client = check_client(
                request=request._request,  # noqa: SLF001 (allauth's limits want Django's request)
                client_id=fields["client_id"],
                client_secret=fields["client_secret"],
            )
            return _answer(give_tokens(user=client.owner, client=client))
        user = check_person(
            request=request._request,  # noqa: SLF001
            email=fields["email"],
            password=fields["password"],
            code=fields.get("code", ""),
        )
        return _answer(give_tokens(user=user))


class TokenRefreshView(_OpenView):
    @extend_schema(
        operation_id="token_refresh",
        request=RefreshInput,
        responses={200: TokensOutput},
        summary="Renew tokens",
        tags=["token"],
    )
    def post(self, request: Request) -> Response:
        """Exchange a refresh token for a new pair. A token that was used before ends all of its session's tokens."""
        pair = renew(RefreshInput.validated(request.data)["refresh"])
        if pair is None:
            raise refused()
        return _answer(pair)


def _answer(pair: TokenPair) -> Response:
    body = {
        "access": pair.access,
        "refresh": pair.refresh,
        "token_type": "Bearer",
        "expires_in": pair.expires_in_s,
    }
    return Response(body, headers={"Cache-Control": "no-store"})
