"""Parsing of request bodies: valid ones as real clients send them, and malformed ones."""

import base64
import io
import itertools
import json
import random
import time
import tracemalloc
from collections.abc import Callable

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from api.http.bodies import ParsedBody, parse_body
from api.http.json_documents import parse_json
from api.http.multipart import split_form
from api.http.parameters import parse_formats, parse_parameters
from api.jobs.inspection import inspect_image
from shared.errors import BadParameter, ClientError, EmptyBody, MaskmillError, UnknownParameter, UnreadableBody
from shared.jobs.parameters import FIELDS, PARAMETERS, SegmentParameters, Subtask

BOUNDARY = "xxBoundaryxx"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def encode_image(kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    noise = Image.frombytes("RGB", (40, 30), random.Random(5).randbytes(40 * 30 * 3))
    noise.save(buffer, kind)
    return buffer.getvalue()


IMAGE = encode_image()
BASE64 = base64.b64encode(IMAGE).decode()


def encode_json(inputs: object = BASE64, **members: object) -> bytes:
    return json.dumps({"inputs": inputs, **members}).encode()


def encode_form(*parts: tuple[str, bytes, str | None]) -> bytes:
    """Encode parts of (name, content, file name) as multipart/form-data; None is a field that is no file."""
    encoded = b""
    for name, content, filename in parts:
        file = f'; filename="{filename}"' if filename is not None else ""
        header = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        encoded += header.encode() + content + b"\r\n"
    return encoded + f"--{BOUNDARY}--\r\n".encode()


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
    assert parse_body(encode_image(kind), content_type, {}) == ParsedBody(encode_image(kind))


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


@pytest.mark.parametrize("prefix", [b"\xef\xbb\xbf", b" \r\n\t"])
def test_json_may_begin_with_a_byte_order_mark_or_space(prefix: bytes) -> None:
    assert parse_body(prefix + encode_json(), "", {}).image == IMAGE


def test_image_is_an_alias_of_inputs() -> None:
    assert parse_body(json.dumps({"image": BASE64}).encode(), "", {}).image == IMAGE


def test_json_may_have_a_model_and_options_and_other_members() -> None:
    body = encode_json(model="org/name", options={"wait_for_model": True}, extra=[1])

    parsed = parse_body(body, "", {})

    assert (parsed.model, parsed.options) == ("org/name", {"wait_for_model": True})
    assert parsed.unknown == ("extra",)


def test_unknown_members_and_options_are_listed() -> None:
    options = {"use_cache": False, "use_gpu": True, "dont_load_model": 1, "retry_on_error": False, "colour": "red"}

    parsed = parse_body(encode_json(options=options, top_k=None, **{"a\r\nb": 1}), "", {})

    assert parsed.unknown == ("top_k", "a\r\nb", "options.colour")


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("members", [lambda name: {name: 0.99}, lambda name: {"options": {name: None}}])
def test_a_segmentation_parameter_outside_of_parameters_is_refused_with_its_place(
    name: str, members: Callable[[str], dict[str, object]]
) -> None:
    with pytest.raises(BadParameter, match=f"`{name}` belongs in `parameters`"):
        parse_body(encode_json(**members(name)), "", {})


@pytest.mark.parametrize(
    ("name", "place"), [("formats", "beside"), ("model", "beside"), ("use_cache", "belongs in `options`")]
)
def test_what_is_no_segmentation_parameter_is_refused_in_parameters_with_its_place(name: str, place: str) -> None:
    form = encode_form(("file", IMAGE, "a.jpg"), ("parameters", json.dumps({name: "x"}).encode(), None))

    for body, content_type in ((encode_json(parameters={name: "x"}), ""), (form, FORM)):
        with pytest.raises(BadParameter, match=f"`{name}` .*{place}"):
            parse_body(body, content_type, {})


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"use_cache": False}, "`use_cache` belongs in `options`"),
        ({"options": {"model": "x"}}, "`model` does not belong in `options`; send it beside"),
        ({"options": {"formats": "masks"}}, "`formats` does not belong in `options`; send it beside"),
    ],
)
def test_an_option_and_a_member_that_have_changed_places_are_refused(members: dict[str, object], sentence: str) -> None:
    with pytest.raises(BadParameter, match=sentence):
        parse_body(encode_json(**members), "", {})


