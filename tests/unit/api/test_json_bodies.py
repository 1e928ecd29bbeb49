"""Parsing of JSON bodies: their members, where each belongs, and those that are given twice."""

import json
from collections.abc import Callable

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http.bodies import ParsedBody, parse_body
from api.http.json_documents import parse_json
from shared.errors import BadParameter, UnreadableBody
from shared.jobs.parameters import FIELDS
from tests.support.bodies import BASE64, FORM, IMAGE, encode_form, encode_json


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
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 10**40])
def test_an_integer_that_would_be_rounded_is_refused(value: int) -> None:
    with pytest.raises(BadParameter, match="64 bits"):
        parse_json(b'{"metadata": {"order": [%d]}}' % value)


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


@pytest.mark.parametrize("members", [{"parameters": [1]}, {"parameters": "x"}, {"model": 3}, {"options": []}])
def test_members_of_the_wrong_type_are_bad_parameters(members: dict[str, object]) -> None:
    with pytest.raises(BadParameter):
        parse_body(encode_json(**members), "", {})
