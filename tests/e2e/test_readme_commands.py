"""Every command that README.md shows under "Use", as it stands there, against a running service."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from deploy.local.sample_job import PHOTO
from deploy.local.stack import Stack
from tests.support.readme import README


def blocks(language: str) -> list[str]:
    """Return the code blocks of a language in the section "Use"."""
    section = README.read_text().partition("\n## Use\n")[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(PHOTO, tmp_path / "photo.jpg")
    return tmp_path


def run(command: str, folder: Path, stack: Stack, **variables: str) -> str:
    here = command.replace("http://127.0.0.1:8000", stack.url)
    ran = subprocess.run(
        ["bash", "-euc", here], cwd=folder, env=os.environ | variables, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def mode_of(image: Path) -> str:
    with Image.open(image) as opened:
        return opened.mode


def test_a_job_is_submitted_waited_for_and_fetched(folder: Path, stack: Stack) -> None:
    submit, wait, result, *fetch = blocks("sh")[0].splitlines()

    job = json.loads(run(submit, folder, stack))
    ended = json.loads(run(wait, folder, stack, ID=job["id"]))
    found = json.loads(run(result, folder, stack, ID=job["id"]))
    for command in fetch:
        run(command, folder, stack, ID=job["id"])

    assert ended["state"] == "succeeded"
    assert found["segments"]
    assert mode_of(folder / "mask.png") == "L"
    assert mode_of(folder / "overlay.png") == "RGB"


def test_the_masks_are_had_at_once(folder: Path, stack: Stack) -> None:
    [command] = blocks("sh")[1].splitlines()

    answer = json.loads(run(command, folder, stack))

    assert [list(segment) for segment in answer] == [["score", "label", "mask"]] * len(answer)
    assert answer


def test_the_unchanged_client_is_served(folder: Path, stack: Stack) -> None:
    [program] = blocks("python")
    (folder / "program.py").write_text(program.replace("http://127.0.0.1:8000", stack.url))

    lines = run(f"{sys.executable} program.py", folder, stack).splitlines()

    assert any("person" in line for line in lines)
