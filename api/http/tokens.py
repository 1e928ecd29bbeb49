"""Tokens: a line of the tokens file for each, or a word of MASKMILL_TOKENS.  Only SHA-256 digests are kept.

    name:sha256 scopes=read,submit expires=2027-01-31T00:00:00Z

Both attributes may be missing: such a token may read and submit, and never expires.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SETTINGS = "MASKMILL_TOKENS, MASKMILL_TOKENS_FILE"
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Scope(StrEnum):
    """What a token may do with the jobs of its tenant; `submit` and `admin` include `read`."""

    READ = "read"  # see models, jobs and results
    SUBMIT = "submit"  # submit, cancel and purge jobs
    ADMIN = "admin"  # see what concerns the operator: names of workers, and why one cannot serve


DEFAULT_SCOPES = frozenset({Scope.READ, Scope.SUBMIT})


@dataclass(frozen=True, slots=True)
class Token:
    """A token: its digest (64 hex digits), its tenant and its rights.

    expires_at: unix seconds; None: never.
    """

    tenant: str
    digest: str
    scopes: frozenset[Scope] = DEFAULT_SCOPES
    expires_at: float | None = None


def compute_digest(token: str) -> str:
    """Return the hex SHA-256 of a token as it is sent."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def parse_words(setting: str) -> list[Token]:
    """Read MASKMILL_TOKENS: `name:token`, or a bare token, whose tenant is named by its digest.

    Raises:
        ValueError: a word is neither.
    """
    return [_parse_word(word) for word in re.split(r"[,\s]+", setting) if word]


def parse_file(text: str, path: str) -> list[Token]:
    """Read a tokens file; `#` begins a comment.

    Raises:
        ValueError: a line is wrong, or there is no token: a file that is being written looks like that.
    """
    tokens = list(_parse_lines(text.splitlines(), path))
    if not tokens:
        raise ValueError(f"MASKMILL_TOKENS_FILE: {path} holds no token")
    return tokens


def build_table(tokens: Iterable[Token]) -> Sequence[Token]:
    """Return tokens without repetitions.

    Raises:
        ValueError: the same token is given to two names, or with different rights.
    """
    table: dict[str, Token] = {}
    for token in tokens:
        other = table.setdefault(token.digest, token)
        if other.tenant != token.tenant:
            raise ValueError(
                f"{_SETTINGS}: the names {other.tenant} and {token.tenant} have the same token: make one for each"
            )
        if other != token:
            raise ValueError(
                f"{_SETTINGS}: a token of {token.tenant} is given twice, with different scopes or times of expiry"
            )
    return tuple(table.values())


def parse_scopes(text: str) -> frozenset[Scope]:
    """Read scopes, separated by commas, with those that they include.

    Raises:
        ValueError: one does not exist, or there is none.
    """
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in [*Scope]]
    if unknown:
        raise ValueError(f"there is no scope {unknown[0][:64]!r}: the scopes are {', '.join(Scope)}")
    return frozenset(Scope(name) for name in names) | {Scope.READ}


def parse_time(text: str) -> float:
    """Read a date, which begins at midnight UTC, or a time with its zone, of ISO 8601; return unix seconds.

    Raises:
        ValueError: it is neither, or in UTC not within the years 1 to 9999.
    """
    found = datetime.fromisoformat(text.upper())
    if found.tzinfo is None:
        if len(text) > len("2027-01-31"):
            raise ValueError("a time needs its zone, such as Z")
        found = found.replace(tzinfo=UTC)
    try:
        return found.astimezone(UTC).timestamp()
    except OverflowError:
        raise ValueError(f"{text} is not within the years 1 to 9999 of UTC") from None


def format_time(unix_seconds: float) -> str:
    """Return the time as parse_time() reads it, without fractions of a second."""
    # strftime() writes a year before 1000 with fewer than four digits.
    return f"{datetime.fromtimestamp(unix_seconds, UTC).replace(microsecond=0, tzinfo=None).isoformat()}Z"


def format_line(token: Token) -> str:
    """Return the line of a token for the tokens file.

    Raises:
        ValueError: its name has other characters than letters, digits, . _ -
    """
    if not _NAME.fullmatch(token.tenant):
        raise ValueError("a name has 1 to 64 letters, digits, . _ -")
    line = f"{token.tenant}:{token.digest} scopes={','.join(scope for scope in Scope if scope in token.scopes)}"
    return line if token.expires_at is None else f"{line} expires={format_time(token.expires_at)}"


def _parse_word(word: str) -> Token:
    name, colon, token = word.partition(":")
    if not word.isascii() or not word.isprintable():
        # A header has no such characters, or has them in an encoding of the client's choice.
        raise ValueError("MASKMILL_TOKENS: a token has letters, digits and signs of ASCII alone")
    if not colon:
        digest = compute_digest(word)
        return Token(digest[:16], digest)
    if not _NAME.fullmatch(name) or not token:
        # The word may be a secret, so the message does not repeat it.
        raise ValueError("MASKMILL_TOKENS: each must be `name:token` or `token`, a name of letters, digits, . _ -")
    return Token(name, compute_digest(token))


def _parse_lines(lines: Iterable[str], path: str) -> Iterator[Token]:
    for number, line in enumerate(lines, start=1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        try:
            yield _parse_line(entry)
        except ValueError:
            # The line may hold a token by mistake, so the message does not repeat it.
            raise ValueError(
                f"MASKMILL_TOKENS_FILE: line {number} of {path} is not `name:sha256`, with `scopes=` (read, submit, "
                "admin, by commas) and `expires=` (such as 2027-01-31T00:00:00Z) after it if need be"
            ) from None


def _parse_line(entry: str) -> Token:
    name, _, rest = entry.partition(":")
    digest, *words = rest.lower().split() or [""]
    if not _NAME.fullmatch(name) or not _SHA256.fullmatch(digest):
        raise ValueError
    attributes = _parse_attributes(words)
    scopes, expires = attributes.get("scopes"), attributes.get("expires")
    return Token(
        name,
        digest,
        DEFAULT_SCOPES if scopes is None else parse_scopes(scopes),
        None if expires is None else parse_time(expires),
    )


def _parse_attributes(words: Sequence[str]) -> Mapping[str, str]:
    attributes = dict(word.split("=", 1) for word in words)
    if len(attributes) != len(words) or not attributes.keys() <= {"scopes", "expires"}:
        raise ValueError
    return attributes
