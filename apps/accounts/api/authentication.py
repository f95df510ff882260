"""Who calls the API: a person's or a partner app's access token, or a browser's session (with CSRF)."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.tokens import Token

from apps.accounts.api.tokens import token_holder
from apps.accounts.models import User


class ApiAuthentication(JWTAuthentication):
    """Bearer tokens, looked up on each request: an account or client that ended takes its tokens along."""

    def authenticate(self, request: Request) -> tuple[User, Token] | None:  # type: ignore[override]
        header = self.get_header(request)
        raw_token = self.get_raw_token(header) if header else None
        if raw_token is None:
            return None
        token = self.get_validated_token(raw_token)
        holder = token_holder(token)
        if holder is None:
            raise AuthenticationFailed
        # For the rate limit of the client (apps.common.throttling) and for nothing else.
        token.api_client = holder.client  # type: ignore[attr-defined]
        return holder.user, token


class ApiAuthenticationScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "apps.accounts.api.authentication.ApiAuthentication"
    name = "accessToken"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:  # noqa: ARG002 (the framework calls it so)
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