DUPLICATES = {
    "an unknown member": b'{"inputs": "aaaa", "a": 1, "a": 1}',
    "inputs": b'{"inputs": "aaaa", "inputs": "aaaa"}',
    "parameters": b'{"inputs": "aaaa", "parameters": {"threshold": 0.1}, "parameters": {"threshold": 0.1}}',
    "a parameter": b'{"inputs": "aaaa", "parameters": {"threshold": 0.1, "threshold": 0.2}}',
    "a parameter spelt otherwise": b'{"inputs": "aaaa", "parameters": {"threshold": 0.1, "thresh\\u006fld": 0.2}}',
    "an option": b'{"inputs": "aaaa", "options": {"use_cache": true, "use_cache": false}}',
    "a member far inside": b'{"inputs": "aaaa", "a": [{"b": [[{"c": 1, "c": 2}]]}]}',
}


@pytest.mark.parametrize("body", DUPLICATES.values(), ids=DUPLICATES)
def test_a_member_that_is_given_twice_is_refused_with_its_name(body: bytes) -> None:
    with pytest.raises(BadParameter, match=r"^'\w+' is given twice in the JSON"):
        parse_body(body, "", {})


def test_an_image_that_is_given_twice_is_refused() -> None:
    with pytest.raises(BadParameter, match="given twice, as `inputs` and as `image`"):
        parse_body(encode_json(image=BASE64), "", {})
    assert parse_body(encode_json(image=None), "", {}).image == IMAGE
    assert parse_body(encode_json(None, image=BASE64), "", {}).image == IMAGE


@pytest.mark.parametrize(
    "body",
    [b'{"inputs":' + b"[" * depth + b"]" * depth + b"}" for depth in (900, 1000, 1020, 1100)]
    + [b'{"inputs": ' + b"9" * 5000 + b"}", b'{"inputs": 1e999}'],
)
def test_json_that_only_one_of_two_parsers_takes_is_a_client_error(body: bytes) -> None:
    with pytest.raises(UnreadableBody):
        parse_body(body, "", {})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(value=json_values)
def test_json_without_repetitions_is_parsed_as_by_orjson(value: object) -> None:
    text = json.dumps(value).encode()
    try:
        expected = orjson.loads(text)
    except orjson.JSONDecodeError:  # half of a surrogate pair
        return

    assert parse_json(text) == expected


@pytest.mark.parametrize("members", [{}, {"parameters": None}, {"parameters": {}}])
def test_missing_and_null_parameters_are_empty(members: dict[str, object]) -> None:
    parsed = parse_body(encode_json(model=None, options=None, **members), "", {})

    assert parsed == ParsedBody(IMAGE)


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


@pytest.mark.parametrize("name", ["file", "image", "inputs"])
@pytest.mark.parametrize("filename", ["cat.jpg", None])
def test_a_form_with_one_image_is_accepted(name: str, filename: str | None) -> None:
    body = encode_form(
        (name, IMAGE, filename), ("parameters", b'{"threshold": 0.5}', None), ("model", b"org/name", None)
    )

    assert parse_body(body, FORM, {}) == ParsedBody(IMAGE, {"threshold": 0.5}, "org/name")


@pytest.mark.parametrize("boundary", [b"bb", b"x" * 60])
def test_a_delimiter_at_the_end_of_a_piece_adds_nothing_to_a_field(boundary: bytes) -> None:
    delimiter = b"--" + boundary
    head = b'\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'
    fields = [(b"threshold", b"0.5"), (b"model", b"m")]
    for length in range(65_200, 65_560):
        content = IMAGE[:4] + b"x" * length
        parts = [delimiter + head % name + value + b"\r\n" for name, value in ((b"image", content), *fields)]

        split = split_form(b"".join(parts) + delimiter + b"--\r\n", boundary)

        assert [part.content for part in split] == [content, b"0.5", b"m"]


