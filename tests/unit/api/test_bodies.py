"""Parsing bodies as real clients send them, and malformed ones."""

import base64
import io
import itertools
import json
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from api.http.bodies import Submission, parse_body, parse_parameters
from shared.errors import BadParameter, ClientError, EmptyBody, MaskmillError, UnknownParameter, UnreadableBody
from shared.jobs.parameters import SWITCHES, SegmentParameters, Subtask

BOUNDARY = "xxBoundaryxx"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def image(kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    noise = Image.frombytes("RGB", (40, 30), random.Random(5).randbytes(40 * 30 * 3))
    noise.save(buffer, kind)
    return buffer.getvalue()


IMAGE = image()
BASE64 = base64.b64encode(IMAGE).decode()


def document(inputs: object = BASE64, **more: object) -> bytes:
    return json.dumps({"inputs": inputs, **more}).encode()


def form(*parts: tuple[str, bytes, str | None]) -> bytes:
    """Encode parts of (name, content, file name) as multipart/form-data."""
    written = b""
    for name, content, filename in parts:
        file = f'; filename="{filename}"' if filename else ""
        header = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        written += header.encode() + content + b"\r\n"
    return written + f"--{BOUNDARY}--\r\n".encode()


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
    assert parse_body(image(kind), content_type, {}) == Submission(image(kind))


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
def test_json_is_accepted_with_any_content_type(content_type: str) -> None:
    body = document(parameters={"threshold": 0.5, "subtask": "semantic"})

    assert parse_body(body, content_type, {}) == Submission(IMAGE, {"threshold": 0.5, "subtask": "semantic"})


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
def test_bare_base64_is_accepted_with_any_content_type(content_type: str) -> None:
    assert parse_body(BASE64.encode(), content_type, {}) == Submission(IMAGE)


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
    assert parse_body(document(text), "", {}).image == IMAGE
    assert parse_body(text.encode(), "", {}).image == IMAGE


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b" \r\n\t"])
def test_json_may_begin_with_a_byte_order_mark_or_space(start: bytes) -> None:
    assert parse_body(start + document(), "", {}).image == IMAGE


def test_image_is_an_alias_of_inputs() -> None:
    assert parse_body(json.dumps({"image": BASE64}).encode(), "", {}).image == IMAGE


def test_json_may_have_a_model_and_options_and_other_members() -> None:
    body = document(model="org/name", options={"wait_for_model": True}, extra=[1])

    submission = parse_body(body, "", {})

    assert (submission.model, submission.options) == ("org/name", {"wait_for_model": True})


@pytest.mark.parametrize("more", [{}, {"parameters": None}, {"parameters": {}}])
def test_missing_and_null_parameters_are_empty(more: dict[str, object]) -> None:
    submission = parse_body(document(model=None, options=None, **more), "", {})

    assert submission == Submission(IMAGE)


def test_the_query_gives_the_parameters_of_a_raw_image() -> None:
    submission = parse_body(IMAGE, "image/jpeg", {"threshold": "0.5", "subtask": "semantic", "mask_threshold": ""})

    assert parse_parameters(submission.parameters) == SegmentParameters(threshold=0.5, subtask=Subtask.SEMANTIC)


def test_the_body_overrides_the_query() -> None:
    body = document(parameters={"threshold": 0.25, "mask_threshold": None})

    submission = parse_body(body, "", {"threshold": "0.5", "mask_threshold": "0.75", "subtask": "panoptic"})

    assert submission.parameters == {"threshold": 0.25, "mask_threshold": 0.75, "subtask": "panoptic"}


@pytest.mark.parametrize("name", ["file", "image", "inputs"])
@pytest.mark.parametrize("filename", ["cat.jpg", None])
def test_a_form_is_read(name: str, filename: str | None) -> None:
    body = form((name, IMAGE, filename), ("parameters", b'{"threshold": 0.5}', None), ("model", b"org/name", None))

    assert parse_body(body, FORM, {}) == Submission(IMAGE, {"threshold": 0.5}, "org/name")


def test_a_form_may_give_parameters_one_by_one() -> None:
    body = form(("threshold", b"0.5", None), ("subtask", b"instance", None), ("file", IMAGE, "cat.jpg"))

    parameters = parse_parameters(parse_body(body, FORM, {}).parameters)

    assert parameters == SegmentParameters(threshold=0.5, subtask=Subtask.INSTANCE)


def test_a_form_may_hold_base64() -> None:
    assert parse_body(form(("inputs", BASE64.encode(), None)), FORM, {}).image == IMAGE


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (form(), "0 images"),
        (form(("threshold", b"0.5", None)), "0 images"),
        (form(("file", IMAGE, "a.jpg"), ("file", IMAGE, "b.jpg")), "2 images"),
        (form(*[("a", b"1", None)] * 100), "more than 32 parts"),
        (form(("file", IMAGE, "a.jpg"))[:-30], "broken"),
        (b"--" + BOUNDARY.encode(), "broken"),
    ],
)
def test_a_malformed_form_is_rejected(body: bytes, sentence: str) -> None:
    with pytest.raises(UnreadableBody, match=sentence):
        parse_body(body, FORM, {})


@pytest.mark.parametrize(
    "body", [b"", b"  \r\n", b"\xef\xbb\xbf", document(""), document("  "), document("data:image/png;base64,")]
)
def test_a_body_without_content_is_empty(body: bytes) -> None:
    with pytest.raises(EmptyBody):
        parse_body(body, "", {})


