"""Parsing of forms: fields, files, inputs that were left alone, and parts wherever a piece ends."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.http.bodies import ParsedBody, parse_body
from api.http.multipart import split_form
from api.http.parameters import parse_parameters
from shared.errors import BadParameter, EmptyBody, UnreadableBody
from shared.jobs.parameters import SegmentParameters, Subtask
from tests.support.bodies import BASE64, BOUNDARY, FORM, IMAGE, encode_form
from tests.support.cpu_time import measure_cpu_seconds


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


def test_an_empty_file_in_a_form_is_an_empty_body() -> None:
    with pytest.raises(EmptyBody):
        parse_body(encode_form(("file", b"", "a.jpg")), FORM, {})


@pytest.mark.parametrize("content", [b"{", b"[]", b"threshold=1"])
def test_form_parameters_that_are_not_a_json_object_are_rejected(content: bytes) -> None:
    with pytest.raises(BadParameter):
        parse_body(encode_form(("file", IMAGE, "a.jpg"), ("parameters", content, None)), FORM, {})


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

    assert measure_cpu_seconds(lambda: parse_body(form, FORM, {})) < 0.2
