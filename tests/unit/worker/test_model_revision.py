"""A revision of the Hub that MASKMILL_MODEL pins, fetched from a server that speaks the Hub's API."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import close_session, constants

from shared.errors import ModelUnusable
from shared.worker_registry import public_id
from tests.support.hub import Hub, serve_hub
from tests.support.proxy import use_proxy
from worker.embedded_model import FOLDER
from worker.engine.model_files import ModelFiles, find_model_files

OLD, NEW = "a" * 40, "b" * 40
FILES = {name: (FOLDER / name).read_bytes() for name in ("config.json", "preprocessor_config.json")}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with two commits of the model us/roads, and an empty cache on this machine."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    commits = {
        OLD: {**FILES, "model.safetensors": b"old"},
        NEW: {**FILES, "model.safetensors": b"new", "evil.py": b"x", "sub/model.safetensors": b"x"},
    }
    names = {"main": NEW, "v1.0": OLD, "refs/pr/1": NEW, "c" * 40: OLD}
    with serve_hub("us/roads", commits, names) as hub:
        yield hub


def fetch(hub: Hub, model: str, cache: Path = Path()) -> ModelFiles:
    return find_model_files(model, cache=cache, download=lambda _source, _into: None, hub_endpoint=hub.url)


def read_weights(files: ModelFiles) -> bytes:
    [weights] = [path for path in files.loaded if path.suffix == ".safetensors"]
    return weights.read_bytes()


def test_a_hub_id_means_the_default_branch(hub: Hub) -> None:
    files = fetch(hub, "us/roads")

    assert (files.revision, read_weights(files)) == (NEW[:12], b"new")
    assert not (files.folder / "evil.py").exists()


@pytest.mark.parametrize(("revision", "commit"), [("v1.0", OLD), (OLD, OLD), (NEW, NEW), ("main", NEW)])
def test_a_revision_after_the_id_is_the_one_that_is_fetched(hub: Hub, revision: str, commit: str) -> None:
    files = fetch(hub, f"us/roads@{revision}")

    assert files.revision == commit[:12]
    assert read_weights(files) == (b"old" if commit == OLD else b"new")
    assert hub.requested[0] == revision


def test_a_pinned_commit_in_the_cache_needs_no_hub(hub: Hub) -> None:
    fetch(hub, f"us/roads@{OLD}")

    files = find_model_files(
        f"us/roads@{OLD}", cache=Path(), download=lambda _source, _into: None, hub_endpoint="http://127.0.0.1:9"
    )

    assert read_weights(files) == b"old"


def test_another_commit_than_the_pinned_one_is_not_loaded(hub: Hub) -> None:
    with pytest.raises(ModelUnusable):
        fetch(hub, f"us/roads@{'c' * 40}")


def test_an_unknown_revision_is_named_in_the_error(hub: Hub) -> None:
    with pytest.raises(ModelUnusable, match=r"^The Hub has no revision v9 of us/roads\.$"):
        fetch(hub, "us/roads@v9")


@pytest.mark.parametrize(
    "model", ["us/roads@", "us/roads@../main", "us/roads@a b", "us/roads@-x", "us/roads@v?", "..@a"]
)
def test_a_revision_is_checked_before_the_hub_is_asked(hub: Hub, model: str) -> None:
    with pytest.raises(ModelUnusable):
        fetch(hub, model)

    assert hub.requested == []


def test_clients_name_a_pinned_model_by_its_id_alone() -> None:
    assert public_id("us/roads@v1.0") == public_id("us/roads") == "us/roads"
    assert public_id("./models/roads@2") == "local/roads@2"
    assert public_id("s3://models/roads@2") == "s3/roads@2"


@pytest.mark.parametrize("proxy", ["socks://127.0.0.1:1", "socks5://127.0.0.1:1"])
def test_a_proxy_that_cannot_be_used_is_one_sentence(hub: Hub, proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_proxy(monkeypatch, proxy)
    # The client of an earlier request knows the environment of that time.
    close_session()

    with pytest.raises(ModelUnusable, match=r"through the proxy of the environment: .* Set https_proxy"):
        fetch(hub, "us/roads")

    close_session()
