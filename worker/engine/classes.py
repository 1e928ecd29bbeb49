"""The classes of a model, from its configuration."""

from transformers import PretrainedConfig

from shared.jobs.parameters import Subtask
from shared.worker_registry import ModelClass, ModelFacts
from worker.engine.coco_classes import find_stuff


def get_class_names(config: PretrainedConfig) -> dict[int, str]:
    """Return the name of each class by its label id."""
    return {int(number): name for number, name in (config.id2label or {}).items()}


def get_stuff_classes(config: PretrainedConfig) -> frozenset[int] | None:
    """Return the label ids of stuff: classes without separate instances, such as grass.  None if they are unknown.

    A configuration may list them as `stuff_label_ids`; otherwise they are known only for the classes of COCO.
    """
    label_ids = getattr(config, "stuff_label_ids", None)
    return find_stuff(get_class_names(config)) if label_ids is None else frozenset(label_ids)


def build_facts(config: PretrainedConfig) -> ModelFacts:
    """Return the classes of a model, and the subtasks that every model of these families supports."""
    stuff = get_stuff_classes(config)
    classes = (
        ModelClass(number, name, None if stuff is None else number not in stuff)
        for number, name in sorted(get_class_names(config).items())
    )
    return ModelFacts(tuple(classes), tuple(Subtask))
