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
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from shared.errors import ModelUnusable
from worker import embedded_model
from worker.engine.errors import summarize_error
from worker.engine.model_folder import hash_files, list_loaded_files

Download = Callable[[str, Path], None]

# A branch, a tag or a commit may follow the id.
HUB_ID: Final = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([A-Za-z0-9][\w./-]{0,127}))?", re.ASCII)
REVISION_LENGTH: Final = 12
# In a bucket, a file of a model lies directly below the prefix.
FILE_NAME: Final = re.compile(r"\w[\w.-]{0,254}\.(json|txt|safetensors)", re.ASCII)
# Weights, and the JSON and vocabulary files that say how to use them.
HUB_FILE_PATTERNS: Final = ("*.json", "*.safetensors", "*.txt")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A folder in the layout of transformers, and a revision that changes with its content.

    loaded: the files of the folder that are loaded, checked; no others are read.
    """

    folder: Path
    revision: str
    loaded: tuple[Path, ...]


def find_model_files(model: str, *, cache: Path, download: Download, hub_endpoint: str | None = None) -> ModelFiles:
    """Return the folder that `model` names, after fetching it if it is remote.

    Args:
        model: `embedded`, a local folder, `s3://bucket/prefix`, or a Hub id such as `org/name` or `org/name@revision`.
        cache: a folder that may keep what `download` fetches.
        download: called with `s3://bucket/prefix` and the folder to fill.
        hub_endpoint: the Hub's address, if not the public one.

    Raises:
        ModelUnusable: there is no such folder, it could not be fetched, or its files may not be read.
    """
    try:
        return _find_files(model, cache, download, hub_endpoint)
    except OSError as error:
        # A file that this process has no permission for, a full disk, a name that is too long.
        raise ModelUnusable(f"The model {model} cannot be read: {summarize_error(error)}") from error


def _find_files(model: str, cache: Path, download: Download, hub_endpoint: str | None) -> ModelFiles:
    if model == "embedded":
        return hash_local_folder(embedded_model.FOLDER)
    if model.startswith("s3://"):
        return fetch_from_bucket(model, cache, download)
    if Path(model).is_dir():
        return hash_local_folder(Path(model))
    if hub_id := HUB_ID.fullmatch(model):
        return fetch_from_hub(hub_id[1], hub_id[2], hub_endpoint)
    raise ModelUnusable(f"There is no folder {model}.")


def hash_local_folder(folder: Path) -> ModelFiles:
    """Return a folder, with the hash of the names and contents of its loaded files as its revision.

    Raises:
        ModelUnusable: it has no configuration or no safetensors, or its files may not be read.
    """
    loaded = list_loaded_files(folder)
    return ModelFiles(folder, hash_files(loaded)[:REVISION_LENGTH], loaded)


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


def fetch_from_hub(model_id: str, revision: str | None, endpoint: str | None) -> ModelFiles:
    """Fetch a model from the Hub, or from the Hub's cache on this machine; its revision is the commit.

    Args:
        revision: a branch, a tag or a commit; None means the default branch.

    Raises:
        ModelUnusable: the Hub has no such model or revision, or cannot be reached.
    """
    folder = _download_snapshot(model_id, revision, endpoint)
    return ModelFiles(folder, folder.name[:REVISION_LENGTH], list_loaded_files(folder))


def _download_snapshot(model_id: str, revision: str | None, endpoint: str | None) -> Path:
    advice = "Set MASKMILL_MODEL to a local folder or to `embedded`."
    patterns = list(HUB_FILE_PATTERNS)
    try:
        return Path(snapshot_download(model_id, revision=revision, allow_patterns=patterns, endpoint=endpoint))
    except RevisionNotFoundError as error:
        raise ModelUnusable(f"The Hub has no revision {revision} of {model_id}.") from error
    except RepositoryNotFoundError as error:
        raise ModelUnusable(f"The Hub has no model {model_id} that may be read from here. {advice}") from error
    except LocalEntryNotFoundError as error:
        raise ModelUnusable(f"The Hub could not be reached to fetch {model_id}. {advice}") from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ModelUnusable(f"The Hub did not give {model_id}: {summarize_error(error)} {advice}") from error
    except (ValueError, ImportError) as error:
        # Of the client that is built for it: desktops set `all_proxy` to kinds of proxies that it does not speak to.
        raise ModelUnusable(
            f"The Hub cannot be asked for {model_id} through the proxy of the environment: {summarize_error(error)} "
            "Set https_proxy to an address that begins with http://, and unset all_proxy."
        ) from error
