"""Files over HTTP: ETags, conditions, ranges, HEAD, and signed URLs that clients fetch from the object store itself."""

from __future__ import annotations

import gzip
import urllib.request
from dataclasses import replace
from hashlib import sha256
from urllib.parse import parse_qs, urlsplit

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from shared.jobs.completion import read_result
from shared.jobs.result import JobResult, StoredFile
from shared.storage.keys import object_key, result_key
from tests.conftest import Storage
from tests.support.gateway import GatewayUnderTest, open_gateway, run_job
from tests.support.jobs import png

PATHS = ["labels.png", "masks.zip", "masks/1.png", "rle.json", "input"]


@pytest.fixture
def job_id(gateway: GatewayUnderTest) -> str:
    return submit(gateway)


def submit(gateway: GatewayUnderTest) -> str:
    submitted: str = gateway.client.post("/v1/jobs?formats=labels,masks,rle", data=png()).json["id"]
    run_job(gateway, submitted)
    return submitted


@pytest.mark.parametrize("path", PATHS)
def test_a_file_has_a_strong_etag_that_answers_304(gateway: GatewayUnderTest, job_id: str, path: str) -> None:
    url = f"/v1/jobs/{job_id}/{path}"
    whole = gateway.client.get(url)
    etag = whole.headers["ETag"]

    known, other = (gateway.client.get(url, headers={"If-None-Match": value}) for value in (f'"x", {etag}', '"x"'))

    assert etag.startswith('"')
    assert (known.status_code, known.data, known.headers["ETag"]) == (304, b"", etag)
    assert (other.status_code, other.data) == (200, whole.data)


@pytest.mark.parametrize("path", PATHS)
def test_head_has_the_headers_and_reads_no_file(gateway: GatewayUnderTest, job_id: str, path: str) -> None:
    url = f"/v1/jobs/{job_id}/{path}"
    whole, head = gateway.client.get(url), gateway.client.head(url)

    assert (head.status_code, head.data) == (200, b"")
    for name in ("Content-Length", "Content-Type", "ETag", "Accept-Ranges", "Cache-Control"):
        assert head.headers[name] == whole.headers[name]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [("bytes=0-9", 0, 10), ("bytes=5-", 5, None), ("bytes=-7", -7, None), ("bytes=-9999999", 0, None)],
)
def test_one_range_is_a_part(
    gateway: GatewayUnderTest, job_id: str, path: str, wanted: str, start: int, end: int | None
) -> None:
    url = f"/v1/jobs/{job_id}/{path}"
    whole = gateway.client.get(url)

    part = gateway.client.get(url, headers={"Range": wanted, "Accept-Encoding": "gzip"})

    expected = whole.data[start:end]
    first = start % len(whole.data)
    assert (part.status_code, part.data) == (206, expected)
    assert part.headers["Content-Range"] == f"bytes {first}-{first + len(expected) - 1}/{len(whole.data)}"
    assert part.headers["ETag"] == whole.headers["ETag"]


def test_a_range_behind_the_end_is_416(gateway: GatewayUnderTest, job_id: str) -> None:
    url = f"/v1/jobs/{job_id}/labels.png"
    size = len(gateway.client.get(url).data)

    refused = gateway.client.get(url, headers={"Range": f"bytes={size}-"})

    assert (refused.status_code, refused.headers["Content-Range"]) == (416, f"bytes */{size}")


@pytest.mark.parametrize("wanted", ["bytes=0-1,4-5", "lines=0-1", "bytes=", "bytes=9-1", "nonsense"])
def test_what_is_not_one_range_gives_the_whole_file(gateway: GatewayUnderTest, job_id: str, wanted: str) -> None:
    url = f"/v1/jobs/{job_id}/labels.png"

    answer = gateway.client.get(url, headers={"Range": wanted})

    assert (answer.status_code, answer.data) == (200, gateway.client.get(url).data)


