"""Packing of wheels for a GPU machine without internet."""

import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import pytest

from tests.bench.gpu_service import wheels

METADATA = "Metadata-Version: 2.1\nName: botocore\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
USED = ("botocore/__init__.py", "botocore/data/s3/2006/service-2.json", "botocore/data/endpoints.json")
UNUSED = "botocore/data/ec2/2016/service-2.json"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel with a program, in the layout of botocore."""
    path = tmp_path / "botocore-1.0-py3-none-any.whl"
    files = dict.fromkeys((*USED, UNUSED), "{}")
    record = "".join(f"{name},,\n" for name in (*files, "botocore-1.0.dist-info/RECORD"))
    files |= {"METADATA": METADATA, "WHEEL": WHEEL, "RECORD": record}
    program = ZipInfo("botocore-1.0.data/scripts/weed")
    program.external_attr = 0o100755 << 16
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        archive.writestr(program, "#!/bin/sh\n")
        for name, content in files.items():
            archive.writestr(name if "/" in name else f"botocore-1.0.dist-info/{name}", content)
    return path


def test_a_reduced_wheel_has_the_used_files_and_lists_only_these(wheel: Path, tmp_path: Path) -> None:
    wheels.reduce_wheel(wheel, tmp_path / "reduced.whl")

    with ZipFile(tmp_path / "reduced.whl") as reduced:
        names = reduced.namelist()
        record = reduced.read("botocore-1.0.dist-info/RECORD").decode()

    assert {*USED, "botocore-1.0.data/scripts/weed"} <= set(names)
    assert UNUSED not in names
    assert UNUSED not in record
    assert USED[1] in record


def test_an_environment_has_the_packed_wheels_and_what_the_interpreter_has(wheel: Path, tmp_path: Path) -> None:
    archive, environment = tmp_path / "packed" / "wheels.tar.xz", tmp_path / "environment"

    wheels.write_archive(wheel.parent, archive)
    wheels.install(archive, environment)

    [packages] = environment.glob("lib/python*/site-packages")
    assert (packages / "botocore" / "__init__.py").read_text() == "{}"
    assert (environment / "bin" / "weed").stat().st_mode & 0o111
    assert set((packages / "parent.pth").read_text().splitlines()) == set(wheels.find_site_packages(sys.path))


def test_every_package_is_locked() -> None:
    locked = wheels.read_lock(wheels.ROOT / "requirements.lock")

    assert set(wheels.PACKAGES) <= set(locked)


def test_an_archive_above_the_limit_is_an_error(tmp_path: Path) -> None:
    archive = tmp_path / "wheels.tar.xz"
    archive.write_bytes(bytes(wheels.MIB))

    assert wheels.report_size(archive, None) == 0
    assert wheels.report_size(archive, 1.0) == 1