def test_a_form_may_have_one_field_per_parameter() -> None:
    body = encode_form(("threshold", b"0.5", None), ("subtask", b"instance", None), ("file", IMAGE, "cat.jpg"))

    parameters = parse_parameters(parse_body(body, FORM, {}).parameters)

    assert parameters == SegmentParameters(threshold=0.5, subtask=Subtask.INSTANCE)


REPEATED_FIELDS = {
    "a field": [("threshold", b"0.5", None), ("threshold", b"0.5", None)],
    "a field once empty": [("threshold", b"", None), ("threshold", b"0.5", None)],
    "a field and a parameter": [("threshold", b"0.5", None), ("parameters", b'{"threshold": 0.5}', None)],
    "a parameter": [("parameters", b'{"threshold": 0.1, "threshold": 0.2}', None)],
    "parameters": [("parameters", b"{}", None), ("parameters", b"{}", None)],
    "the model": [("model", b"a", None), ("model", b"b", None)],
    "the formats": [("formats", b"masks", None), ("formats", b"labels", None)],
}


@pytest.mark.parametrize("fields", REPEATED_FIELDS.values(), ids=REPEATED_FIELDS)
def test_a_field_that_is_given_twice_is_refused_with_its_name(fields: list[tuple[str, bytes, str | None]]) -> None:
    with pytest.raises(BadParameter, match=r"^'(threshold|parameters|model|formats)' is given twice in the "):
        parse_body(encode_form(("file", IMAGE, "a.jpg"), *fields), FORM, {})


@pytest.mark.parametrize(
    ("more", "query"), [("&threshold=0.5", {}), ("&parameters=%7B%22threshold%22:1%7D", {}), ("", {"threshold": "0.5"})]
)
def test_a_parameter_that_is_given_twice_in_an_urlencoded_form_is_refused(more: str, query: dict[str, str]) -> None:
    with pytest.raises(BadParameter, match=r"^'threshold' is given twice"):
        parse_body(f"inputs={BASE64}&threshold=0.5{more}".encode(), "application/x-www-form-urlencoded", query)


@pytest.mark.parametrize(
    "field", [("threshold", b"0.5", None), ("parameters", b'{"threshold": 0.5}', None), ("formats", b"masks", None)]
)
def test_a_parameter_in_the_query_and_in_a_form_is_refused(field: tuple[str, bytes, str | None]) -> None:
    with pytest.raises(BadParameter, match=r"^'(threshold|formats)' is given twice, in the query and in the form"):
        parse_body(encode_form(("file", IMAGE, "a.jpg"), field), FORM, {"threshold": "0.5", "formats": "masks"})


def test_a_field_that_was_left_empty_leaves_the_one_in_parameters() -> None:
    fields = [("threshold", b"", None), ("parameters", b'{"threshold": 0.95, "subtask": null}', None)]

    parsed = parse_body(encode_form(("file", IMAGE, "a.jpg"), *fields, ("subtask", b"semantic", None)), FORM, {})

    assert parsed.parameters == {"threshold": 0.95, "subtask": "semantic"}


def test_a_field_that_was_left_empty_leaves_the_parameter_of_the_query() -> None:
    form = encode_form(("file", IMAGE, "a.jpg"), ("threshold", b"", None), ("formats", b" ", None))

    parsed = parse_body(form, FORM, {"threshold": "0.5", "formats": "masks"})

    assert (parsed.parameters, parsed.formats) == ({"threshold": 0.5}, "masks")


def test_a_form_may_have_options() -> None:
    form = encode_form(("file", IMAGE, "a.jpg"), ("options", b'{"use_cache": false, "colour": 1}\n', None))

    parsed = parse_body(form, FORM, {})

    assert (parsed.options, parsed.unknown) == ({"use_cache": False, "colour": 1}, ("options.colour",))


