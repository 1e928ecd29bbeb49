"""Types of settings: what a value must be, and the sentence for an operator who wrote another one.

Sentences repeat no value that may hold a password.  Each says what is wrong, then what to write.
"""

import ipaddress
import os
import re
import ssl
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from shared.authority import parse_address, parse_authority, wrap_ipv6
from shared.outgoing.policy import parse_allowed
from shared.setting_urls import MAX_PORT, check_endpoint, check_proxy, check_redis_url

# Above it, timeouts of sockets, locks and timers overflow one after the other.
MAX_SECONDS: Final = 366 * 24 * 3600
# Of a process, a batch or a queue; more threads or processes than this are a slip of the keyboard.
MAX_COUNT: Final = 100_000
MAX_BYTES: Final = 2**50

# sun_path of unix(7), without its final zero.
_MAX_SOCKET_PATH_BYTES: Final = 107
_MAX_SHOWN_PATH: Final = 200
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REGION: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
# A signature separates the parts of a credential by slashes, and its own by commas and equals signs.
_ACCESS_KEY: Final = re.compile(r"[!-+.0-<>-~-]{1,128}")
_SECRET_KEY: Final = re.compile(r"[!-~]{1,1024}")
_PLAIN_MODEL: Final = re.compile(r"[\w./@-]+", re.ASCII)
_DEVICE: Final = re.compile(r"auto|cpu|mps|(?:cuda|xpu)(?::[0-9]{1,3})?")
_QUOTES: Final = ('"', "'")


def clean_text(value: str) -> str:
    """Return a value without the blanks and line ends around it.

    Raises:
        ValueError: it has quotes around it, which `--env-file` keeps, or control characters in it.
    """
    value = value.strip()
    if len(value) > 1 and value[0] in _QUOTES and value[0] == value[-1]:
        raise ValueError("has quotes around it; write the value without them")
    # Lists may be of several lines.
    if any(not character.isprintable() and not character.isspace() for character in value):
        raise ValueError("holds a control character; write it without")
    return value


def check_bucket(value: str) -> str:
    """Return a name that every S3-compatible store accepts for a bucket.

    The rules are those of Amazon's documentation, "General purpose bucket naming rules".

    Raises:
        ValueError: it is none.
    """
    if not _BUCKET.fullmatch(value) or ".." in value or _is_ip(value):
        raise ValueError(
            "is no name of a bucket; write 3 to 63 lower-case letters, digits, hyphens and single dots, "
            "a letter or digit first and last"
        )
    return value


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def check_buckets(value: str) -> str:
    """Return names of buckets, separated by commas or spaces.

    Raises:
        ValueError: one of them is none.
    """
    for name in value.replace(",", " ").split():
        check_bucket(name)
    return value


def check_region(value: str) -> str:
    if not _REGION.fullmatch(value):
        raise ValueError("is no name of a region; write letters, digits and hyphens, as in us-east-1")
    return value


def check_access_key(value: str) -> str:
    if not _ACCESS_KEY.fullmatch(value):
        raise ValueError("is no access key; write at most 128 characters of ASCII, without blanks and without / , =")
    return value


def check_secret_key(value: str) -> str:
    if not _SECRET_KEY.fullmatch(value):
        raise ValueError("is no secret key; write at most 1,024 characters of ASCII, without blanks")
    return value


def check_model(value: str) -> str:
    """Return what MASKMILL_MODEL may be; whether there is such a model is known to the worker alone.

    Raises:
        ValueError: no worker could load it.
    """
    advice = "write embedded, org/name for the Hub, s3://bucket/prefix, or a folder that begins with / or ./"
    scheme, separator, rest = value.partition("://")
    if separator:
        bucket, _, prefix = rest.partition("/")
        if scheme != "s3" or not prefix.strip("/"):
            raise ValueError(f"is no address of a model; {advice}")
        check_bucket(bucket)
    elif not value.startswith((".", "/", "~")) and not _PLAIN_MODEL.fullmatch(value):
        raise ValueError(f"is no name of a model; {advice}")
    return value


def check_device(value: str) -> str:
    if not _DEVICE.fullmatch(value):
        raise ValueError("is no device; write auto, cpu, mps, cuda, cuda:0 or another number of a GPU")
    return value


def check_listen_address(value: str) -> str:
    """Return an address to listen on; a host that this machine lacks is found by listening.

    Raises:
        ValueError: it is no `host:port`, or no path at which there can be a socket.
    """
    if value.startswith("unix:"):
        _check_socket_path(Path(value.removeprefix("unix:")))
        return value
    address = parse_address(value)
    if address is None or address.port is None or address.port > MAX_PORT:
        raise ValueError("is neither host:port nor unix:/path; write it as in 127.0.0.1:8000, or 0.0.0.0:8000 for all")
    return value


