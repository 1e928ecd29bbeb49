"""Write a CycloneDX SBOM for each process, as JSON, from the lock:   python -m deploy.dev.sbom build/sbom

An SBOM lists the Python packages of that process's image with their versions and hashes.  The packages of torch's CUDA
build and those of the base image are not in it: they depend on how the image is built.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.dev.lock import ROOT, TORCH_LOCK
from deploy.dev.requirements import read_requirements, select_lock

PROCESSES = ("api", "worker", "steward")


def main(folder: Path) -> None:
    """Write `{process}.cdx.json` for each process into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for process in PROCESSES:
        write_sbom(process, folder / f"{process}.cdx.json")
        print(folder / f"{process}.cdx.json")


def write_sbom(process: str, file: Path) -> None:
    """Write the SBOM of one process; the same lock gives the same bytes."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write(list_requirements(process))
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


def list_requirements(process: str) -> str:
    """Return the pinned packages of a process; torch too, if it is one of them."""
    lock = select_lock([process], ROOT)
    needs_torch = "torch" in read_requirements((ROOT / "pyproject.toml").read_text(), [process])
    return lock + TORCH_LOCK.read_text() if needs_torch else lock


if __name__ == "__main__":
    main(Path(sys.argv[1]))
