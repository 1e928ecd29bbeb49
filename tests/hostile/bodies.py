"""Hostile bodies that are not images: JSON, base64 and forms."""

import base64
import gzip
from collections.abc import Callable, Sequence

from tests.hostile.inputs import HostileInput, send_body
from tests.support.images import cat, jpeg

_MEGABYTES = 8 << 20
_BOUNDARY = b"xxBoundaryxx"
_FORM = "multipart/form-data; boundary=xxBoundaryxx"
_END = b"--" + _BOUNDARY + b"--\r\n"


def image() -> bytes:
    return jpeg(cat())


def encode_image() -> bytes:
    return base64.b64encode(image())


def wrap(members: bytes) -> bytes:
    """Return JSON with an image and other members."""
    return b'{"inputs":"' + encode_image() + b'",' + members + b"}"


def part(name: bytes, content: bytes, more: bytes = b"") -> bytes:
    head = b'Content-Disposition: form-data; name="' + name + b'"' + more
    return b"--" + _BOUNDARY + b"\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + _END


def with_image(*parts: bytes) -> bytes:
    return form(part(b"file", image()), *parts)


def send_form(name: str, status: int, build: Callable[[], bytes]) -> HostileInput:
    return send_body(name, status, build, content_type=_FORM)


def name_by_path() -> bytes:
    return form(part(b"file", image(), b'; filename="../../etc/passwd"'))


