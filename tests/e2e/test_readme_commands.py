"""Every command of two sections of README.md, unchanged, against a running service."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from deploy.local.sample_job import SAMPLE_IMAGE
from deploy.local.stack import Stack
from tests.support.readme import README


def blocks(language: str, title: str = "Use") -> list[str]:
    """Return the code blocks of a language in a section."""
    section = README.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def find_block(word: str) -> str:
    """Return the one block of commands in which a word stands."""
    [found] = [block for block in blocks("sh") if word in block]
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(SAMPLE_IMAGE, tmp_path / "photo.jpg")
    return tmp_path


def run(command: str, folder: Path, stack: Stack, **variables: str) -> str:
    local_command = command.replace("http://127.0.0.1:8000", stack.url)
    process = subprocess.run(
        ["bash", "-euc", local_command],
        cwd=folder,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def read_mode(image: Path) -> str:
    with Image.open(image) as opened:
        return opened.mode


def test_a_job_is_submitted_polled_and_fetched(folder: Path, stack: Stack) -> None:
    submit, wait, result, *fetch = blocks("sh")[0].splitlines()

    job = json.loads(run(submit, folder, stack))
    view = json.loads(run(wait, folder, stack, ID=job["id"]))
    outcome = json.loads(run(result, folder, stack, ID=job["id"]))
    for command in fetch:
        run(command, folder, stack, ID=job["id"])

    assert view["state"] == "succeeded"
    assert outcome["segments"]
    assert read_mode(folder / "mask.png") == "L"
    assert read_mode(folder / "overlay.png") == "RGB"


def test_the_events_of_a_job_are_told_up_to_its_end(folder: Path, stack: Stack) -> None:
    submit = blocks("sh")[0].splitlines()[0]
    [command] = find_block("/events").splitlines()

    job = json.loads(run(submit, folder, stack))
    lines = run(command, folder, stack, ID=job["id"]).splitlines()

    events = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert (events[0], events[-1]) == ("queued", "succeeded")


def test_the_synchronous_request_returns_masks(folder: Path, stack: Stack) -> None:
    [command] = find_block("/models/maskmill").splitlines()

    segments = json.loads(run(command, folder, stack))

    assert [list(segment) for segment in segments] == [["score", "label", "mask"]] * len(segments)
    assert segments


def test_an_upload_is_made_and_named_by_a_job(folder: Path, stack: Stack) -> None:
    job = json.loads(run(find_block("/v1/uploads"), folder, stack))

    view = json.loads(run('curl -s "http://127.0.0.1:8000/v1/jobs/$ID?wait=20"', folder, stack, ID=job["id"]))
    assert (job["image"], view["state"], view["image"]["format"]) == (None, "succeeded", "jpeg")


def test_the_python_client_prints_the_segments(folder: Path, stack: Stack) -> None:
    [program] = blocks("python")
    (folder / "program.py").write_text(program.replace("http://127.0.0.1:8000", stack.url))

    lines = run(f"{sys.executable} program.py", folder, stack).splitlines()

    assert any("person" in line for line in lines)


def test_the_options_of_a_job_do_what_the_section_says(folder: Path, stack: Stack) -> None:
    [block] = blocks("sh", "Options of a job")
    low, result, put, named, batch = (json.loads(run(command, folder, stack)) for command in block.splitlines())

    assert (low["labels"], low["priority"]) == (["person", "car"], "low")
    assert result["segments"]
    assert (put["client_id"], named["id"], named["state"]) == ("order-17", put["id"], "succeeded")
    assert [(part["status"], part["job"]["metadata"]) for part in batch["jobs"]] == [(202, {"order": 17})] * 2