def test_a_range_of_another_file_gives_the_whole_one(gateway: GatewayUnderTest, job_id: str) -> None:
    url = f"/v1/jobs/{job_id}/labels.png"
    etag = gateway.client.get(url).headers["ETag"]

    def ask(condition: str) -> int:
        headers = {"Range": "bytes=0-3", "If-Range": condition}
        return int(gateway.client.get(url, headers=headers).status_code)

    assert ask(etag) == 206
    assert {ask('"other"'), ask(f"W/{etag}"), ask("Wed, 21 Oct 2015 07:28:00 GMT")} == {200}


@pytest.fixture(scope="module")
def shared_file(redis_url: str, storage: Storage, bucket_name: str) -> tuple[FlaskClient, str]:
    """A client and the address of a file, for many requests."""
    gateway = open_gateway(redis_url, storage.get_env(bucket_name))
    return gateway.client, f"/v1/jobs/{submit(gateway)}/labels.png"


@given(wanted=st.text(max_size=40), condition=st.text(max_size=20))
def test_any_text_as_a_range_is_answered(shared_file: tuple[FlaskClient, str], wanted: str, condition: str) -> None:
    client, path = shared_file
    headers = {"Range": f"bytes={_to_header(wanted)}", "If-Range": _to_header(condition)}

    assert client.get(path, headers=headers).status_code in (200, 206, 416)


def _to_header(text: str) -> str:
    return text.encode("latin-1", "replace").decode("latin-1").translate(dict.fromkeys(range(32), "?") | {127: "?"})


def test_a_compressed_file_has_another_etag(gateway: GatewayUnderTest, job_id: str) -> None:
    url, content = f"/v1/jobs/{job_id}/rle.json", b'{"a": "' + b"x" * 2000 + b'"}'
    result = read_final(gateway, job_id)
    key = object_key(job_id, result.attempt_name, "rle.json")
    etag = gateway.stores.bucket.put(key, content, content_type="application/json")
    facts = StoredFile(len(content), etag, sha256(content).hexdigest())
    changed = replace(result, objects={**result.objects, "rle": facts}).to_json()
    gateway.stores.bucket.put(result_key(job_id), changed, content_type="application/json")

    plain = gateway.client.get(url)
    packed = gateway.client.get(url, headers={"Accept-Encoding": "gzip"})
    again = gateway.client.get(url, headers={"If-None-Match": packed.headers["ETag"]})

    assert gzip.decompress(packed.data) == plain.data
    assert packed.headers["ETag"] != plain.headers["ETag"]
    assert again.status_code == 304


def test_a_result_without_facts_of_its_files_is_served(gateway: GatewayUnderTest, job_id: str) -> None:
    before = [gateway.client.get(f"/v1/jobs/{job_id}/{path}").data for path in PATHS]
    result = read_final(gateway, job_id)
    plain = replace(result, objects={}).to_json()
    gateway.stores.bucket.put(result_key(job_id), plain, content_type="application/json")

    for path, content in zip(PATHS, before, strict=True):
        url = f"/v1/jobs/{job_id}/{path}"
        assert gateway.client.get(url).data == content
        assert gateway.client.get(url, headers={"Range": "bytes=1-2"}).data == content[1:3]


def read_final(gateway: GatewayUnderTest, job_id: str) -> JobResult:
    result = read_result(job_id, bucket=gateway.stores.bucket)
    assert result is not None
    return result


@pytest.fixture(scope="module")
def _public_storage(storage: Storage) -> str:
    """The address by which clients reach the object store: another name of the same server."""
    return storage.endpoint.replace("127.0.0.1", "localhost")


@pytest.fixture
def public(clean_redis: str, storage_env: dict[str, str], _public_storage: str) -> GatewayUnderTest:
    """A gateway whose clients reach the object store, which keeps its objects in a folder."""
    return open_gateway(clean_redis, storage_env, storage_public_endpoint=_public_storage, storage_prefix="team/a")


