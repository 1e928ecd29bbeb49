"""What a setting may be: values that are right and unusual stay right, and a sentence never repeats a password."""

from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http.hosts import build_host_policy
from api.http.tokens_file import TokenTable
from shared.authority import parse_origins
from shared.setting_types import (
    check_access_key,
    check_bucket,
    check_certificates,
    check_device,
    check_file,
    check_host,
    check_listen_address,
    check_model,
    check_region,
    check_secret_key,
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


# In none of the sentences.
PASSWORD = "Zq7Xw"
MARKS = st.text(st.sampled_from("?&#/@:;=%[], a9"), max_size=4)
TEMPLATES: list[tuple[Check, str]] = [
    (check_redis_url, "redis://:{}@host:6379/0"),
    (check_redis_url, "redis://host:6379/0?password={}"),
    (check_redis_url, "redis://host/0?{}"),
    (check_redis_url, "redis:{}"),
    (check_redis_url, "unix://:{}@/run/redis.sock"),
    (check_redis_url, "unix:///run/redis.sock?password={}"),
    (check_endpoint, "http://me:{}@host"),
    (check_endpoint, "http://host/?{}"),
    (check_proxy, "http://me:{}@proxy:3128"),
    (check_access_key, "{}"),
    (check_secret_key, "{}"),
    (check_certificates, "-----BEGIN CERTIFICATE-----\n{}"),
    (check_file, "shop:{}"),
    (lambda value: str(parse_origins(value)), "https://me:{}@app.example"),
    (lambda value: str(build_host_policy(value, bind="127.0.0.1:1", requires_token=True)), "me:{}@app.example"),
]


@given(before=MARKS, between=MARKS, after=MARKS, template=st.sampled_from(TEMPLATES))
def test_a_sentence_repeats_no_part_of_a_password(
    before: str, between: str, after: str, template: tuple[Check, str]
) -> None:
    """Whichever character ends a part of the value, on either side of which is a part of the password."""
    check, form = template
    try:
        check(form.format(f"{before}{PASSWORD}{between}{PASSWORD}{after}"))
    except ValueError as error:
        assert PASSWORD not in str(error)


@pytest.mark.parametrize("content", ["-----BEGIN PRIVATE KEY-----\nabc\n", "MIIEvQIBADAN", "shop:s3cret", "/w==\n/w=="])
def test_the_content_of_a_file_in_place_of_its_path_is_not_repeated(content: str) -> None:
    with pytest.raises(ValueError, match=r"^there is no file of that name; write the path of one$"):
        check_file(content)
    with pytest.raises(ValueError, match=r"the file of that name cannot be read"):
        TokenTable((), content)


@given(secret=st.text(st.characters(exclude_categories=("Cs",)), min_size=1))
def test_every_password_can_be_written_in_a_url(secret: str) -> None:
    url = f"redis://me:{quote(secret, safe='')}@host:6379/0"

    assert check_redis_url(url) == url


@pytest.mark.parametrize(
    "url",
    ["redis://:s3cret?word=1@host", "redis://:s3cret#@host", "redis://:s3/cret@host", "redis://:s3cret]@host"],
)
def test_a_password_that_ends_a_part_of_the_url_is_refused_with_its_remedy(url: str) -> None:
    with pytest.raises(ValueError, match=r"write it as in redis://.* of a password as %2F|brackets") as caught:
        check_redis_url(url)
    assert "cret" not in str(caught.value)
