"""Panoptic quality on small maps, and against two other implementations: sets of pixels, and COCO's own script.

The comparison with the script needs it installed:  pip install --no-deps panopticapi-lite
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shared.jobs.parameters import SegmentParameters
from shared.jobs.result import Segment
from tests.bench.reference import load_embedded_segmenter
from tests.evaluation import panoptic_quality
from tests.evaluation.quality import (
    PanopticMap,
    Region,
    Tally,
    averages,
    bootstrap_intervals,
    class_figures,
    tally,
    total,
    weighted_total,
)
from tests.evaluation.quality_data import (
    BadDataset,
    convert_segmentation,
    match_vocabulary,
    read_dataset,
    read_names,
    read_truth,
)
from tests.support.images import astronaut, cat
from worker.segmenter import Segmentation, Segmenter, prepare_image
from worker.training.classes import QUERIES_PER_CLASS

CLASSES = 3
EVERYTHING = np.ones(CLASSES, bool)
Counts = tuple[float, int, int, int]


def draw_map(rows: str, **labels: int) -> PanopticMap:
    """Return a map from rows of letters: each letter is a region of the given class, a capital a crowd, '.' void."""
    ids = np.array([[ord(letter) for letter in row] for row in rows.split()])
    return PanopticMap(ids, tuple(Region(ord(name), label, name.isupper()) for name, label in labels.items()))


def get_counts(compared: Tally, label: int = 0) -> Counts:
    return (
        float(compared.iou[label]),
        int(compared.hits[label]),
        int(compared.wrong[label]),
        int(compared.missed[label]),
    )


def pixel_sets(mapped: PanopticMap) -> dict[Region, set[tuple[int, int]]]:
    rows, columns = mapped.ids.shape
    places = [(row, column) for row in range(rows) for column in range(columns)]
    return {region: {place for place in places if mapped.ids[place] == region.id} for region in mapped.regions}


def count_pixel_sets(truth: PanopticMap, found: PanopticMap, label: int) -> Counts:
    """Count one class with sets of pixels, pair by pair."""
    true, seen = pixel_sets(truth), pixel_sets(found)
    listed = set().union(*true.values()) if true else set()
    wanted = [pixels for region, pixels in true.items() if region.label == label and not region.is_crowd]
    crowd = set().union(*(pixels for region, pixels in true.items() if region.label == label and region.is_crowd))
    guesses = [pixels for region, pixels in seen.items() if region.label == label]
    ious = [
        [len(one & guess) / len(one | (guess & listed)) if one | (guess & listed) else 0.0 for guess in guesses]
        for one in wanted
    ]
    pairs = [(row, column) for row, line in enumerate(ious) for column, iou in enumerate(line) if iou > 0.5]
    unmatched = [guess for column, guess in enumerate(guesses) if column not in {pair[1] for pair in pairs}]
    wrong = [
        guess for guess in unmatched if 2 * len(guess & (crowd | {p for p in guess if p not in listed})) <= len(guess)
    ]
    return sum(ious[row][column] for row, column in pairs), len(pairs), len(wrong), len(wanted) - len(pairs)


@st.composite
def maps(draw: st.DrawFn, shape: tuple[int, int], *, with_crowds: bool) -> PanopticMap:
    """A few rectangles on top of each other, so that regions overlap much, little, or not at all."""
    ids = np.zeros(shape, np.int64)
    labels = draw(st.lists(st.integers(0, CLASSES - 1), max_size=5))
    for number in range(1, len(labels) + 1):
        top, left = (draw(st.integers(0, side - 1)) for side in shape)
        ids[top : top + draw(st.integers(1, shape[0])), left : left + draw(st.integers(1, shape[1]))] = 1000 * number
    # COCO has at most one crowd of a class in an image.
    crowds = {labels.index(label) for label in set(labels) if with_crowds and draw(st.booleans())}
    regions = tuple(Region(1000 * place, label, place - 1 in crowds) for place, label in enumerate(labels, start=1))
    return PanopticMap(ids, tuple(region for region in regions if (ids == region.id).any()))


@st.composite
def pairs_of_maps(draw: st.DrawFn) -> tuple[PanopticMap, PanopticMap]:
    shape = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    return draw(maps(shape, with_crowds=True)), draw(maps(shape, with_crowds=False))


@given(pairs_of_maps())
@settings(max_examples=300, deadline=None)
def test_counts_equal_those_of_pixel_sets(pair: tuple[PanopticMap, PanopticMap]) -> None:
    compared = tally(*pair, CLASSES)

    for label in range(CLASSES):
        assert get_counts(compared, label) == pytest.approx(count_pixel_sets(*pair, label))


@given(pairs_of_maps())
@settings(max_examples=100, deadline=None)
def test_counts_equal_those_of_the_script_of_coco(
    tmp_path_factory: pytest.TempPathFactory, pair: tuple[PanopticMap, PanopticMap]
) -> None:
    reason = "COCO's own script is not installed: pip install --no-deps panopticapi-lite"
    evaluation = pytest.importorskip("panopticapi.evaluation", reason=reason)
    truth, found = pair
    folder = tmp_path_factory.mktemp("pair")
    annotations = tuple(write_annotation(folder, name, one) for name, one in (("truth", truth), ("found", found)))
    categories = {label: {"id": label, "isthing": 1} for label in range(CLASSES)}

    theirs = evaluation.pq_compute_single_core(0, [annotations], str(folder), str(folder), categories)

    ours = tally(truth, found, CLASSES)
    for label in range(CLASSES):
        one = theirs[label]
        assert get_counts(ours, label) == pytest.approx((one.iou, one.tp, one.fp, one.fn))
    if seen := [label for label in range(CLASSES) if theirs[label].tp + theirs[label].fp + theirs[label].fn]:
        average, _ = theirs.pq_average(categories, None)
        mean = averages(ours, is_known=EVERYTHING, is_thing=EVERYTHING)
        for name in ("pq", "sq", "rq"):
            assert mean["seen", "all", name] == pytest.approx(average[name])
        assert mean["seen", "all", "classes"] == len(seen)


def write_annotation(folder: Path, name: str, mapped: PanopticMap) -> dict[str, object]:
    """Write a map in COCO's format and return its annotation."""
    bytes_of_ids = np.stack([mapped.ids >> shift & 255 for shift in (0, 8, 16)], -1).astype(np.uint8)
    Image.fromarray(bytes_of_ids).save(folder / f"{name}.png")
    segments = [
        {
            "id": region.id,
            "category_id": region.label,
            "iscrowd": int(region.is_crowd),
            "area": int((mapped.ids == region.id).sum()),
        }
        for region in mapped.regions
    ]
    return {"image_id": 1, "file_name": f"{name}.png", "segments_info": segments}


