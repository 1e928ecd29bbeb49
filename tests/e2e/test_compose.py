"""docker-compose.yml, built and run by the Docker engine that `docker info` reaches.

The images of Valkey and SeaweedFS are pulled; where no registry can be reached, tests/e2e/compose builds stand-ins with
the same servers.
"""

import base64
import io
import json
import os
import subprocess
import sys
import time
import uuid
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deploy.local.gateway_client import GatewayClient
from deploy.local.sample_job import SAMPLE_IMAGE, run_sample
from deploy.local.servers import free_ports
from tests.hostile.runner import Service, find_fault
from tests.hostile.table import INPUTS
from tests.support import doors
from tests.support.doors import OPEN_QUESTIONS, parse_ports
from tests.support.hostile_images import build_large_webp, build_slow_jpeg

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
LOG = ROOT / "build" / "test_compose.log"
OWN_SERVICES = {"api", "worker", "renderer", "steward"}
SERVERS = OWN_SERVICES | {"valkey", "seaweedfs"}
# It makes the keys and ends.
KEYS = "keys"
SERVICES = SERVERS | {KEYS}
CLIENT_KEYS = ("redis_password", "storage_access_key", "storage_secret_key")
# What each service mounts of the keys, and under which names they are there.
KEY_FILES = {
    **dict.fromkeys(OWN_SERVICES, frozenset(f"maskmill_{name}" for name in CLIENT_KEYS)),
    "valkey": frozenset({"password"}),
    "seaweedfs": frozenset({"s3.json", "internal.key"}),
}

AT_ONCE = 8
HOSTILE_IMAGES: dict[str, Callable[[], bytes]] = {
    "progressive JPEG of 64 megapixels with 95 scans": lambda: build_slow_jpeg(side=8000, scans=95),
    "lossless WebP of 64 megapixels, turned": lambda: build_large_webp(side=8000),
    "JPEG of noise, 64 megapixels": lambda: make_noise("JPEG"),
}


@dataclass(frozen=True, slots=True)
class Compose:
    """One `docker compose` project with a name of its own, so that no other project is touched."""

    project: str
    port: int
    tokens: str = ""
    address: str = "127.0.0.1"
    files: tuple[Path, ...] = (ROOT / "docker-compose.yml",)

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        """Run a subcommand and return what it printed."""
        files = [word for file in self.files for word in ("--file", str(file))]
        env = {"PORT": str(self.port), "MASKMILL_TOKENS": self.tokens, "BIND": self.address}
        return docker("compose", "--project-name", self.project, *files, *arguments, env=env, stdin=stdin)

    def config(self, *flags: str) -> dict[str, Any]:
        services: dict[str, Any] = json.loads(self(*flags, "config", "--format", "json"))["services"]
        return services

    def containers(self) -> dict[str, list[dict[str, Any]]]:
        """Return `docker inspect` of the containers, exited ones too, by service."""
        by_service: dict[str, list[dict[str, Any]]] = {}
        for container in json.loads(docker("inspect", *self("ps", "--all", "--quiet").split())):
            by_service.setdefault(container["Config"]["Labels"]["com.docker.compose.service"], []).append(container)
        return by_service

    def events(self, service: str) -> list[dict[str, Any]]:
        """Return the log events of a service."""
        # Compose writes the escape sequence that clears a line first, even where there is no terminal.
        lines = self("logs", "--no-log-prefix", "--no-color", service).replace("\x1b[2K", "").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Compose:
    """The project, with the overrides that this machine needs; no container is started."""
    require_engine()
    [port] = free_ports(1)
    plain = Compose(f"maskmill-test-{uuid.uuid4().hex[:8]}", port)
    files = list(plain.files)
    pulled = [service["image"] for service in plain.config().values() if "build" not in service]
    if not all(is_available(image) for image in pulled):
        files.append(ROOT / "tests" / "e2e" / "compose" / "standins.yml")
    wheels = find_torch_wheels()
    if wheels is not None:
        build = {"args": {"TORCH_INDEX": ""}, "additional_contexts": {"wheels": str(wheels)}}
        override = tmp_path_factory.mktemp("compose") / "torch.json"
        override.write_text(json.dumps({"services": {name: {"build": build} for name in ("worker", "renderer")}}))
        files.append(override)
    return replace(plain, files=tuple(files))


