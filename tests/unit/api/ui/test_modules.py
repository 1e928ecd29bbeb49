"""The modules of the pages that need no browser, tested by Node.js: each `*.test.mjs` beside this file."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = sorted(HERE.glob("*.test.mjs"))


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.name)
def test_the_modules_of_the_pages(file: Path) -> None:
    node = shutil.which("node")
    if node is None:
        assert "CI" not in os.environ, "CI must have Node.js"
        pytest.skip("Node.js is not installed")

    run = subprocess.run(
        [node, "--test", "--test-reporter=spec", str(file)], capture_output=True, text=True, timeout=60, check=False
    )

    assert run.returncode == 0, run.stdout + run.stderr