@given(pairs_of_maps())
@settings(max_examples=50, deadline=None)
def test_a_prediction_equal_to_the_truth_is_perfect(pair: tuple[PanopticMap, PanopticMap]) -> None:
    compared = tally(pair[1], pair[1], CLASSES)

    figures = class_figures(compared)
    is_present = np.isin(np.arange(CLASSES), [region.label for region in pair[1].regions])
    for name in ("pq", "sq", "rq", "iou"):
        assert np.array_equal(figures[name], np.where(is_present, 1.0, np.nan), equal_nan=True)


@given(pairs_of_maps())
@settings(max_examples=50, deadline=None)
def test_upscaled_maps_have_the_same_counts(pair: tuple[PanopticMap, PanopticMap]) -> None:
    finer = [PanopticMap(one.ids.repeat(3, 0).repeat(2, 1), one.regions) for one in pair]

    coarse, fine = tally(*pair, CLASSES), tally(finer[0], finer[1], CLASSES)

    assert all(get_counts(fine, label) == pytest.approx(get_counts(coarse, label)) for label in range(CLASSES))
    assert np.array_equal(fine.correct_pixels, 6 * coarse.correct_pixels)


def test_an_empty_prediction_scores_zero() -> None:
    compared = tally(draw_map("aab", a=0, b=1), draw_map("..."), CLASSES)

    figures = averages(compared, is_known=EVERYTHING, is_thing=np.array([True, False, False]))

    assert [figures["in_truth", part, "pq"] for part in ("all", "things", "stuff")] == [0, 0, 0]
    assert figures["in_truth", "all", "sq"] == figures["in_truth", "all", "miou"] == 0
    assert figures["pixels", "all", "accuracy"] == 0


