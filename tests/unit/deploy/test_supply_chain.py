"""The lock and its hashes, the one index of torch, the part of each process, and the SBOMs."""

import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from base64 import b64decode
from importlib.metadata import Distribution, distribution
from pathlib import Path
from zipfile import ZipFile

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement

from deploy.dev import sbom
from deploy.dev.install import plan_steps
from deploy.dev.lock import LOCK, ROOT, TORCH_LOCK, split_torch
from deploy.dev.requirements import read_name, read_pins, read_requirements, select_lock

PYPROJECT = (ROOT / "pyproject.toml").read_text()
PINS = read_pins(LOCK.read_text())
VENDORED = ROOT / "api" / "ui" / "static" / "vendor"
LIBRARIES = json.loads((VENDORED / "packages.json").read_text())
EXTRAS = {"api": {"api"}, "worker": {"worker"}, "steward": {"steward"}, "all": {"api", "worker", "local", "dev"}}


def test_every_line_of_the_lock_belongs_to_a_release_with_hashes() -> None:
    header, _, rest = LOCK.read_text().partition("\n")

    assert header.startswith("# Written by `make lock`")
    assert "".join(pin.text for pin in PINS.values()) == rest
    hashed = re.compile(r"\S+==\S+ \\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+    # via[^\n]*\n(    #   [^\n]+\n)*")
    assert [name for name, pin in PINS.items() if not hashed.fullmatch(pin.text)] == []


def test_torch_is_pinned_apart_from_the_lock() -> None:
    [pinned] = re.findall(r'"(torch==[\d.]+)"', PYPROJECT)

    assert TORCH_LOCK.read_text().splitlines()[1:] == [pinned]
    assert "torch" not in PINS
    assert read_requirements(PYPROJECT, EXTRAS["all"]) - set(PINS) == {"torch"}


def test_the_lock_is_valid_for_every_build_of_torch() -> None:
    resolved = (
        "mpmath==1.4 \\\n    --hash=sha256:00\n    # via sympy\n"
        "nvidia-cublas==13.0 \\\n    --hash=sha256:11\n    # via torch\n"
        "torch==2.13.0+cpu \\\n    --hash=sha256:22\n    # via maskmill (pyproject.toml)\n"
        "triton==3.7 \\\n    --hash=sha256:33\ntritonclient==1.0 \\\n    --hash=sha256:44\n"
        "\n# The following ...\n# pip\n"
    )

    lock, torch = split_torch(resolved)

    assert [line for line in lock.splitlines() if "==" in line] == ["mpmath==1.4 \\", "tritonclient==1.0 \\"]
    assert "pip" not in lock
    assert torch == "torch==2.13.0\n"


def list_installed_closure(extras: set[str]) -> set[str]:
    """Return what this project and its extras require on this machine, by the metadata of the installed packages."""
    found = {name: set[str]() for name in ("maskmill",)}
    waiting = [(Requirement(text), "") for text in read_direct(extras)]
    while waiting:
        requirement, extra = waiting.pop()
        name = read_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for wanted in {"", *requirement.extras} - found.get(name, set()):
            found.setdefault(name, set()).add(wanted)
            waiting += [(Requirement(text), wanted) for text in require(distribution(name))]
    return set(found) - {"maskmill", "torch", "pip"}


def require(package: Distribution) -> list[str]:
    return package.requires or []


def read_direct(extras: set[str]) -> list[str]:
    project = tomllib.loads(PYPROJECT)["project"]
    return [*project["dependencies"], *(one for extra in extras for one in project["optional-dependencies"][extra])]


@pytest.mark.parametrize("part", EXTRAS)
def test_a_part_of_the_lock_has_all_that_its_packages_require(part: str) -> None:
    selected = set(read_pins(select_lock(EXTRAS[part], ROOT)))

    assert list_installed_closure(EXTRAS[part]) - selected == set()


