"""Write a CycloneDX SBOM for each image, as JSON, from the lock:   python -m deploy.dev.sbom build/sbom

An SBOM lists the Python packages of that image with their versions and hashes, and the JavaScript libraries that
the gateway's image has copies of.  The packages of torch's CUDA build and those of the base image are not in it: they
depend on how the image is built.
"""

import argparse
import base64
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deploy.dev.lock import ROOT, TORCH_LOCK
from deploy.dev.requirements import read_requirements, select_lock

IMAGES = ("api", "worker", "steward", "keys")
# It holds none of the packages that all processes of the service require.
_WITHOUT_COMMON = "keys"
# It serves the pages.
_WITH_PAGES = "api"
VENDORED = Path("api", "ui", "static", "vendor")


def main(folder: Path) -> None:
    """Write `{image}.cdx.json` for each image into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for image in IMAGES:
        write_sbom(image, folder / f"{image}.cdx.json")
        print(folder / f"{image}.cdx.json")


def write_sbom(image: str, file: Path) -> None:
    """Write the SBOM of one image; the same lock gives the same bytes."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write(list_requirements(image))
        requirements.flush()
        options = ["--pyproject=pyproject.toml", "--mc-type=application", "--output-reproducible"]
        options += ["--output-format=JSON", f"--output-file={file.resolve()}"]
        command = [
            sys.executable,
            "-W",
            "ignore::UserWarning",
            "-m",
            "cyclonedx_py",
            "requirements",
            *options,
            requirements.name,
        ]
        subprocess.run(command, check=True, cwd=ROOT)
    if image == _WITH_PAGES:
        add_components(file, list_vendored_components())


def list_requirements(image: str) -> str:
    """Return the pinned packages of an image; torch too, if it is one of them."""
    with_common = image != _WITHOUT_COMMON
    lock = select_lock([image], ROOT, with_common=with_common)
    needs_torch = "torch" in read_requirements((ROOT / "pyproject.toml").read_text(), [image], with_common=with_common)
    return lock + TORCH_LOCK.read_text() if needs_torch else lock


def list_vendored_components() -> Iterator[dict[str, Any]]:
    """Yield the libraries of the pages as components, each with its files."""
    packages = json.loads((ROOT / VENDORED / "packages.json").read_text())
    for name, facts in packages.items():
        purl = f"pkg:npm/{name}@{facts['version']}"
        yield {
            "bom-ref": purl,
            "components": [_describe_file(f"{name}/{file}", entry) for file, entry in facts["files"].items()],
            "description": "Copied into the image",
            "hashes": [{"alg": "SHA-512", "content": _read_integrity(facts["integrity"])}],
            "licenses": [{"license": {"acknowledgement": "declared", "id": facts["license"]}}],
            "name": name,
            "purl": purl,
            "type": "library",
            "version": facts["version"],
        }


def add_components(file: Path, components: Iterator[dict[str, Any]]) -> None:
    """Add components to an SBOM, and to the list of those whose dependencies are known."""
    document = json.loads(file.read_text())
    added = list(components)
    document["components"] += added
    document["dependencies"] += [{"ref": one["bom-ref"]} for one in added]
    file.write_text(json.dumps(document, indent=2) + "\n")


def _describe_file(name: str, facts: Mapping[str, str]) -> dict[str, Any]:
    path = (VENDORED / name).as_posix()
    return {"bom-ref": path, "hashes": [{"alg": "SHA-256", "content": facts["sha256"]}], "name": path, "type": "file"}


def _read_integrity(integrity: str) -> str:
    """Return the hash of a package of npm, which stands there in base64, as hexadecimal digits."""
    return base64.b64decode(integrity.removeprefix("sha512-")).hex()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        "python -m deploy.dev.sbom", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where to write a file for each image")
    main(parser.parse_args().folder)
