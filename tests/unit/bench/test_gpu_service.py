"""The parts of the benchmark of the whole service on a GPU machine that need neither a GPU nor a service."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.bench.cpu_time import find_descendants
from tests.bench.gpu_service.gpu_usage import GpuUsage
from tests.bench.gpu_service.load import open_load, run_load
from tests.bench.gpu_service.load_process import LoadTask
from tests.bench.gpu_service.observation import Interval, Observation, describe_usage
from tests.bench.gpu_service.workload import Variant, parse_workload
from tests.support.polling import wait_until
from worker.runtime.sizing import count_cores

NO_CPU = dict.fromkeys(("engine", "hosts", "gateway"), 0.0)


class Gateway(BaseHTTPRequestHandler):
    """Answers each POST with the status that its path ends with."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(int(self.path.rpartition("/")[2]))
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def images(tmp_path: Path) -> str:
    (tmp_path / "0.jpg").write_bytes(b"JPEG")
    return str(tmp_path)


def test_every_thread_of_a_load_sends_its_requests(port: int, images: str) -> None:
    result = run_load(LoadTask(port, "/202", images, threads=6, max_requests=3))

    assert len(result.times_ms) == 18
    assert result.seconds > 0


def test_a_load_without_a_bound_is_stopped(port: int, images: str) -> None:
    with open_load(LoadTask(port, "/202", images, threads=2)) as load:
        result = load.stop()

    assert len(result.times_ms) < 10_000


def test_a_refused_request_fails_the_load_with_its_reason(port: int, images: str) -> None:
    with pytest.raises(RuntimeError, match="the gateway responded 429"):
        run_load(LoadTask(port, "/429", images, threads=1, max_requests=1))


def test_the_utilization_of_the_gpu_is_the_mean_of_the_samples_in_between() -> None:
    start = time.monotonic()
    with GpuUsage(["sh", "-c", "echo 50; echo '[N/A]'; echo 100; sleep 60"]) as gpu:
        wait_until(lambda: gpu.mean(start, time.monotonic()) == 0.75)

        assert gpu.mean(0.0, start) is None


def test_without_its_program_the_utilization_is_unknown() -> None:
    with GpuUsage(["/nonexistent/nvidia-smi"]) as gpu:
        assert gpu.mean(0.0, time.monotonic()) is None


def test_descendants_are_found_by_a_word_of_their_command_line() -> None:
    sleep = "[sys.executable, '-c', 'import time; time.sleep(60)', 'worker.host']"
    with subprocess.Popen([sys.executable, "-c", f"import subprocess, sys; subprocess.run({sleep})"]) as process:
        wait_until(lambda: find_descendants(process.pid, "worker.host"))

        [found] = find_descendants(process.pid, "worker.host")
        os.kill(found, signal.SIGKILL)

        assert found != process.pid


def observation(at: float, cpu: dict[str, float], **metrics: float) -> Observation:
    return Observation(at, NO_CPU | cpu, metrics)


@pytest.mark.parametrize(
    ("gpu_busy", "limit"), [(None, "the device"), (0.95, "the device"), (0.6, "the engine's process")]
)
def test_a_device_that_always_has_a_batch_limits_the_service_unless_it_waits_for_kernels(
    gpu_busy: float | None, limit: str
) -> None:
    end = observation(10.0, {}, maskmill_batch_device_seconds_sum=9.5)

    usage = describe_usage(Interval(observation(0.0, {}), end), hosts=2, gpu_busy=gpu_busy)

    assert usage["limited_by"] == limit
    assert usage["mean_batch"] is None


def test_hosts_that_each_use_a_core_limit_the_service() -> None:
    end = observation(10.0, {"hosts": 9.0 * 100 * count_cores()}, maskmill_batch_device_seconds_sum=3.0)

    usage = describe_usage(Interval(observation(0.0, {}), end), hosts=100 * count_cores(), gpu_busy=0.3)

    assert usage["cores_of_a_host"] == 0.9
    assert usage["limited_by"].startswith("the host processes")


def test_stages_are_means_of_the_interval() -> None:
    names = ("maskmill_stage_seconds_count/decode", "maskmill_stage_seconds_sum/decode")
    start, end = (Observation(0.0, NO_CPU, dict(zip(names, values, strict=True))) for values in ((2, 1.0), (4, 1.5)))

    assert Interval(start, end).stage_means_ms() == {"decode": 250.0}


def test_results_go_to_the_folder_that_the_environment_names() -> None:
    assert parse_workload([], {"OUT": "/results"}).out == Path("/results")
    assert parse_workload([], {}).out is None


def test_a_variant_sets_what_its_measurements_name() -> None:
    workload = parse_workload(["--tiny", "--device", "cpu"], {})
    variant = Variant(2, is_compiled=True)

    environ, settings = variant.environ(workload), variant.settings(workload)

    assert environ["MASKMILL_HOST_PROCESSES"] == "2"
    assert environ["MASKMILL_COMPILE"] == "on"
    assert json.dumps(settings) == json.dumps(
        {"model": "swin-toy", "forward": "fast, float32, compiled", "max batch": 4, "hosts": 2}
    )