@pytest.mark.parametrize("path", ["labels.png", "masks.zip", "input"])
def test_a_redirect_leads_to_the_file_in_the_object_store(
    public: GatewayUnderTest, _public_storage: str, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    job_id = submit(public)
    url = f"/v1/jobs/{job_id}/{path}"

    answer = public.client.get(f"{url}?redirect=1")

    location = answer.headers["Location"]
    assert (answer.status_code, answer.headers["Cache-Control"]) == (307, "private, no-store")
    assert location.startswith(f"{_public_storage}/")
    assert parse_qs(urlsplit(location).query)["X-Amz-Expires"] == ["300"]
    with urllib.request.urlopen(location) as fetched:
        assert fetched.read() == public.client.get(url).data
    assert "X-Amz-Signature" not in "".join(capsys.readouterr())


def test_an_overwritten_file_is_not_redirected_to(public: GatewayUnderTest) -> None:
    job_id = submit(public)
    key = object_key(job_id, read_final(public, job_id).attempt_name, "labels.png")
    public.stores.bucket.put(key, png(), content_type="image/png")

    refused = public.client.get(f"/v1/jobs/{job_id}/labels.png?redirect=1")

    assert (refused.status_code, refused.json["error_type"]) == (500, "result_overwritten")


def test_a_result_has_signed_urls_if_they_are_asked_for(public: GatewayUnderTest) -> None:
    job_id = submit(public)

    plain = public.client.get(f"/v1/jobs/{job_id}/result")
    signed = public.client.get(f"/v1/jobs/{job_id}/result?urls=1")

    assert plain.json["urls"] is None
    assert signed.json["urls"].keys() == {"labels", "masks", "rle"}
    assert signed.headers["Cache-Control"] == "private, no-store"
    assert signed.json["urls"]["labels"]["expires_in_seconds"] == 300
    with urllib.request.urlopen(signed.json["urls"]["labels"]["url"]) as fetched:
        assert fetched.read() == public.client.get(f"/v1/jobs/{job_id}/labels.png").data


def test_where_clients_do_not_reach_the_store_the_gateway_serves(gateway: GatewayUnderTest, job_id: str) -> None:
    answer = gateway.client.get(f"/v1/jobs/{job_id}/labels.png?redirect=1")

    assert answer.status_code == 200
    assert gateway.client.get(f"/v1/jobs/{job_id}/result?urls=1").json["urls"] is None


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("labels.png", "known are redirect"),
        ("coco.json", "known are redirect, polygon_tolerance, coco_polygons"),
        ("masks/1.png", "this address takes none"),
        ("input", "known are redirect"),
        ("result", "known are urls"),
    ],
)
def test_an_unknown_parameter_is_refused_with_the_known_ones(
    gateway: GatewayUnderTest, job_id: str, path: str, known: str
) -> None:
    refused = gateway.client.get(f"/v1/jobs/{job_id}/{path}?polygon=1")

    assert (refused.status_code, refused.json["error_type"]) == (400, "unknown_parameter")
    assert "'polygon'" in refused.json["error"]
    assert known in refused.json["error"]


@pytest.mark.parametrize(
    ("path", "disposition"),
    [
        ("labels.png", 'inline; filename="{}-labels.png"'),
        ("masks/1.png", 'inline; filename="{}-mask-1.png"'),
        ("masks.zip", 'attachment; filename="{}-masks.zip"'),
        ("rle.json", 'attachment; filename="{}-rle.json"'),
        ("input", 'attachment; filename="{}.png"'),
    ],
)
def test_a_browser_shows_pictures_alone_and_saves_other_files_by_their_name(
    gateway: GatewayUnderTest, job_id: str, path: str, disposition: str
) -> None:
    response = gateway.client.get(f"/v1/jobs/{job_id}/{path}")

    assert response.headers["Content-Disposition"] == disposition.format(job_id)
    assert response.headers["X-Content-Type-Options"] == "nosniff"