def _check_socket_path(path: Path) -> None:
    if not path.is_absolute() or len(os.fsencode(path)) > _MAX_SOCKET_PATH_BYTES:
        raise ValueError(
            f"has a path that cannot be a socket's; write unix: and an absolute path of {_MAX_SOCKET_PATH_BYTES} "
            "bytes at most"
        )
    if not path.parent.is_dir():
        raise ValueError(f"is in a folder that does not exist; make the folder {path.parent}")
    if path.is_dir():
        raise ValueError("is a folder; write the path of a socket in it")


def check_host(value: str) -> str:
    """Return a host name or an address without a port; an IPv6 address needs no brackets, and loses them.

    Raises:
        ValueError: it is neither.
    """
    authority = parse_authority(wrap_ipv6(value))
    if authority is None or authority.port is not None:
        raise ValueError("is no host; write a name or an address without a scheme and a port, as in 127.0.0.1")
    return value.strip("[]")


def check_certificates(value: str) -> str:
    """Return the path of a PEM file of certificates.

    Raises:
        ValueError: it cannot be read, or holds none.
    """
    check_file(value)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(value)
    except (ssl.SSLError, ValueError):
        raise ValueError(f"the file {quote_path(value)} holds no certificate; write the path of a PEM file") from None
    return value


def check_key_pair(certificate: str, key: str) -> None:
    """Check the PEM files of a client's certificate and its key.

    Raises:
        ValueError: they do not belong together, or the key asks for a passphrase.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, ValueError):
        raise ValueError(
            "MASKMILL_REDIS_KEY_FILE: is not the key of MASKMILL_REDIS_CERT_FILE, or has a passphrase; "
            "write a PEM file of its key without one"
        ) from None


def check_file(value: str) -> str:
    """Return the path of a file that can be read.

    Raises:
        ValueError: it cannot.
    """
    path = Path(value)
    try:
        is_file = path.is_file()
    except OSError:  # a path that is too long
        is_file = False
    if not is_file:
        raise ValueError(f"there is no file {quote_path(value)}; write the path of one")
    if not os.access(path, os.R_OK):
        raise ValueError(f"the file {quote_path(value)} cannot be read; let this user read it")
    return value


def quote_path(value: str) -> str:
    """Return a path for a sentence; not a value that is likely no path, but the content of a file, such as a key."""
    is_path = value.startswith(("/", "./", "../", "~/")) and "\n" not in value
    return value[:_MAX_SHOWN_PATH] if is_path else "of that name"


def check_writable_folder(value: str) -> str:
    """Return the path of a folder that can be written, or made.

    Raises:
        ValueError: it cannot.
    """
    try:
        found = next(folder for folder in (Path(value), *Path(value).absolute().parents) if folder.exists())
    except OSError:
        raise ValueError("is too long for a path; write the path of a folder") from None
    if not found.is_dir():
        raise ValueError(f"cannot be a folder, because {found} is a file; write the path of a folder")
    if not os.access(found, os.W_OK | os.X_OK):
        raise ValueError(f"cannot be written in {found}; write the path of a folder of this user")
    return value


def check_allowed(value: str) -> str:
    parse_allowed(value)
    return value


# `inf` and `nan` are no durations.
Seconds = Annotated[float, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False)]
SecondsOrNone = Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]
Milliseconds = Annotated[float, Field(ge=0, le=1000 * MAX_SECONDS, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0, le=MAX_COUNT)]
CountOrNone = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Bytes = Annotated[int, Field(gt=0, le=MAX_BYTES)]
Port = Annotated[int, Field(ge=0, le=MAX_PORT)]
RedisUrl = Annotated[str, AfterValidator(check_redis_url)]
Endpoint = Annotated[str, AfterValidator(check_endpoint)]
ProxyUrl = Annotated[str, AfterValidator(check_proxy)]
BucketName = Annotated[str, AfterValidator(check_bucket)]
BucketNames = Annotated[str, AfterValidator(check_buckets)]
Region = Annotated[str, AfterValidator(check_region)]
AccessKey = Annotated[str, AfterValidator(check_access_key)]
ModelName = Annotated[str, AfterValidator(check_model)]
Device = Annotated[str, AfterValidator(check_device)]
Certificates = Annotated[str, AfterValidator(check_certificates)]
ReadableFile = Annotated[str, AfterValidator(check_file)]
WritableFolder = Annotated[str, AfterValidator(check_writable_folder)]
AllowedTargets = Annotated[str, AfterValidator(check_allowed)]
ListenAddress = Annotated[str, AfterValidator(check_listen_address)]
Host = Annotated[str, AfterValidator(check_host)]
