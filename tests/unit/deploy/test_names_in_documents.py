"""What documents name exists: settings, metrics, errors, routes, modules, make targets, and other names of the code."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.routing import Map

from api.app import create_app
from api.composition import build_gateway
from api.operations import create_operations_app
from api.settings import ApiSettings
from api.stores import connect_stores
from shared.errors import MaskmillError, build_error
from shared.settings import Settings
from tests.support.code_blocks import SKETCHES
from tests.support.documents import ROOT, find_documents
from tests.support.reference import metrics_table
from worker.settings import RendererSettings, StewardSettings, WorkerSettings

# Both tell of earlier versions, too.
HISTORY = ("CHANGELOG.md", "deploy/decisions/")
# A slip that is shown as one.
WRONG_SETTINGS = {"MASKMILL_REDIS_ULR"}
# Patterns of names, and names of other programs.
FOREIGN_NAMES = {"noun_verbed", "label_counts", "x_bucket", "x_sum", "x_count"}
FOREIGN_NAMES |= {"acks_late", "round_robin", "panoptic_val2017", "libtcmalloc_minimal"}
# Files, and paths below which a proxy serves the gateway.
FOREIGN_PATHS = {"/tmp", "/masks", "/masks/"}

FENCED_CODE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"`([^`\n]+)`")
NAMED_METRIC = re.compile(r"\b(maskmill_[a-z_]*[a-z])\b(?!-)(?:\{([^}]*)\})?")
METRIC_ROW = re.compile(r"^\| `(maskmill_[a-z_]+)` \| \w+ \| ([^|]*) \|", re.MULTILINE)
NAMED_ERROR = re.compile(r"(?:\b[45]\d\d\s+`|\bcode=\"|\berror_type=\"?)([a-z_]+)")
NAMED_ROUTE = re.compile(r"(?:(GET|HEAD|POST|PUT|PATCH|DELETE) )?(/[a-z][^?\s]*)")
PLACEHOLDER = re.compile(r"\{[^}]*\}|\$[A-Z]+")
SNAKE_CASE = re.compile(r"(?<![\w/.*-])(?!test_)[a-z]+(?:_[a-z0-9]+)+(?![\w/*-])")
TOOLS = ("tests/bench", "tests/chaos", "tests/evaluation", "tests/support")
SOURCES = ("*.py", "*.lua", "*.js", "*.yml", "*.conf", "Dockerfile")

SETTINGS = {
    f"MASKMILL_{name.upper()}"
    for kind in (Settings, ApiSettings, WorkerSettings, RendererSettings, StewardSettings)
    for name in kind.model_fields
} | {"MASKMILL_SECRETS_DIR"}
METRICS = {name: set(re.findall(r"\w+", labels)) for name, labels in METRIC_ROW.findall(metrics_table())}


def get_id(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


DOCUMENTS = sorted(path for path in find_documents() if not get_id(path).startswith(HISTORY))
of_each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=get_id)


@pytest.fixture(scope="module")
def routes() -> list[Map]:
    """The routes of the gateway for clients, and of its listener for operators.  Nothing is asked of its stores."""
    settings = ApiSettings(
        redis_url="redis://127.0.0.1:1/0",
        storage_endpoint="http://127.0.0.1:1",
        storage_access_key="none",
        storage_secret_key="none",
    )
    gateway = build_gateway(settings, connect_stores(settings))
    return [create_app(settings, gateway).url_map, create_operations_app(gateway, bind=settings.metrics_bind).url_map]


@pytest.fixture(scope="module")
def words() -> set[str]:
    """Every word of the code, and of the tools among the tests."""
    folders = [ROOT / name for name in ("api", "shared", "worker", "deploy", *TOOLS)]
    files = {path for folder in folders for pattern in SOURCES for path in folder.rglob(pattern)}
    files.add(ROOT / "docker-compose.yml")
    return {word for path in files for word in re.findall(r"\w+", path.read_text(errors="replace"))} | set(METRICS)


@of_each_document
def test_every_setting_exists(document: Path) -> None:
    named = set(re.findall(r"MASKMILL_[A-Z_]*[A-Z]", document.read_text()))

    assert named - SETTINGS - WRONG_SETTINGS == set()


@of_each_document
def test_every_metric_and_its_labels_exist(document: Path) -> None:
    assert list(find_wrong_metrics(document.read_text())) == []


@of_each_document
def test_every_error_exists(document: Path) -> None:
    named = set(NAMED_ERROR.findall(document.read_text()))

    assert {code for code in named if type(build_error(code, "")) is MaskmillError} == set()


@of_each_document
def test_every_route_exists(document: Path, routes: list[Map]) -> None:
    named = set() if get_id(document) in SKETCHES else set(list_routes(document.read_text()))

    assert [name for name in sorted(named) if not any(has_route(one, *name) for one in routes)] == []


@of_each_document
def test_every_module_and_make_target_exists(document: Path) -> None:
    text = document.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    modules = set(re.findall(r"python -m ((?:api|shared|worker|deploy|tests)[.\w]*\w)", text))

    assert [name for name in sorted(modules) if not is_module(name)] == []
    assert set(re.findall(r"(?:`|^ *)make ([a-z-]+)", text, re.MULTILINE)) - targets == set()


@of_each_document
def test_every_other_name_is_in_the_code(document: Path, words: set[str]) -> None:
    text = FENCED_CODE.sub("", document.read_text())
    named = {name for code in INLINE_CODE.findall(text) for name in SNAKE_CASE.findall(code)}

    unknown = set() if get_id(document) in SKETCHES else named - words - FOREIGN_NAMES

    assert unknown == set()


def test_names_are_found_in_the_documents(routes: list[Map]) -> None:
    operating, readme = (ROOT / name for name in ("deploy/README.md", "README.md"))

    assert {readme, operating, ROOT / "deploy/docs/security.md"} <= set(DOCUMENTS)
    assert len(NAMED_METRIC.findall(operating.read_text())) > 30
    assert len(NAMED_ERROR.findall(operating.read_text())) > 20
    assert len(list(list_routes(readme.read_text()))) > 30
    assert list(find_wrong_metrics('`maskmill_refusals` and `maskmill_refusals_total{kind="x"}`')) == [
        "maskmill_refusals",
        "maskmill_refusals_total: kind",
    ]
    assert not has_route(routes[0], "POST", "/v1/jobs/{id}/overlay.png")
    assert not has_route(routes[0], "", "/v1/jobs/{id}/overlay.gif")


def find_wrong_metrics(text: str) -> Iterator[str]:
    """Yield each metric that does not exist, and each label that it has not."""
    files_of_settings = {name.lower() for name in SETTINGS}
    for name, labels in NAMED_METRIC.findall(text):
        if name not in METRICS and name not in files_of_settings:
            yield name
        for label in set(re.findall(r"(\w+)(?:=|,|$)", labels)) - METRICS.get(name, set()):
            yield f"{name}: {label}"


def list_routes(text: str) -> Iterator[tuple[str, str]]:
    """Yield the routes that are named in code, each with its method, if one is given, and its path."""
    for code in INLINE_CODE.findall(FENCED_CODE.sub("", text)):
        found = NAMED_ROUTE.match(code)
        if found and found[2] not in FOREIGN_PATHS:
            yield found[1] or "", found[2]


def has_route(routes: Map, method: str, path: str) -> bool:
    """Return whether a path leads somewhere by this method, by any if none is given, or is the beginning of one."""
    path = PLACEHOLDER.sub("1", path)
    if any(rule.rule.startswith(f"{path.rstrip('/')}/") for rule in routes.iter_rules() if not method):
        return True
    try:
        routes.bind("localhost").match(path, method=method or "GET")
    except MethodNotAllowed:
        return not method
    except NotFound:
        return False
    return True


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
