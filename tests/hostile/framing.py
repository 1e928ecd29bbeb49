"""Hostile HTTP: requests that are malformed, or that two parsers would divide differently.

Servers differ in what they answer to some of these, and some close the connection at once: both are safe.  None of them
may be read as two requests, of which the second would be answered too; the runner reads one answer and closes.
"""

from collections.abc import Sequence

from tests.hostile.inputs import CLOSED, HostileInput, send_bytes

_REFUSED = {400, CLOSED}
_LAST = b"0\r\n\r\n"


def request(*lines: str, body: bytes = b"") -> bytes:
    return "\r\n".join([*lines, "Host: 127.0.0.1", "Connection: close", "", ""]).encode("latin-1") + body


def send_chunks(body: bytes) -> bytes:
    return post("Transfer-Encoding: chunked", body=body)


def post(*lines: str, body: bytes = b"") -> bytes:
    return request("POST /v1/jobs HTTP/1.1", *lines, body=body)


INPUTS: Sequence[HostileInput] = (
    send_bytes("no HTTP", _REFUSED, b"hello\r\n\r\n"),
    send_bytes("TLS", _REFUSED, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40) + b"\r\n\r\n"),
    send_bytes("a request line of 1 MB", _REFUSED | {414, 431}, b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n"),
    send_bytes("HTTP/9.9", _REFUSED | {505}, request("GET /healthz HTTP/9.9")),
    send_bytes("HTTP/2 without asking", _REFUSED | {505}, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)),
    send_bytes("HTTP/0.9", _REFUSED | {505}, b"GET /healthz\r\n\r\n"),
    send_bytes("a line without a colon", _REFUSED, request("GET /healthz HTTP/1.1", "nonsense")),
    send_bytes("a header name with a space", _REFUSED, request("GET /healthz HTTP/1.1", "X Y: z")),
    send_bytes("a space before a colon", _REFUSED, request("GET /healthz HTTP/1.1", "X-Y : z")),
    send_bytes("a zero byte in a header", _REFUSED, request("GET /healthz HTTP/1.1", "X-Y: a\x00b")),
    send_bytes("a folded header", _REFUSED | {200}, request("GET /healthz HTTP/1.1", "X-Y: a", " b")),
    send_bytes("a length that is no number", _REFUSED, post("Content-Length: 1e3", body=b"x")),
    send_bytes("a length below 0", _REFUSED, post("Content-Length: -1", body=b"x")),
    send_bytes("a length with a sign", _REFUSED, post("Content-Length: +1", body=b"x")),
    send_bytes("a length of 5,000 digits", _REFUSED | {413}, post("Content-Length: " + "9" * 5000, body=b"x")),
    send_bytes("a length of 4 TB", {413, CLOSED}, post(f"Content-Length: {1 << 42}", body=b"x")),
    send_bytes("two lengths", _REFUSED, post("Content-Length: 1", "Content-Length: 2", body=b"xx")),
    send_bytes("a length and chunks", _REFUSED, post("Content-Length: 1", "Transfer-Encoding: chunked", body=_LAST)),
    send_bytes("chunks twice", _REFUSED | {501}, post("Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n")),
    send_bytes("an unknown coding", _REFUSED | {501}, post("Transfer-Encoding: xchunked", body=b"0\r\n\r\n")),
    send_bytes("chunks of no number", _REFUSED, send_chunks(b"zz\r\nabc\r\n0\r\n\r\n")),
    send_bytes("a chunk of a negative size", _REFUSED, send_chunks(b"-1\r\nabc\r\n0\r\n\r\n")),
    send_bytes("a chunk without its line end", _REFUSED, send_chunks(b"1\r\nabc0\r\n\r\n")),
    send_bytes(
        "a chunk size of 5,000 digits",
        _REFUSED | {413},
        send_chunks(b"f" * 5000 + b"\r\nx"),
    ),
    send_bytes(
        "a chunk extension of 1 MB",
        _REFUSED | {413, 431},
        send_chunks(b"1;" + b"a" * 1_000_000),
    ),
    send_bytes("empty chunks", _REFUSED, send_chunks(b"0\r\n\r\n")),
    send_bytes(
        "200,000 chunks of one byte",
        _REFUSED,
        lambda: send_chunks(b"1\r\na\r\n" * 200_000 + _LAST),
    ),
    send_bytes(
        "33 MB in chunks",
        {413, CLOSED},
        lambda: send_chunks((b"100000\r\n" + bytes(1 << 20) + b"\r\n") * 33 + _LAST),
    ),
    send_bytes(
        "trailers of 1 MB",
        _REFUSED | {413, 431},
        send_chunks(b"0\r\n" + b"a: b\r\n" * 200_000 + b"\r\n"),
    ),
)
