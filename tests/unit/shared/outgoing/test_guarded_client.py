"""Answers of servers that a client names: bounded in bytes, in time and in redirects."""

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ForbiddenUrl, UrlRefused, UrlTooLarge, UrlUnreachable
from shared.outgoing.addresses import is_public
from shared.outgoing.client import Fetched, GuardedClient
from shared.outgoing.policy import OutgoingPolicy, check_url, parse_allowed
from tests.support.tls import serve_tls, write_certificate
from tests.support.web_server import WebServer, build_redirect, build_response, serve_web

POLICY = OutgoingPolicy.build(("http", "https"), "photos.example")
CLIENT = GuardedClient(POLICY, lambda _host, _port: ["127.0.0.1"])


def fetch(
    server: WebServer, path: str = "/", *, client: GuardedClient = CLIENT, max_bytes: int = 1000, seconds: float = 5
) -> Fetched:
    url = f"http://photos.example:{server.port}{path}"
    return client.fetch(url, max_bytes=max_bytes, max_seconds=seconds, max_redirects=2)


def send(*chunks: bytes) -> Callable[[str, socket.socket], None]:
    return lambda _target, client: client.sendall(b"".join(chunks))


def test_the_content_and_its_type_are_returned() -> None:
    with serve_web(send(build_response(b"photo", "Content-Type: Image/JPEG; q=1"))) as server:
        fetched = fetch(server, "/a%20b/\u00fc?sig=a+b%2Fc&x=[1]#part")

    head = server.requests[0].split("\r\n")
    assert fetched == Fetched(b"photo", "image/jpeg")
    assert head[0] == "GET /a%20b/%C3%BC?sig=a+b%2Fc&x=[1] HTTP/1.1"
    assert f"Host: photos.example:{server.port}" in head
    assert "Accept-Encoding: identity" in head


def test_redirects_are_followed_up_to_their_bound() -> None:
    def answer(target: str, client: socket.socket) -> None:
        left = int(target.strip("/"))
        client.sendall(build_redirect(f"/{left - 1}", "307 Temporary Redirect") if left else build_response(b"photo"))

    with serve_web(answer) as server:
        assert fetch(server, "/2").content == b"photo"
        with pytest.raises(UrlUnreachable, match="redirects more than 2 times"):
            fetch(server, "/3")


def test_a_declared_length_above_the_bound_is_refused_before_the_body() -> None:
    def answer(_target: str, client: socket.socket) -> None:
        client.sendall(build_response(b"", "Content-Length: 1001"))
        client.recv(1)

    with serve_web(answer) as server, pytest.raises(UrlTooLarge, match="1000 bytes"):
        fetch(server)


def test_an_endless_body_is_cut_off_at_the_bound() -> None:
    sent = 0

    def answer(_target: str, client: socket.socket) -> None:
        nonlocal sent
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sent += client.send(bytes(65536))

    with serve_web(answer) as server, pytest.raises(UrlTooLarge):
        fetch(server, max_bytes=10**6)

    assert sent < 20 * 10**6


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 100 Continue\r\n"])
def test_a_slow_answer_ends_at_the_deadline(head: bytes) -> None:
    def answer(_target: str, client: socket.socket) -> None:
        client.sendall(head)
        while not server.stopped.wait(0.02):
            client.sendall(b"x")

    with serve_web(answer) as server:
        started = time.monotonic()
        with pytest.raises(UrlUnreachable, match="too long"):
            fetch(server, seconds=0.3)

    assert time.monotonic() - started < 2


def test_a_server_that_never_answers_ends_at_the_deadline() -> None:
    with (
        serve_web(lambda _target, _client: server.stopped.wait(5)) as server,
        pytest.raises(UrlUnreachable, match="too long"),
    ):
        fetch(server, seconds=0.2)


def test_a_resolver_that_never_answers_ends_at_the_deadline() -> None:
    def resolve(_host: str, _port: int) -> list[str]:
        time.sleep(1)
        return ["127.0.0.1"]

    with pytest.raises(UrlUnreachable, match="resolved in time"):
        GuardedClient(POLICY, resolve).fetch("http://photos.example/", max_bytes=1, max_seconds=0.1, max_redirects=0)


def test_an_unknown_name_and_a_closed_port_are_unreachable() -> None:
    def resolve(_host: str, _port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "no 10.0.0.1")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for client in (GuardedClient(POLICY, resolve), CLIENT):
        with pytest.raises(UrlUnreachable) as caught:
            client.fetch(f"http://photos.example:{port}/", max_bytes=1, max_seconds=5, max_redirects=0)
        assert "0.0.1" not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        build_response(b"secret", status="404 Not Found"),
        build_response(b"secret", status="500 Oops secret"),
        build_response(b"secret", "Content-Encoding: gzip"),
        build_response(b"", status="304 Not Modified"),
        b"secret\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nsecret",
        b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"secret" * 30_000,
    ],
)
def test_an_answer_that_is_no_file_is_an_error_that_repeats_none_of_it(answer: bytes) -> None:
    with serve_web(send(answer)) as server, pytest.raises(UrlUnreachable) as caught:
        fetch(server)

    assert "secret" not in str(caught.value)