UNUSED_INPUTS = {
    "a second input of the same name": ("file", b"", ""),
    "an input of another name": ("photo2", b"", ""),
    "an input of another name for images": ("image", b"", ""),
    "a text input for an image": ("inputs", b"", None),
}


@pytest.mark.parametrize("unused", UNUSED_INPUTS.values(), ids=UNUSED_INPUTS)
@pytest.mark.parametrize("is_first", [True, False])
def test_an_input_without_a_chosen_file_is_no_file(unused: tuple[str, bytes, str | None], *, is_first: bool) -> None:
    image = ("file", IMAGE, "a.jpg")
    parts = [unused, image, unused] if is_first else [image, unused]

    assert parse_body(encode_form(*parts), FORM, {}) == ParsedBody(IMAGE)


@pytest.mark.parametrize("unused", UNUSED_INPUTS.values(), ids=UNUSED_INPUTS)
def test_a_form_without_a_chosen_file_says_so(unused: tuple[str, bytes, str | None]) -> None:
    with pytest.raises(EmptyBody, match="No image was chosen in the form"):
        parse_body(encode_form(unused, ("threshold", b"0.5", None)), FORM, {})


def test_two_chosen_files_are_refused_whatever_their_fields() -> None:
    with pytest.raises(UnreadableBody, match="2 images; send exactly one"):
        parse_body(encode_form(("file", IMAGE, "a.jpg"), ("file", b"", ""), ("image", IMAGE, "b.jpg")), FORM, {})
    with pytest.raises(UnreadableBody, match="two files, one in the field 'photo2'"):
        parse_body(encode_form(("file", IMAGE, "a.jpg"), ("photo2", IMAGE, "b.jpg")), FORM, {})
    with pytest.raises(UnreadableBody, match="2 images"):
        parse_body(encode_form(("file", IMAGE, "a.jpg"), ("file", b"", "b.jpg")), FORM, {})


def test_a_parameter_may_come_as_a_file() -> None:
    form = encode_form(("file", IMAGE, "a.jpg"), ("threshold", b"0.5\n", "t.txt"), ("parameters", b"{}\n", "p.json"))

    assert parse_body(form, FORM, {}) == ParsedBody(IMAGE, {"threshold": 0.5})


BLANKS = ["{} ", " {}", "\t{}", "{}\n", "\r\n {} \t\r\n", "{}\v\f"]
TEXTS = {
    "threshold": "0.25",
    "mask_threshold": ".25",
    "overlap_mask_area_threshold": "25e-2",
    "subtask": "semantic",
    "fuse_stuff": "True",
    "strict_instance_thresholds": "true",
}


def test_every_parameter_has_a_text_here() -> None:
    assert TEXTS.keys() == FIELDS.keys()


@pytest.mark.parametrize("blanks", BLANKS)
@pytest.mark.parametrize("name", TEXTS)
def test_blanks_around_a_value_do_not_count(name: str, blanks: str) -> None:
    text = blanks.format(TEXTS[name])
    expected = parse_parameters(parse_body(IMAGE, "", {name: TEXTS[name]}).parameters)
    form = encode_form(("file", IMAGE, "a.jpg"), (name, text.encode(), None))

    assert expected != SegmentParameters()
    assert parse_parameters(parse_body(IMAGE, "", {name: text}).parameters) == expected
    assert parse_parameters(parse_body(form, FORM, {}).parameters) == expected
    if "threshold" not in name or name == "strict_instance_thresholds":  # JSON has numbers for numbers
        body = encode_json(parameters={name: text})
        assert parse_parameters(parse_body(body, "", {}).parameters) == expected


