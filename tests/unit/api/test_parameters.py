"""Segmentation parameters and formats: their values, as JSON, in a query and in a form."""

import itertools

import pytest

from api.http.bodies import parse_body
from api.http.parameters import parse_formats, parse_parameters
from shared.errors import BadParameter, MaskmillError, UnknownParameter
from shared.jobs.parameters import FIELDS, PARAMETERS, SegmentParameters
from tests.support.bodies import FORM, IMAGE, encode_form, encode_json
from tests.support.cpu_time import measure_cpu_seconds

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
    def refuse() -> None:
        with pytest.raises(BadParameter, match="threshold must be a number from 0 to 1, not '"):
            parse_parameters(parse_body(IMAGE, "", {"threshold": text}).parameters)

    assert measure_cpu_seconds(refuse) < 0.1


@pytest.mark.parametrize(
    "text", ["nan", "inf", "-inf", "Infinity", "1e999", "-1e999", "1e9999", "0x1p-2", "1_0", "\u0661"]
)
def test_what_only_python_reads_as_a_number_from_0_to_1_is_refused(text: str) -> None:
    with pytest.raises(BadParameter):
        parse_parameters(parse_body(IMAGE, "", {"threshold": text}).parameters)


@pytest.mark.parametrize("text", ["0.5", ".5", "5e-1", "+0.5", "0.500000000000000000000000000000", "05E-1", "1."])
def test_numbers_are_read_in_every_spelling(text: str) -> None:
    assert parse_parameters(parse_body(IMAGE, "", {"threshold": text}).parameters).threshold == float(text)