@pytest.mark.parametrize("python", ["3.11.0", "3.12.0", "3.13.0", "3.14.0"])
@pytest.mark.parametrize(("platform", "system"), [("linux", "Linux"), ("darwin", "Darwin")])
def test_the_lock_has_what_its_packages_require_elsewhere(python: str, platform: str, system: str) -> None:
    minor = python.rpartition(".")[0]
    environment = {"python_full_version": python, "python_version": minor, "sys_platform": platform}
    environment |= {"platform_system": system, "extra": ""}

    required = {
        read_name(requirement.name)
        for name in {*PINS, "torch"}
        for requirement in map(Requirement, require(distribution(name)))
        if requirement.marker is None or requirement.marker.evaluate(environment)
    }

    assert required - set(PINS) - {"pip", "torch"} == set()


def test_the_parts_of_the_processes_are_no_larger_than_they_need_to_be() -> None:
    selected = {part: set(read_pins(select_lock(EXTRAS[part], ROOT))) for part in EXTRAS}

    assert selected["all"] == set(PINS)
    assert selected["steward"] < selected["api"]
    assert not selected["steward"] & {"pillow", "numpy", "flask", "transformers"}
    assert not selected["api"] & {"numpy", "transformers", "pytest", "mypy", "requests"}
    assert not selected["worker"] & {"flask", "gunicorn", "pytest", "requests", "setuptools-scm"}


def test_the_script_of_the_images_needs_the_standard_library_alone(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "requirements.lock", "deploy/dev/requirements.py"):
        (tmp_path / Path(name).name).write_bytes((ROOT / name).read_bytes())

    command = [sys.executable, "-I", "-S", "requirements.py", "steward"]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert printed == select_lock(["steward"], ROOT)


def test_nothing_is_installed_from_a_mixture_of_indexes() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    kinds = ("", ".py", ".yml", ".toml", ".Dockerfile")
    ours = [ROOT / name for name in listed.splitlines() if Path(name).suffix in kinds]
    option = "--extra-index" + "-url"

    assert [path for path in ours if path.is_file() and option in path.read_text(errors="replace")] == []


def test_each_package_of_an_image_but_torch_is_compared_with_its_hashes() -> None:
    dockerfile = (ROOT / "deploy" / "docker" / "Dockerfile").read_text().replace("\\\n", " ")
    installs = re.findall(r"pip --python \S+ install ([^&]*)", dockerfile)

    files = {re.findall(r"--requirement (\S+)", options)[0]: options for options in installs}

    assert set(files) == {"api.txt", "steward.txt", "worker.txt", "keys.txt", "torch.lock"}
    for process in ("api.txt", "steward.txt", "worker.txt", "keys.txt"):
        assert "--require-hashes --no-deps" in files[process]


def write_wheel(index: Path, version: str) -> None:
    folder = index / "torch"
    folder.mkdir(parents=True)
    name, info = f"torch-{version}-py3-none-any.whl", f"torch-{version}.dist-info"
    with ZipFile(folder / name, "w") as wheel:
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    (folder / "index.html").write_text(f'<a href="{name}">{name}</a>')


def test_a_named_index_is_asked_again_although_torch_is_installed() -> None:
    def plan(*words: str) -> str:
        command = ["make", "--dry-run", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "deploy/dev/install.py" in plan("install", "TORCH_INDEX=https://example.org/whl")
    assert "deploy/dev/install.py" not in plan(
        "serve", "TORCH_INDEX=https://example.org/whl", "--assume-old=.venv/installed"
    )


def test_torch_is_taken_from_the_named_index_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wheel(tmp_path / "named", "2.13.0")
    write_wheel(tmp_path / "other", "2.13.0+zzz")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", (tmp_path / "other").as_uri())
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "other" / "torch"))
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    (tmp_path / "pip.conf").write_text(f"[global]\nextra-index-url = {(tmp_path / 'other').as_uri()}\n")

    _, (removal, _), (arguments, environment), _ = plan_steps((tmp_path / "named").as_uri())

    assert removal == ["uninstall", "--yes", "torch"]
    report = tmp_path / "report.json"
    options = ["--dry-run", "--ignore-installed", "--quiet", f"--report={report}"]
    subprocess.run([sys.executable, "-m", "pip", *arguments, *options], env=environment, check=True)
    [chosen] = json.loads(report.read_text())["install"]
    assert chosen["metadata"]["version"] == "2.13.0"