@pytest.fixture(scope="module")
def stack(compose: Compose) -> Iterator[Compose]:
    """The whole service, built and healthy; removed afterwards with its data.  Its log is written to LOG."""
    try:
        compose("build")
        started = time.monotonic()
        compose("up", "--wait", "--wait-timeout", "300")
        print(f"healthy after {time.monotonic() - started:.1f} s")
        yield compose
    finally:
        LOG.parent.mkdir(exist_ok=True)
        LOG.write_text(compose("logs", "--no-color"))
        compose("down", "--volumes", "--remove-orphans", "--timeout", "10", "--rmi", "local")


@pytest.fixture
def client(stack: Compose) -> GatewayClient:
    return GatewayClient(stack.port)


def test_the_gpu_profile_adds_a_worker_with_a_gpu(compose: Compose) -> None:
    plain, gpu = compose.config(), compose.config("--profile", "gpu")

    assert set(plain) == SERVICES
    assert set(gpu) == SERVICES | {"worker-gpu"}
    assert gpu["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"][0]["driver"] == "nvidia"
    assert not gpu["worker-gpu"]["build"].get("args")


def test_every_service_is_healthy_and_confined(stack: Compose) -> None:
    containers = stack.containers()

    assert set(containers) == SERVICES
    for service, [container] in containers.items():
        host = container["HostConfig"]
        assert container["Config"]["User"].split(":")[0] not in {"", "0", "root"}
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert "no-new-privileges:true" in host["SecurityOpt"]
        assert host["Memory"] > 0
        if service == KEYS:
            assert (container["State"]["Status"], container["State"]["ExitCode"]) == ("exited", 0)
            assert host["NetworkMode"] == "none"
        else:
            assert container["State"]["Health"]["Status"] == "healthy"
            assert host["RestartPolicy"]["Name"] == "unless-stopped"


def test_only_the_gateway_is_published_and_only_on_loopback(stack: Compose) -> None:
    published = {
        service: list(container["HostConfig"]["PortBindings"].items())
        for service, [container] in stack.containers().items()
        if container["HostConfig"]["PortBindings"]
    }

    assert published == {"api": [("8000/tcp", [{"HostIp": "127.0.0.1", "HostPort": str(stack.port)}])]}


def test_keys_are_made_and_each_service_has_only_its_own(stack: Compose) -> None:
    keys = {
        service: {name: stack("exec", "-T", service, "cat", f"/run/keys/{name}").strip() for name in names}
        for service, names in KEY_FILES.items()
    }

    password = keys["api"]["maskmill_redis_password"]
    secret_key = keys["api"]["maskmill_storage_secret_key"]
    assert keys["api"] == keys["worker"] == keys["renderer"] == keys["steward"]
    assert keys["valkey"]["password"] == password
    assert min(len(password), len(secret_key)) >= 32
    of_valkey, of_objects = (
        stack("exec", "-T", name, "sh", "-c", "cat /run/keys/*") for name in ("valkey", "seaweedfs")
    )
    assert secret_key in of_objects
    assert secret_key not in of_valkey
    assert password not in of_objects
    assert "PRIVATE KEY" not in stack("exec", "-T", "api", "sh", "-c", "cat /run/keys/*")
    for [container] in stack.containers().values():
        described = json.dumps(container)
        assert password not in described
        assert secret_key not in described


def test_no_port_serves_data_without_credentials(stack: Compose, client: GatewayClient) -> None:
    sample = run_sample(client)
    secrets = [stack("exec", "-T", "api", "cat", f"/run/keys/{name}").strip() for name in KEY_FILES["api"]]

    answers = ask_from_network(stack, find_container_ports(stack))

    # S3, the other ports of the object store, Valkey, and the health server of the steward.
    assert len(answers) >= 12
    served = {
        (target, answer["question"]) for target, found in answers.items() for answer in found if answer["is_served"]
    }
    print(f"asked {sorted(answers)}, served {sorted(served)}")
    assert {question for _, question in served} <= OPEN_QUESTIONS
    content = "".join(answer["content"] for found in answers.values() for answer in found)
    assert not [secret for secret in (*secrets, sample.job_id) if secret in content]
    assert client.get(f"/v1/jobs/{sample.job_id}/result").json() == sample.result


