"""Requests to servers that a client names, through the guard of connections.py.

Neither variables such as `http_proxy` nor .netrc are read.  Errors hold no bytes of an answer, no address and no URL.
"""

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ssl import SSLContext
from typing import Final
from urllib.parse import urljoin

import httpcore2

from shared.errors import ForbiddenUrl, UrlRefused, UrlTooLarge, UrlUnreachable
from shared.outgoing.connections import Deadline, GuardedBackend, Resolve, resolve_host
from shared.outgoing.policy import OutgoingPolicy, OutgoingUrl, check_url

USER_AGENT: Final = "maskmill"
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_TYPE_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a server answered with 200.

    content_type: as the server says, in lower case and without parameters; empty if it says nothing.
    """

    content: bytes
    content_type: str = ""


@dataclass(frozen=True, slots=True)
class OutgoingResponse:
    """Status and headers of an answer; the names of headers are in lower case, of several of a name the last stands."""

    status: int
    headers: Mapping[str, str]


class GuardedClient:
    """Sends requests that a policy allows; each over a connection of its own.  Thread-safe."""

    def __init__(
        self,
        policy: OutgoingPolicy,
        resolve: Resolve = resolve_host,
        ssl_context: SSLContext | None = None,
        user_agent: str = USER_AGENT,
    ) -> None:
        """Take how names are resolved, and which certificates are trusted: by default those of the system."""
        self._policy = policy
        self._resolve = resolve
        self._ssl_context = ssl_context
        self._user_agent = user_agent

    def fetch(self, url: str, *, max_bytes: int, max_seconds: float, max_redirects: int) -> Fetched:
        """Return what a URL, or one that it redirects to, answers.

        Args:
            max_seconds: for all of it, from the first look-up of a name to the last byte.

        Raises:
            ForbiddenUrl: as from check_url().
            UrlRefused: it leads to an address that is not public, or redirects to a URL that is not allowed.
            UrlTooLarge: the answer has more than max_bytes.
            UrlUnreachable: there is no answer in time, one with another status, or too many redirects.
        """
        deadline = Deadline.in_seconds(max_seconds)
        target = check_url(url, self._policy)
        headers = {"Accept": "image/*, */*;q=0.1", "Accept-Encoding": "identity"}
        for _ in range(max_redirects + 1):
            with self._send("GET", target, headers, b"", deadline) as response:
                if response.status not in _REDIRECTS:
                    return _read_answer(response, max_bytes)
                target = self._follow(target, response)
        raise UrlUnreachable(f"The URL redirects more than {max_redirects} times.")

    def post(self, url: str, body: bytes, headers: Mapping[str, str], *, max_seconds: float) -> OutgoingResponse:
        """Send a body and return the status of the answer, of an error too; redirects are not followed.

        The content of the answer is not read.

        Args:
            headers: besides Host, User-Agent and Content-Length.

        Raises:
            ForbiddenUrl, UrlRefused, UrlUnreachable: as from fetch().
        """
        target = check_url(url, self._policy)
        with self._send("POST", target, headers, body, Deadline.in_seconds(max_seconds)) as response:
            return OutgoingResponse(response.status, _read_headers(response))

    @contextmanager
    def _send(
        self, method: str, url: OutgoingUrl, headers: Mapping[str, str], body: bytes, deadline: Deadline
    ) -> Iterator[httpcore2.Response]:
        backend = GuardedBackend(self._policy, self._resolve, deadline)
        target = httpcore2.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target)
        sent = {
            "Host": url.authority,
            "User-Agent": self._user_agent,
            "Connection": "close",
            **({"Content-Length": str(len(body))} if body else {}),
            **headers,
        }
        with (
            _client_errors(),
            httpcore2.ConnectionPool(
                ssl_context=self._ssl_context or _get_default_context(), network_backend=backend
            ) as pool,
            pool.stream(method, target, headers=list(sent.items()), content=body or None) as response,
        ):
            yield response

    def _follow(self, url: OutgoingUrl, response: httpcore2.Response) -> OutgoingUrl:
        location = _read_headers(response).get("location", "")
        try:
            target = check_url(urljoin(str(url), location), self._policy)
        except (ForbiddenUrl, ValueError):
            raise UrlRefused("The URL redirects to one that is not allowed.") from None
        if url.scheme == "https" and target.scheme != "https":
            raise UrlRefused("The URL redirects from https to http.")
        return target


@functools.cache
def _get_default_context() -> SSLContext:
    # Loading the certificates of the system takes a moment, and memory that most processes never need.
    return httpcore2.default_ssl_context()


def _read_headers(response: httpcore2.Response) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}


def _read_answer(response: httpcore2.Response, max_bytes: int) -> Fetched:
    headers = _read_headers(response)
    if response.status != 200:
        raise UrlUnreachable(f"The server of the URL answers with status {response.status}.")
    # Nothing is decompressed, so that a few bytes cannot become many.
    if headers.get("content-encoding", "identity").lower() not in {"identity", ""}:
        raise UrlUnreachable("The server of the URL sends a compressed body, which was not asked for.")
    declared = headers.get("content-length", "0")
    too_large = UrlTooLarge(f"The URL has more than {max_bytes} bytes.")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise too_large
    content = bytearray()
    for chunk in response.iter_stream():
        content += chunk
        if len(content) > max_bytes:
            raise too_large
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return Fetched(bytes(content), kind[:_MAX_TYPE_CHARS])


@contextmanager
def _client_errors() -> Iterator[None]:
    """Translate the errors of the HTTP client; without their causes, which may hold addresses and bytes.

    Raises:
        UrlUnreachable: the server did not answer, or not in HTTP.
    """
    try:
        yield
    except httpcore2.TimeoutException:
        reason = "The server of the URL took too long."
    except (httpcore2.NetworkError, OSError):
        reason = "The server of the URL does not answer, or shows no valid certificate."
    except (httpcore2.ProtocolError, httpcore2.UnsupportedProtocol):
        reason = "The server of the URL does not answer in HTTP."
    else:
        return
    raise UrlUnreachable(reason) from None
