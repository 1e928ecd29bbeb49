"""Write a CycloneDX SBOM for each image, as JSON, from the lock:   python -m deploy.dev.sbom build/sbom

An SBOM lists the Python packages of that image with their versions and hashes.  The packages of torch's CUDA
build and those of the base image are not in it: they depend on how the image is built.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.dev.lock import ROOT, TORCH_LOCK
from deploy.dev.requirements import read_requirements, select_lock

IMAGES = ("api", "worker", "steward", "keys")
# It holds none of the packages that all processes of the service require.
_WITHOUT_COMMON = "keys"


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


def list_requirements(image: str) -> str:
    """Return the pinned packages of an image; torch too, if it is one of them."""
    with_common = image != _WITHOUT_COMMON
    lock = select_lock([image], ROOT, with_common=with_common)
    needs_torch = "torch" in read_requirements((ROOT / "pyproject.toml").read_text(), [image], with_common=with_common)
    return lock + TORCH_LOCK.read_text() if needs_torch else lock


if __name__ == "__main__":
    main(Path(sys.argv[1]))
