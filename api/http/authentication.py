"""Authentication by bearer tokens: only their SHA-256 digests are kept, each with the tenant that it stands for."""

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from api.settings import ApiSettings
from shared.errors import Unauthorized

PUBLIC = "public"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Authenticator:
    """Maps a request's token to its tenant.  Without tokens every request belongs to the tenant PUBLIC."""

    def __init__(self, tenants: Mapping[str, str] | None) -> None:
        """Take tenants by the hex SHA-256 of their tokens, or None to require no token."""
        self._tenants = tenants

    @property
    def requires_token(self) -> bool:
        return self._tenants is not None

    def authenticate(self, authorization: str | None) -> str:
        """Return the tenant of an Authorization header (RFC 6750, section 2.1).

        Raises:
            Unauthorized: it holds no bearer token, or an unknown one.
        """
        if self._tenants is None:
            return PUBLIC
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthorized("This service asks for a token: send the header Authorization: Bearer <token>.")
        digest = _sha256(token.strip())
        # Every digest is compared, in constant time, so that the response time reveals nothing about any of them.
        matches = [tenant for known, tenant in self._tenants.items() if hmac.compare_digest(known, digest)]
        if not matches:
            raise Unauthorized("This token is not known here.")
        return matches[0]


def build_authenticator(settings: ApiSettings) -> Authenticator:
    """Read the tokens of the settings and decide whether a token is required.

    Raises:
        ValueError: the settings contradict each other, or a reachable address would be served without a token.
    """
    tenants = {**_parse_tokens(settings.tokens.get_secret_value()), **_read_tokens_file(settings.tokens_file)}
    if settings.auth == "off" and tenants:
        raise ValueError("tokens are configured but MASKMILL_AUTH=off would require none: drop one of the two")
    if settings.auth == "off" or (settings.auth == "auto" and not tenants and _is_local(settings.bind)):
        return Authenticator(None)
    if not tenants:
        raise ValueError(
            f"no tokens are configured for {settings.bind}: set MASKMILL_TOKENS or MASKMILL_TOKENS_FILE, "
            "or MASKMILL_AUTH=off to serve every client that can reach it"
        )
    return Authenticator(tenants)


def _parse_tokens(setting: str) -> dict[str, str]:
    return dict(_parse_token(word) for word in re.split(r"[,\s]+", setting) if word)


def _parse_token(word: str) -> tuple[str, str]:
    """Return the digest and the tenant of `name:token`, or of a bare token, whose tenant is named by its digest."""
    name, colon, token = word.partition(":")
    if not colon:
        digest = _sha256(word)
        return digest, digest[:16]
    if not _NAME.fullmatch(name) or not token:
        # The word may be a secret, so the message does not repeat it.
        raise ValueError("MASKMILL_TOKENS: each must be `name:token` or `token`, a name of letters, digits, . _ -")
    return _sha256(token), name


def _read_tokens_file(path: str) -> dict[str, str]:
    if not path:
        return {}
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise ValueError(f"MASKMILL_TOKENS_FILE: {path} cannot be read: {error.strerror}") from error
    return dict(_parse_lines(text.splitlines(), path))


def _parse_lines(lines: Iterable[str], path: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(lines, start=1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        name, _, digest = entry.partition(":")
        if not _NAME.fullmatch(name) or not _SHA256.fullmatch(digest.strip().lower()):
            raise ValueError(f"MASKMILL_TOKENS_FILE: line {number} of {path} is not `name:sha256`")
        yield digest.strip().lower(), name


def _is_local(bind: str) -> bool:
    host = bind.rpartition(":")[0].strip("[]")
    if bind.startswith("unix:") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
