"""From the value of MASKMILL_MODEL to a loaded model: find its folder, see what it holds, build its segmenter.

Only safetensors are read, and no code that comes with a model is run.
"""

import hashlib
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, Mask2FormerImageProcessorPil, PretrainedConfig
from transformers.models.auto import modeling_auto
from transformers.utils import logging as transformers_logging

from shared.errors import ModelUnusable
from worker import embedded_model
from worker.embedded_model.backbone import register
from worker.engine.execution_plan import ExecutionOptions, ExecutionPlan, plan_execution
from worker.engine.mask2former.segmenter import Mask2FormerSegmenter
from worker.engine.transformers_pipeline import TransformersSegmenter
from worker.segmenter import Segmenter

Download = Callable[[str, Path], None]

HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")
REVISION_LENGTH: Final = 12
# Weights, and the JSON and vocabulary files that say how to use them.
WANTED_FILES: Final = ("*.json", "*.safetensors", "*.txt")
FAST_PATH: Final = "Mask2FormerForUniversalSegmentation"
DEFAULT_OPTIONS: Final = ExecutionOptions()


@dataclass(frozen=True, slots=True)
class Source:
    """A folder in the layout of transformers, and what tells its content from any other."""

    folder: Path
    revision: str


def load_segmenter(
    model: str,
    *,
    public_id: str,
    device: str,
    cache: Path,
    download: Download,
    hub_endpoint: str | None = None,
    options: ExecutionOptions = DEFAULT_OPTIONS,
) -> Segmenter:
    """Load what MASKMILL_MODEL names onto a device.

    Args:
        model: `embedded`, a local folder, `s3://bucket/prefix`, or a Hub id such as `org/name`.
        public_id: the name that callers use for it.
        device: `auto` takes CUDA where there is one; or `cpu`, `cuda:0`, ...
        cache: a folder that may keep what `download` fetches.
        download: called with `s3://bucket/prefix` and the folder to fill.
        hub_endpoint: the Hub's address, if not the public one.
        options: which plan to use; only Mask2Former has a choice.

    Raises:
        ModelUnusable: with one sentence that says why.
    """
    quieten()
    register()
    place = usable_device(device)
    plan = plan_execution(options, place)
    source = find(model, cache=cache, download=download, hub_endpoint=hub_endpoint)
    try:
        return build(source, public_id=public_id, device=place, plan=plan)
    except ModelUnusable:
        raise
    except Exception as error:  # a broken file raises almost anything in the libraries that read it
        raise ModelUnusable(f"The model {model} could not be loaded: {first_line(error)}") from error


def quieten() -> None:
    """Keep transformers' progress bars and advice out of the service's log."""
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]


def usable_device(device: str) -> str:
    """Return the device to use for `auto`, or the one that was named if it is there.

    Raises:
        ModelUnusable: it is not.
    """
    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelUnusable(f"The device {device} cannot be used: {first_line(error)}") from error
    return device


def find(model: str, *, cache: Path, download: Download, hub_endpoint: str | None = None) -> Source:
    """Return the folder that `model` names, fetched if it is elsewhere.

    Raises:
        ModelUnusable: there is no such folder, or it could not be fetched.
    """
    if model == "embedded":
        return local(embedded_model.FOLDER)
    if model.startswith("s3://"):
        return fetched(model, cache, download)
    if Path(model).is_dir():
        return local(Path(model))
    if HUB_ID.fullmatch(model):
        return from_hub(model, hub_endpoint)
    raise ModelUnusable(f"There is no folder {model}.")


def local(folder: Path) -> Source:
    """Return a folder with the hash of its configuration and weights."""
    if not (folder / "config.json").is_file():
        raise ModelUnusable(f"The folder {folder} holds no config.json.")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ModelUnusable(f"The folder {folder} holds no safetensors; weights of other kinds are not read.")
    digest = hashlib.sha256()
    for path in [*sorted(folder.glob("*config.json")), *weights]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return Source(folder, digest.hexdigest()[:REVISION_LENGTH])


