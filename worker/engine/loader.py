"""From the value of MASKMILL_MODEL to a segmenter: find the model's files, load its network, build its segmenter."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from huggingface_hub import constants
from safetensors import safe_open
from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto import modeling_auto
from transformers.utils import logging as transformers_logging

from shared.errors import ModelUnusable
from shared.memory import FORWARD_KEPT_BYTES, keep_freed_memory
from worker.embedded_model.backbone import register
from worker.engine.agreement.records import AgreementRecords
from worker.engine.errors import summarize_error
from worker.engine.execution_plan import ExecutionOptions, ExecutionPlan, plan_execution
from worker.engine.families import LoadedModel, get_builder
from worker.engine.model_files import Download, ModelFiles, find_model_files
from worker.engine.model_folder import open_view
from worker.segmenter import Segmenter

# Tensors that share their memory are stored once.
MAX_SIZE_RATIO: Final = 2
EXACT: Final = ExecutionOptions("exact")


def load_segmenter(
    model: str,
    *,
    public_id: str,
    device: str,
    cache: Path,
    download: Download,
    hub_endpoint: str | None = None,
    options: ExecutionOptions = EXACT,
    records: Path | None = None,
) -> Segmenter:
    """Load the model that MASKMILL_MODEL names onto a device.

    Args:
        model: `embedded`, a local folder, `s3://bucket/prefix`, or a Hub id such as `org/name` or `org/name@revision`.
        public_id: the name that clients use for it.
        device: `cpu`, `cuda:0`, ...; or `auto`, which means CUDA if there is a GPU.
        cache: a folder that may keep what `download` fetches.
        download: called with `s3://bucket/prefix` and the folder to fill.
        hub_endpoint: the Hub's address, if not the public one.
        options: how the model is run; only Mask2Former has a choice.
        records: a folder that keeps how far the fast path agrees with the exact forward pass, for later starts.

    Raises:
        ModelUnusable: with the reason in one sentence.
    """
    silence_transformers()
    register()
    device = select_device(device)
    if device.startswith("cpu"):
        keep_freed_memory(FORWARD_KEPT_BYTES, arenas=1)
    plan = plan_execution(options, device)
    files = find_model_files(model, cache=cache, download=download, hub_endpoint=hub_endpoint)
    try:
        with open_view(files.loaded) as view, forbid_downloads():
            checked = replace(files, folder=view)
            return build_segmenter(
                checked, public_id=public_id, device=device, plan=plan, records=AgreementRecords(records)
            )
    except ModelUnusable:
        raise
    except Exception as error:  # a broken file raises exceptions of many kinds in the libraries that read it
        raise ModelUnusable(f"The model {model} could not be loaded: {summarize_error(error)}") from error


@contextmanager
def forbid_downloads() -> Iterator[None]:
    """While the block runs, let the client of the Hub fail at once instead of asking it."""
    # The variable HF_HUB_OFFLINE sets it too, but when the library is imported, and for the fetching of models as well.
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def silence_transformers() -> None:
    """Keep transformers' progress bars and warnings out of the service's log."""
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]


def select_device(device: str) -> str:
    """Return the device for `auto`, or the named one if it exists.

    Raises:
        ModelUnusable: it does not.
    """
    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelUnusable(f"The device {device} cannot be used: {summarize_error(error)}") from error
    return device


def build_segmenter(
    files: ModelFiles, *, public_id: str, device: str, plan: ExecutionPlan, records: AgreementRecords
) -> Segmenter:
    """Load a network and build the segmenter of its family.

    Raises:
        ModelUnusable: it is not an image-segmentation model, or its weights are incomplete.
    """
    config = AutoConfig.from_pretrained(files.folder, local_files_only=True, trust_remote_code=False)
    architecture = get_architecture(config, public_id)
    weights = [path for path in files.loaded if path.suffix == ".safetensors"]
    with ignore_speed_advice():
        check_size(config, architecture, weights)
        network = load_network(files.folder, architecture, public_id)
    return get_builder(architecture)(LoadedModel(network, files, public_id, device, plan, records))


def get_architecture(config: PretrainedConfig, name: str) -> str:
    """Return the name of the class that the weights were saved from.

    Raises:
        ModelUnusable: it is not one for image segmentation.
    """
    known = list_segmentation_architectures()
    for architecture in config.architectures or ():
        if architecture in known:
            return str(architecture)
    kind = ", ".join(config.architectures or ()) or config.model_type
    raise ModelUnusable(f"{name} is not an image-segmentation model, it is: {kind}.")


def list_segmentation_architectures() -> set[str]:
    """Return the names of the classes that transformers' own pipeline accepts."""
    families: tuple[Mapping[str, str | tuple[str, ...]], ...] = (
        modeling_auto.MODEL_FOR_IMAGE_SEGMENTATION_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_INSTANCE_SEGMENTATION_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES,
    )
    entries = (entry for family in families for entry in family.values())
    return {name for entry in entries for name in ((entry,) if isinstance(entry, str) else entry)}


@contextmanager
def ignore_speed_advice() -> Iterator[None]:
    with warnings.catch_warnings():
        # It recommends a setting that is faster with a CUDA kernel which is not used here.
        warnings.filterwarnings("ignore", message="You'd better set embed_dim")
        yield


def check_size(config: PretrainedConfig, architecture: str, weights: Sequence[Path]) -> None:
    """Check that a configuration describes a network of about the size of its weights.

    transformers allocates the whole network before it reports that weights are missing or misshapen.

    Raises:
        ModelUnusable: the network would be more than MAX_SIZE_RATIO times as large.
    """
    stored = sum(count_numbers(file) for file in weights)
    with torch.device("meta"):  # without memory
        described = sum(parameter.numel() for parameter in getattr(transformers, architecture)(config).parameters())
    if described > MAX_SIZE_RATIO * stored:
        raise ModelUnusable(f"config.json describes a network of {described} numbers, and the weights have {stored}.")


def count_numbers(file: Path) -> int:
    """Return how many numbers a safetensors file holds, from its header."""
    with safe_open(file, "pt") as tensors:
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118


def load_network(folder: Path, architecture: str, name: str) -> Any:
    """Load weights as float32, in any dtype they have on disk.

    Raises:
        ModelUnusable: some weights are missing; transformers would initialize them at random.
    """
    network, report = getattr(transformers, architecture).from_pretrained(
        folder,
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    # Only training needs the criterion.
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("criterion."))
    if missing or report["mismatched_keys"]:
        first = (missing or sorted(str(key) for key in report["mismatched_keys"]))[0]
        raise ModelUnusable(f"The weights of {name} are not those of its config.json: {first} is missing or misshapen.")
    return network
