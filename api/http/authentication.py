"""Authentication by bearer tokens, and what a token may do."""

import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass

from api.http.tokens import DEFAULT_SCOPES, Scope, compute_digest, format_time, parse_words
from api.http.tokens_file import TokenTable
from api.settings import ApiSettings
from shared.authority import parse_address
from shared.errors import MissingScope, Unauthorized

PUBLIC = "public"


@dataclass(frozen=True, slots=True)
class Access:
    """The tenant of a request, and what it may do."""

    tenant: str
    scopes: frozenset[Scope] = DEFAULT_SCOPES

    def require(self, scope: Scope) -> None:
        """Check a scope.

        Raises:
            MissingScope: the token does not have it.
        """
        if scope not in self.scopes:
            raise MissingScope(
                f"This token may not do this: it lacks the scope {scope}. Ask the operator for a token that has it.",
                scope=scope,
            )


class Authenticator:
    """Maps a request's token to its access.  Without tokens every request belongs to the tenant PUBLIC."""

    def __init__(self, table: TokenTable | None, *, now: Callable[[], float] = time.time) -> None:
        """Take the accepted tokens, or None to require no token; `now` returns unix seconds."""
        self._table = table
        self._now = now

    @property
    def requires_token(self) -> bool:
        return self._table is not None

    def authenticate(self, authorization: str | None) -> Access:
        """Return the access of an Authorization header (RFC 6750, section 2.1).

        Raises:
            Unauthorized: it holds no bearer token, an unknown one, or one that has expired.
        """
        if self._table is None:
            return Access(PUBLIC)
        scheme, _, sent = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not sent.strip():
            raise Unauthorized("This service asks for a token: send the header Authorization: Bearer <token>.")
        digest = compute_digest(sent.strip())
        # Every digest is compared, in constant time, so that the response time reveals nothing about any of them.
        matches = [token for token in self._table.list_tokens() if hmac.compare_digest(token.digest, digest)]
        if not matches:
            raise Unauthorized("This token is not known here.")
        (token,) = matches
        if token.expires_at is not None and token.expires_at <= self._now():
            raise Unauthorized(
                f"This token expired at {format_time(token.expires_at)}: ask the operator for a new one."
            )
        return Access(token.tenant, token.scopes)

    def accepts(self, authorization: str | None) -> bool:
        """Tell whether authenticate() returns an access."""
        try:
            self.authenticate(authorization)
        except Unauthorized:
            return False
        return True


def build_authenticator(settings: ApiSettings) -> Authenticator:
    """Read the tokens of the settings and decide whether a token is required.

    Raises:
        ValueError: the settings contradict each other, or a reachable address would be served without a token.
    """
    table = TokenTable(parse_words(settings.tokens.get_secret_value()), settings.tokens_file)
    has_tokens = bool(table.list_tokens())
    if settings.auth == "off" and has_tokens:
        raise ValueError("tokens are configured but MASKMILL_AUTH=off would require none: drop one of the two")
    if settings.auth == "off" or (settings.auth == "auto" and not has_tokens and _is_local(settings.reachable_at)):
        return Authenticator(None)
    if not has_tokens:
        raise ValueError(
            f"no tokens are configured for {settings.reachable_at}: set MASKMILL_TOKENS or MASKMILL_TOKENS_FILE, "
            "or MASKMILL_AUTH=off to serve every client that can reach it"
        )
    return Authenticator(table)


def _is_local(bind: str) -> bool:
    address = parse_address(bind)
    return bind.startswith("unix:") or (address is not None and address.is_loopback)
