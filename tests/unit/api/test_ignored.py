"""The response header that names what had no effect: for any names, one short line."""

import re

from hypothesis import given
from hypothesis import strategies as st

from api.http.ignored import MAX_NAME_CHARACTERS, MAX_NAMES, format_names

MAX_CHARACTERS = MAX_NAMES * (MAX_NAME_CHARACTERS + len(", ")) + len("...")


def test_names_are_listed_once_in_their_order() -> None:
    assert format_names(["top_k", "options.colour", "top_k", "x-use-cache"]) == "top_k, options.colour, x-use-cache"


def test_no_name_can_end_the_header_or_forge_another_name() -> None:
    assert format_names(["a\r\nSet-Cookie: b=c", "d, e", "é", ""]) == "a%0D%0ASet-Cookie%3A%20b%3Dc, d%2C%20e, %C3%A9, "


def test_many_and_long_names_are_cut() -> None:
    names = [f"{number}" + "n" * 100_000 for number in range(10_000)]

    listed = format_names(names).split(", ")

    assert len(listed) == MAX_NAMES + 1
    assert listed[-1] == "..."
    assert {len(name) for name in listed[:-1]} == {MAX_NAME_CHARACTERS}


@given(names=st.lists(st.text(), max_size=40))
def test_any_names_give_a_short_header_of_safe_characters(names: list[str]) -> None:
    value = format_names(names)

    assert re.fullmatch(r"[A-Za-z0-9._~%, -]*", value)
    assert len(value) <= MAX_CHARACTERS
