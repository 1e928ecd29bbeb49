"""The Dockerfile copies the modules that each entry point imports, and .dockerignore excludes the training code."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import grimp
import pytest
from prometheus_client import CollectorRegistry

from shared.readiness import Readiness
from tests.support.proxy import EXCEPTIONS, NAMES, serve_proxy
from worker.runtime.health_server import HealthServer

ROOT = Path(__file__).resolve().parents[3]
ENTRY_POINTS = {
    "api": "api.wsgi",
    "worker": "worker.main",
    "renderer": "worker.renderer.__main__",
    "steward": "worker.steward.__main__",
}
# It runs in another process's image.
STAGES = {"renderer": "worker"}


@pytest.fixture(scope="module")
def import_graph() -> grimp.ImportGraph:
    return grimp.build_graph("api", "worker", "shared", cache_dir=None)


def copied_paths(stage: str) -> list[Path]:
    """Return the files and folders of this repository that a stage of the Dockerfile copies."""
    dockerfile = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
    stage = STAGES.get(stage, stage)
    [instructions] = re.findall(rf"^FROM runtime AS {stage}$(.*?)(?=^FROM |\Z)", dockerfile, re.MULTILINE | re.DOTALL)
    copies: list[str] = re.findall(r"^COPY (?!--from)(.*)$", instructions, re.MULTILINE)
    return [ROOT / source for line in copies for source in line.split()[:-1]]


def find_file(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@pytest.mark.parametrize("stage", ENTRY_POINTS)
def test_an_image_holds_every_module_that_its_process_imports(import_graph: grimp.ImportGraph, stage: str) -> None:
    copied = copied_paths(stage)
    entry_point = ENTRY_POINTS[stage]

    imported = {entry_point, *import_graph.find_upstream_modules(entry_point)}

    files = {find_file(module) for module in imported}
    assert {file for file in files if not any(file.is_relative_to(path) for path in copied)} == set()


def test_the_image_of_the_steward_holds_no_model_and_no_engine() -> None:
    excluded = [ROOT / "worker" / name for name in ("embedded_model", "engine", "batching", "formats", "pipeline")]

    assert [path for path in copied_paths("steward") for other in excluded if other.is_relative_to(path)] == []


def test_the_renderer_starts_without_torch_and_without_an_engine() -> None:
    code = "import sys, worker.renderer.app; print(sorted({'torch', 'transformers', 'flask'} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "[]\n"


def test_the_training_code_is_not_sent_to_the_builder() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()

    # The last line that matches a path decides.
    assert lines.index("worker/training") > lines.index("!worker")
    assert (ROOT / "worker" / "training").is_dir()


def test_the_image_of_the_worker_has_fonts_and_the_library_that_joins_their_letters() -> None:
    dockerfile = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
    worker = dockerfile.partition("FROM runtime AS worker\n")[2]
    fonts = ROOT / "worker" / "formats" / "fonts"

    # Pillow loads it when it draws, so no import shows that it is needed.
    assert "libfribidi0" in worker
    assert any(fonts.is_relative_to(path) for path in copied_paths("worker"))
    assert (fonts / "OFL.txt").is_file()


def read_health_checks() -> list[list[str]]:
    """Return the command of each image's health check."""
    dockerfile = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
    return [
        json.loads(command) for command in re.findall(r"^HEALTHCHECK [^\n]*\n +CMD (\[.*\])$", dockerfile, re.MULTILINE)
    ]


def run_health_check(command: list[str], port: int, **env: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, *command[1:-1], str(port)], cwd=ROOT, env=os.environ | env, stderr=subprocess.PIPE
    )


def test_each_image_has_a_health_check_for_its_port() -> None:
    commands = read_health_checks()

    assert [command[-1] for command in commands] == ["8000", "8001", "8001"]
    assert {Path(command[-2]) for command in commands} == {Path("shared/probe.py")}


@pytest.mark.parametrize("is_ready", [True, False])
def test_a_health_check_tells_whether_the_process_is_ready(is_ready: bool) -> None:
    readiness = Readiness({"redis": "ok" if is_ready else "unreachable"})
    server = HealthServer(
        ("127.0.0.1", 0), CollectorRegistry(), is_healthy=lambda: not is_ready, check_readiness=lambda: readiness
    )
    server.start()

    done = run_health_check(read_health_checks()[0], server.port)
    server.stop()

    assert done.returncode == (0 if is_ready else 1)


def test_a_health_check_asks_no_proxy() -> None:
    with serve_proxy() as proxy:
        # Docker sets them in containers, if the configuration of its client names a proxy.
        env = dict.fromkeys(NAMES, proxy.url) | dict.fromkeys(EXCEPTIONS, "")
        # Nothing is ready at a closed port.
        unready = run_health_check(read_health_checks()[0], 1, **env)

        assert b"Connection refused" in unready.stderr
        assert proxy.requests == []


def test_a_health_check_imports_no_http_client() -> None:
    # Docker starts it every few seconds: with urllib, an idle service used three times as much of the processor.
    command = [sys.executable, "-X", "importtime", *read_health_checks()[0][1:-1], "1"]

    imported = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True).stderr

    assert "socket" in imported
    assert not re.search(r"\b(urllib|http|email|ssl|site)\b", imported)
