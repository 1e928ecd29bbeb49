"""Which files of a model are loaded, which names in them are refused, and what changes the revision."""

import ast
import json
import os
import resource
import shutil
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from shared.errors import ModelUnusable
from tests.support.permissions import deny_reading
from worker.embedded_model import FOLDER
from worker.engine.families import _load_tokenizer
from worker.engine.loader import load_segmenter
from worker.engine.model_files import ModelFiles, hash_local_folder
from worker.engine.model_folder import (
    CONFIG_NAME,
    INDEX_NAME,
    MAX_CONFIG_BYTES,
    MAX_SHARDS,
    PROCESSOR_NAMES,
    WEIGHTS_NAME,
    open_view,
)

ROOT = Path(__file__).resolve().parents[3]
PROCESSOR_NAME = PROCESSOR_NAMES[0]
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The embedded model."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in (CONFIG_NAME, PROCESSOR_NAME, WEIGHTS_NAME):
        shutil.copy(FOLDER / name, folder)
    return folder


@pytest.fixture
def shards(folder: Path) -> Path:
    """The embedded model with its weights in two files."""
    tensors = load_file(folder / WEIGHTS_NAME)
    (folder / WEIGHTS_NAME).unlink()
    names = sorted(tensors)
    weight_map = {name: SHARDS[number % 2] for number, name in enumerate(names)}
    for shard in SHARDS:
        chosen = {name: tensors[name] for name in names if weight_map[name] == shard}
        save_file(chosen, folder / shard, metadata={"format": "pt"})
    write_index(folder, weight_map)
    return folder


def write_index(folder: Path, weight_map: object) -> None:
    (folder / INDEX_NAME).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def change(folder: Path, name: str = CONFIG_NAME, **members: Any) -> None:
    document = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**document, **members}))


def load(folder: Path) -> None:
    load_segmenter(str(folder), public_id="us/small", device="cpu", cache=folder, download=lambda _source, _into: None)


