"""Write requirements.lock and torch.lock from pyproject.toml:   python -m deploy.dev.lock

One lock is valid for every machine, because it has the hashes of all files of a release.  torch is apart, without its
local version and without hashes: which build is installed depends on the machine.  Packages that only the CUDA build
requires are not pinned: pip installs them as dependencies of that build.

It takes minutes: pip-compile has to download the files of which an index shows no hash.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.dev.requirements import read_pins

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements.lock"
TORCH_LOCK = ROOT / "torch.lock"
EXTRAS = ("api", "worker", "local", "dev")
_CUDA_ONLY = re.compile(r"nvidia-|cuda-|triton$")
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
        lock, torch = split_torch(resolved.read_text())
        LOCK.write_text(_HEADER + lock)
        TORCH_LOCK.write_text(_HEADER + torch)


def split_torch(resolved: str) -> tuple[str, str]:
    """Return the lock without torch and the packages of its CUDA build, and the requirement of torch without its build.

    >>> split_torch("mpmath==1.4 \\\\\\n    --hash=sha256:00\\ntorch==2.13.0+cpu \\\\\\n    --hash=sha256:11\\n")
    ('mpmath==1.4 \\\\\\n    --hash=sha256:00\\n', 'torch==2.13.0\\n')
    """
    pins = read_pins(resolved)
    torch = re.sub(r"^(torch==[\d.]+).*", r"\1", pins.pop("torch").text.splitlines()[0])
    return "".join(pin.text for pin in pins.values() if not _CUDA_ONLY.match(pin.name)), f"{torch}\n"


def _pip_compile() -> list[str]:
    return [
        # pip is not pinned: an environment brings its own.
        *(sys.executable, "-m", "piptools", "compile", "--quiet", "--strip-extras", "--generate-hashes"),
        "--unsafe-package=pip",
        *("--no-header", "--no-emit-options", "--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host"),
        *(f"--extra={extra}" for extra in EXTRAS),
    ]


if __name__ == "__main__":
    main()