def fetched(prefix: str, cache: Path, download: Download) -> Source:
    """Fetch what lies under a prefix of a bucket into a folder of its own."""
    folder = cache / hashlib.sha256(prefix.encode()).hexdigest()[:REVISION_LENGTH]
    folder.mkdir(parents=True, exist_ok=True)
    download(prefix, folder)
    if not any(folder.iterdir()):
        raise ModelUnusable(f"There is nothing under {prefix}.")
    return local(folder)


def from_hub(name: str, endpoint: str | None) -> Source:
    """Fetch a model from the Hub, or take it from the Hub's own cache on this machine."""
    instead = "Set MASKMILL_MODEL to a local folder or to `embedded`."
    try:
        folder = Path(snapshot_download(name, allow_patterns=list(WANTED_FILES), endpoint=endpoint))
    except RepositoryNotFoundError as error:
        raise ModelUnusable(f"The Hub has no model {name} that may be read from here. {instead}") from error
    except LocalEntryNotFoundError as error:
        raise ModelUnusable(f"The Hub could not be reached to fetch {name}. {instead}") from error
    except (HfHubHTTPError, OSError) as error:
        raise ModelUnusable(f"The Hub did not give {name}: {first_line(error)} {instead}") from error
    return Source(folder, folder.name[:REVISION_LENGTH])


def build(source: Source, *, public_id: str, device: str, plan: ExecutionPlan) -> Segmenter:
    """Load a folder's model and put it behind the port: Mask2Former on the fast path, others through the pipeline."""
    config = AutoConfig.from_pretrained(source.folder, local_files_only=True)
    architecture = architecture_of(config, public_id)
    network = load_network(source.folder, architecture)
    names = {"model": public_id, "revision": source.revision, "device": device}
    if architecture == FAST_PATH:
        processor = Mask2FormerImageProcessorPil.from_pretrained(source.folder)
        return Mask2FormerSegmenter(network, processor, plan=plan, **names)
    return TransformersSegmenter(load_pipeline(source.folder, network, device), **names)


def architecture_of(config: PretrainedConfig, name: str) -> str:
    """Return the class that the weights were saved from.

    Raises:
        ModelUnusable: it is not one for image segmentation.
    """
    known = segmentation_architectures()
    for architecture in config.architectures or ():
        if architecture in known:
            return str(architecture)
    kind = ", ".join(config.architectures or ()) or config.model_type
    raise ModelUnusable(f"{name} is not an image-segmentation model, it is: {kind}.")


def segmentation_architectures() -> set[str]:
    """Return the names of the classes that transformers' own pipeline takes."""
    families: tuple[Mapping[str, str | tuple[str, ...]], ...] = (
        modeling_auto.MODEL_FOR_IMAGE_SEGMENTATION_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_INSTANCE_SEGMENTATION_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES,
    )
    entries = (entry for family in families for entry in family.values())
    return {name for entry in entries for name in ((entry,) if isinstance(entry, str) else entry)}


def load_network(folder: Path, architecture: str) -> Any:
    """Load weights as float32, whatever they are on disk.

    Raises:
        ModelUnusable: some weights are missing; transformers would make them up.
    """
    with warnings.catch_warnings():
        # Advice on the speed of a CUDA kernel that is not used.
        warnings.filterwarnings("ignore", message="You'd better set embed_dim")
        network, report = getattr(transformers, architecture).from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    # The criterion belongs to training alone.
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("criterion."))
    if missing or report["mismatched_keys"]:
        first = (missing or sorted(str(key) for key in report["mismatched_keys"]))[0]
        raise ModelUnusable(
            f"The weights in {folder} are not those of its config.json: {first} is missing or misshapen."
        )
    return network


def load_pipeline(folder: Path, network: Any, device: str) -> transformers.ImageSegmentationPipeline:
    # Without torchvision, so that every machine prepares an image in the same way.
    processor = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
        folder, backend="pil", local_files_only=True
    )
    has_text = (folder / "tokenizer_config.json").is_file()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True) if has_text else None
    return transformers.ImageSegmentationPipeline(  # type: ignore[no-untyped-call]
        model=network.eval(), image_processor=processor, tokenizer=tokenizer, device=torch.device(device)
    )


def first_line(error: Exception) -> str:
    """Shorten an error to one sentence."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(" .")
    return f"{line}."