@pytest.mark.parametrize("blanks", BLANKS)
def test_blanks_around_formats_and_models_do_not_count(blanks: str) -> None:
    names = blanks.format("masks") + "," + blanks.format("rle")
    form = encode_form(
        ("file", IMAGE, "a.jpg"), ("formats", names.encode(), None), ("model", blanks.format("a/b").encode(), None)
    )

    in_form = parse_body(form, FORM, {})
    in_query = parse_body(IMAGE, "", {"formats": names})
    in_json = parse_body(encode_json(formats=names.split(","), model=blanks.format("a/b")), "", {})

    assert [parse_formats(one.formats) for one in (in_form, in_query, in_json)] == [("labels", "masks", "rle")] * 3
    assert in_form.model == in_json.model == "a/b"


def test_blanks_inside_a_value_count() -> None:
    with pytest.raises(BadParameter):
        parse_parameters(parse_body(IMAGE, "", {"threshold": "0. 5"}).parameters)


def test_a_form_may_have_an_image_in_base64() -> None:
    assert parse_body(encode_form(("inputs", BASE64.encode(), None)), FORM, {}).image == IMAGE


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (encode_form(), "0 images"),
        (encode_form(("threshold", b"0.5", None)), "0 images"),
        (encode_form(("file", IMAGE, "a.jpg"), ("file", IMAGE, "b.jpg")), "2 images"),
        (encode_form(*[("a", b"1", None)] * 100), "more than 32 parts"),
        (encode_form(("file", IMAGE, "a.jpg"))[:-30], "broken"),
        (b"--" + BOUNDARY.encode(), "broken"),
    ],
)
def test_a_malformed_form_is_rejected(body: bytes, message: str) -> None:
    with pytest.raises(UnreadableBody, match=message):
        parse_body(body, FORM, {})


@pytest.mark.parametrize(
    "body", [b"", b"  \r\n", b"\xef\xbb\xbf", encode_json(""), encode_json("  "), encode_json("data:image/png;base64,")]
)
def test_a_body_without_content_is_empty(body: bytes) -> None:
    with pytest.raises(EmptyBody):
        parse_body(body, "", {})


def test_an_empty_file_in_a_form_is_an_empty_body() -> None:
    with pytest.raises(EmptyBody):
        parse_body(encode_form(("file", b"", "a.jpg")), FORM, {})


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
    damaged = encode_image(kind).translate(None, b"\r\n\x00")

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


@pytest.mark.parametrize("members", [{"parameters": [1]}, {"parameters": "x"}, {"model": 3}, {"options": []}])
def test_members_of_the_wrong_type_are_bad_parameters(members: dict[str, object]) -> None:
    with pytest.raises(BadParameter):
        parse_body(encode_json(**members), "", {})


@pytest.mark.parametrize("content", [b"{", b"[]", b"threshold=1"])
def test_form_parameters_that_are_not_a_json_object_are_rejected(content: bytes) -> None:
    with pytest.raises(BadParameter):
        parse_body(encode_form(("file", IMAGE, "a.jpg"), ("parameters", content, None)), FORM, {})


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


def test_missing_and_null_parameters_get_the_defaults() -> None:
    assert parse_parameters({}) == SegmentParameters()
    assert parse_parameters(dict.fromkeys(FIELDS)) == SegmentParameters()


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
def test_an_invalid_threshold_is_rejected_with_its_name(name: str, value: object) -> None:
    with pytest.raises(BadParameter, match=f"{name} must be a number from 0 to 1"):
        parse_parameters({name: value})


@pytest.mark.parametrize("name", ["fuse_stuff", "strict_instance_thresholds"])
@pytest.mark.parametrize(("value", "is_on"), [(True, True), (False, False), ("true", True), ("False", False)])
def test_a_switch_is_a_boolean_or_its_name(name: str, value: object, is_on: bool) -> None:
    assert getattr(parse_parameters({name: value}), name) is is_on


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0, "1", "yes", "on", [], {}])
def test_an_invalid_switch_is_rejected_with_its_name(value: object) -> None:
    with pytest.raises(BadParameter, match="fuse_stuff must be true or false"):
        parse_parameters({"fuse_stuff": value})


