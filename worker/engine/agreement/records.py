"""What was measured before, in one small JSON file for each model, device and set of versions."""

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

import PIL
import structlog
import torch
import transformers
from PIL import features

from worker.engine.agreement.comparison import Agreement

log = structlog.get_logger()

ENGINE: Final = Path(__file__).parents[1]
# A change of any of these files may change the measurement.
SOURCES: Final = ("agreement/*.py", "agreement/photos/*.jpg", "mask2former/**/*.py", "postprocessing/*.py")
HASH_LENGTH: Final = 16


@dataclass(frozen=True, slots=True)
class Circumstances:
    """All that the results of the comparison depend on.

    revision: of the weights and their configuration.
    processor: the name of the CPU or GPU, and the instruction set that torch uses.
    pillow: the versions of Pillow and of its libjpeg.
    engine: hash of the fast path, of the comparison and of its photos.
    """

    revision: str
    device: str
    processor: str
    torch: str
    transformers: str
    pillow: str
    engine: str

    @classmethod
    def observe(cls, revision: str, device: str) -> Self:
        """Return the circumstances of this process."""
        return cls(
            revision=revision,
            device=torch.device(device).type,
            processor=name_processor(device),
            torch=torch.__version__,
            transformers=transformers.__version__,
            pillow=f"{PIL.__version__}, libjpeg {features.version('jpg')}",
            engine=hash_sources(),
        )

    @property
    def file_name(self) -> str:
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode())
        return f"agreement-{digest.hexdigest()[:HASH_LENGTH]}.json"


@dataclass(frozen=True, slots=True)
class Record:
    """The results.

    forward: of the fast path and the exact forward pass.
    scaled_decoding: of scaled and whole decoding; None if the fast path does not agree, or no photo is large enough.
    """

    forward: Agreement
    scaled_decoding: Agreement | None = None

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        scaled = wire["scaled_decoding"]
        return cls(Agreement(**wire["forward"]), None if scaled is None else Agreement(**scaled))


class AgreementRecords:
    """Reads and writes records in a folder; without a folder, or with one that cannot be used, nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def read(self, circumstances: Circumstances) -> Record | None:
        """Return what was measured under these circumstances; None if nothing was, or the file is damaged."""
        if self._folder is None:
            return None
        try:
            wire = json.loads((self._folder / circumstances.file_name).read_bytes())
            return Record.from_wire(wire["record"]) if wire["circumstances"] == asdict(circumstances) else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("agreement_record_unreadable", error=f"{type(error).__name__}: {error}")
            return None

    def write(self, circumstances: Circumstances, record: Record) -> None:
        """Keep a record; the file appears whole or not at all."""
        if self._folder is None:
            return
        text = json.dumps({"circumstances": asdict(circumstances), "record": asdict(record)}, indent=2)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            replace_file(self._folder / circumstances.file_name, text)
        except OSError as error:
            log.warning("agreement_record_not_written", error=str(error))


def replace_file(path: Path, text: str) -> None:
    """Write a file under another name first, so that a reader never sees a part of it.

    Raises:
        OSError: the folder cannot be written to.
    """
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        file.write(text)
    try:
        Path(file.name).replace(path)
    except OSError:
        Path(file.name).unlink()
        raise


def find_cache_folder(model_cache: str, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the folder for records: the model cache if it is set, else a folder in the user's cache; None without one.

    Args:
        model_cache: the setting MASKMILL_MODEL_CACHE.
        environ: read are XDG_CACHE_HOME and HOME.
    """
    if model_cache:
        return Path(model_cache)
    base = environ.get("XDG_CACHE_HOME") or (f"{environ['HOME']}/.cache" if environ.get("HOME") else "")
    return Path(base) / "maskmill" if base else None


def name_processor(device: str) -> str:
    """Return the name of a GPU; or of the CPU, with the instruction set that torch uses."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{read_cpu_name()}, {torch.backends.cpu.get_cpu_capability()}"


def read_cpu_name(file: Path = Path("/proc/cpuinfo")) -> str:
    """Return the CPU's name as Linux knows it; elsewhere what Python knows."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def hash_sources() -> str:
    """Return a hash of the files that decide the measurement."""
    digest = hashlib.sha256()
    for pattern in SOURCES:
        for path in sorted(ENGINE.glob(pattern)):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:HASH_LENGTH]
