"""URLs of stores and proxies in settings: what a value must be, and the sentence for an operator who wrote another one.

No sentence repeats a value, because it may hold a password.
"""

import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

from shared.authority import parse_authority

MAX_PORT: Final = 65_535
REDIS_SCHEMES: Final = ("redis", "rediss", "unix")
_REDIS_EXAMPLE: Final = "redis://:password@host:6379/0"
# Of the clients of Redis and of Celery; a sentence may name them, because they are no part of a password.
_REDIS_PARAMETERS: Final = {
    "client_name", "db", "health_check_interval", "max_connections", "password", "protocol", "retry_on_error",
    "retry_on_timeout", "socket_connect_timeout", "socket_keepalive", "socket_timeout", "ssl_ca_certs",
    "ssl_ca_data", "ssl_ca_path", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_ciphers",
    "ssl_keyfile", "ssl_min_version", "ssl_password", "timeout", "username", "virtual_host",
    "visibility_timeout",
}  # fmt: skip


def check_redis_url(value: str) -> str:
    """Return the URL with its scheme in lower case, as the clients of Redis and of Celery compare it.

    They know different parameters, among them some that turn verification off: only `db` of a Unix socket is allowed.

    Raises:
        ValueError: one of them would not understand it, or they would understand different things.
    """
    scheme, separator, rest = value.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in REDIS_SCHEMES:
        allowed = ", ".join(f"{name}://" for name in REDIS_SCHEMES)
        raise ValueError(f"begins with none of {allowed}; write it as in {_REDIS_EXAMPLE}")
    value = f"{scheme}://{rest}"
    parts = _split_url(value, _REDIS_EXAMPLE)
    if scheme == "unix":
        _check_socket_parts(parts)
    else:
        _check_host(parts, _REDIS_EXAMPLE)
        if not re.fullmatch(r"/?|/[0-9]{1,6}", parts.path):
            raise ValueError(f"has a path that is no number of a database; write it as in {_REDIS_EXAMPLE}")
    _check_redis_parameters(parts)
    return value


def _check_socket_parts(parts: SplitResult) -> None:
    if not parts.path.strip("/") or parts.netloc.rpartition("@")[2]:
        raise ValueError("names no socket; write it as in unix:///run/redis.sock?db=0")
    if not all(number.isdecimal() for number in re.findall(r"db=([^&]*)", parts.query)):
        raise ValueError("has a db that is no number; write it as in unix:///run/redis.sock?db=0")


def _check_redis_parameters(parts: SplitResult) -> None:
    allowed = {"db"} if parts.scheme == "unix" else set()
    wrong = {pair.partition("=")[0] for pair in parts.query.split("&") if pair} - allowed
    if wrong:
        # Any other name may be a part of a password with a question mark in it.
        known = ", ".join(sorted(wrong & _REDIS_PARAMETERS))
        raise ValueError(
            f"has parameters that are not supported{f' ({known})' if known else ''}; for TLS use rediss:// "
            "and MASKMILL_REDIS_CA_FILE, for timeouts MASKMILL_REDIS_TIMEOUT_SECONDS"
        )


def check_endpoint(value: str) -> str:
    """Return the URL of an object store, without a slash at its end.

    Raises:
        ValueError: it is none, or has parts that a client would drop.
    """
    example = "https://s3.example:9000"
    parts = _check_http_url(value, example)
    if parts.username is not None:
        raise ValueError(
            "holds a user or a password; use MASKMILL_STORAGE_ACCESS_KEY and MASKMILL_STORAGE_SECRET_KEY for the keys"
        )
    return parts.geturl().rstrip("/")


def check_proxy(value: str) -> str:
    """Return the URL of an HTTP proxy.

    Raises:
        ValueError: it is none.
    """
    parts = _check_http_url(value, "http://proxy.example:3128")
    if parts.path not in ("", "/"):
        raise ValueError("has a path, which a proxy cannot have; write it as in http://proxy.example:3128")
    return parts.geturl()


def _check_http_url(value: str, example: str) -> SplitResult:
    scheme, separator, _ = value.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        raise ValueError(f"begins with neither http:// nor https://; write it as in {example}")
    parts = _split_url(value, example)
    _check_host(parts, example)
    if parts.query:
        raise ValueError(f"has parameters after a question mark; write it as in {example}")
    return parts


def _split_url(value: str, example: str) -> SplitResult:
    """Split a URL whose password may have characters that end an earlier part of it."""
    if any(character.isspace() for character in value):
        raise ValueError(f"holds a blank; write it as in {example}, and a blank of a password as %20")
    try:
        parts = urlsplit(value)
    except ValueError:
        raise ValueError(f"has brackets that hold no IPv6 address; write it as in {example}") from None
    if "@" in f"{parts.path}{parts.query}{parts.fragment}" or "#" in value:
        raise ValueError(
            f"has characters that end a password in a URL; write it as in {example}, "
            "with / ? # @ : of a password as %2F %3F %23 %40 %3A"
        )
    return parts


def _check_host(parts: SplitResult, example: str) -> None:
    # The error of `parts.port` would repeat what may be a part of a password.
    authority = parse_authority(parts.netloc.rpartition("@")[2])
    if authority is None or not (authority.port is None or 1 <= authority.port <= MAX_PORT):
        raise ValueError(f"has no host, or a port that is not 1 to {MAX_PORT}; write it as in {example}")
