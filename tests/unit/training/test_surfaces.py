"""Stuff is labelled where nothing annotated is shown, where the models are sure, with less confidence than truth."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.images import astronaut
from worker.embedded_model import FOLDER
from worker.training.coco_panoptic import NOT_CERTAIN, NOT_CERTAIN_NAME, read_index, read_scene
from worker.training.partial_truth import PartialSegment, PartialTruth, read_folder, write_folder
from worker.training.surfaces import MAX_CONFIDENCE, label_surfaces, main

NAMES = ["person", "road", "sky-other-merged"]
SURE, UNSURE = 0.9, 0.5
WIDTH, HEIGHT = 60, 40


def make_truth() -> PartialTruth:
    """Return a person on the left, unknown pixels beside them, and nothing else."""
    ids = np.full((HEIGHT, WIDTH), 2, np.int32)
    ids[:, :20], ids[:, 20:24] = 1, 0
    return PartialTruth(
        "1.jpg", ids, (PartialSegment("person"), PartialSegment(NOT_CERTAIN_NAME)), frozenset({"person"})
    )


def make_scores(upper: str, lower: str, score: float = SURE) -> NDArray[np.float32]:
    """Return (C, 20, 30): one class above, one below."""
    scores = np.full((len(NAMES), 20, 30), 0.05, np.float32)
    scores[NAMES.index(upper), :10] = scores[NAMES.index(lower), 10:] = score
    return scores


def find_pixels(truth: PartialTruth, name: str) -> NDArray[np.bool_]:
    places = [place for place, one in truth.numbered if one.category == name]
    return np.isin(truth.ids, places)


def test_stuff_is_labelled_where_nothing_certain_is_shown() -> None:
    labelled = label_surfaces(make_truth(), make_scores("sky-other-merged", "road"), NAMES)

    assert find_pixels(labelled, "sky-other-merged")[:20, 24:].all()
    assert find_pixels(labelled, "road")[20:, 24:].all()
    assert find_pixels(labelled, "person")[:, :20].all(), "an annotation stays"
    assert (labelled.ids[:, 20:24] == 0).all(), "what is unknown stays so"
    assert labelled.certain == {"person"}, "there may be more of the stuff"


def test_a_predicted_label_has_less_confidence_than_an_annotation() -> None:
    labelled = label_surfaces(make_truth(), make_scores("sky-other-merged", "road"), NAMES)

    assert labelled.confidence is not None
    assert labelled.confidence[:, 24:] == pytest.approx(MAX_CONFIDENCE * SURE)
    assert (labelled.confidence[:, :24] == 1).all()


def test_what_is_not_sure_stays_unlabelled() -> None:
    labelled = label_surfaces(make_truth(), make_scores("sky-other-merged", "road", UNSURE), NAMES)

    assert (labelled.ids == make_truth().ids).all()


def test_a_predicted_thing_is_no_label() -> None:
    labelled = label_surfaces(make_truth(), make_scores("person", "road"), NAMES)

    assert not find_pixels(labelled, "person")[:, 20:].any()
    assert find_pixels(labelled, "road")[20:, 24:].all()


def test_a_patch_is_no_label() -> None:
    scores = make_scores("road", "road")
    scores[:, :3, 15:17] = [[[0.05]], [[0.05]], [[SURE]]]

    assert not find_pixels(label_surfaces(make_truth(), scores, NAMES), "sky-other-merged").any()


def test_a_folder_is_read_as_it_was_written(tmp_path: Path) -> None:
    truth = make_truth()
    crowd = PartialTruth("2.jpg", np.full((2, 300), 3), (*truth.segments, PartialSegment("car", True)), frozenset())

    write_folder(tmp_path / "out", tmp_path, [truth, crowd])
    first, second = read_folder(tmp_path / "out")

    assert (first.file, first.segments, first.certain) == (truth.file, truth.segments, truth.certain)
    assert (first.ids == truth.ids).all()
    assert second.segments[2] == PartialSegment("car", is_crowd=True)
    assert (second.ids == crowd.ids).all()


def test_the_command_labels_what_the_model_shows_beside_a_person(tmp_path: Path) -> None:
    photo = astronaut()
    (tmp_path / "photos").mkdir()
    photo.save(tmp_path / "photos" / "1.png")
    ids = np.full((photo.height, photo.width), 1, np.int32)
    truth = PartialTruth("1.png", ids, (PartialSegment(NOT_CERTAIN_NAME),), frozenset({"person"}))
    write_folder(tmp_path / "labelled", tmp_path / "photos", [truth])

    main(["--labelled", str(tmp_path / "labelled"), "--models", str(FOLDER), "--out", str(tmp_path / "out")])

    names = ["person", "wall-other-merged", "curtain"]
    [record] = read_index(tmp_path / "out", names)
    scene = read_scene(record)
    labels = scene.labels[scene.regions]
    assert not (labels == names.index("person")).any()
    is_wall = labels == names.index("wall-other-merged")
    assert is_wall.mean() > 0.1
    assert scene.confidence[is_wall].max() <= 255 * MAX_CONFIDENCE
    assert (labels == NOT_CERTAIN).any(), "the astronaut is no stuff"
    assert record.is_exhaustive.tolist() == [True, False, False]
    assert scene.confidence[labels == NOT_CERTAIN].min() == 255
