"""The table of settings in README.md, made from the code:  python -m tests.support.readme"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from api.settings import ApiSettings
from shared.settings import Settings
from worker.settings import StewardSettings, WorkerSettings

README = Path(__file__).resolve().parents[2] / "README.md"
START = "<!-- settings: made by python -m tests.support.readme -->\n"
END = "<!-- end of settings -->\n"
WHO: list[tuple[str, type[Settings]]] = [
    ("all", Settings),
    ("gateway", ApiSettings),
    ("worker", WorkerSettings),
    ("steward", StewardSettings),
]


def settings_table() -> str:
    rows = ["| setting | read by | default | meaning |", "|---|---|---|---|"]
    return "\n".join([*rows, *_rows()]) + "\n"


def written_table() -> str:
    """Return what README.md has between its marks."""
    _, _, rest = README.read_text().partition(START)
    return rest.partition(END)[0]


def _rows() -> Iterator[str]:
    common = set(Settings.model_fields)
    readers: dict[str, list[str]] = {}
    fields: dict[str, FieldInfo] = {}
    for who, kind in WHO:
        for name, field in kind.model_fields.items():
            if name in common and kind is not Settings:
                continue
            readers.setdefault(name, []).append(who)
            fields.setdefault(name, field)
    for name, field in fields.items():
        who = ", ".join(readers[name])
        yield f"| `MASKMILL_{name.upper()}` | {who} | {_shown(field.default)} | {field.description} |"


def _shown(default: Any) -> str:
    plain = default.get_secret_value() if isinstance(default, SecretStr) else default
    return f"`{plain}`" if str(plain) else ""


if __name__ == "__main__":
    before, _, rest = README.read_text().partition(START)
    README.write_text(before + START + settings_table() + END + rest.partition(END)[2])