def refusal(folder: Path) -> str:
    with pytest.raises(ModelUnusable) as caught:
        load(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500 + len(str(folder))
    return message


# The files that are loaded.


_OPENED: list[str] = []
_CONNECTED: list[object] = []


def _record(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        _OPENED.append(os.fsdecode(arguments[0]))
    elif event == "socket.connect":
        _CONNECTED.append(arguments[1])


_is_recording = False
_OTHER_THREADS: set[int] = set()


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _is_recording and event in ("open", "socket.connect") and threading.get_ident() not in _OTHER_THREADS:
        _record(event, arguments)


sys.addaudithook(_audit)  # it cannot be removed, so it does nothing outside record_opened()


@contextmanager
def record_opened() -> Iterator[None]:
    """While the block runs, record the files that Python opens, and the addresses that it connects to.

    Only this thread and those that it starts count: clients that other tests left behind may reconnect meanwhile.
    """
    global _is_recording
    _OPENED.clear()
    _CONNECTED.clear()
    _OTHER_THREADS.clear()
    _OTHER_THREADS.update({thread.ident for thread in threading.enumerate() if thread.ident} - {threading.get_ident()})
    _is_recording = True
    try:
        yield
    finally:
        _is_recording = False


def test_nothing_but_the_hashed_files_is_opened_and_no_connection_made(shards: Path) -> None:
    for name in ("adapter_config.json", "config.99.json", "generation_config.json", "modeling_x.py", "README.md"):
        (shards / name).write_text("{}")
    change(shards, auto_map={"AutoConfig": "modeling_x.X", "AutoModel": "modeling_x.Y"}, _name_or_path="some/where")
    loaded = {path.name for path in hash_local_folder(shards).loaded}

    with record_opened():
        load(shards)

    opened = [Path(path) for path in _OPENED]
    ours = {path.name for path in opened if path.parent == shards or path.parent.name.startswith("maskmill-model-")}
    assert loaded == {CONFIG_NAME, PROCESSOR_NAME, INDEX_NAME, *SHARDS}
    # Shards are opened in Rust, which Python does not see, and their size may be asked for.
    assert {CONFIG_NAME, PROCESSOR_NAME, INDEX_NAME} <= ours <= loaded
    assert _CONNECTED == []


def test_a_view_holds_the_loaded_files_alone(shards: Path) -> None:
    (shards / "notes.txt").write_text("x")
    loaded = hash_local_folder(shards).loaded

    with open_view(loaded) as view:
        assert {path.name for path in view.iterdir()} == {path.name for path in loaded}
        assert (view / SHARDS[0]).read_bytes() == (shards / SHARDS[0]).read_bytes()


@pytest.mark.parametrize("name", [CONFIG_NAME, PROCESSOR_NAME, INDEX_NAME, *SHARDS])
def test_a_change_in_any_loaded_file_changes_the_revision(shards: Path, name: str) -> None:
    before = hash_local_folder(shards).revision

    with (shards / name).open("ab") as file:
        file.write(b" ")

    assert hash_local_folder(shards).revision != before


def test_shards_that_change_places_change_the_revision(shards: Path) -> None:
    before = hash_local_folder(shards).revision
    first, second = (shards / name for name in SHARDS)
    content = first.read_bytes()

    first.write_bytes(second.read_bytes())
    second.write_bytes(content)

    assert hash_local_folder(shards).revision != before


def test_tokenizer_files_count_where_the_model_has_a_tokenizer(folder: Path) -> None:
    (folder / "vocab.json").write_text("{}")
    without = hash_local_folder(folder)
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "merges.txt").write_text("a b")

    names = {path.name for path in hash_local_folder(folder).loaded}

    assert {"tokenizer_config.json", "vocab.json", "merges.txt"} <= names
    assert "vocab.json" not in {path.name for path in without.loaded}


@pytest.mark.parametrize(
    "name", ["README.md", "model-fp16.safetensors", "notes.json", "training_args.bin", "adapter_config.json"]
)
def test_other_files_do_not_change_the_revision(folder: Path, name: str) -> None:
    before = hash_local_folder(folder).revision

    (folder / name).write_text("{}")

    assert hash_local_folder(folder).revision == before


# Names in an index.


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "/etc/x.safetensors",
        "../model.safetensors",
        "..",
        "a/../../x.safetensors",
        "sub/model.safetensors",
        "..\\model.safetensors",
        "C:\\model.safetensors",
        ".model.safetensors",
        "model.safetensors\n",
        "model\0.safetensors",
        "pytorch_model.bin",
        "config.json",
        "~/model.safetensors",
        "x" * 10_000 + ".safetensors",
        "",
        7,
        None,
        True,
        ["a.safetensors"],
        {"a": "b"},
    ],
)
def test_an_index_names_files_of_its_folder_alone(shards: Path, name: object) -> None:
    write_index(shards, {"a": SHARDS[0], "b": name})

    assert "; a shard is a *.safetensors file of the same folder" in refusal(shards)


@given(st.text(max_size=40) | st.text("./\\~a-", max_size=12).map(lambda text: f"{text}.safetensors"))
def test_no_accepted_name_leaves_the_folder(name: str) -> None:
    from worker.engine.model_folder import _SHARD

    if _SHARD.fullmatch(name):
        assert Path("/folder", name).parent == Path("/folder")
        assert os.path.normpath(f"/folder/{name}") == f"/folder/{name}"


@pytest.mark.parametrize("weight_map", [None, {}, [], "model.safetensors", 3])
def test_an_index_without_a_map_is_refused(shards: Path, weight_map: object) -> None:
    write_index(shards, weight_map)

    assert refusal(shards).endswith("has no weight_map.")


def test_a_missing_shard_is_named(shards: Path) -> None:
    (shards / SHARDS[1]).unlink()

    assert refusal(shards) == f"The folder {shards} holds no {SHARDS[1]}."


