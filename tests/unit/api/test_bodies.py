"""Parsing of request bodies: valid ones as real clients send them, and malformed ones."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from api.http.bodies import ParsedBody, parse_body
from api.http.parameters import parse_formats, parse_parameters
from shared.errors import ClientError, EmptyBody, UnreadableBody
from shared.jobs.inspection import inspect_image
from shared.jobs.parameters import SegmentParameters, Subtask
from tests.support.bodies import BASE64, BOUNDARY, FORM, IMAGE, encode_form, encode_json, encode_noise
from tests.support.refusal_costs import check_refusal_costs

CONTENT_TYPES = [
    "",
    "image/jpeg",
    "application/json",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
    "text/plain;charset=UTF-8",
    "multipart/form-data",
    "multipart/form-data; boundary=elsewhere",
    "image/jpeg; boundary=xxBoundaryxx",
    "nonsense;;;=",
]


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_a_raw_image_is_accepted_with_any_content_type(kind: str, content_type: str) -> None:
    assert parse_body(encode_noise(kind), content_type, {}) == ParsedBody(encode_noise(kind))


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
def test_json_is_accepted_with_any_content_type(content_type: str) -> None:
    body = encode_json(parameters={"threshold": 0.5, "subtask": "semantic"})

    assert parse_body(body, content_type, {}) == ParsedBody(IMAGE, {"threshold": 0.5, "subtask": "semantic"})


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
def test_bare_base64_is_accepted_with_any_content_type(content_type: str) -> None:
    assert parse_body(BASE64.encode(), content_type, {}) == ParsedBody(IMAGE)


@pytest.mark.parametrize(
    "text",
    [
        f"data:image/jpeg;base64,{BASE64}",
        f"DATA:image/jpeg;charset=x;base64, {BASE64}",
        f"  {BASE64}\r\n",
        BASE64.rstrip("="),
        BASE64 + "==",
        "\n".join(BASE64[start : start + 76] for start in range(0, len(BASE64), 76)),
        "\r\n".join(BASE64[start : start + 64] for start in range(0, len(BASE64), 64)),
    ],
    ids=["data url", "upper-case data url", "spaces", "no padding", "too much padding", "lines of 76", "lines of 64"],
)
def test_every_usual_form_of_base64_is_decoded(text: str) -> None:
    assert parse_body(encode_json(text), "", {}).image == IMAGE
    assert parse_body(text.encode(), "", {}).image == IMAGE


def test_a_raw_image_takes_its_parameters_from_the_query() -> None:
    parsed = parse_body(IMAGE, "image/jpeg", {"threshold": "0.5", "subtask": "semantic", "mask_threshold": ""})

    assert parse_parameters(parsed.parameters) == SegmentParameters(threshold=0.5, subtask=Subtask.SEMANTIC)


def test_the_body_overrides_the_query() -> None:
    body = encode_json(parameters={"threshold": 0.25, "mask_threshold": None})

    parsed = parse_body(body, "", {"threshold": "0.5", "mask_threshold": "0.75", "subtask": "panoptic"})

    assert parsed.parameters == {"threshold": 0.25, "mask_threshold": 0.75, "subtask": "panoptic"}
    assert parsed.overridden == ("threshold",)


def test_the_formats_of_json_override_those_of_the_query() -> None:
    parsed = parse_body(encode_json(formats=["masks"]), "", {"formats": "overlay"})

    assert (parsed.formats, parsed.overridden) == (["masks"], ("formats",))
    assert parse_body(encode_json(formats=None), "", {"formats": "overlay"}).formats == "overlay"


@pytest.mark.parametrize(
    "body", [b"", b"  \r\n", b"\xef\xbb\xbf", encode_json(""), encode_json("  "), encode_json("data:image/png;base64,")]
)
def test_a_body_without_content_is_empty(body: bytes) -> None:
    with pytest.raises(EmptyBody):
        parse_body(body, "", {})


@pytest.mark.parametrize(
    "location",
    [
        "/etc/passwd",
        "/etc/hosts",
        "../../secret",
        "cats.jpg",
        "photos/cats.png",
        "C:\\cats.jpg",
        "~/cats.jpg",
        "http://169.254.169.254/",
        "https://example.org/cat.jpg",
        "file:///etc/passwd",
        "s3://bucket/key",
    ],
)
def test_a_url_or_path_is_rejected_with_the_forms_that_are_accepted(location: str) -> None:
    for body in (encode_json(location), location.encode()):
        with pytest.raises(UnreadableBody, match="no URL is fetched and no path is opened"):
            parse_body(body, "", {})


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_an_image_damaged_by_curl_d_is_rejected_with_the_right_option(kind: str) -> None:
    damaged = encode_noise(kind).translate(None, b"\r\n\x00")

    with pytest.raises(UnreadableBody, match="--data-binary"):
        parse_body(damaged, "application/x-www-form-urlencoded", {})


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"{}",
        b'{"inputs": "' + BASE64.encode(),
        b'{"parameters": {}}',
        b'{"inputs": null}',
        encode_json({"a": 1}),
        encode_json([BASE64]),
        encode_json(12),
        encode_json(True),
        encode_json("not base64!"),
        encode_json("é" * 100),
        encode_json("A"),
        encode_json(BASE64[:40] + "-_" + BASE64[42:]),
        b'{"a":' * 100_000,
        b"\xff\xfe\xfd",
        b"hello, world",
        b"[1, 2, 3]",
        b"inputs=abc&threshold=1",
    ],
    ids=lambda body: repr(body[:24]),
)
def test_an_unreadable_body_is_rejected(body: bytes) -> None:
    with pytest.raises(UnreadableBody):
        parse_body(body, "", {})


texts = st.text(max_size=60).map(str.encode)


bodies = st.one_of(
    st.binary(max_size=300),
    texts,
    st.tuples(st.sampled_from([IMAGE[:40], b"{", b'{"inputs":', b"--xxBoundaryxx\r\n"]), st.binary(max_size=200)).map(
        b"".join
    ),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["inputs", "image", "parameters", "model", "threshold"]), inner, max_size=4
            )
        ),
        max_leaves=12,
    ).map(lambda value: json.dumps(value).encode()),
    st.lists(
        st.tuples(
            st.sampled_from(["file", "parameters", "model", "threshold", 'a"b', "é"]),
            st.binary(max_size=50),
            st.none() | st.text(max_size=5),
        ),
        max_size=4,
    ).map(lambda parts: encode_form(*parts)),
)


@settings(max_examples=800, deadline=None)
@given(
    body=bodies, content_type=st.sampled_from([FORM, *CONTENT_TYPES]) | st.text(max_size=40), query=st.text(max_size=8)
)
@example(body=b"--xxBoundaryxx\r\nContent-Disposition: form-data; name*=x''%ff\r\n\r\n1", content_type=FORM, query="")
def test_any_bytes_are_parsed_or_rejected_with_a_client_error(body: bytes, content_type: str, query: str) -> None:
    try:
        parsed = parse_body(body, content_type, {"threshold": query})
        parameters = parse_parameters(parsed.parameters)
    except ClientError as error:
        assert str(error)
        return

    assert parsed.image
    assert 0 <= parameters.threshold <= 1


def part(headers: bytes, content: bytes = b"x") -> bytes:
    return f"--{BOUNDARY}\r\n".encode() + headers + b"\r\n\r\n" + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


MEGABYTES = 4 << 20


MAX_MEMORY_PER_BYTE = 16  # orjson takes 13 for any JSON


HOSTILE_BODIES: dict[str, tuple[bytes, str]] = {
    "JSON of many lists": (b'{"inputs":"","a":[' + b"[]," * (MEGABYTES // 3) + b"[]]}", ""),
    "JSON of many members": (b'{"inputs":""' + b',"":0' * (MEGABYTES // 5) + b"}", ""),
    "nested JSON": (b'{"inputs":' + b"[" * MEGABYTES, ""),
    "JSON with a long member twice": (b'{"inputs":"","' + b"a" * MEGABYTES + b'":1,"b":1,"b":1}', ""),
    "JSON of a long number": (b'{"inputs":' + b"9" * MEGABYTES + b"}", ""),
    "JSON of escapes": (b'{"inputs":"' + b"\\/" * (MEGABYTES // 2) + b'"}', ""),
    "JSON of blanks": (b'{"inputs":""' + b" " * MEGABYTES + b"}", ""),
    "a form of many headers": (part(b"a:\r\n" * (MEGABYTES // 4)) + END, FORM),
    "a form of one long header": (part(b"Content-Disposition: " + b"a;" * (MEGABYTES // 2)) + END, FORM),
    "a form of many delimiters": (f"--{BOUNDARY} x\n".encode() * (MEGABYTES // 16) + END, FORM),
    "a form of spaces behind its delimiter": (f"--{BOUNDARY}".encode() + b" " * MEGABYTES + b"x", FORM),
    "a form of line ends": (f"--{BOUNDARY}".encode() + b"\r\n" * (MEGABYTES // 2), FORM),
    "a long field": (part(b"Content-Disposition: form-data; name=formats", b"," * MEGABYTES) + END, FORM),
    "a long member `formats`": (encode_json(formats="," * MEGABYTES), ""),
    "a long name of a parameter": (encode_json(parameters={"a" * MEGABYTES: 1}), ""),
    "base64 of one letter": (b"A" * MEGABYTES, ""),
    "base64 of one letter that begins a URL": (b"A" * MEGABYTES + b":", ""),
    "dots": (b"." * MEGABYTES, ""),
    "the beginning of data URLs": (b"data:" * (MEGABYTES // 5), ""),
    "white space": (b" " * MEGABYTES, ""),
    "padding": (b"A" + b"=" * MEGABYTES, ""),
}


@pytest.mark.parametrize("name", HOSTILE_BODIES)
def test_four_hostile_megabytes_take_little_time_and_memory(name: str) -> None:
    body, content_type = HOSTILE_BODIES[name]

    def refuse() -> None:
        parsed = parse_body(body, content_type, {})
        parse_formats(parsed.formats)
        parse_parameters(parsed.parameters)
        inspect_image(parsed.image, max_pixels=1)

    check_refusal_costs(refuse, cpu_seconds=0.2, memory_bytes=MAX_MEMORY_PER_BYTE * len(body))
