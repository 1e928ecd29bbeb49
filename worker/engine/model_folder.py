"""The files of a model's folder that are loaded: which they are, whether they may be read, their hash, a view of them.

transformers reads more than it is asked to: it follows names in an index, in configurations and in adapters.  So it
gets a folder of links to the checked files alone.  Nothing here imports torch.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from shared.errors import ModelUnusable

CONFIG_NAME: Final = "config.json"
WEIGHTS_NAME: Final = "model.safetensors"
INDEX_NAME: Final = "model.safetensors.index.json"
TOKENIZER_NAME: Final = "tokenizer_config.json"
# Read if they are there: by the image processor, and by the tokenizer of a model that has one.
PROCESSOR_NAMES: Final = ("preprocessor_config.json", "processor_config.json")
VOCABULARY_NAMES: Final = (
    "added_tokens.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
)
MAX_CONFIG_BYTES: Final = 8 * 2**20
MAX_VOCABULARY_BYTES: Final = 64 * 2**20
MAX_SHARDS: Final = 1000
MAX_LAYERS: Final = 1000
_SHARD: Final = re.compile(r"[A-Za-z0-9_][\w.-]{0,200}\.safetensors", re.ASCII)
# Members of a configuration by which transformers opens another file or fetches another repository.
_REFERENCE: Final = re.compile(r"configuration_files|backbone|\w*_implementation\w*|\w+_(file|path|url)", re.ASCII)
# Members that say how many modules are built, one by one.
_LAYERS: Final = re.compile(r"\w*(layers|depths?|blocks|stages)", re.ASCII)
# They match, but are a note of where the model came from, or a name of transformers' own kernels.
_HARMLESS: Final = frozenset({"_name_or_path", "name_or_path", "special_tokens_map_file"})
# How tokenizer_config.json may name the tokenizer of its own folder.
_OWN_TOKENIZER: Final = ("tokenizer.json", "./tokenizer.json")
# A backbone of a library, which is built without weights, as against one in a repository.
_LIBRARY_NAME: Final = re.compile(r"\w[\w.-]*", re.ASCII)
_OWN_ATTENTION: Final = ("eager", "sdpa")


def list_loaded_files(folder: Path) -> tuple[Path, ...]:
    """Return the files of a model that are loaded, after checking them.

    Raises:
        ModelUnusable: a necessary file is missing, one is too large to parse or is not JSON, or one names a file or a
            repository outside the folder.
    """
    names = [CONFIG_NAME, *(name for name in PROCESSOR_NAMES if (folder / name).is_file())]
    if (folder / TOKENIZER_NAME).is_file():
        names += [TOKENIZER_NAME, *(name for name in VOCABULARY_NAMES if (folder / name).is_file())]
    if not (folder / CONFIG_NAME).is_file():
        raise ModelUnusable(f"The folder {folder} holds no config.json.")
    files = tuple(check_file(folder, name) for name in [*names, *_list_weights(folder)])
    for name in names:
        if name in VOCABULARY_NAMES:
            _check_size(folder / name, MAX_VOCABULARY_BYTES)
        else:
            document = _read_json(folder / name)
            if (
                name == TOKENIZER_NAME
                and "tokenizer.json" in names
                and document.get("tokenizer_file") in _OWN_TOKENIZER
            ):
                # transformers opens the file of the folder, if there is one, and ignores this member.
                del document["tokenizer_file"]
            _check_references(folder / name, document)
    return files


def check_file(folder: Path, name: str) -> Path:
    """Return the path of a file, which has to lie in the folder itself, also if it is a link.

    The Hub's cache is the exception: its snapshots are links to the folder `blobs` beside them.

    Raises:
        ModelUnusable: it is not a regular file, or lies elsewhere.
    """
    path = folder / name
    if not path.is_file():
        raise ModelUnusable(f"The folder {folder} holds no {name}.")
    # Resolved first: the folder may be named through a link, or relative to the current one.
    real = folder.resolve()
    allowed = [real]
    if real.parent.name == "snapshots":
        allowed.append(real.parent.parent / "blobs")
    if path.resolve().parent not in allowed:
        raise ModelUnusable(f"{name} in {folder} is a link to a file outside the folder: replace it by the file.")
    return path


def hash_files(files: Sequence[Path]) -> str:
    """Return the SHA-256, in hex, of the names and contents of files."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(f"{path.name}\n".encode())
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


