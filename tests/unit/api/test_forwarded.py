"""What a trusted proxy says of a request: the last value counts, and none that its client has put before it."""

from hypothesis import given
from hypothesis import strategies as st

from api.server.forwarded import MAX_PREFIX_CHARACTERS, parse_prefix, read_last_value
from api.server.paths import remove_prefix

PREFIXES = st.from_regex(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,9}){1,4}", fullmatch=True)


@given(st.text(max_size=60) | st.text(alphabet="/.\\%a?#:@ ", max_size=20))
def test_what_is_taken_for_a_prefix_begins_a_path_of_this_host(text: str) -> None:
    prefix = parse_prefix(text)

    if prefix:
        segments = prefix.removeprefix("/").split("/")
        assert prefix.startswith("/")
        assert not {"", ".", ".."} & set(segments)
        assert prefix.isascii() and not set(prefix) & set("\\%?#:@ ")


@given(PREFIXES)
def test_a_path_is_found_below_its_prefix_whether_the_proxy_has_removed_it_or_not(prefix: str) -> None:
    assert parse_prefix(f"{prefix}/") == parse_prefix(prefix) == prefix
    assert remove_prefix(f"{prefix}/v1/jobs", prefix) == "/v1/jobs"
    assert remove_prefix(prefix, prefix) == "/"
    assert remove_prefix(f"{prefix}x/v1/jobs", prefix) == f"{prefix}x/v1/jobs"
    assert remove_prefix("/v1/jobs", "") == "/v1/jobs"


@given(st.text(max_size=40), st.text(alphabet=st.characters(exclude_characters=","), max_size=40))
def test_the_last_value_is_that_of_the_proxy(sent_by_client: str, added: str) -> None:
    assert read_last_value(f"{sent_by_client}, {added}") == added.strip()


def test_a_prefix_has_a_limit() -> None:
    assert parse_prefix("/" + "a" * (MAX_PREFIX_CHARACTERS - 1))
    assert parse_prefix("/" + "a" * MAX_PREFIX_CHARACTERS) is None
