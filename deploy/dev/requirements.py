"""Print the part of requirements.lock that some extras of pyproject.toml need:   python deploy/dev/requirements.py api

`--only` before the extras leaves out the packages that all processes require.  Reads both files in the current folder.
Builds of images run it as a script, so it needs only the standard library.  torch is not in the lock (see torch.lock);
what it requires is.
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Pin:
    """One release in the lock.

    text: its lines: version, hashes and the packages that require it.
    parents: the names of these packages; `maskmill` is this project.
    """

    name: str
    text: str
    parents: frozenset[str]


def read_pins(lock: str) -> dict[str, Pin]:
    """Return the releases of a lock that pip-compile has written, by name."""
    blocks = re.findall(r"^[A-Za-z0-9].*\n(?:[ \t].*\n)*", lock, re.MULTILINE)
    pins = (Pin(read_name(block), block, frozenset(_read_parents(block))) for block in blocks)
    return {pin.name: pin for pin in pins}


def read_name(requirement: str) -> str:
    """Return the normalized name of the package that a requirement is about.

    >>> read_name("Flask_OpenAPI3>=4.3")
    'flask-openapi3'
    """
    found = _NAME.match(requirement)
    return re.sub(r"[-_.]+", "-", found.group()).lower() if found else ""


def read_requirements(pyproject: str, extras: Iterable[str], *, with_common: bool = True) -> set[str]:
    """Return the names of the packages that some extras, and all processes in common, require directly."""
    project = tomllib.loads(pyproject)["project"]
    listed = [*project["dependencies"]] if with_common else []
    for extra in extras:
        listed += project["optional-dependencies"][extra]
    return {read_name(requirement) for requirement in listed}


def select_pins(pins: Mapping[str, Pin], names: Iterable[str]) -> list[Pin]:
    """Return the releases with these names, and all that they require, in the order of the lock."""
    selected = set(names)
    while added := {pin.name for pin in pins.values() if pin.parents & selected} - selected:
        selected |= added
    return [pin for pin in pins.values() if pin.name in selected]


def select_lock(extras: Iterable[str], folder: Path, *, with_common: bool = True) -> str:
    """Return the part of the lock in a folder that some extras of its pyproject.toml need."""
    names = read_requirements((folder / "pyproject.toml").read_text(), extras, with_common=with_common)
    pins = read_pins((folder / "requirements.lock").read_text())
    return "".join(pin.text for pin in select_pins(pins, names))


def _read_parents(block: str) -> set[str]:
    """Return the names behind `# via`, on its line or on those that follow."""
    _, _, annotation = block.partition("# via")
    return {read_name(line.strip(" #")) for line in annotation.splitlines()} - {""}


if __name__ == "__main__":
    extras = [argument for argument in sys.argv[1:] if argument != "--only"]
    sys.stdout.write(select_lock(extras, Path.cwd(), with_common="--only" not in sys.argv))
