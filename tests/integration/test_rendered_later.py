"""Formats that are asked for after a job has ended: rendered once by the real renderer, stored, served from then on."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from api.jobs.files import find_file
from deploy.local.gateway_client import GatewayClient
from deploy.local.processes import Process
from deploy.local.servers import free_ports
from shared.errors import BadParameter
from shared.formats.derived import read_derived, store_derived
from shared.formats.registry import FORMATS, Format, get_format
from shared.jobs.completion import read_result
from shared.jobs.format_options import FormatOptions
from shared.jobs.render_calls import RenderCall, RenderKind
from shared.jobs.result import JobResult
from shared.rfc3339 import format_timestamp
from shared.storage.keys import derived_prefix, input_key, object_key, results_prefix
from tests.conftest import Storage
from tests.support.gateway import GatewayUnderTest, open_gateway, open_shared_gateway, run_job
from tests.support.jobs import png
from tests.support.renderer import build_renderer, wait_alive
from tests.support.service import get_port
from worker.pipeline.rendering import load_renderers
from worker.renderer.formats import FormatHandler


@pytest.fixture(scope="module")
def renderer(
    redis_url: str, storage: Storage, bucket_name: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Process]:
    """The renderer as it is deployed, for all tests of this module.

    Redis is emptied before and after them only: it holds what the renderer reports every few seconds.
    """
    [port] = free_ports(1)
    env = {**storage.get_env(bucket_name), "MASKMILL_REDIS_URL": redis_url, "MASKMILL_PROBE_PORT": str(port)}
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        with build_renderer(tmp_path_factory.mktemp("renderer"), env) as process:
            wait_alive(process, client)
            yield process
        client.flushall()


@pytest.fixture
def gateway(renderer: Process, redis_url: str, storage_env: dict[str, str]) -> GatewayUnderTest:
    """A gateway whose calls the renderer answers."""
    renderer.check_alive()
    return open_shared_gateway(redis_url, storage_env)


def submit(gateway: GatewayUnderTest, formats: str) -> str:
    """Return the id of a job that has succeeded with these formats."""
    job_id: str = gateway.client.post(f"/v1/jobs?formats={formats}", data=png()).json["id"]
    run_job(gateway, job_id)
    return job_id


def read_final(gateway: GatewayUnderTest, job_id: str) -> JobResult:
    result = read_result(job_id, bucket=gateway.stores.bucket)
    assert result is not None
    return result


def list_derived(gateway: GatewayUnderTest, job_id: str) -> list[str]:
    prefix = derived_prefix(job_id, read_final(gateway, job_id).attempt_name)
    return [found.key for found in gateway.stores.bucket.list_objects(prefix)]


@pytest.mark.parametrize("one", FORMATS, ids=lambda one: one.name)
def test_a_format_rendered_later_equals_the_one_of_the_worker(gateway: GatewayUnderTest, one: Format) -> None:
    now, later = submit(gateway, one.name), submit(gateway, "labels")

    expected = gateway.client.get(f"/v1/jobs/{now}/{one.file}")
    first, second = (gateway.client.get(f"/v1/jobs/{later}/{one.file}") for _ in range(2))

    assert (first.status_code, first.content_type) == (200, expected.content_type)
    # A document may name its job.
    assert first.data.replace(later.encode(), now.encode()) == expected.data or one.name == "all"
    assert (second.data, second.headers["ETag"]) == (first.data, first.headers["ETag"])
    assert len(list_derived(gateway, later)) == (0 if one.is_required else 2)


def test_single_masks_come_from_masks_that_were_rendered_later(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway, "labels")

    pngs = [gateway.client.get(f"/v1/jobs/{job_id}/masks/{number}.png").data for number in (1, 2)]

    archive = zipfile.ZipFile(io.BytesIO(gateway.client.get(f"/v1/jobs/{job_id}/masks.zip").data))
    assert [archive.read(f"{number}.png") for number in (1, 2)] == pngs
    assert len(list_derived(gateway, job_id)) == 2
    assert gateway.client.get(f"/v1/jobs/{job_id}/masks/3.png").json["error_type"] == "unknown_mask"


def test_many_requests_at_once_render_once(gateway: GatewayUnderTest, renderer: Process) -> None:
    job_id = submit(gateway, "labels")
    clients = [gateway.client.application.test_client() for _ in range(8)]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda client: client.get(f"/v1/jobs/{job_id}/masks.zip"), clients))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.data for answer in answers}) == 1
    # Those that came after the end of the first found the file.
    calls = [line for line in renderer.log.read_text().splitlines() if job_id in line and '"render_call"' in line]
    assert 1 <= len(calls) < 8


def test_its_port_tells_readiness_and_counts_calls(gateway: GatewayUnderTest, renderer: Process) -> None:
    job_id = submit(gateway, "labels")
    assert gateway.client.get(f"/v1/jobs/{job_id}/rle.json").status_code == 200

    ready, metrics = (GatewayClient(get_port(renderer)).request("GET", path) for path in ("/readyz", "/metrics"))

    assert ready.json() == {"status": "ok", "checks": {"renderer": "ok", "redis": "ok", "storage": "ok"}}
    assert b'maskmill_render_calls_total{code="ok",kind="format"}' in metrics.body
    assert b"maskmill_renderer_ready 1.0" in metrics.body


def test_the_overlay_needs_the_photo(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway, "labels")
    gateway.stores.bucket.delete([input_key(job_id)])

    refused = gateway.client.get(f"/v1/jobs/{job_id}/overlay.png")

    assert (refused.status_code, refused.json["error_type"]) == (410, "image_gone")
    assert "not kept any more" in refused.json["error"]
    job = gateway.stores.jobs.get(job_id)
    assert job.ended_at is not None
    assert refused.json["kept_until"] == format_timestamp(job.ended_at + gateway.settings.input_ttl_seconds)
    assert list_derived(gateway, job_id) == []


def test_nothing_is_rendered_of_a_label_map_that_is_gone(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway, "labels")
    attempt_name = gateway.stores.jobs.get(job_id).attempt_name
    gateway.stores.bucket.delete([object_key(job_id, attempt_name, "labels.png")])

    refused = gateway.client.get(f"/v1/jobs/{job_id}/rle.json")

    expires_at = gateway.client.get(f"/v1/jobs/{job_id}").json["expires_at"]
    assert (refused.status_code, refused.json["error_type"], refused.json["kept_until"]) == (410, "gone", expires_at)


def test_a_photo_that_was_replaced_is_not_drawn_over(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway, "labels")
    gateway.stores.bucket.put(input_key(job_id), png(9, 9), content_type="image/png")

    assert gateway.client.get(f"/v1/jobs/{job_id}/overlay.png").status_code == 410


def test_a_label_map_that_was_overwritten_is_not_rendered(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway, "labels")
    key = object_key(job_id, read_final(gateway, job_id).attempt_name, "labels.png")
    gateway.stores.bucket.put(key, png(), content_type="image/png")

    refused = gateway.client.get(f"/v1/jobs/{job_id}/rle.json")

    assert (refused.status_code, refused.json["error_type"]) == (500, "result_overwritten")


def test_without_a_renderer_the_answer_is_503_at_once(gateway: GatewayUnderTest) -> None:
    # A gateway of another prefix, for which no renderer runs.
    alone = open_gateway(
        gateway.settings.redis_url,
        {
            "MASKMILL_STORAGE_ENDPOINT": gateway.settings.storage_endpoint,
            "MASKMILL_STORAGE_BUCKET": gateway.settings.storage_bucket,
            "MASKMILL_STORAGE_ACCESS_KEY": gateway.settings.storage_access_key,
            "MASKMILL_STORAGE_SECRET_KEY": gateway.settings.storage_secret_key.get_secret_value(),
        },
        redis_prefix="alone",
    )
    job_id = submit(alone, "labels")
    start = time.monotonic()

    refused = alone.client.get(f"/v1/jobs/{job_id}/rle.json")

    assert (refused.status_code, refused.json["error_type"]) == (503, "renderer_unavailable")
    assert refused.headers["Retry-After"] == "5"
    assert "none is running" in refused.json["error"]
    assert time.monotonic() - start < 5
    # Stored files are answered as before.
    assert alone.client.get(f"/v1/jobs/{job_id}/labels.png").status_code == 200


def test_derived_files_go_with_their_job(gateway: GatewayUnderTest) -> None:
    job_id = submit(gateway, "labels")
    assert gateway.client.get(f"/v1/jobs/{job_id}/rle.json").status_code == 200

    assert gateway.client.delete(f"/v1/jobs/{job_id}?purge=true").status_code == 204

    assert list(gateway.stores.bucket.list_objects(results_prefix(job_id))) == []
    assert gateway.client.get(f"/v1/jobs/{job_id}/rle.json").status_code == 404


class TestFormatHandler:
    """Against the real bucket, without a process."""

    ROW = Format("rle", "rle.json", "application/json", "rle_url", "", options=("polygon_tolerance",))

    def build(self, gateway: GatewayUnderTest, max_files: int = 64) -> FormatHandler:
        return FormatHandler(gateway.stores.bucket, load_renderers(), lambda _: pytest.fail("no photo"), max_files)

    def test_a_job_has_a_bounded_number_of_derived_files(self, gateway: GatewayUnderTest) -> None:
        result = read_final(gateway, submit(gateway, "labels"))
        handler = self.build(gateway, max_files=1)

        def call(name: str) -> bytes:
            return handler.handle(RenderCall(RenderKind.FORMAT, "public", result.request.id, {"format": name}))

        first = call("rle")

        with pytest.raises(BadParameter, match="has 1 files"):
            call("masks")
        assert call("rle") == first

    def test_other_options_are_another_file(self, gateway: GatewayUnderTest) -> None:
        bucket = gateway.stores.bucket
        result = read_final(gateway, submit(gateway, "labels"))
        own, other = FormatOptions(), FormatOptions(polygon_tolerance=3.0)

        store_derived(result, self.ROW, own, b"own", {}, bucket=bucket)
        assert read_derived(result, self.ROW, other, bucket=bucket) is None
        store_derived(result, self.ROW, other, b"other", {}, bucket=bucket)

        found = [read_derived(result, self.ROW, options, bucket=bucket) for options in (own, other)]
        assert [one.stored.bytes for one in found if one] == [3, 5]
        # An option that the format does not have makes no difference.
        unrelated = FormatOptions(coco_polygons=True)
        assert read_derived(result, self.ROW, unrelated, bucket=bucket) == found[0]

    def test_what_was_rendered_by_two_versions_is_read_as_one_of_them(self, gateway: GatewayUnderTest) -> None:
        bucket = gateway.stores.bucket
        result = read_final(gateway, submit(gateway, "labels"))
        wanted = get_format("rle")

        for content in (b"older", b"newer"):
            store_derived(result, wanted, FormatOptions(), content, {}, bucket=bucket)

        file = find_file(result, wanted, bucket=bucket, renders=None)  # type: ignore[arg-type]
        assert file.read() == b"newer"
        assert file.is_unchanged()

    @pytest.mark.parametrize(
        "arguments", [{}, {"format": "later"}, {"format": "rle", "options": {"polygon_tolerance": -1}}]
    )
    def test_what_another_version_asks_for_is_refused(
        self, gateway: GatewayUnderTest, arguments: dict[str, object]
    ) -> None:
        call = RenderCall(RenderKind.FORMAT, "public", "0" * 32, arguments)  # type: ignore[arg-type]

        with pytest.raises(BadParameter):
            self.build(gateway).handle(call)