def test_all_others_are_installed_with_their_hashes_and_checked_at_the_end() -> None:
    (lock, _), (torch, environment), (check, _) = plan_steps("")

    assert lock[-4:] == ["--require-hashes", "--no-deps", "--requirement", str(LOCK)]
    assert torch[-2:] == ["--requirement", str(TORCH_LOCK)]
    assert environment == dict(os.environ)
    assert check == ["check"]


@pytest.fixture(scope="module")
def sboms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The SBOM of each image."""
    folder = tmp_path_factory.mktemp("sbom")
    sbom.main(folder)
    return {image: folder / f"{image}.cdx.json" for image in sbom.IMAGES}


@pytest.mark.parametrize("image", sbom.IMAGES)
def test_an_sbom_lists_the_packages_of_an_image_with_their_hashes(image: str, sboms: dict[str, Path]) -> None:
    document = json.loads(sboms[image].read_text())
    components = {read_name(one["name"]): one for one in document["components"] if "pkg:npm/" not in one["purl"]}
    pins = read_pins(select_lock([image], ROOT, with_common=image != "keys"))
    assert document["bomFormat"] == "CycloneDX"
    assert set(components) == set(pins) | ({"torch"} if image == "worker" else set())
    assert ("pillow" in components) == (image in ("api", "worker"))
    assert all(one["purl"] == f"pkg:pypi/{name}@{one['version']}" for name, one in components.items())
    hashed = {name for name, one in components.items() if "sha256" in json.dumps(one).lower().replace("-", "")}
    assert set(components) - hashed <= {"torch"}


def test_the_same_lock_gives_the_bytes_of_the_same_sbom(tmp_path: Path) -> None:
    file, again = tmp_path / "one" / "x.json", tmp_path / "again.json"
    file.parent.mkdir()

    sbom.write_sbom("steward", file)
    sbom.write_sbom("steward", again)

    assert file.read_bytes() == again.read_bytes()


@pytest.mark.parametrize("image", sbom.IMAGES)
def test_an_sbom_lists_the_libraries_of_the_pages_where_they_are(image: str, sboms: dict[str, Path]) -> None:
    document = json.loads(sboms[image].read_text())

    libraries = [one for one in document["components"] if "pkg:npm/" in one["purl"]]
    vendored = {folder.name for folder in VENDORED.iterdir() if folder.is_dir()}
    assert {one["name"] for one in libraries} == (vendored if image == "api" else set())
    for one in libraries:
        listed = LIBRARIES[one["name"]]
        assert (one["version"], one["purl"]) == (listed["version"], f"pkg:npm/{one['name']}@{listed['version']}")
        assert one["licenses"][0]["license"]["id"] == listed["license"]
        assert one["hashes"] == [{"alg": "SHA-512", "content": b64decode(listed["integrity"][7:]).hex()}]
        hashes = {part["name"]: part["hashes"][0]["content"] for part in one["components"]}
        assert hashes == {
            str(path.relative_to(ROOT)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (VENDORED / one["name"]).iterdir()
        }
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(sboms[image].read_text()) is None
    references = [one["ref"] for one in document["dependencies"]]
    assert len(references) == len(set(references)) == len(document["components"]) + 1


def test_each_image_has_an_sbom_and_can_be_pinned() -> None:
    dockerfile = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
    compose = (ROOT / "docker-compose.yml").read_text()
    readme = (ROOT / "deploy" / "README.md").read_text()

    built = set(re.findall(r"^FROM runtime AS (\w+)$", dockerfile, re.MULTILINE))

    assert set(re.findall(r"target: (\w+)", compose)) == built
    assert set(sbom.IMAGES) == built
    assert f"build/sbom/{{{','.join(sbom.IMAGES)}}}.cdx.json" in readme
    assert set(re.findall(r"^ +(\w+): {build: .*@sha256:", readme, re.MULTILINE)) == built
    taken = re.findall(r"^    image: (\S+)$", compose, re.MULTILINE)
    assert taken
    assert [name for name in taken if f'image: "{name}@sha256:' not in readme] == []
