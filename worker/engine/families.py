"""Model families: from the name of an architecture to the function that builds its segmenter.

A new family is one builder and one row of BUILDERS.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from transformers import AutoImageProcessor, AutoTokenizer, Mask2FormerImageProcessorPil

from worker.engine.agreement.records import AgreementRecords
from worker.engine.agreement.selection import Candidate, select_segmenter
from worker.engine.execution_plan import ExecutionPlan
from worker.engine.mask2former.segmenter import Mask2FormerSegmenter, get_resize
from worker.engine.model_files import ModelFiles
from worker.engine.transformers_pipeline import TransformersSegmenter
from worker.segmenter import Segmenter


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A network in float32 on the CPU, and what a segmenter is told about it.

    public_id: the name that clients use for the model.
    device: where the segmenter runs it, such as `cpu` or `cuda:0`.
    plan: how it is run; only families with a fast path have a choice.
    records: of earlier comparisons of the fast path with the exact forward pass.
    """

    network: Any
    files: ModelFiles
    public_id: str
    device: str
    plan: ExecutionPlan
    records: AgreementRecords


Builder = Callable[[LoadedModel], Segmenter]


def build_mask2former(model: LoadedModel) -> Segmenter:
    """Return a segmenter that runs batches and follows the execution plan."""
    processor = Mask2FormerImageProcessorPil.from_pretrained(
        model.files.folder, local_files_only=True, trust_remote_code=False
    )
    revision, device = model.files.revision, model.device

    def build(plan: ExecutionPlan) -> Segmenter:
        return Mask2FormerSegmenter(
            model.network, processor, model=model.public_id, revision=revision, device=device, plan=plan
        )

    candidate = Candidate(build, revision, device, get_resize(processor))
    return select_segmenter(candidate, model.plan, model.records)


def build_pipeline(model: LoadedModel) -> Segmenter:
    """Return a segmenter that runs the pipeline of transformers, one image at a time."""
    return TransformersSegmenter(
        load_pipeline(model.files.folder, model.network, model.device),
        model=model.public_id,
        revision=model.files.revision,
        device=model.device,
        max_input_pixels=model.plan.max_input_pixels,
    )


def load_pipeline(folder: Path, network: Any, device: str) -> transformers.ImageSegmentationPipeline:
    # The PIL backend even where torchvision is installed, so that all machines prepare an image in the same way.
    processor = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
        folder, backend="pil", local_files_only=True, trust_remote_code=False
    )
    has_text = (folder / "tokenizer_config.json").is_file()
    tokenizer = _load_tokenizer(folder) if has_text else None
    return transformers.ImageSegmentationPipeline(  # type: ignore[no-untyped-call]
        model=network.eval(), image_processor=processor, tokenizer=tokenizer, device=torch.device(device)
    )


def _load_tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


BUILDERS: Final[Mapping[str, Builder]] = {"Mask2FormerForUniversalSegmentation": build_mask2former}


def get_builder(architecture: str) -> Builder:
    """Return the builder of an architecture; all without one of their own run through the pipeline."""
    return BUILDERS.get(architecture, build_pipeline)