def test_an_iou_of_one_half_is_no_match() -> None:
    truth = draw_map("aaaa....", a=0, b=1)

    assert get_counts(tally(truth, draw_map("xx......", x=0), CLASSES)) == (0, 0, 1, 1)
    assert get_counts(tally(truth, draw_map("xxx.....", x=0), CLASSES)) == (0.75, 1, 0, 0)


def test_a_segment_of_the_wrong_class_is_one_wrong_and_one_missed() -> None:
    compared = tally(draw_map("aa", a=0), draw_map("xx", x=1), CLASSES)

    assert get_counts(compared, 0) == (0, 0, 0, 1)
    assert get_counts(compared, 1) == (0, 0, 1, 0)


def test_void_pixels_do_not_lower_the_iou_of_a_match() -> None:
    assert get_counts(tally(draw_map("aa....", a=0), draw_map("xxxxxx", x=0), CLASSES)) == (1, 1, 0, 0)


@pytest.mark.parametrize(
    ("truth", "wrong"),
    [
        ("bb..", 1),  # half on void
        ("b...", 0),
        ("bbCC", 1),  # half on a crowd of its class
        ("bCCC", 0),
        ("bCC.", 0),  # on both
        ("bDDD", 1),  # on a crowd of another class
    ],
)
def test_a_segment_mostly_on_void_or_a_crowd_of_its_class_is_ignored(truth: str, wrong: int) -> None:
    compared = tally(draw_map(truth, b=1, C=0, D=1), draw_map("xxxx", x=0), CLASSES)

    assert get_counts(compared, 0) == (0, 0, wrong, 0)


def test_a_crowd_is_neither_a_hit_nor_missed() -> None:
    truth = draw_map("CCCC", C=0)

    assert get_counts(tally(truth, draw_map("...."), CLASSES)) == (0, 0, 0, 0)
    assert get_counts(tally(truth, draw_map("xxxx", x=0), CLASSES)) == (0, 0, 0, 0)


def test_pixels_of_a_crowd_count_for_its_class() -> None:
    compared = tally(draw_map("aaCC....", a=0, C=0), draw_map("xxx.x...", x=0), CLASSES)

    assert (compared.correct_pixels[0], compared.truth_pixels[0], compared.found_pixels[0]) == (3, 4, 3)


def test_figures_are_averaged_over_three_sets_of_classes() -> None:
    # Class 0 is found, class 1 missed and unknown to the model, class 2 in the prediction only.
    truth, found = draw_map("aabbee", a=0, b=1, e=0), draw_map("xx..zz", x=0, z=2)
    compared = tally(truth, found, CLASSES)

    figures = averages(compared, is_known=np.array([True, False, True]), is_thing=np.array([True, False, False]))

    assert figures["seen", "all", "pq"] == pytest.approx((2 / 3 + 0 + 0) / 3)
    assert figures["in_truth", "all", "pq"] == pytest.approx((2 / 3 + 0) / 2)
    assert figures["known", "all", "pq"] == pytest.approx((2 / 3 + 0) / 2)
    assert [figures[subset, "all", "classes"] for subset in ("seen", "in_truth", "known")] == [3, 2, 2]
    assert figures["known", "things", "pq"] == pytest.approx(2 / 3)
    assert figures["pixels", "all", "accuracy"] == pytest.approx(2 / 6)
    assert figures["pixels", "known", "accuracy"] == pytest.approx(2 / 4)


def test_an_average_over_no_classes_is_not_a_number() -> None:
    compared = tally(draw_map("aa", a=0), draw_map("xx", x=0), CLASSES)

    figures = averages(compared, is_known=EVERYTHING, is_thing=EVERYTHING)

    assert np.isnan(figures["seen", "stuff", "pq"])
    assert figures["seen", "stuff", "classes"] == 0


