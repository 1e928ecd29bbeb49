"""Who is asking: bearer tokens, known here by their SHA-256 only, and the tenant that each stands for."""

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
    """Lets requests in and says whose they are.  Without tokens everybody is the one public tenant."""

    def __init__(self, tenants: Mapping[str, str] | None) -> None:
        """Take tenants by the hex SHA-256 of their tokens, or None to let everybody in."""
        self._tenants = tenants

    @property
    def requires_token(self) -> bool:
        return self._tenants is not None

    def authenticate(self, authorization: str | None) -> str:
        """Return the tenant that an Authorization header stands for.

        Raises:
            Unauthorized: there is no bearer token in it, or one that is not known.
        """
        if self._tenants is None:
            return PUBLIC
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthorized("This service asks for a token: send the header Authorization: Bearer <token>.")
        asked = _sha256(token.strip())
        # Every sum is compared, in constant time, so that the time taken tells nothing about any of them.
        found = [tenant for known, tenant in self._tenants.items() if hmac.compare_digest(known, asked)]
        if not found:
            raise Unauthorized("This token is not known here.")
        return found[0]


def build_authenticator(settings: ApiSettings) -> Authenticator:
    """Read the tokens and decide whether they are asked for.

    Raises:
        ValueError: the settings contradict each other, or would serve strangers without a token.
    """
    tenants = {**_tokens_of(settings.tokens.get_secret_value()), **_tokens_in(settings.tokens_file)}
    if settings.auth == "off" and tenants:
        raise ValueError("tokens are configured but MASKMILL_AUTH=off would ask nobody for one: drop one of the two")
    if settings.auth == "off" or (settings.auth == "auto" and not tenants and _is_local(settings.bind)):
        return Authenticator(None)
    if not tenants:
        raise ValueError(
            f"no tokens are configured for {settings.bind}: set MASKMILL_TOKENS or MASKMILL_TOKENS_FILE, "
            "or MASKMILL_AUTH=off to serve everybody who can reach it"
        )
    return Authenticator(tenants)


def _tokens_of(setting: str) -> dict[str, str]:
    return dict(_named(word) for word in re.split(r"[,\s]+", setting) if word)


def _named(word: str) -> tuple[str, str]:
    name, colon, token = word.partition(":")
    if not colon:
        digest = _sha256(word)
        return digest, digest[:16]
    if not _NAME.fullmatch(name) or not token:
        # The word itself may be a secret, so the message does not repeat it.
        raise ValueError("MASKMILL_TOKENS: each must be `name:token` or `token`, a name of letters, digits, . _ -")
    return _sha256(token), name


def _tokens_in(path: str) -> dict[str, str]:
    if not path:
        return {}
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise ValueError(f"MASKMILL_TOKENS_FILE: {path} cannot be read: {error.strerror}") from error
    return dict(_lines_of(text.splitlines(), path))


def _lines_of(lines: Iterable[str], path: str) -> Iterator[tuple[str, str]]:
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
