"""Predictions of a trained network, which label images for the training of the next one."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import Mask2FormerImageProcessorPil

from worker.embedded_model import FOLDER
from worker.training.classes import QUERIES_PER_CLASS
from worker.training.network import build_network, transfer_weights


def load_network(folder: Path) -> Any:
    """Build the network with the weights of a model folder, in evaluation mode."""
    network = build_network(QUERIES_PER_CLASS, 0)
    transfer_weights(network, folder)
    return network.eval()


@torch.inference_mode()
def predict(network: Any, image: Image.Image) -> Any:
    """Return the output of Mask2Former for one image of any size: a batch of one."""
    processor = Mask2FormerImageProcessorPil.from_pretrained(FOLDER, trust_remote_code=False)
    return network(pixel_values=processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"])