def test_the_number_of_shards_is_bounded(shards: Path) -> None:
    write_index(shards, {str(number): f"{number}.safetensors" for number in range(MAX_SHARDS + 1)})

    assert f"names {MAX_SHARDS + 1} shards; at most {MAX_SHARDS} are read" in refusal(shards)


# Links.


@pytest.mark.parametrize("name", [CONFIG_NAME, PROCESSOR_NAME, WEIGHTS_NAME])
def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)

    assert refusal(folder) == (f"{name} in {folder} is a link to a file outside the folder: replace it by the file.")


def test_a_link_within_the_folder_is_followed(folder: Path) -> None:
    (folder / WEIGHTS_NAME).rename(folder / "weights.bin")
    (folder / WEIGHTS_NAME).symlink_to("weights.bin")

    load(folder)


@pytest.fixture
def snapshot(folder: Path, tmp_path: Path) -> Path:
    """The embedded model as the Hub's cache holds it."""
    snapshot, blobs = tmp_path / "hub" / "snapshots" / "main", tmp_path / "hub" / "blobs"
    snapshot.parent.mkdir(parents=True)
    folder.rename(blobs)
    snapshot.mkdir()
    for blob in blobs.iterdir():
        (snapshot / blob.name).symlink_to(Path("../../blobs") / blob.name)
    return snapshot


def test_a_snapshot_of_the_hubs_cache_may_be_named_as_a_folder(snapshot: Path) -> None:
    files = hash_local_folder(snapshot)

    assert isinstance(files, ModelFiles)
    (snapshot / CONFIG_NAME).unlink()
    (snapshot / CONFIG_NAME).symlink_to("/etc/hostname")
    assert "is a link to a file outside the folder" in refusal(snapshot)


@pytest.mark.parametrize(
    ("working_folder", "name"),
    [
        ("", "link"),
        ("", "hub/snapshots/main/../main"),
        ("hub/snapshots/main", "."),
        ("hub/snapshots", "main"),
        ("link", "."),
    ],
)
def test_a_snapshot_may_be_named_by_each_path_that_leads_there(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, working_folder: str, name: str
) -> None:
    (tmp_path / "link").symlink_to(snapshot)
    revision = hash_local_folder(snapshot).revision
    monkeypatch.chdir(tmp_path / working_folder)

    assert hash_local_folder(Path(name)).revision == revision


def test_a_path_that_only_looks_like_a_snapshot_gives_no_leave_for_the_blobs_beside_it(
    folder: Path, tmp_path: Path
) -> None:
    named, blobs = tmp_path / "hub" / "snapshots" / "main", tmp_path / "hub" / "blobs"
    named.parent.mkdir(parents=True)
    blobs.mkdir()
    named.symlink_to(folder)
    (folder / CONFIG_NAME).rename(blobs / CONFIG_NAME)
    (folder / CONFIG_NAME).symlink_to(blobs / CONFIG_NAME)

    assert "is a link to a file outside the folder" in refusal(named)


@pytest.mark.parametrize("name", [CONFIG_NAME, WEIGHTS_NAME])
def test_a_pipe_in_place_of_a_file_is_not_opened(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)

    assert "holds no" in refusal(folder)


@pytest.mark.parametrize("name", [CONFIG_NAME, WEIGHTS_NAME, ""])
def test_a_file_without_permission_is_refused_in_one_line(folder: Path, name: str) -> None:
    with deny_reading(folder / name):
        message = refusal(folder)

    assert message.startswith(f"The model {folder} cannot be read: [Errno 13] Permission denied: ")


def test_a_name_that_is_too_long_for_a_folder_is_refused_in_one_line() -> None:
    with pytest.raises(ModelUnusable, match=r"^The model x+ cannot be read: \[Errno 36\] File name too long: "):
        load(Path("x" * 5000))


