"""URLs that lead elsewhere than to the public internet: none is connected to, and no error says what was found."""

import itertools
import socket
import traceback
from collections.abc import Iterator, Sequence

import pytest

from shared.errors import ForbiddenUrl, MaskmillError, UrlRefused
from shared.outgoing.client import GuardedClient
from shared.outgoing.policy import OutgoingPolicy
from tests.support.web_server import WebServer, build_redirect, build_response, serve_web

SECRET = b"the secret of an internal service"

# {port} is that of a server on loopback.
AT_ONCE = (
    "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/_GET",
    "ftp://127.0.0.1:{port}/photo.jpg",
    "data:image/png;base64,AAAA",
    "dict://127.0.0.1:{port}/info",
    "//127.0.0.1:{port}/photo.jpg",
    "http:///photo.jpg",
    "http://me:s3cr3t@127.0.0.1:{port}/",
    "http://photos.example@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\\@photos.example/",
    "http://127.0.0.1 :{port}/",
    "http://photos.example\r\nX-Injected: 1/",
    "http://127.0.0.1:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://127.1:{port}/",
    "http://2130706433:{port}/",
    "http://017700000001:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://0x7f.0.0.1:{port}/",
    "http://0x7f000001:{port}/",
    "http://0.0.0.0:{port}/",
    "http://0:{port}/",
    "http://\uff11\uff12\uff17.0.0.1:{port}/",
    "http://127\u30020\u30020\u30021:{port}/",
    "http://localhost:{port}/",
    "http://LOCALHOST.:{port}/",
    "http://photos.localhost:{port}/",
    "http://[::1]:{port}/",
    "http://[::]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://[2001:0:7f00:1::1]:{port}/",
    "http://[fe80::1%25lo]:{port}/",
    "http://[fe80::1]:{port}/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://169.254.169.254/latest/meta-data/",
    "http://168.63.129.16/machine",
    "http://100.100.100.200/latest/meta-data/",
    "http://10.0.0.1/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://photos.example:99999/",
    "http://photos.example/" + "a" * 2048,
)
# Names with the addresses that the resolver gives for them.
AFTER_RESOLVING = {
    "loopback.example": ("127.0.0.1",),
    "loopback6.example": ("::1",),
    "mapped.example": ("::ffff:127.0.0.1",),
    "translated.example": ("64:ff9b::7f00:1",),
    "tunnel.example": ("2002:7f00:1::",),
    "zone.example": ("fe80::1%lo",),
    "metadata.example": ("169.254.169.254",),
    "one-of-two.example": ("127.0.0.1", "93.184.215.14"),
    "unspecified.example": ("0.0.0.0",),
}
REDIRECTS = (
    "http://127.0.0.1:{port}/secret",
    "http://2130706433:{port}/secret",
    "http://[::ffff:127.0.0.1]:{port}/secret",
    "//loopback.example:{port}/secret",
    "http://loopback.example:{port}/secret",
    "file:///etc/passwd",
    "gopher://loopback.example:{port}/",
    "http://me:s3cr3t@photos.example/",
    "http://[",
)
POLICY = OutgoingPolicy.build(("http", "https"), "photos.example")


@pytest.fixture(scope="module")
def internal() -> Iterator[WebServer]:
    """A server that must not be reached."""
    with serve_web(lambda _, client: client.sendall(build_response(SECRET))) as server:
        yield server


def resolve(host: str, _port: int) -> Sequence[str]:
    """Return what the test says of a name; of an unknown one, an address of loopback."""
    return AFTER_RESOLVING.get(host, ("127.0.0.1",))


def fetch(url: str) -> bytes:
    client = GuardedClient(POLICY, resolve)
    return client.fetch(url, max_bytes=10**6, max_seconds=5, max_redirects=3).content


def assert_is_silent(error: MaskmillError, *hidden: str) -> None:
    text = "".join(traceback.format_exception(error)[-1:]) + str(error) + repr(error) + str(error.details)
    assert not [one for one in (SECRET.decode(), "127.0.0.1", "::1", "169.254", *hidden) if one in text]
    assert error.__suppress_context__ or error.__context__ is None


@pytest.mark.parametrize("url", AT_ONCE)
def test_a_forbidden_url_is_refused_before_anything_is_resolved(url: str, internal: WebServer) -> None:
    def resolve_never(host: str, _port: int) -> Sequence[str]:
        raise AssertionError(f"{host} was resolved")

    client = GuardedClient(POLICY, resolve_never)

    with pytest.raises(ForbiddenUrl) as caught:
        client.fetch(url.format(port=internal.port), max_bytes=10**6, max_seconds=5, max_redirects=3)

    assert internal.connections == 0
    assert_is_silent(caught.value, "s3cr3t")


@pytest.mark.parametrize("name", AFTER_RESOLVING)
def test_a_name_of_an_address_that_is_not_public_is_refused(name: str, internal: WebServer) -> None:
    with pytest.raises(UrlRefused) as caught:
        fetch(f"http://{name}:{internal.port}/")

    assert internal.connections == 0
    assert_is_silent(caught.value, name)


@pytest.mark.parametrize("location", REDIRECTS)
def test_a_redirect_to_a_forbidden_url_is_refused(location: str, internal: WebServer) -> None:
    redirect = build_redirect(location.format(port=internal.port))
    with serve_web(lambda _, client: client.sendall(redirect)) as server, pytest.raises(UrlRefused) as caught:
        fetch(f"http://photos.example:{server.port}/")

    assert (server.connections, internal.connections) == (1, 0)
    assert_is_silent(caught.value, "loopback.example")


def test_a_name_that_resolves_to_another_address_the_second_time_is_connected_to_the_first() -> None:
    answers = iter([["127.0.0.1"], ["127.0.0.2"], ["127.0.0.2"]])
    client = GuardedClient(OutgoingPolicy.build(["http"], "127.0.0.1/32"), lambda _host, _port: next(answers))

    with (
        serve_web(lambda _, client: client.sendall(build_response(b"photo"))) as public,
        serve_web(lambda _, client: client.sendall(build_response(SECRET)), "127.0.0.2", public.port) as private,
    ):
        url = f"http://rebinding.example:{public.port}/"
        first = client.fetch(url, max_bytes=100, max_seconds=5, max_redirects=0)
        with pytest.raises(UrlRefused):
            client.fetch(url, max_bytes=100, max_seconds=5, max_redirects=0)

    assert first.content == b"photo"
    assert (public.connections, private.connections) == (1, 0)


def test_a_name_is_resolved_and_checked_again_after_a_redirect() -> None:
    answers = itertools.chain([["127.0.0.1"]], itertools.repeat(["127.0.0.2"]))
    client = GuardedClient(OutgoingPolicy.build(["http"], "127.0.0.1/32"), lambda _host, _port: next(answers))

    def answer(_target: str, client: socket.socket) -> None:
        client.sendall(build_redirect("/again"))

    with serve_web(answer) as public, pytest.raises(UrlRefused):
        client.fetch(f"http://rebinding.example:{public.port}/", max_bytes=100, max_seconds=5, max_redirects=3)

    assert public.connections == 1
