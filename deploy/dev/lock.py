"""Write requirements.lock from pyproject.toml:   python -m deploy.dev.lock

One lock serves every machine: torch is pinned without its build, so that pip takes the build for CPUs where one is
offered and the one for CUDA elsewhere, and what only the CUDA build needs is left to that build to ask for.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements.lock"
EXTRAS = ("api", "worker", "local", "dev")
_ONLY_FOR_CUDA = re.compile(r"^(nvidia-|cuda-|triton\b)")
_HEADER = """\
# Written by `make lock`; change pyproject.toml instead.
"""


def main() -> None:
    """Resolve, starting from the present lock so that only what must change does."""
    with tempfile.TemporaryDirectory() as folder:
        resolved = Path(folder) / "requirements.lock"
        if LOCK.exists() and "--upgrade" not in sys.argv:
            resolved.write_text(LOCK.read_text())
        subprocess.run(
            [*_pip_compile(), *sys.argv[1:], f"--output-file={resolved}", "pyproject.toml"], check=True, cwd=ROOT
        )
        LOCK.write_text(_HEADER + portable(resolved.read_text()))


def portable(lock: str) -> str:
    """Return a lock without what holds for one build of torch only.

    >>> portable("torch==2.13.0+cpu  # via maskmill\\nnvidia-nvjitlink==13.0  # via torch\\n")
    'torch==2.13.0  # via maskmill\\n'
    """
    kept = (line for line in lock.splitlines(keepends=True) if not _ONLY_FOR_CUDA.match(line))
    return "".join(re.sub(r"^(torch==[\d.]+)\+\w+", r"\1", line) for line in kept)


def _pip_compile() -> list[str]:
    return [
        *(sys.executable, "-m", "piptools", "compile", "--quiet", "--strip-extras", "--annotation-style=line"),
        *("--no-header", "--no-emit-options", "--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host"),
        *(f"--extra={extra}" for extra in EXTRAS),
    ]


if __name__ == "__main__":
    main()
