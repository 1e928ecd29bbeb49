"""What names an image in a body: a URL, an object of a bucket, an upload."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.http.bodies import parse_body
from api.http.references import find_reference
from api.jobs.references import BucketReference, UploadReference, UrlReference
from shared.errors import BadParameter, ForbiddenInput, MaskmillError, UnreadableBody
from shared.jobs.ids import new_job_id, read_creation_time

MEMBERS = st.sampled_from(["inputs", "image", "file", "image_url", "upload_id", "model", "parameters"])
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=40), st.text(max_size=40).map("https://{}".format),
    st.text(max_size=40).map("s3://{}".format), st.just("s3://photos/a.jpg"), st.lists(st.text(max_size=3), max_size=2),
)  # fmt: skip


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"inputs": "https://photos.example/a.jpg?sig=1"}, UrlReference("https://photos.example/a.jpg?sig=1")),
        ({"image": " HTTP://photos.example/a\n"}, UrlReference("HTTP://photos.example/a")),
        ({"image_url": "photos.example/a.jpg"}, UrlReference("photos.example/a.jpg")),
        ({"inputs": "file:///etc/passwd"}, UrlReference("file:///etc/passwd")),
        ({"inputs": "s3://photos/2026/a b.jpg"}, BucketReference("photos", "2026/a b.jpg")),
        ({"image_url": "S3://photos/a//b"}, BucketReference("photos", "a//b")),
        ({"upload_id": "0a", "inputs": None}, UploadReference("0a")),
        ({"inputs": "data:image/png;base64,AAAA"}, None),
        ({"inputs": "aGVsbG8="}, None),
        ({"inputs": "blob:http://localhost/0a1b"}, None),
        ({"model": "https://photos.example/a.jpg"}, None),
    ],
)
def test_what_names_an_image(members: dict[str, object], expected: object) -> None:
    assert find_reference(members.items()) == expected


@pytest.mark.parametrize("value", [1, True, ["https://photos.example"], {}, "", " "])
def test_what_names_an_image_is_a_text(value: object) -> None:
    with pytest.raises(BadParameter, match="must be a text"):
        find_reference([("image_url", value)])


@pytest.mark.parametrize("address", ["s3://", "s3://photos", "s3://photos/", "s3://a@b/c", "s3://photos/" + "k" * 1025])
def test_an_address_of_an_object_has_a_bucket_and_a_key(address: str) -> None:
    with pytest.raises(ForbiddenInput):
        find_reference([("inputs", address)])


@given(st.lists(st.tuples(MEMBERS, VALUES), max_size=4))
def test_any_members_name_one_image_or_none_or_are_refused(members: list[tuple[str, object]]) -> None:
    named = [name for name, value in members if name not in ("model", "parameters") and value is not None]
    try:
        found = find_reference(members)
    except MaskmillError as error:
        assert isinstance(error, BadParameter | ForbiddenInput)
    else:
        assert found is None or len(named) == 1


def test_a_route_that_takes_no_references_refuses_them() -> None:
    for members in ({"inputs": "https://photos.example/a.jpg"}, {"upload_id": "0" * 32}):
        with pytest.raises(UnreadableBody):
            parse_body(json.dumps(members).encode(), "", {})


def test_a_url_is_not_shown_by_the_value_that_holds_it() -> None:
    assert "s3cr3t" not in repr(UrlReference("https://photos.example/?sig=s3cr3t"))


@given(st.integers(min_value=0, max_value=2**40))
@example(977_284_158_301)
def test_the_time_of_an_id_is_that_of_its_creation(milliseconds: int) -> None:
    # In whole milliseconds: the difference of two floats of this size is not exact.
    assert abs(round(1000 * read_creation_time(new_job_id(milliseconds / 1000))) - milliseconds) <= 1