def test_missing_wire_parameters_get_defaults_and_unknown_ones_are_ignored() -> None:
    assert PARAMETERS.validate_python({"threshold": 0.25}) == SegmentParameters(threshold=0.25)
    newer = {"fuse_stuff": True, "colour": "red"}
    assert PARAMETERS.validate_python(newer) == SegmentParameters(fuse_stuff=True)


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


def test_an_error_truncates_a_long_value() -> None:
    with pytest.raises(MaskmillError) as caught:
        parse_parameters({"x" * 100_000: 1})

    assert len(str(caught.value)) < 300


@given(
    length=st.integers((1 << 16) - 250, (1 << 16) + 50),
    pattern=st.sampled_from(
        [b"a", b"\r", b"\n", b"\r\n", b"\r\n--xxBoundary", b"\r\n--xxBoundaryx", b"--xxBoundary\r\n"]
    ),
)
@settings(deadline=None)
def test_a_part_is_whole_wherever_its_pieces_end(length: int, pattern: bytes) -> None:
    content = (IMAGE + pattern * length)[:length]
    form = encode_form(("file", content, "a.jpg"), ("model", b"other", None))

    assert parse_body(form, FORM, {}) == ParsedBody(content, model="other")


@pytest.mark.parametrize("offset", range(200))
def test_a_form_is_read_alike_wherever_its_first_piece_ends(offset: int) -> None:
    content = IMAGE + b"a" * ((1 << 16) - 200 - len(IMAGE) + offset)
    form = encode_form(("file", content, "a.jpg"), ("model", b"other", None))

    assert parse_body(form, FORM, {}) == ParsedBody(content, model="other")


def test_a_large_form_of_line_ends_takes_little_time() -> None:
    form = encode_form(("file", IMAGE + b"\r\n" * (8 << 20), None))
    start = time.thread_time()

    parse_body(form, FORM, {})

    assert time.thread_time() - start < 0.2


LONG = 30_000
HOSTILE_TEXTS = {
    "many digits": "9" * LONG + "x",
    "digits and points": "1." * LONG,
    "an exponent": "1e" + "9" * LONG,
    "signs": "+" * LONG,
    "blanks in the middle": "0" + " \t\n" * (LONG // 3) + "5",
    "only digits": "9" * LONG,
}


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=list(HOSTILE_TEXTS))
def test_a_long_number_is_refused_at_once(text: str) -> None:
    start = time.thread_time()

    with pytest.raises(BadParameter, match="threshold must be a number from 0 to 1, not '"):
        parse_parameters(parse_body(IMAGE, "", {"threshold": text}).parameters)

    assert time.thread_time() - start < 0.1


@pytest.mark.parametrize(
    "text", ["nan", "inf", "-inf", "Infinity", "1e999", "-1e999", "1e9999", "0x1p-2", "1_0", "\u0661"]
)
def test_what_only_python_reads_as_a_number_from_0_to_1_is_refused(text: str) -> None:
    with pytest.raises(BadParameter):
        parse_parameters(parse_body(IMAGE, "", {"threshold": text}).parameters)


@pytest.mark.parametrize("text", ["0.5", ".5", "5e-1", "+0.5", "0.500000000000000000000000000000", "05E-1", "1."])
def test_numbers_are_read_in_every_spelling(text: str) -> None:
    assert parse_parameters(parse_body(IMAGE, "", {"threshold": text}).parameters).threshold == float(text)


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
    tracemalloc.start()
    start = time.thread_time()

    with pytest.raises(ClientError) as found:
        parsed = parse_body(body, content_type, {})
        parse_formats(parsed.formats)
        parse_parameters(parsed.parameters)
        inspect_image(parsed.image, max_pixels=1)

    seconds = time.thread_time() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(str(found.value)) < 400
    assert seconds < 0.2
    assert peak < MAX_MEMORY_PER_BYTE * len(body)
