"""The format registry, and the renderers that it names."""

import importlib
from itertools import permutations

import pytest

from shared.formats.registry import FORMAT_NAMES, FORMATS, select_formats


def test_every_format_has_a_renderer() -> None:
    assert all(callable(importlib.import_module(f"worker.formats.{name}").render) for name in FORMAT_NAMES)


def test_names_files_and_result_fields_are_unique() -> None:
    for field in ("name", "file", "result_field"):
        values = [getattr(one, field) for one in FORMATS]
        assert len(set(values)) == len(values)


@pytest.mark.parametrize("names", list(permutations(["masks", "labels", "overlay"])))
def test_formats_are_selected_once_in_the_order_of_the_registry(names: tuple[str, ...]) -> None:
    assert select_formats([*names, *names]) == ("labels", "overlay", "masks")


def test_the_label_map_is_always_selected() -> None:
    assert select_formats([]) == ("labels",)


def test_an_unknown_format_is_rejected() -> None:
    with pytest.raises(KeyError):
        select_formats(["gif"])
