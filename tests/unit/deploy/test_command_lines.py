"""Every command has a help, and starts nothing if it is given an argument that it does not know."""

import re
import subprocess
import sys

import pytest

from tests.support.documents import ROOT, find_documents
from tests.support.environment import copy_environment

COMMANDS = (
    *("api.wsgi", "api.tokens", "worker.main", "worker.renderer", "worker.steward", "worker.settings"),
    *("deploy.local", "deploy.keys", "deploy.dev.sbom"),
)
# The recipe of the model, and a script that makes fonts are run only to change what they made.
RECIPES = ("worker.training.", "deploy.dev.fonts")


def run(command: str, argument: str) -> subprocess.CompletedProcess[str]:
    # Without an address of the stores: a process that starts would end with another exit code, or not at all.
    return subprocess.run(
        [sys.executable, "-m", command, argument],
        cwd=ROOT,
        env=copy_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_every_command_that_a_document_names_is_tried() -> None:
    texts = [path.read_text() for path in find_documents()]
    named = {name for text in texts for name in re.findall(r"python -m ((?:api|worker|deploy)\.[.\w]*\w)", text)}

    assert named >= {"api.wsgi", "worker.main", "worker.renderer", "worker.steward", "api.tokens"}
    assert {name for name in named if not name.startswith(RECIPES)} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_says_what_it_does(command: str) -> None:
    shown = run(command, "--help")

    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith(f"usage: python -m {command} ")
    assert shown.stdout.count("\n\n") >= 2


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_argument_starts_nothing(command: str) -> None:
    refused = run(command, "--chek-settings")

    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--chek-settings" in refused.stderr or "required" in refused.stderr