def test_the_published_port_serves_nothing_to_a_foreign_page(stack: Compose, client: GatewayClient) -> None:
    sample = run_sample(client)

    answers = doors.ask("127.0.0.1", stack.port)

    assert {answer.question for answer in answers if answer.is_served} <= OPEN_QUESTIONS
    assert not [answer for answer in answers if sample.job_id in answer.content]
    assert client.get(f"/v1/jobs/{sample.job_id}/result").json() == sample.result


def find_container_ports(stack: Compose) -> list[str]:
    """Return `service:port` of all that the containers listen on, but for the published port; no list names them."""
    return [
        f"{service}:{listener.port}"
        for service in sorted(SERVERS)
        for table in ("tcp", "tcp6")
        for _, listener in parse_ports(table, stack("exec", "-T", service, "cat", f"/proc/net/{table}"))
        # Docker's own name server.
        if listener.address != "127.0.0.11" and (service, listener.port) != ("api", 8000)
    ]


def ask_from_network(stack: Compose, targets: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Ask from the gateway's container, which is in all networks."""
    source = Path(doors.__file__).read_text()
    answers: dict[str, list[dict[str, Any]]] = json.loads(
        stack("exec", "-T", "api", "python", "-", *targets, stdin=source)
    )
    return answers


def test_a_published_address_without_tokens_stops_the_start(compose: Compose, stack: Compose) -> None:
    everywhere = replace(stack, address="0.0.0.0")
    [published] = everywhere.config()["api"]["ports"]

    with pytest.raises(subprocess.CalledProcessError) as refused:
        everywhere("run", "--rm", "--no-deps", "-T", "api")

    assert published["host_ip"] == "0.0.0.0"
    assert "no tokens are configured for 0.0.0.0:8000: set MASKMILL_TOKENS" in refused.value.stderr


def test_only_the_images_of_worker_and_renderer_hold_torch(stack: Compose) -> None:
    code = "import importlib.util; print(importlib.util.find_spec('torch') is not None)"

    has_torch = {service: stack("exec", "-T", service, "python", "-c", code).strip() for service in OWN_SERVICES}

    assert has_torch == {"worker": "True", "renderer": "True", "api": "False", "steward": "False"}


def test_no_image_holds_training_code_and_the_steward_holds_no_model(stack: Compose) -> None:
    code = "from pathlib import Path; print(*sorted(map(str, Path.cwd().rglob('*'))), sep='\\n')"

    files = {service: stack("exec", "-T", service, "python", "-c", code).splitlines() for service in OWN_SERVICES}

    assert all(files.values())
    assert [file for service in OWN_SERVICES for file in files[service] if "/training" in file] == []
    assert any(file.endswith("model.safetensors") for file in files["worker"])
    assert [file for file in files["steward"] if "embedded_model" in file or "/engine" in file] == []


def test_a_job_returns_masks_that_agree_with_its_result(client: GatewayClient) -> None:
    sample = run_sample(client)

    size = (sample.result["image"]["width"], sample.result["image"]["height"])
    segments = sample.result["segments"]
    labels = decode(client.get(f"/v1/jobs/{sample.job_id}/labels.png").body)
    archive = zipfile.ZipFile(io.BytesIO(client.get(f"/v1/jobs/{sample.job_id}/masks.zip").body))
    assert decode(sample.overlay).size == size
    assert segments
    for segment in segments:
        mask = client.get(f"/v1/jobs/{sample.job_id}/masks/{segment['id']}.png").body
        assert mask == archive.read(f"{segment['id']}.png")
        assert (np.asarray(decode(mask)) == 255).sum() == segment["area"]
        assert (np.asarray(labels) == segment["id"]).sum() == segment["area"]


def test_a_synchronous_request_returns_the_same_segments_as_a_job(client: GatewayClient) -> None:
    job = wait_for_end(client, client.post("/v1/jobs", SAMPLE_IMAGE.read_bytes()).json()["id"])
    result = client.get(f"/v1/jobs/{job['id']}/result").json()

    reply = client.post("/", SAMPLE_IMAGE.read_bytes()).json()

    assert [segment["label"] for segment in reply] == [segment["label"] for segment in result["segments"]]
    areas = [(np.asarray(decode(base64.b64decode(segment["mask"]))) == 255).sum() for segment in reply]
    assert areas == [segment["area"] for segment in result["segments"]]


def test_the_curl_lines_of_the_readme_work(stack: Compose, tmp_path: Path) -> None:
    def run(line: str, **env: str) -> str:
        local_line = line.replace("127.0.0.1:8000", f"127.0.0.1:{stack.port}")
        return subprocess.run(
            ["sh", "-c", local_line], capture_output=True, text=True, check=True, cwd=tmp_path, env=os.environ | env
        ).stdout

    (tmp_path / "photo.jpg").write_bytes(SAMPLE_IMAGE.read_bytes())
    readme = (ROOT / "README.md").read_text()
    # Those of the first screen, and the synchronous call; the others are run by test_document_commands.py.
    lines = [line for line in readme.splitlines() if line.startswith("curl ")]
    submit, *others = [*lines[:5], next(line for line in lines if "/models/" in line)]

    job = json.loads(run(submit))
    poll, result, mask, overlay, synchronous = [run(line, ID=job["id"]) for line in others]

    assert json.loads(poll)["state"] == "succeeded"
    assert json.loads(result)["segments"]
    assert mask == overlay == ""
    assert decode((tmp_path / "mask.png").read_bytes()).size == decode((tmp_path / "overlay.png").read_bytes()).size
    assert json.loads(synchronous)[0]["mask"]


def test_two_workers_share_the_jobs_and_run_each_once(stack: Compose, client: GatewayClient) -> None:
    stack("up", "--wait", "--wait-timeout", "300", "--no-build", "--no-recreate", "--scale", "worker=2")
    wait_until(lambda: count_ready_workers(client) == 2, "both workers are ready")

    started = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        submitted = pool.map(lambda number: client.post("/v1/jobs", make_jpeg(number)).json()["id"], range(40))
        jobs = [wait_for_end(client, job_id) for job_id in submitted]
    seconds = time.monotonic() - started

    assert {job["state"] for job in jobs} == {"succeeded"}
    ends = [event for event in stack.events("worker") if event["event"] == "job_completed"]
    done = [event for event in ends if event["job_id"] in {job["id"] for job in jobs}]
    assert Counter(event["job_id"] for event in done) == {job["id"]: 1 for job in jobs}
    assert {event["attempt"].partition("-")[0] for event in done} == {"1"}
    shares = Counter(event["worker"] for event in done)
    print(f"{len(jobs)} jobs in {seconds:.1f} s, shared {sorted(shares.values())}")
    assert len(shares) == 2


def test_no_image_gets_a_container_killed_for_memory(stack: Compose, client: GatewayClient) -> None:
    patient = replace(client, timeout_seconds=300)

    for name, image in HOSTILE_IMAGES.items():
        with ThreadPoolExecutor(AT_ONCE) as pool:
            statuses = list(pool.map(partial(segment, patient, image()), range(AT_ONCE)))
        print(f"{name}: {sorted(statuses)}")
        assert set(statuses) <= {200, 413, 422, 429}
    gateway = Service(f"http://127.0.0.1:{stack.port}")
    faults = {name: find_fault(given, gateway.send(given)) for name, given in INPUTS.items()}
    assert {name: fault for name, fault in faults.items() if fault} == {}

    for service, containers in stack.containers().items():
        for container in containers:
            peak, kills = read_memory(container["Id"])
            print(f"{service}: at most {peak / 1e6:.0f} MB of {container['HostConfig']['Memory'] / 1e6:.0f}")
            assert (kills, container["State"]["OOMKilled"], container["RestartCount"]) == (0, False, 0)


def segment(client: GatewayClient, image: bytes, number: int) -> int:
    """Send an image that differs by number synchronously, and return the status."""
    return client.request("POST", "/?threshold=0.5", image + bytes([number])).status


def read_memory(container_id: str) -> tuple[int, int]:
    """Return the peak of a container's memory in bytes, and how many of its processes were killed for memory.

    Both are 0 where the engine's control groups cannot be read: on another machine, or after the container has ended.
    """
    for folder in Path("/sys/fs/cgroup").rglob(f"*{container_id}*"):
        for peak, events in (("memory.max_usage_in_bytes", "memory.oom_control"), ("memory.peak", "memory.events")):
            if (folder / peak).exists():
                counts = dict(line.split() for line in (folder / events).read_text().splitlines())
                return int((folder / peak).read_text()), int(counts.get("oom_kill", 0))
    return 0, 0


def test_results_survive_new_containers(stack: Compose, client: GatewayClient) -> None:
    sample = run_sample(client)

    stack("stop")
    codes = {
        service: container["State"]["ExitCode"]
        for service, containers in stack.containers().items()
        for container in containers
        if service in OWN_SERVICES
    }
    stack("down")
    stack("up", "--wait", "--wait-timeout", "300", "--no-build")

    assert codes == dict.fromkeys(OWN_SERVICES, 0)
    assert client.get(f"/v1/jobs/{sample.job_id}/result").json() == sample.result
    assert client.get(f"/v1/jobs/{sample.job_id}/overlay.png").body == sample.overlay
    assert run_sample(client).result["segments"]


def test_tokens_turn_authentication_on(stack: Compose, client: GatewayClient) -> None:
    replace(stack, tokens="tester:open-sesame")("up", "--wait", "--wait-timeout", "300", "--no-build", "api")

    assert client.request("GET", "/v1/jobs").status == 401
    assert replace(client, token="open-sesame").request("GET", "/v1/jobs").status == 200


def require_engine() -> None:
    """Skip unless there is an engine with Compose."""
    try:
        docker("info")
        docker("compose", "version")
    except FileNotFoundError:
        pytest.skip("Docker is not installed")
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
        pytest.skip(f"there is no Docker engine with Compose: {reason}")


def docker(*arguments: str, env: dict[str, str] | None = None, stdin: str = "") -> str:
    """Run the Docker client and return its output; its errors are in the test's output."""
    environ = os.environ | (env or {})
    process = subprocess.run(["docker", *arguments], capture_output=True, text=True, env=environ, input=stdin)
    if process.returncode:
        print(f"docker {' '.join(arguments)}: {process.stderr}", file=sys.stderr)
    process.check_returncode()
    return process.stdout


def is_available(image: str) -> bool:
    """Return whether the engine has an image or can pull it."""
    try:
        docker("image", "inspect", image)
    except subprocess.CalledProcessError:
        try:
            docker("pull", "--quiet", image)
        except subprocess.CalledProcessError:
            return False
    return True


def find_torch_wheels() -> Path | None:
    """Return the folder among pip's local links that holds the CPU build of torch, if there is one.

    A build in a container does not see the links of this machine, and would download torch.
    """
    configured = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.find-links"], capture_output=True, text=True
    )
    links = f"{configured.stdout} {os.environ.get('PIP_FIND_LINKS', '')}".split()
    folders = (Path(link.removeprefix("file://")) for link in links)
    return next((folder for folder in folders if any(folder.glob("torch-*+cpu-*.whl"))), None)


def count_ready_workers(client: GatewayClient) -> int:
    models = client.get("/v1/models").json()["models"]
    return sum(worker["state"] == "ready" for model in models for worker in model["workers"])


def wait_for_end(client: GatewayClient, job_id: str) -> dict[str, Any]:
    def is_final() -> bool:
        job.update(client.get(f"/v1/jobs/{job_id}?wait=20").json())
        return job["ended_at"] is not None

    job: dict[str, Any] = {}
    wait_until(is_final, f"job {job_id} has ended")
    return job


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.2)


def make_jpeg(number: int) -> bytes:
    """Return the sample image with a corner that differs by number, so that no two images are equal."""
    image = Image.open(SAMPLE_IMAGE).convert("RGB")
    image.paste((number, 255 - number, 128), (0, 0, 16, 16))
    content = io.BytesIO()
    image.save(content, "JPEG")
    return content.getvalue()


def make_noise(format_name: str) -> bytes:
    content = io.BytesIO()
    Image.effect_noise((8000, 8000), 50).convert("RGB").save(content, format_name, quality=60)
    return content.getvalue()


def decode(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))