# Names in configurations.


@pytest.mark.parametrize(
    ("file", "members"),
    [
        (CONFIG_NAME, {"backbone": "microsoft/resnet-50", "backbone_config": None}),
        (CONFIG_NAME, {"backbone": "hf-hub:evil/backbone", "use_timm_backbone": True}),
        (CONFIG_NAME, {"backbone_config": {"model_type": "swin", "backbone": "evil/backbone"}}),
        (CONFIG_NAME, {"configuration_files": ["config.4.0.0.json", "../config.5.0.0.json"]}),
        (CONFIG_NAME, {"attn_implementation": "evil/kernels"}),
        (CONFIG_NAME, {"_attn_implementation_internal": "evil/kernels:attention"}),
        (CONFIG_NAME, {"_experts_implementation": "evil/kernels"}),
        (PROCESSOR_NAME, {"repo_path": "evil/data", "class_info_file": "classes.json"}),
        (PROCESSOR_NAME, {"class_info_file": "/etc/passwd"}),
        ("tokenizer_config.json", {"vocab_file": "/etc/passwd"}),
        ("tokenizer_config.json", {"tokenizer_file": "../tokenizer.json"}),
        ("tokenizer_config.json", {"nested": [{"merges_file": "x"}]}),
    ],
)
def test_a_configuration_refers_to_nothing_outside_the_model(folder: Path, file: str, members: dict[str, Any]) -> None:
    if not (folder / file).exists():
        (folder / file).write_text("{}")
    change(folder, file, **members)

    with record_opened():
        message = refusal(folder)

    assert message.startswith(f"{file} in {folder} refers to something outside the model, ")
    assert _CONNECTED == []


def write_tokenizer(path: Path, word: str) -> None:
    Tokenizer(WordLevel({word: 0, "[UNK]": 1}, unk_token="[UNK]")).save(str(path))


@pytest.mark.parametrize("value", ["tokenizer.json", "./tokenizer.json"])
def test_a_tokenizer_may_name_its_own_file_and_no_other_one_is_read(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "tokenizer_file": value}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    write_tokenizer(folder / "tokenizer.json", "own")
    write_tokenizer(tmp_path / "tokenizer.json", "foreign")
    monkeypatch.chdir(tmp_path)

    with open_view(hash_local_folder(folder).loaded) as view:
        assert "own" in _load_tokenizer(view).get_vocab()


@pytest.mark.parametrize(
    ("file", "members"),
    [
        ("tokenizer_config.json", {"nested": {"tokenizer_file": "tokenizer.json"}}),
        ("tokenizer_config.json", {"tokenizer_file": "./x/../tokenizer.json"}),
        ("tokenizer_config.json", {"vocab_file": "tokenizer.json"}),
        (CONFIG_NAME, {"tokenizer_file": "tokenizer.json"}),
    ],
)
def test_the_name_of_its_tokenizer_has_one_place(folder: Path, file: str, members: dict[str, Any]) -> None:
    write_tokenizer(folder / "tokenizer.json", "own")
    (folder / "tokenizer_config.json").write_text("{}")
    change(folder, file, **members)

    assert refusal(folder).startswith(f"{file} in {folder} refers to something outside the model, ")


