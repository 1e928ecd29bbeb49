"""The renderers of the format registry: each format's module in worker/formats/ has a function render()."""

import importlib
from collections.abc import Mapping
from typing import Protocol

from shared.formats.registry import FORMAT_NAMES
from worker.formats.rendered import Rendered, RenderSource


class Renderer(Protocol):
    def __call__(self, source: RenderSource) -> Rendered: ...


def load_renderers() -> Mapping[str, Renderer]:
    """Return the renderer of every format, by its name.

    Raises:
        ModuleNotFoundError: a format of the registry has no module in worker/formats/.
    """
    return {name: importlib.import_module(f"worker.formats.{name}").render for name in FORMAT_NAMES}
