"""The options of the Hugging Face clients, in `options` and in headers."""

import pytest
from werkzeug.datastructures import Headers

from api.http.options import list_overridden, parse_options
from shared.errors import BadParameter

YES = [True, 1, 1.0, "true", "True", " TRUE\n", "1", "yes"]
NO = [False, 0, 0.0, "false", "False", " FALSE\n", "0", "no"]


@pytest.mark.parametrize(("value", "expected"), [*((value, True) for value in YES), *((value, False) for value in NO)])
@pytest.mark.parametrize(("name", "header"), [("use_cache", "X-Use-Cache"), ("wait_for_model", "X-Wait-For-Model")])
def test_every_spelling_means_the_same_in_the_body_and_in_a_header(
    name: str, header: str, value: object, *, expected: bool
) -> None:
    assert parse_options({name: value}, Headers()) == {name: expected}
    if isinstance(value, str):
        assert parse_options({}, Headers({header: value.strip("\n")})) == {name: expected}


@pytest.mark.parametrize("options", [{}, {"use_cache": None}, {"use_gpu": "x", "dont_load_model": [], "colour": 1}])
@pytest.mark.parametrize("headers", [{}, {"x-use-cache": " "}, {"x-load-model": "0"}])
def test_what_is_not_given_has_no_value(options: dict[str, object], headers: dict[str, str]) -> None:
    assert parse_options(options, Headers(headers)) == {}


@pytest.mark.parametrize("value", ["", "maybe", "truetrue", 2, -1, 0.5, float("nan"), [], {}, [True], 10**400])
def test_a_value_that_is_neither_yes_nor_no_is_refused_with_its_name(value: object) -> None:
    with pytest.raises(BadParameter, match=r"`options\.use_cache` must be true or false, not "):
        parse_options({"use_cache": value}, Headers())


def test_a_header_that_is_neither_yes_nor_no_is_refused_with_its_name() -> None:
    with pytest.raises(BadParameter, match="The header x-wait-for-model must be true or false, not 'maybe'"):
        parse_options({}, Headers({"x-wait-for-model": "maybe"}))


@pytest.mark.parametrize("text", ["false,false", "false,true", ",", "false,"])
def test_a_header_that_is_given_twice_is_refused_with_its_name(text: str) -> None:
    with pytest.raises(BadParameter, match="The header x-use-cache is given twice"):
        parse_options({"use_cache": True}, Headers({"x-use-cache": text}))


def test_an_option_overrides_its_header() -> None:
    options, headers = (
        {"use_cache": True, "wait_for_model": None},
        Headers({"x-use-cache": "0", "x-wait-for-model": "1"}),
    )

    assert parse_options(options, headers) == {"use_cache": True, "wait_for_model": True}
    assert list(list_overridden(options, headers)) == ["x-use-cache"]