def test_a_tokenizer_that_is_missing_is_not_looked_for_elsewhere(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text('{"tokenizer_file": "tokenizer.json"}')

    assert "refers to something outside the model, tokenizer_file='tokenizer.json'" in refusal(folder)


def test_notes_of_where_a_model_came_from_are_no_references(folder: Path) -> None:
    change(folder, _name_or_path="/root/x", backbone=None, use_pretrained_backbone=True, attn_implementation="eager")

    load(folder)


def test_a_backbone_of_a_library_is_not_looked_for_on_the_hub(folder: Path) -> None:
    change(folder, backbone="resnet50", backbone_config=None)

    with record_opened():
        message = refusal(folder)

    assert message.startswith(f"The model {folder} could not be loaded: Cannot reach ")
    assert _CONNECTED == []


def test_the_hub_can_be_asked_again_after_a_model_was_loaded(folder: Path) -> None:
    load(folder)

    assert constants.HF_HUB_OFFLINE is False


def test_code_that_comes_with_a_model_is_not_run_and_nothing_is_asked(folder: Path, tmp_path: Path) -> None:
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    change(folder, model_type="evil", auto_map={"AutoConfig": "evil.Config"})

    message = refusal(folder)

    assert message.startswith(f"The model {folder} could not be loaded: ")
    assert not (tmp_path / "ran").exists()


def find_loading_calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield all calls by which transformers reads a model, with their places."""
    for file in [*ROOT.glob("worker/**/*.py"), *ROOT.glob("tests/**/*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and is_loading(ast.unparse(node.func)):
                yield f"{file.relative_to(ROOT)}:{node.lineno}", node


def is_loading(function: str) -> bool:
    return function.endswith(".from_pretrained") or function == "transformers.pipeline"


def test_transformers_is_never_left_to_ask_whether_code_may_be_run() -> None:
    calls = dict(find_loading_calls())

    assert len(calls) >= 9
    explicit = {
        place
        for place, call in calls.items()
        if any(one.arg == "trust_remote_code" and ast.unparse(one.value) == "False" for one in call.keywords)
    }
    assert set(calls) - explicit == set()


# Sizes and contents.


@pytest.mark.parametrize("name", [CONFIG_NAME, PROCESSOR_NAME, INDEX_NAME])
def test_a_huge_configuration_is_not_parsed(shards: Path, name: str) -> None:
    with (shards / name).open("wb") as file:
        file.truncate(2**30)

    assert refusal(shards).endswith(f"has {2**30} bytes; at most {MAX_CONFIG_BYTES} are read.")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"7", b"\xff\xfe", b"[" * 200_000, b'{"a": ' + b"9" * 10_000 + b"}"]
)
@pytest.mark.parametrize("name", [CONFIG_NAME, PROCESSOR_NAME])
def test_a_configuration_that_is_no_json_object_is_refused(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)

    assert refusal(folder).startswith(f"{name} in {folder} is not ")


def header(document: object) -> bytes:
    text = json.dumps(document).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        struct.pack("<Q", 2**63),
        struct.pack("<Q", 2**64 - 1) + b"{}",
        struct.pack("<Q", 99_000_000) + b"{}",
        header({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}) + bytes(4),
        header({"a": {"dtype": "F32", "shape": [2**62], "data_offsets": [0, 2**64 - 8]}}) + bytes(4),
        header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}) + bytes(4),
        header({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}) + bytes(4),
        header({"a": {"dtype": "F32", "shape": [2**70], "data_offsets": [0, 4]}}) + bytes(4),
    ],
)
def test_weights_with_an_absurd_header_are_refused_in_one_line(folder: Path, content: bytes) -> None:
    (folder / WEIGHTS_NAME).write_bytes(content)

    assert refusal(folder).startswith(f"The model {folder} could not be loaded: ")


@pytest.mark.parametrize("members", [{"num_queries": 10**9}, {"num_queries": 10**18}, {"hidden_dim": 10**6}])
def test_a_configuration_of_a_much_larger_network_takes_no_memory(folder: Path, members: dict[str, int]) -> None:
    change(folder, **members)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    message = refusal(folder)

    assert "describes a network of" in message or "could not be loaded" in message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


@pytest.mark.parametrize(
    "members",
    [{"decoder_layers": 10**9}, {"encoder_layers": 1001}, {"backbone_config": {"depths": [2, 10**7]}}],
)
def test_the_number_of_layers_is_bounded(folder: Path, members: dict[str, Any]) -> None:
    change(folder, **members)

    assert refusal(folder).endswith("above 1000.")
