"""Bodies that clients send by mistake: what has one meaning is read, and the rest is refused by name."""

import base64
import tracemalloc
from functools import partial
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.http.base64_text import decode_base64
from api.http.bodies import parse_body
from api.http.urlencoded import split_fields
from shared.errors import ClientError, UnreadableBody
from shared.jobs.inspection import inspect_image
from tests.support.bodies import IMAGE, encode_noise
from tests.support.body_forms import READ, REFUSED, URLENCODED
from tests.support.refusal_costs import check_refusal_costs

MEGABYTES = 4 << 20
MAX_PIXELS = 10_000


@pytest.mark.parametrize(("body", "content_type"), READ.values(), ids=READ)
def test_what_has_one_meaning_is_read(body: bytes, content_type: str) -> None:
    parsed = parse_body(body, content_type, {})

    assert parsed.image == (body if body.startswith(b"BM") else IMAGE)
    assert parsed.parameters == ({"threshold": 0.5} if b"threshold" in body else {})


@pytest.mark.parametrize(("body", "content_type", "message"), REFUSED.values(), ids=REFUSED)
def test_the_rest_is_refused_by_name(body: bytes, content_type: str, message: str) -> None:
    with pytest.raises(ClientError, match=message) as found:
        inspect_image(parse_body(body, content_type, {}).image, max_pixels=MAX_PIXELS)

    assert len(str(found.value)) < 250


def test_a_text_in_base64_is_left_to_the_inspection_of_the_image() -> None:
    assert decode_base64(base64.b64encode(b"hello"), "`inputs`") == b"hello"


def test_megabytes_of_base64_are_copied_once() -> None:
    text = base64.b64encode(bytes(3_000_001))  # with padding

    tracemalloc.start()
    decode_base64(text, "`inputs`")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    # The text without its padding, and the image.
    assert peak < 2 * len(text)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_lost_signs_are_found_in_every_format(kind: str) -> None:
    text = base64.b64encode(encode_noise(kind))

    with pytest.raises(UnreadableBody, match="blanks where base64 has"):
        decode_base64(text.replace(b"+", b" "), "`inputs`")


@example(noise=b"\x00" * 9 + b"\xf8\x00", alphabet=b"+/")  # one blank, where a line could end
@given(noise=st.binary(min_size=1, max_size=200), alphabet=st.sampled_from([b"+/", b"-_"]))
def test_no_image_is_decoded_to_another_one(noise: bytes, alphabet: bytes) -> None:
    """Also if it has been through a URL-encoded form: then it is refused, or was not changed."""
    image = b"\xff\xd8\xff" + noise
    text = base64.b64encode(image, altchars=alphabet)

    assert decode_base64(text, "`inputs`") == image
    if b" " in text.replace(b"+", b" ").strip():
        with pytest.raises(UnreadableBody):
            decode_base64(text.replace(b"+", b" "), "`inputs`")


@pytest.mark.parametrize("sign", ["+", "-"])
def test_blanks_beside_a_sign_were_no_signs(sign: str) -> None:
    text = base64.b64encode(IMAGE[:60] + b"\xfb\xef\xbe" + IMAGE[63:]).decode().replace("+", sign)
    if sign == "-":
        text = text.replace("/", "_")

    spaced = f"{text[:22]} {text[22:70]} {text[70:]}".encode()

    assert decode_base64(spaced, "it") == decode_base64(text.encode(), "it")


@pytest.mark.parametrize("name", ["x-1", "parameters[threshold]", "parameters%5Bthreshold%5D"])
def test_a_urlencoded_form_may_begin_with_a_field_of_any_name(name: str) -> None:
    body = f"{name}=0.5&inputs={base64.b64encode(IMAGE).decode()}".encode()

    parsed = parse_body(body, URLENCODED, {})

    assert (parsed.image, parsed.parameters) == (IMAGE, {unquote(name): 0.5})


def test_fields_of_a_urlencoded_form_are_bounded() -> None:
    split = partial(split_fields, kept=("inputs",), max_fields=3, max_field_bytes=10)

    assert list(split(b"a+%62=%C3%A9+c&inputs=a%2B+&d")) == [
        ("a b", "é c".encode()),
        ("inputs", b"a%2B+"),
        ("d", b""),
    ]
    assert dict(split(b"a=" + b"%41" * 1_000_000)) == {"a": b"%41" * 1_000_000}
    with pytest.raises(UnreadableBody, match="more than 3 fields"):
        list(split(b"a=b&" * 4))


HOSTILE: dict[str, tuple[bytes, str]] = {
    "escapes": (b"%2B" * (MEGABYTES // 3), ""),
    "escapes of bytes": (b"%FF" * (MEGABYTES // 3), ""),
    "backslashes": (b"\\n" * (MEGABYTES // 2), ""),
    "blanks": (b"/9j/" + b" a" * (MEGABYTES // 2), ""),
    "one blank behind letters": (b"/9j/" + b"a" * MEGABYTES + b" a", ""),
    "quotes": (b'"' * MEGABYTES, ""),
    "quoted parameters of a data URL": (b"data:" + b'""' * (MEGABYTES // 2), ""),
    "fields": (b"a=b" + b"&" * MEGABYTES, URLENCODED),
    "a long field": (b"inputs=a&parameters=" + b"%7B" * (MEGABYTES // 3), URLENCODED),
    "a long name": (b"a=b&" + b"%41" * (MEGABYTES // 3), URLENCODED),
    "UTF-16 of other planes": (("{" + "\U0001f600" * (MEGABYTES // 4)).encode("utf-16"), ""),
    "UTF-32": (b"\xff\xfe\x00\x00" + "a".encode("utf-32-le") * (MEGABYTES // 4), ""),
    "delimiters": (b"--a\r\n" * (MEGABYTES // 5), ""),
    "markup": (b"<" * MEGABYTES, ""),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_four_hostile_megabytes_take_little_time_and_memory(name: str) -> None:
    body, content_type = HOSTILE[name]

    def refuse() -> None:
        inspect_image(parse_body(body, content_type, {}).image, max_pixels=1)

    # The memory is as in JSON of any kind.
    check_refusal_costs(refuse, cpu_seconds=0.2, memory_bytes=16 * len(body))