def test_variables_of_proxies_and_netrc_are_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine photos.example login me password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    with serve_web(send(build_response(b"proxy"))) as proxy, serve_web(send(build_response(b"photo"))) as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert fetch(server).content == b"photo"

    assert (proxy.connections, server.connections) == (0, 1)
    assert "authorization" not in server.requests[0].lower()


def test_a_certificate_is_checked_against_the_name_of_the_url(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "photos.example", "photos.example")
    trusting = ssl.create_default_context(cafile=str(certificate))
    policy = OutgoingPolicy.build(("https",), "127.0.0.1/32")
    client = GuardedClient(policy, lambda _host, _port: ["127.0.0.1"], trusting)

    with (
        serve_web(send(build_response(b"photo"))) as server,
        serve_tls(("127.0.0.1", server.port), certificate, key) as port,
    ):
        fetched = client.fetch(f"https://photos.example:{port}/", max_bytes=100, max_seconds=5, max_redirects=0)
        with pytest.raises(UrlUnreachable, match="certificate"):
            client.fetch(f"https://other.example:{port}/", max_bytes=100, max_seconds=5, max_redirects=0)

    assert fetched.content == b"photo"


def test_https_does_not_redirect_to_http(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "photos.example", "photos.example")
    client = GuardedClient(
        POLICY, lambda _host, _port: ["127.0.0.1"], ssl.create_default_context(cafile=str(certificate))
    )
    with (
        serve_web(lambda _, client: client.sendall(build_redirect(f"http://photos.example:{server.port}/"))) as server,
        serve_tls(("127.0.0.1", server.port), certificate, key) as port,
        pytest.raises(UrlRefused, match="from https to http"),
    ):
        client.fetch(f"https://photos.example:{port}/", max_bytes=100, max_seconds=5, max_redirects=3)


def test_a_post_sends_its_body_and_follows_no_redirect() -> None:
    redirect = build_response(b"secret", "Location: http://photos.example/", "Retry-After: 7", status="307 Moved")
    with serve_web(send(redirect)) as server:
        url = f"http://photos.example:{server.port}/hook"
        response = CLIENT.post(url, b"{}", {"webhook-id": "m1"}, max_seconds=5)

    assert (response.status, response.headers["retry-after"]) == (307, "7")
    assert server.connections == 1
    assert "webhook-id: m1" in server.requests[0]
    assert server.requests[0].startswith("POST /hook ")


def test_a_post_to_an_address_that_is_not_public_is_refused() -> None:
    with serve_web(send(build_response(b""))) as server, pytest.raises(UrlRefused):
        CLIENT.post(f"http://hooks.example:{server.port}/", b"{}", {}, max_seconds=5)

    assert server.connections == 0


def test_a_network_that_is_allowed_is_reached() -> None:
    client = GuardedClient(
        OutgoingPolicy.build(("http",), "10.0.0.0/8 127.0.0.0/8"), lambda _host, _port: ["127.0.0.1"]
    )
    with serve_web(send(build_response(b"photo"))) as server:
        assert fetch(server, client=client).content == b"photo"


def test_a_scheme_that_is_not_allowed_is_named_with_those_that_are() -> None:
    with pytest.raises(ForbiddenUrl, match="allowed: https"):
        check_url("http://photos.example/", OutgoingPolicy())


def test_an_international_name_is_sent_in_its_ascii_form() -> None:
    assert check_url("https://b\u00fccher.example./x", OutgoingPolicy()).host == "xn--bcher-kva.example"


@pytest.mark.parametrize("entry", ["http://a", "10.0.0.1/8", "a:80", "a/b", "2130706433", "[", "a,b/c"])
def test_an_entry_that_is_no_host_and_no_network_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="no host and no network"):
        parse_allowed(entry)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_inside_an_ipv6_address_is_never_public(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    forms = (
        number,
        0xFFFF << 32 | number,
        0xFFFF << 48 | number,
        0x64FF9B << 96 | number,
        0x2002 << 112 | number << 80,
    )

    assert not [one for one in forms if is_public(ipaddress.IPv6Address(one))]


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_what_the_standard_library_calls_private_is_never_public(address: ipaddress.IPv4Address) -> None:
    is_special = address.is_private or address.is_loopback or address.is_link_local or address.is_multicast

    assert not (is_special and is_public(address))


@given(st.text(max_size=80))
def test_no_text_makes_the_check_of_a_url_fail_in_another_way(text: str) -> None:
    for url in (text, f"https://{text}", f"https://photos.example/{text}"):
        try:
            checked = check_url(url, OutgoingPolicy())
        except ForbiddenUrl:
            continue
        assert str(checked).isascii()
        assert check_url(str(checked), OutgoingPolicy()) == checked