INPUTS: Sequence[HostileInput] = (
    send_body("none", 400, lambda: b""),
    send_body("white space", 400, lambda: b" \n" * 4_000_000),
    send_body("zeros", 400, lambda: bytes(_MEGABYTES)),
    send_body("text", 400, lambda: b"hello"),
    send_body("a URL", 400, lambda: b"http://169.254.169.254/latest/meta-data"),
    send_body("a path", 400, lambda: b"/etc/passwd"),
    send_body("a page", 400, lambda: b"<svg onload=alert(1)></svg>"),
    send_body("an XML entity bomb", 400, lambda: b'<!DOCTYPE a [<!ENTITY b "bbbb">]><a>&b;</a>'),
    send_body("a zip", 400, lambda: b"PK\x03\x04" + bytes(1000)),
    send_body("a gzip of an image", 400, lambda: gzip.compress(image())),
    send_body("a PDF", 400, lambda: b"%PDF-1.7\n%\xff\xff"),
    send_body("PostScript", 400, lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99999 99999\n"),
    send_body("33 MB", 413, lambda: bytes(33 << 20)),
    send_body("an image whose zero bytes are gone", 400, lambda: image().replace(b"\0", b"").replace(b"\n", b"")),
    send_body("JSON that ends early", 400, lambda: b'{"inputs":"'),
    send_body("JSON without inputs", 400, lambda: b"{}"),
    send_body("JSON whose inputs are a number", 400, lambda: b'{"inputs":1}'),
    send_body("JSON whose inputs are lists", 400, lambda: b'{"inputs":' + b"[" * 900 + b"]" * 900 + b"}"),
    send_body("JSON nested a million times", 400, lambda: b'{"a":' * 1_000_000),
    send_body("JSON of millions of lists", 400, lambda: wrap(b'"a":[' + b"[]," * 2_000_000 + b"0]")),
    send_body("JSON of a million members", 400, lambda: wrap(b'"a":0,' * 1_000_000 + b'"b":0')),
    send_body("JSON of a long member", 400, lambda: wrap(b'"formats":"' + b"," * _MEGABYTES + b'"')),
    send_body("JSON of a long parameter", 400, lambda: wrap(b'"parameters":{"' + b"a" * _MEGABYTES + b'":1}')),
    send_body("JSON of a long model", 404, lambda: wrap(b'"model":"' + b"a" * _MEGABYTES + b'"')),
    send_body("JSON of a list of parameters", 400, lambda: wrap(b'"parameters":[1]')),
    send_body("JSON of long unknown members", 400, lambda: wrap(b'"\\r\\nSet-Cookie: ' + b"a" * _MEGABYTES + b'":1')),
    send_body(
        "JSON of a long unknown member for the masks",
        200,
        lambda: wrap(b'"\\r\\nSet-Cookie: ' + b"a" * _MEGABYTES + b'":1'),
        target="/",
    ),
    send_body("JSON with a parameter twice", 400, lambda: wrap(b'"parameters":{"threshold":0,"thre\\u0073hold":1}')),
    send_body("JSON with NaN", 400, lambda: wrap(b'"parameters":{"threshold":NaN}')),
    send_body("JSON with infinity", 400, lambda: wrap(b'"parameters":{"threshold":1e999}')),
    send_body("JSON with a number of 8 MB", 400, lambda: wrap(b'"a":' + b"9" * _MEGABYTES)),
    send_body("JSON with a lone surrogate", 400, lambda: b'{"inputs":"\\ud800"}'),
    send_body("JSON with an invalid byte", 400, lambda: b'{"inputs":"\xff"}'),
    send_body("JSON with a zero byte", 400, lambda: b'{"inputs":"\\u0000"}'),
    send_body("JSON with a prototype", 400, lambda: wrap(b'"parameters":{"__proto__":{"threshold":1}}')),
    send_body("JSON behind a byte order mark", 202, lambda: b"\xef\xbb\xbf" + wrap(b'"options":null')),
    send_body("base64 with other characters", 400, lambda: encode_image()[:100] + b"*" + encode_image()[101:]),
    send_body("base64 of one letter", 400, lambda: b"A" * _MEGABYTES),
    send_body("base64 of padding", 400, lambda: b"=" * _MEGABYTES),
    send_body("base64 of an image that ends early", 400, lambda: encode_image()[:-400]),
    send_body("base64 of base64", 400, lambda: base64.b64encode(encode_image())),
    send_body("data URLs without an end", 400, lambda: b"data:" * 1_000_000),
    send_body("a data URL of text", 400, lambda: b"data:text/html;base64," + base64.b64encode(b"<b>")),
    send_body("dots", 400, lambda: b"." * _MEGABYTES),
    send_form("a form of a million parts", 400, lambda: form(part(b"a", b"") * 100_000)),
    send_form("a form without an image", 400, lambda: form(part(b"a", b"b"))),
    send_form("a form with two images", 202, lambda: with_image(part(b"image", image()))),
    send_form("a form with an image and a text", 207, lambda: with_image(part(b"image", b"no image"))),
    send_form("a form with 33 images", 400, lambda: form(*[part(b"file", image())] * 33)),
    send_form("a form with 32 empty images", 207, lambda: form(*[part(b"file", b"", b'; filename="a.png"')] * 32)),
    send_form("a form of its delimiter", 400, lambda: b"--" + _BOUNDARY),
    send_form("a form of delimiters", 400, lambda: (b"--" + _BOUNDARY + b"\r\n") * 400_000),
    send_form("a form of spaces", 400, lambda: b"--" + _BOUNDARY + b" " * _MEGABYTES),
    send_form("a form of headers", 400, lambda: form(part(b"file", image(), b"\r\na: b" * 1_000_000))),
    send_form("a form of a long name", 400, lambda: form(part(b"a" * _MEGABYTES, b"b"))),
    send_body(
        "a form with a long field", 400, lambda: with_image(part(b"model", b"a" * _MEGABYTES)), content_type=_FORM
    ),
    send_body(
        "a form with a long number",
        400,
        lambda: with_image(part(b"threshold", b"9" * 30_000 + b"x")),
        content_type=_FORM,
    ),
    send_form("a form with nan", 400, lambda: with_image(part(b"threshold", b"nan"))),
    send_form("a form with invalid text", 400, lambda: with_image(part(b"threshold", b"\xff\xfe"))),
    send_body(
        "a form with parameters that are no JSON",
        400,
        lambda: with_image(part(b"parameters", b"{")),
        content_type=_FORM,
    ),
    send_body(
        "a form with parameters of lists",
        400,
        lambda: with_image(part(b"parameters", b"[" * 60_000)),
        content_type=_FORM,
    ),
    send_body(
        "a form with a path as file name",
        202,
        name_by_path,
        content_type=_FORM,
    ),
    send_form("a form in a form of its boundary", 202, lambda: form(part(b"file", with_image()))),
    send_form("a form without its end", 400, lambda: part(b"file", image())),
    send_body("a boundary of 5,000 characters", 202, image, content_type=f"multipart/form-data; boundary={'b' * 5000}"),
    send_body("a boundary of quotes", 202, image, content_type='multipart/form-data; boundary="' + '\\"' * 2000),
    send_body("a type of semicolons", 202, image, content_type=";" * 8000),
    send_body("a type of parameters", 202, image, content_type="a/b" + ";a*0=b" * 1000),
)
