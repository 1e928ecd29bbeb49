"""The libraries of the pages are unchanged files of the packages that are named, with their licences."""

import base64
import hashlib
import json
from pathlib import Path

import pytest

from tests.conformance.forms import require_client
from tests.conformance.install import CLIENTS, page_folder

VENDOR = Path(__file__).parents[3] / "api" / "ui" / "static" / "vendor"
LISTED = json.loads((VENDOR / "packages.json").read_text())
LOCKED = json.loads((CLIENTS / "page" / "package-lock.json").read_text())["packages"]


def test_every_file_is_listed_with_its_hash() -> None:
    found = {str(path.relative_to(VENDOR)): path for path in VENDOR.glob("*/*")}
    listed = {
        f"{package}/{file}": facts["sha256"]
        for package, entry in LISTED.items()
        for file, facts in entry["files"].items()
    }

    assert {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items()} == listed


@pytest.mark.parametrize("package", LISTED)
def test_a_package_is_pinned_by_its_hash_and_has_its_licence(package: str) -> None:
    entry, locked = LISTED[package], LOCKED[f"node_modules/{package}"]

    assert (entry["version"], entry["integrity"]) == (locked["version"], locked["integrity"])
    assert len(base64.b64decode(entry["integrity"].removeprefix("sha512-"))) == 64
    assert "LICENSE" in entry["files"]
    assert f"`{package}`" in (VENDOR / "README.md").read_text()


@pytest.mark.parametrize("package", LISTED)
def test_the_files_are_those_of_the_package(package: str) -> None:
    installed = require_client(page_folder) / "node_modules" / package

    for name, facts in LISTED[package]["files"].items():
        assert (VENDOR / package / name).read_bytes() == (installed / facts["from"]).read_bytes(), name
