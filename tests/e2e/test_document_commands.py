"""Every code block of the documents that can be run, unchanged but for the address, in the order of its document.

A document is one shell: what a block sets, the next ones have.  A refusal ends it, but where the document says so.
"""

import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.local.sample_job import SAMPLE_IMAGE
from deploy.local.stack import Stack
from tests.support.code_blocks import CodeBlock, list_documents, read_blocks
from tests.support.document_folder import make_document_folder
from tests.support.tables import ROOT

DOCUMENTS = [document for document in list_documents() if any(block.is_run for block in read_blocks(document))]
PICTURE = ROOT / "deploy" / "docs" / "picture.webp"
# Of 255, over all pixels and channels: lines of outlines and letters that move by a pixel make less.
MAX_DIFFERENCE = 4.0
# Without this option curl ends with 0 for any status; `refused` undoes that for one block.
PROLOGUE = """
set -euo pipefail
set -a
STRICT=--fail-with-body
curl() { command curl -sS $STRICT "$@"; }
export -f curl
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the repository, as far as the documents use it, and a photo."""
    return make_document_folder(tmp_path)


@pytest.fixture
def job_id(stack: Stack) -> str:
    """The id of a job that has succeeded, for documents that begin with one."""
    client = stack.client
    job = client.request("POST", "/v1/jobs", SAMPLE_IMAGE.read_bytes()).raise_for_status().json()
    assert client.get(f"/v1/jobs/{job['id']}?wait=30").json()["state"] == "succeeded"
    return str(job["id"])


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_of_a_document_runs(document: str, folder: Path, stack: Stack, job_id: str) -> None:
    blocks = [block for block in read_blocks(document) if block.is_run]
    script = "\n".join([PROLOGUE, *write_steps(blocks, folder, stack.url)])

    ended = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=os.environ | {"ID": job_id},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
    )

    assert ended.returncode == 0, f"{(folder / 'at').read_text()}\n{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}"
    check_refusals(blocks, folder)


def test_the_picture_of_the_readme_is_made_by_the_service(stack: Stack) -> None:
    client = stack.client
    submitted = client.request("POST", "/v1/jobs?threshold=0.5&formats=overlay_webp", SAMPLE_IMAGE.read_bytes())
    job = submitted.raise_for_status().json()
    assert client.get(f"/v1/jobs/{job['id']}?wait=30").json()["state"] == "succeeded"

    made = client.get(f"/v1/jobs/{job['id']}/overlay.webp").body

    assert f"]({PICTURE.relative_to(ROOT).as_posix()})" in (ROOT / "README.md").read_text()
    assert np.abs(read_pixels(made) - read_pixels(PICTURE.read_bytes())).mean() < MAX_DIFFERENCE


def read_pixels(image: bytes) -> np.ndarray:
    """Return an image as (H, W, 3) of float32, 0 to 255."""
    with Image.open(io.BytesIO(image)) as opened:
        return np.asarray(opened.convert("RGB"), dtype=np.float32)


def write_steps(blocks: Sequence[CodeBlock], folder: Path, url: str) -> Iterator[str]:
    """Write each block into a file, and yield the commands that run it."""
    for block in blocks:
        file = folder / f"block-{block.line}.{block.language}"
        file.write_text(block.text.replace("http://127.0.0.1:8000", url))
        yield f"echo {shlex.quote(f'{block.document}:{block.line}')} > at"
        match block:
            case CodeBlock(language="python"):
                yield f"{shlex.quote(sys.executable)} {file.name}"
            case CodeBlock(mark="refused"):
                yield f"STRICT=\n. ./{file.name} > refusal-{block.line}\nSTRICT=--fail-with-body"
            case _:
                yield f". ./{file.name}"


def check_refusals(blocks: Sequence[CodeBlock], folder: Path) -> None:
    """Check that each block that shows a refusal got it, as its last line."""
    for block in blocks:
        if block.mark == "refused":
            answer = (folder / f"refusal-{block.line}").read_text().splitlines()[-1]
            assert json.loads(answer)["error_type"] == block.detail
