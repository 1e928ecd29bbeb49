"""Find the files of a model: the embedded one, a local folder, a prefix of a bucket, or a model of the Hub.

Only safetensors are read, and no code that comes with a model is run.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from shared.errors import ModelUnusable
from worker import embedded_model
from worker.engine.errors import summarize_error

Download = Callable[[str, Path], None]

HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")
REVISION_LENGTH: Final = 12
# Weights, and the JSON and vocabulary files that say how to use them.
HUB_FILE_PATTERNS: Final = ("*.json", "*.safetensors", "*.txt")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A folder in the layout of transformers, and a revision that changes with its content."""

    folder: Path
    revision: str


def find_model_files(model: str, *, cache: Path, download: Download, hub_endpoint: str | None = None) -> ModelFiles:
    """Return the folder that `model` names, after fetching it if it is remote.

    Args:
        model: `embedded`, a local folder, `s3://bucket/prefix`, or a Hub id such as `org/name`.
        cache: a folder that may keep what `download` fetches.
        download: called with `s3://bucket/prefix` and the folder to fill.
        hub_endpoint: the Hub's address, if not the public one.

    Raises:
        ModelUnusable: there is no such folder, or it could not be fetched.
    """
    if model == "embedded":
        return hash_local_folder(embedded_model.FOLDER)
    if model.startswith("s3://"):
        return fetch_from_bucket(model, cache, download)
    if Path(model).is_dir():
        return hash_local_folder(Path(model))
    if HUB_ID.fullmatch(model):
        return fetch_from_hub(model, hub_endpoint)
    raise ModelUnusable(f"There is no folder {model}.")


def hash_local_folder(folder: Path) -> ModelFiles:
    """Return a folder, with the hash of its configuration and weights as its revision.

    Raises:
        ModelUnusable: it has no configuration or no safetensors.
    """
    if not (folder / "config.json").is_file():
        raise ModelUnusable(f"The folder {folder} holds no config.json.")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ModelUnusable(f"The folder {folder} holds no safetensors; weights of other kinds are not read.")
    digest = hashlib.sha256()
    for path in [*sorted(folder.glob("*config.json")), *weights]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return ModelFiles(folder, digest.hexdigest()[:REVISION_LENGTH])


def fetch_from_bucket(prefix: str, cache: Path, download: Download) -> ModelFiles:
    """Fetch the objects under a prefix of a bucket into a folder of their own.

    Raises:
        ModelUnusable: there are none, or they are not a model.
    """
    folder = cache / hashlib.sha256(prefix.encode()).hexdigest()[:REVISION_LENGTH]
    folder.mkdir(parents=True, exist_ok=True)
    download(prefix, folder)
    if not any(folder.iterdir()):
        raise ModelUnusable(f"There is nothing under {prefix}.")
    return hash_local_folder(folder)


def fetch_from_hub(model_id: str, endpoint: str | None) -> ModelFiles:
    """Fetch a model from the Hub, or from the Hub's cache on this machine; the revision is its commit.

    Raises:
        ModelUnusable: the Hub has no such model, or cannot be reached.
    """
    advice = "Set MASKMILL_MODEL to a local folder or to `embedded`."
    try:
        folder = Path(snapshot_download(model_id, allow_patterns=list(HUB_FILE_PATTERNS), endpoint=endpoint))
    except RepositoryNotFoundError as error:
        raise ModelUnusable(f"The Hub has no model {model_id} that may be read from here. {advice}") from error
    except LocalEntryNotFoundError as error:
        raise ModelUnusable(f"The Hub could not be reached to fetch {model_id}. {advice}") from error
    except (HfHubHTTPError, OSError) as error:
        raise ModelUnusable(f"The Hub did not give {model_id}: {summarize_error(error)} {advice}") from error
    return ModelFiles(folder, folder.name[:REVISION_LENGTH])