@contextmanager
def open_view(files: Sequence[Path]) -> Iterator[Path]:
    """Yield a temporary folder with links to these files alone; a loaded model does not need it any more."""
    with TemporaryDirectory(prefix="maskmill-model-") as folder:
        for path in files:
            (Path(folder) / path.name).symlink_to(path.resolve())
        yield Path(folder)


def _list_weights(folder: Path) -> list[str]:
    """Return the names of the weights, in transformers' order of preference: one file, else an index and its shards."""
    if (folder / WEIGHTS_NAME).is_file():
        return [WEIGHTS_NAME]
    if (folder / INDEX_NAME).is_file():
        return [INDEX_NAME, *_list_shards(folder)]
    raise ModelUnusable(
        f"The folder {folder} holds no safetensors named {WEIGHTS_NAME} or {INDEX_NAME};"
        " weights of other kinds and names are not read."
    )


def _list_shards(folder: Path) -> list[str]:
    weight_map = _read_json(folder / INDEX_NAME).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelUnusable(f"{INDEX_NAME} in {folder} has no weight_map.")
    wrong = [name for name in weight_map.values() if not (isinstance(name, str) and _SHARD.fullmatch(name))]
    if wrong:
        raise ModelUnusable(
            f"{INDEX_NAME} in {folder} names {repr(wrong[0])[:80]}; a shard is a *.safetensors file of the same folder."
        )
    names = sorted(set(weight_map.values()))
    if len(names) > MAX_SHARDS:
        raise ModelUnusable(f"{INDEX_NAME} in {folder} names {len(names)} shards; at most {MAX_SHARDS} are read.")
    return names


def _read_json(path: Path) -> dict[str, Any]:
    """Parse a configuration.

    Raises:
        ModelUnusable: it is too large, or not a JSON object.
    """
    _check_size(path, MAX_CONFIG_BYTES)
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelUnusable(f"{path.name} in {path.parent} is not JSON: {type(error).__name__}.") from error
    if not isinstance(document, dict):
        raise ModelUnusable(f"{path.name} in {path.parent} is not a JSON object.")
    return document


def _check_size(path: Path, limit: int) -> None:
    size = path.stat().st_size
    if size > limit:
        raise ModelUnusable(f"{path.name} in {path.parent} has {size} bytes; at most {limit} are read.")


def _check_references(path: Path, document: dict[str, Any]) -> None:
    """Check that a configuration names no other file, no other repository and no absurd number of layers.

    Raises:
        ModelUnusable: it does; the text names the member.
    """
    for name, value in _walk_members(document):
        _check_layers(path, name, value)
        if _is_reference(name, value):
            raise ModelUnusable(
                f"{path.name} in {path.parent} refers to something outside the model, {name}={repr(value)[:80]}:"
                " remove it, or write its content into the configuration."
            )


def _check_layers(path: Path, name: str, value: object) -> None:
    counts = value if isinstance(value, list) else [value]
    if _LAYERS.fullmatch(name) and any(isinstance(count, int) and count > MAX_LAYERS for count in counts):
        raise ModelUnusable(f"{path.name} in {path.parent} has {name} above {MAX_LAYERS}.")


def _walk_members(document: object) -> Iterator[tuple[str, object]]:
    if isinstance(document, list):
        for one in document:
            yield from _walk_members(one)
    elif isinstance(document, dict):
        for name, value in document.items():
            yield name, value
            yield from _walk_members(value)


def _is_reference(name: str, value: object) -> bool:
    if name in _HARMLESS or not value or not isinstance(value, str | list) or value in _OWN_ATTENTION:
        return False
    if name == "backbone" and isinstance(value, str):
        return _LIBRARY_NAME.fullmatch(value) is None
    return _REFERENCE.fullmatch(name) is not None
