"""Install the pinned clients that the conformance tests run_client:   python -m tests.conformance.install

Each version has its own environment under build/conformance/, rebuilt only when its pins have changed.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CLIENTS = Path(__file__).parent / "clients"
BUILT = Path(__file__).parents[2] / "build" / "conformance"
HUB_VERSIONS = ("2.4.0", "0.36.2", "0.31.4", "0.24.7")
JS_VERSIONS = ("4.13.30", "3.9.2", "2.8.1")
OLDEST_NODE = 18
_TIMEOUT_SECONDS = 170  # for one environment; less than a test's own, so that the test reports the reason


class CannotInstall(Exception):
    """A client cannot be installed on this machine; the message is one line with the reason."""


def hub_python(version: str) -> Path:
    """Return the Python in whose environment this version of huggingface_hub is installed.

    Raises:
        CannotInstall: pip failed.
    """
    return _python(f"py-{version}")


def readers_python() -> Path:
    """Return the Python in whose environment datumaro and label-studio-converter are installed.

    They need older versions of OpenCV and Pillow than the service.

    Raises:
        CannotInstall: pip failed.
    """
    return _python("readers")


def _python(name: str) -> Path:
    pins = CLIENTS / f"{name}.txt"
    folder = BUILT / name
    python = folder / "bin" / "python"
    with _build_once(folder, _fingerprint([pins], sys.version)) as is_built:
        if not is_built:
            venv.create(folder, clear=True, symlinks=True)
            # The pins are complete, so nothing is resolved; a missing one fails the import of the client.
            pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-input"]
            options = ["--disable-pip-version-check", "--require-hashes", "--no-deps"]
            # Most of the modules are never imported.
            _run([*pip, *options, "--no-compile", "-r", str(pins)], folder)
    return python


def js_folder() -> Path:
    """Return the folder whose node_modules holds every version of @huggingface/inference, as inference-<version>.

    Raises:
        CannotInstall: node or npm is missing or too old, or npm failed.
    """
    return _npm_folder("js")


def page_folder() -> Path:
    """Return the folder whose node_modules holds the packages that the pages' libraries are copies of, and axe-core.

    Raises:
        CannotInstall: node or npm is missing or too old, or npm failed.
    """
    return _npm_folder("page")


def _npm_folder(name: str) -> Path:
    _require_node()
    folder = BUILT / name
    sources = [CLIENTS / name / file for file in ("package.json", "package-lock.json")]
    with _build_once(folder, _fingerprint(sources)) as is_built:
        if not is_built:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for source in sources:
                shutil.copy(source, folder)
            _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
    return folder


def require_curl() -> None:
    """Check that curl is installed.

    Raises:
        CannotInstall: it is not.
    """
    if shutil.which("curl") is None:
        raise CannotInstall("curl is not installed")


def _require_node() -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise CannotInstall("node and npm are not installed")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < OLDEST_NODE:
        raise CannotInstall(f"node is {version}, and {OLDEST_NODE} or newer is needed")


@contextmanager
def _build_once(folder: Path, fingerprint: str) -> Iterator[bool]:
    """Yield whether a folder is built from these sources; if not, it is marked as built after the block succeeds.

    A lock file serializes two test runs in one checkout.
    """
    BUILT.mkdir(parents=True, exist_ok=True)
    stamp = folder.with_suffix(folder.suffix + ".made")
    with folder.with_suffix(folder.suffix + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        is_built = folder.is_dir() and stamp.exists() and stamp.read_text() == fingerprint
        yield is_built
        if not is_built:
            stamp.write_text(fingerprint)


def _fingerprint(files: Sequence[Path], *more: str) -> str:
    parts = [*(file.read_bytes() for file in files), *(word.encode() for word in more)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _run(command: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise CannotInstall(f"{folder.name} was not installed within {_TIMEOUT_SECONDS} s") from None
    if done.returncode != 0:
        reasons = [line for line in done.stdout.splitlines() if "error" in line.lower()] or done.stdout.splitlines()
        raise CannotInstall(f"{folder.name} could not be installed: {reasons[0] if reasons else 'no reason given'}")


def main() -> int:
    """Return the exit code."""
    try:
        for version in HUB_VERSIONS:
            print(f"huggingface_hub {version}: {hub_python(version)}", flush=True)
        print(f"datumaro, label-studio-converter: {readers_python()}", flush=True)
        print(f"@huggingface/inference {', '.join(JS_VERSIONS)}: {js_folder()}")
        print(f"preact, htm, axe-core: {page_folder()}")
    except CannotInstall as problem:
        print(f"maskmill: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