def test_an_empty_file_in_a_form_is_an_empty_body() -> None:
    with pytest.raises(EmptyBody):
        parse_body(form(("file", b"", "a.jpg")), FORM, {})


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
    for body in (document(location), location.encode()):
        with pytest.raises(UnreadableBody, match="no URL is fetched and no path is opened"):
            parse_body(body, "", {})


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_an_image_damaged_by_curl_d_is_rejected_with_the_right_option(kind: str) -> None:
    damaged = image(kind).translate(None, b"\r\n\x00")

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
        document({"a": 1}),
        document([BASE64]),
        document(12),
        document(True),
        document("not base64!"),
        document("é" * 100),
        document("A"),
        document(BASE64[:40] + "-_" + BASE64[42:]),
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


@pytest.mark.parametrize("more", [{"parameters": [1]}, {"parameters": "x"}, {"model": 3}, {"options": []}])
def test_members_of_the_wrong_type_are_bad_parameters(more: dict[str, object]) -> None:
    with pytest.raises(BadParameter):
        parse_body(document(**more), "", {})


@pytest.mark.parametrize("content", [b"{", b"[]", b"threshold=1"])
def test_form_parameters_that_are_not_a_json_object_are_rejected(content: bytes) -> None:
    with pytest.raises(BadParameter):
        parse_body(form(("file", IMAGE, "a.jpg"), ("parameters", content, None)), FORM, {})


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
    ).map(lambda parts: form(*parts)),
)


@settings(max_examples=800, deadline=None)
@given(
    body=bodies, content_type=st.sampled_from([FORM, *CONTENT_TYPES]) | st.text(max_size=40), query=st.text(max_size=8)
)
@example(body=b"--xxBoundaryxx\r\nContent-Disposition: form-data; name*=x''%ff\r\n\r\n1", content_type=FORM, query="")
def test_any_bytes_give_a_submission_or_a_client_error(body: bytes, content_type: str, query: str) -> None:
    try:
        submission = parse_body(body, content_type, {"threshold": query})
        parameters = parse_parameters(submission.parameters)
    except ClientError as error:
        assert str(error)
        return

    assert submission.image
    assert 0 <= parameters.threshold <= 1


def test_missing_and_null_parameters_get_the_defaults() -> None:
    assert parse_parameters({}) == SegmentParameters()
    assert parse_parameters(dict.fromkeys(SegmentParameters.__dataclass_fields__)) == SegmentParameters()


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0, 0.5, 1e-300])
def test_numbers_from_0_to_1_are_accepted(value: float) -> None:
    assert parse_parameters({"overlap_mask_area_threshold": value}).overlap_mask_area_threshold == value


@pytest.mark.parametrize(
    ("name", "value"),
    list(
        itertools.product(
            ["threshold", "mask_threshold", "overlap_mask_area_threshold"],
            [-0.1, 1.1, 10**400, float("nan"), float("inf"), True, False, "0.5", "", [], {}, [0.5]],
        )
    ),
)
def test_any_other_threshold_is_rejected_by_name(name: str, value: object) -> None:
    with pytest.raises(BadParameter, match=f"{name} must be a number from 0 to 1"):
        parse_parameters({name: value})


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize(("value", "is_on"), [(True, True), (False, False), ("true", True), ("False", False)])
def test_a_switch_is_a_boolean_or_its_text(name: str, value: object, is_on: bool) -> None:
    assert getattr(parse_parameters({name: value}), name) is is_on


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0, "1", "yes", "on", [], {}])
def test_any_other_switch_is_rejected_by_name(value: object) -> None:
    with pytest.raises(BadParameter, match="fuse_stuff must be true or false"):
        parse_parameters({"fuse_stuff": value})


def test_missing_wire_parameters_get_defaults_and_unknown_ones_are_ignored() -> None:
    assert SegmentParameters.from_wire({"threshold": 0.25}) == SegmentParameters(0.25)
    assert SegmentParameters.from_wire({"fuse_stuff": True, "colour": "red"}) == SegmentParameters(fuse_stuff=True)


@pytest.mark.parametrize("value", ["nan", "inf", "1e999", "1_0", "٠", "0x1", "half", "-1", "true"])
def test_texts_that_are_not_a_fraction_are_rejected(value: str) -> None:
    with pytest.raises(BadParameter):
        parse_parameters(parse_body(IMAGE, "", {"threshold": value}).parameters)


@pytest.mark.parametrize("value", ["Panoptic", "", "all", 1, ["panoptic"], True, "0.5"])
def test_an_unknown_subtask_is_rejected_with_the_known_ones(value: object) -> None:
    with pytest.raises(BadParameter, match="panoptic, instance, semantic"):
        parse_parameters({"subtask": value})


def test_an_unknown_parameter_is_rejected_with_the_known_ones() -> None:
    with pytest.raises(UnknownParameter, match=r"'treshold'; known are threshold, mask_threshold, .*subtask"):
        parse_parameters({"treshold": 0.5})


def test_an_error_quotes_a_long_text_in_part() -> None:
    with pytest.raises(MaskmillError) as caught:
        parse_parameters({"x" * 100_000: 1})

    assert len(str(caught.value)) < 300
