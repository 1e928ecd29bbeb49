"""What a setting may be: values that are right and unusual stay right, and a sentence never repeats a password."""

from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.setting_types import (
    check_access_key,
    check_bucket,
    check_device,
    check_host,
    check_listen_address,
    check_model,
    check_region,
    clean_text,
)
from shared.setting_urls import check_endpoint, check_proxy, check_redis_url

Check = Callable[[str], str]


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (check_redis_url, "redis://[::1]:6379/15"),
        (check_redis_url, "redis://me:p%40ss@redis_1"),
        (check_redis_url, "rediss://cache.example.:6380/"),
        (check_redis_url, "unix://:p%2Fw@/run/redis.sock?db=3"),
        (check_endpoint, "http://seaweedfs:8333"),
        (check_endpoint, "https://project.example/storage/v1/s3"),
        (check_endpoint, "http://[fd00::1]:9000"),
        (check_proxy, "http://me:p%40ss@proxy.example:3128"),
        (check_bucket, "my.photos-2026"),
        (check_region, "RegionOne"),
        (check_region, "auto"),
        (check_access_key, "GOOG1EXAMPLE_key-1+2.3~"),
        (check_model, "embedded"),
        (check_model, "facebook/mask2former-swin-large-coco-panoptic@refs/pr/1"),
        (check_model, "/srv/my models/roads"),
        (check_model, "~/models/roads"),
        (check_model, "models/v2/roads"),
        (check_model, "s3://models/v2/roads/"),
        (check_listen_address, "[::1]:8000"),
        (check_listen_address, "0.0.0.0:0"),
        (check_listen_address, "unix:/tmp/maskmill.sock"),
        (check_host, "::"),
        (check_host, "gateway_1.example"),
        (check_device, "cuda:7"),
    ],
)
def test_unusual_values_are_right(check: Check, value: str) -> None:
    assert check(value) == value


@pytest.mark.parametrize(
    ("check", "value", "expected"),
    [
        (check_redis_url, "REDIS://host", "redis://host"),
        (check_endpoint, "HTTPS://s3.example/", "https://s3.example"),
        (check_host, "[::1]", "::1"),
        (clean_text, " \tvalue\r\n", "value"),
        (clean_text, "one\ntwo", "one\ntwo"),
        (clean_text, "'", "'"),
    ],
)
def test_values_are_brought_into_one_form(check: Check, value: str, expected: str) -> None:
    assert check(value) == expected


@pytest.mark.parametrize("value", ['"http://s3.example"', "'auto'", "a\0b", "\x1b[31mred", '""'])
def test_quotes_and_control_characters_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match="write"):
        clean_text(value)


@pytest.mark.parametrize("bucket", ["a..b", "192.168.0.1", "-photos", "photos-", "a/b", "p" * 64, "phötos", "photos\n"])
def test_names_that_a_store_refuses_are_refused(bucket: str) -> None:
    with pytest.raises(ValueError, match="write 3 to 63"):
        check_bucket(bucket)


@given(secret=st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=6), template=st.integers(0, 3))
def test_a_sentence_never_repeats_a_password(secret: str, template: int) -> None:
    check, url = (
        (check_redis_url, f"redis://:{secret}@host:6379/0"),
        (check_redis_url, f"unix://:{secret}@/run/redis.sock"),
        (check_endpoint, f"http://me:{secret}@host"),
        (check_proxy, f"http://me:{secret}@proxy:3128"),
    )[template]
    try:
        check(url)
    except ValueError as error:
        assert secret not in str(error)


@given(secret=st.text(st.characters(exclude_categories=("Cs",)), min_size=1))
def test_every_password_can_be_written_in_a_url(secret: str) -> None:
    url = f"redis://me:{quote(secret, safe='')}@host:6379/0"

    assert check_redis_url(url) == url


@pytest.mark.parametrize(
    "url",
    ["redis://:s3cret?word=1@host", "redis://:s3cret#@host", "redis://:s3/cret@host", "redis://:s3cret]@host"],
)
def test_a_password_that_ends_a_part_of_the_url_is_refused_with_its_remedy(url: str) -> None:
    with pytest.raises(ValueError, match="write it as in redis://") as caught:
        check_redis_url(url)
    assert "cret" not in str(caught.value)