def test_tallies_are_summed_with_weights() -> None:
    right = tally(draw_map("aa", a=0), draw_map("xx", x=0), CLASSES)
    missed = tally(draw_map("aa", a=0), draw_map(".."), CLASSES)

    sums = weighted_total([right, missed], np.array([[1.0, 1.0], [3.0, 0.0]]))

    assert sums.hits[:, 0].tolist() == [1, 3]
    assert sums.missed[:, 0].tolist() == [1, 0]
    assert get_counts(total([right, missed])) == (1, 1, 0, 1)


def test_intervals_have_zero_width_for_equal_images_only() -> None:
    right = tally(draw_map("aa", a=0), draw_map("xx", x=0), CLASSES)
    missed = tally(draw_map("aa", a=0), draw_map(".."), CLASSES)

    def pq(counted: Tally) -> dict[tuple[str, str, str], np.ndarray]:
        return {("seen", "all", "pq"): averages(counted, is_known=EVERYTHING, is_thing=EVERYTHING)["seen", "all", "pq"]}

    [equal] = bootstrap_intervals([right] * 20, pq, draws=100).values()
    [mixed] = bootstrap_intervals([right, missed] * 10, pq, draws=100).values()

    assert equal == (1, 1)
    assert 0.2 < mixed[0] < 2 / 3 < mixed[1] < 0.95


def test_names_match_ignoring_case_and_punctuation_or_by_an_alias() -> None:
    labels = {0: "Tree_merged", 1: "sofa", 2: "unicorn", 3: "couch"}

    vocabulary = match_vocabulary(labels, ["couch", "tree-merged", "dog"], {"sofa": "couch"})

    assert vocabulary.classes == {0: 1, 1: 0, 3: 0}
    assert vocabulary.unmatched == ("unicorn",)
    assert vocabulary.known_classes(3).tolist() == [True, True, False]


def test_an_alias_of_an_unknown_class_is_refused() -> None:
    with pytest.raises(BadDataset, match="settee"):
        match_vocabulary({0: "sofa"}, ["couch"], {"sofa": "settee"})


@pytest.mark.parametrize("content", ["[", '["couch"]', '{"sofa": 3}'])
def test_a_malformed_file_of_names_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "names.json").write_text(content)

    with pytest.raises(BadDataset):
        read_names(tmp_path / "names.json")


def test_conversion_merges_stuff_keeps_things_and_voids_unknown_labels() -> None:
    label_map = np.array([[1, 2, 3, 4, 5, 0]], np.uint8)
    labels = (7, 7, 8, 8, 9)
    segments = tuple(Segment(n, "", label, 0.9, 1, (n - 1, 0, 1, 1)) for n, label in enumerate(labels, start=1))
    vocabulary = match_vocabulary({7: "sky", 8: "dog", 9: "unicorn"}, ["dog", "sky"], {})
    result, is_thing = Segmentation(label_map, segments), np.array([True, False])

    merged = convert_segmentation(result, vocabulary, is_thing, merges_stuff=True)
    apart = convert_segmentation(result, vocabulary, is_thing, merges_stuff=False)

    assert merged.ids.tolist() == [[1, 1, 3, 4, 0, 0]]
    assert merged.regions == (Region(1, 1), Region(3, 0), Region(4, 0))
    assert apart.ids.tolist() == [[1, 2, 3, 4, 0, 0]]
    assert len(apart.regions) == 4


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return load_embedded_segmenter()


@pytest.fixture
def own_results(tmp_path: Path, segmenter: Segmenter) -> Path:
    """A dataset whose ground truth is the embedded model's own results, with one class that the model lacks."""
    names = panoptic_quality.read_model_labels("embedded") | {59: "owl"}
    for folder in ("images", "panoptic"):
        (tmp_path / folder).mkdir()
    entries = list(write_own_results(tmp_path, segmenter))
    index = {
        "categories": [{"id": number + 1, "name": name, "isthing": number < 31} for number, name in names.items()],
        "images": [{"id": entry["image_id"], "file_name": f"{entry['image_id']}.png"} for entry in entries],
        "annotations": entries,
    }
    (tmp_path / "panoptic.json").write_text(json.dumps(index))
    return tmp_path


