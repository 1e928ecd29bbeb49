"""The prefixes of two stacks keep all their keys and objects apart, whichever two they are."""

import inspect
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared import redis_keys
from shared.jobs.messages import queue_name
from shared.jobs.model import Priority
from shared.prefixes import OBJECT_NAMES, build_key_prefix, check_redis_prefix, check_storage_prefix
from shared.redis_prefix import add_prefix
from shared.settings import Settings
from shared.storage import keys as storage_keys

NAMES = st.sampled_from(["", "a", "ab", "a-b", "segment", "MM"]) | st.from_regex(
    r"[A-Za-z0-9][A-Za-z0-9_-]{0,9}", fullmatch=True
)
FOLDERS = st.sampled_from(["a", "ab", "b", "a.b", "Inbox"]) | st.from_regex(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,5}", fullmatch=True
)
PATHS = st.lists(FOLDERS, max_size=3).map("/".join)


def list_redis_keys() -> list[str]:
    made = [
        function(*("x" for _ in inspect.signature(function).parameters))
        for function in vars(redis_keys).values()
        if inspect.isfunction(function)
    ]
    constants = [value for name, value in vars(redis_keys).items() if name.isupper()]
    return [*made, *constants, queue_name("acme/roads", Priority.NORMAL), "_kombu.binding.segment", "unacked_mutex"]


def list_object_keys() -> list[str]:
    names = (storage_keys.inbox_key, storage_keys.input_key, storage_keys.dead_letter_key)
    more = (storage_keys.purged_key, storage_keys.request_key)
    job = [*(name("0") for name in (*names, *more)), storage_keys.object_key("0", "1-a", "labels.png")]
    job.append(storage_keys.kept_key("0", 1))
    # A folder lies within the objects of a job.
    stack_names = {name for name in vars(storage_keys) if name.isupper() and not name.endswith("_FOLDER")}
    return [*job, *(vars(storage_keys)[name] for name in stack_names)]


@given(NAMES, NAMES)
def test_no_key_in_redis_belongs_to_two_stacks(one: str, other: str) -> None:
    assume(one != other and "mm" not in (one, other))
    mine, theirs = (
        {build_key_prefix(check_redis_prefix(name)) + key for key in list_redis_keys()} for name in (one, other)
    )

    assert not mine & theirs
    # Nor can one that ends with a name of a client, such as an idempotency key.
    assert not one or not any(key.startswith(build_key_prefix(one)) for key in theirs)


@given(PATHS, PATHS)
def test_no_stack_lists_an_object_of_another(one: str, other: str) -> None:
    assume(one != other and not OBJECT_NAMES & {*one.split("/"), *other.split("/")})
    mine, theirs = ([f"{path}/{key}".lstrip("/") for key in list_object_keys()] for path in (one, other))

    assert not set(mine) & set(theirs)
    assert not [key for key in theirs for listed in mine if listed.endswith("/") and key.startswith(listed)]
    assert check_storage_prefix(one) == one


def test_the_names_of_a_stacks_objects_are_complete() -> None:
    assert {key.partition("/")[0] for key in list_object_keys()} == OBJECT_NAMES


@pytest.mark.parametrize("value", ["a:", "a b", "-a", "a/b", "a.b", "mm", "ä", "a\nb", "x" * 65])
def test_a_wrong_prefix_in_redis_is_refused(value: str) -> None:
    with pytest.raises(ValidationError, match="redis_prefix"):
        Settings(redis_prefix=value)


@pytest.mark.parametrize(
    "value", ["/", "/a", "a//b", "a b", "..", "a/../b", ".a", "a/inbox", "results", "ä", "a" * 201]
)
def test_a_wrong_prefix_in_the_bucket_is_refused(value: str) -> None:
    with pytest.raises(ValidationError, match="storage_prefix"):
        Settings(storage_prefix=value)


def test_a_slash_at_the_end_of_a_prefix_changes_nothing() -> None:
    assert Settings(storage_prefix="teams/roads/").storage_prefix == "teams/roads"


@pytest.mark.parametrize(
    ("command", "sent"),
    [
        (("GET", "mm:layout"), ("GET", "a:mm:layout")),
        (("SET", "mm:layout", "4", "NX"), ("SET", "a:mm:layout", "4", "NX")),
        (("DEL", "x", "y"), ("DEL", "a:x", "a:y")),
        (("EVALSHA", "0f", 1, "x", "y"), ("EVALSHA", "0f", 1, "a:x", "y")),
        (("SUBSCRIBE", "mm:events"), ("SUBSCRIBE", "a:mm:events")),
        (("TIME",), ("TIME",)),
    ],
)
def test_the_prefix_begins_each_key_of_a_command(command: tuple[Any, ...], sent: tuple[Any, ...]) -> None:
    assert add_prefix("a:", command) == sent


def test_a_command_whose_keys_are_unknown_is_not_sent() -> None:
    with pytest.raises(ValueError, match="the keys of SORT are unknown"):
        add_prefix("", ("SORT", "mm:job"))
