"""Write requirements.lock from pyproject.toml:   python -m deploy.dev.lock

One lock is valid for every machine.  torch is pinned without its local version, so that pip installs the CPU build
where an index or a link offers one, and the CUDA build elsewhere.  Packages that only the CUDA build requires are not
pinned: pip installs them as dependencies of that build.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements.lock"
EXTRAS = ("api", "worker", "local", "dev")
_CUDA_ONLY = re.compile(r"^(nvidia-|cuda-|triton\b)")
_HEADER = """\
# Written by `make lock`; change pyproject.toml instead.
"""


def main() -> None:
    """Resolve, starting from the current lock, so that only versions that must change do."""
    with tempfile.TemporaryDirectory() as folder:
        resolved = Path(folder) / "requirements.lock"
        if LOCK.exists() and "--upgrade" not in sys.argv:
            resolved.write_text(LOCK.read_text())
        subprocess.run(
            [*_pip_compile(), *sys.argv[1:], f"--output-file={resolved}", "pyproject.toml"], check=True, cwd=ROOT
        )
        LOCK.write_text(_HEADER + strip_build(resolved.read_text()))


def strip_build(lock: str) -> str:
    """Return the lock without the local version of torch and without the packages of its CUDA build.

    >>> strip_build("torch==2.13.0+cpu  # via maskmill\\nnvidia-nvjitlink==13.0  # via torch\\n")
    'torch==2.13.0  # via maskmill\\n'
    """
    kept = (line for line in lock.splitlines(keepends=True) if not _CUDA_ONLY.match(line))
    return "".join(re.sub(r"^(torch==[\d.]+)\+\w+", r"\1", line) for line in kept)


def _pip_compile() -> list[str]:
    return [
        *(sys.executable, "-m", "piptools", "compile", "--quiet", "--strip-extras", "--annotation-style=line"),
        *("--no-header", "--no-emit-options", "--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host"),
        *(f"--extra={extra}" for extra in EXTRAS),
    ]


if __name__ == "__main__":
    main()
