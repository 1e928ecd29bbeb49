"""The Dockerfile copies the modules that each entry point imports, and .dockerignore excludes the training code."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from tests.support.proxy import EXCEPTIONS, NAMES, serve_proxy

ROOT = Path(__file__).resolve().parents[3]
ENTRY_POINTS = {"api": "api.wsgi", "worker": "worker.main", "steward": "worker.steward.__main__"}


@pytest.fixture(scope="module")
def import_graph() -> grimp.ImportGraph:
    return grimp.build_graph("api", "worker", "shared", cache_dir=None)


def copied_paths(stage: str) -> list[Path]:
    """Return the files and folders of this repository that a stage of the Dockerfile copies."""
    dockerfile = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
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


def test_no_health_check_asks_a_proxy() -> None:
    dockerfile = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
    commands = [json.loads(line) for line in re.findall(r"^ +CMD (\[.*urllib.*\])$", dockerfile, re.MULTILINE)]
    assert len(commands) == 3

    with serve_proxy() as proxy:
        # Docker sets them in containers, if the configuration of its client names a proxy.
        env = os.environ | dict.fromkeys(NAMES, proxy.url) | dict.fromkeys(EXCEPTIONS, "")
        for code in {code for _python, _option, code in commands}:
            # Nothing is ready at a closed port.
            unready = subprocess.run(
                [sys.executable, "-c", re.sub(r":\d{4}/", ":1/", code)], env=env, stderr=subprocess.PIPE
            )
            assert b"Connection refused" in unready.stderr

        assert proxy.requests == []