def write_own_results(folder: Path, segmenter: Segmenter) -> Iterator[dict[str, object]]:
    """Write two images and their results; yields their annotations."""
    for number, image in enumerate((astronaut(), cat()), start=1):
        image.save(folder / "images" / f"{number}.png")
        [result] = segmenter.segment([prepare_image(segmenter, image, SegmentParameters(threshold=0.5))])
        assert isinstance(result, Segmentation)
        regions = tuple(Region(segment.id, segment.label_id + 1) for segment in result.segments)
        mapped = PanopticMap(result.label_map.astype(np.int64), regions)
        yield write_annotation(folder / "panoptic", f"{number}", mapped) | {"image_id": number}


def test_a_model_is_perfect_on_its_own_results(own_results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--coco-panoptic", str(own_results), "--threshold", "0.5,1", "--forward", "exact", "--per-class"]

    assert panoptic_quality.main(command) == 0

    printed = capsys.readouterr()
    [line] = printed.out.splitlines()
    measurement = json.loads(line)
    assert measurement["bench"] == "panoptic_quality"
    assert measurement["settings"]["images"] == 2
    assert measurement["settings"]["known_classes"] == len(QUERIES_PER_CLASS)
    half, whole = measurement["figures"]["0.5"], measurement["figures"]["1"]
    assert half["seen"]["all"]["pq"] == half["known"]["all"]["miou"] == half["pixels"]["all"]["accuracy"] == 1
    annotations = json.loads((own_results / "panoptic.json").read_text())["annotations"]
    people = [info for entry in annotations for info in entry["segments_info"] if info["category_id"] == 1]
    counted = {"hits": len(people), "wrong": 0, "missed": 0}
    assert people
    assert half["by_class"]["person"] == {"pq": 1, "sq": 1, "rq": 1, "iou": 1, **counted, "known": True}
    assert whole["seen"]["all"]["pq"] == whole["pixels"]["all"]["accuracy"] == 0
    assert "threshold 0.5: pixel accuracy 100.0" in printed.err


def test_json_omits_the_table(own_results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    panoptic_quality.main(["--coco-panoptic", str(own_results), "--images", "1", "--json", "--forward", "exact"])

    printed = capsys.readouterr()
    assert json.loads(printed.out)["settings"]["images"] == 1
    assert "PQ" not in printed.err


def test_an_image_of_another_size_than_its_truth_is_refused(own_results: Path) -> None:
    cat().resize((40, 30)).save(own_results / "images" / "2.png")

    with pytest.raises(SystemExit, match=r"2\.png is not of the size of its truth"):
        panoptic_quality.main(["--coco-panoptic", str(own_results)])


def test_a_folder_without_an_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"panoptic\.json cannot be read"):
        panoptic_quality.main(["--coco-panoptic", str(tmp_path)])


@pytest.mark.parametrize("extra", [["--threshold", "1.5"], ["--threshold", "half"], ["--images", "0"]])
def test_numbers_out_of_range_are_refused(extra: list[str]) -> None:
    with pytest.raises(SystemExit):
        panoptic_quality.parse_arguments(["--coco-panoptic", ".", *extra])


def test_truth_is_read_with_crowds_and_void(tmp_path: Path) -> None:
    (tmp_path / "panoptic").mkdir()
    mapped = PanopticMap(np.array([[0, 70000, 5]]), (Region(70000, 4, is_crowd=True), Region(5, 9)))
    entry = write_annotation(tmp_path / "panoptic", "7", mapped)
    index = {
        "categories": [{"id": 9, "name": "sky", "isthing": 0}, {"id": 4, "name": "dog", "isthing": 1}],
        "images": [{"id": 1, "file_name": "7.jpg"}],
        "annotations": [entry],
    }
    (tmp_path / "panoptic.json").write_text(json.dumps(index))

    dataset = read_dataset(tmp_path)

    assert dataset.names == ("sky", "dog")
    assert dataset.is_thing.tolist() == [False, True]
    [record] = dataset.images
    assert record.image == tmp_path / "images" / "7.jpg"
    truth = read_truth(record)
    assert truth.ids.tolist() == [[0, 70000, 5]]
    assert truth.regions == (Region(70000, 1, is_crowd=True), Region(5, 0))
