"""Comparing two segmentations, and keeping what was measured."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from shared.jobs.result import Segment
from worker.engine.agreement.check import list_photos, open_photo
from worker.engine.agreement.comparison import Agreement, compare_labels, compare_segmentations
from worker.engine.agreement.records import (
    AgreementRecords,
    Circumstances,
    Record,
    find_cache_folder,
    hash_sources,
    read_cpu_name,
)
from worker.segmenter import Segmentation

MAX_PHOTO_BYTES = 2**19
RECORD = Record(Agreement(0.9995), Agreement(0.98, has_same_segments=False))


def segmentation(rows: list[str], **segments: tuple[str, float]) -> Segmentation:
    """Draw a label map with a character for each pixel; `a` is segment 1, whose label and score follow, and so on."""
    names = ".abcdefgh"
    label_map = np.array([[names.index(one) for one in row] for row in rows], dtype=np.uint8)
    return Segmentation(
        label_map,
        tuple(
            Segment(names.index(name), label, 0, score, int((label_map == names.index(name)).sum()), (0, 0, 1, 1))
            for name, (label, score) in segments.items()
        ),
    )


def test_equal_results_agree() -> None:
    one = segmentation(["ab", ".b"], a=("cat", 0.9), b=("cat", 0.8))

    assert compare_segmentations(one, one, threshold=0.5) == Agreement(1.0, True)


def test_the_share_of_equal_pixels_counts_pixels_of_another_segment_of_the_same_label() -> None:
    ours = segmentation(["aabb"], a=("cat", 0.9), b=("cat", 0.8))
    reference = segmentation(["aaab"], a=("cat", 0.9), b=("cat", 0.8))

    assert compare_segmentations(ours, reference, threshold=0.5) == Agreement(0.75, True)


@pytest.mark.parametrize(
    "reference",
    [
        segmentation(["aabb"], a=("dog", 0.9), b=("cat", 0.8)),
        segmentation(["aab."], a=("cat", 0.9), b=("dog", 0.8)),
        segmentation(["aa.."], a=("cat", 0.9)),
    ],
    ids=["other order", "other pixels", "a segment less"],
)
def test_other_segments_are_seen(reference: Segmentation) -> None:
    ours = segmentation(["aabb"], a=("cat", 0.9), b=("dog", 0.8))

    agreement = compare_segmentations(ours, reference, threshold=0.5)

    assert agreement.equal_share < 1
    assert agreement.has_same_segments == ([one.label for one in reference.segments] == ["cat", "dog"])


def test_a_segment_at_the_threshold_may_be_missing_in_either_result() -> None:
    ours = segmentation(["aaab"], a=("cat", 0.9), b=("dog", 0.505))
    reference = segmentation(["aaa."], a=("cat", 0.9))

    for pair in ((ours, reference), (reference, ours)):
        assert compare_segmentations(*pair, threshold=0.5) == Agreement(1.0, True)
    assert not compare_segmentations(ours, reference, threshold=0.4).has_same_segments


def test_only_labels_count_where_a_class_may_consist_of_one_pixel() -> None:
    ours = segmentation(["aaab"], a=("grass", None), b=("sky", None))
    reference = segmentation(["aaaa"], a=("grass", None))

    assert compare_labels(ours, reference) == Agreement(0.75, True)


@pytest.mark.parametrize(
    ("agreement", "is_sufficient"),
    [(Agreement(0.999), True), (Agreement(0.9989), False), (Agreement(1.0, has_same_segments=False), False)],
)
def test_one_pixel_in_a_thousand_may_differ_and_no_segment(agreement: Agreement, is_sufficient: bool) -> None:
    assert agreement.is_sufficient is is_sufficient


def test_the_worst_image_counts() -> None:
    assert Agreement.merge([Agreement(1.0), Agreement(0.9, False)]) == Agreement(0.9, False)


def test_the_photos_are_small_files_and_one_is_large_enough_to_be_decoded_at_half_its_size() -> None:
    sizes = [open_photo(path).size for path in list_photos()]
    scaled = [open_photo(path, (384, 384)).size for path in list_photos()]

    assert sum(path.stat().st_size for path in list_photos()) < MAX_PHOTO_BYTES
    assert [size for size, other in zip(sizes, scaled, strict=True) if size != other] == [(1536, 1536)]
    assert (768, 768) in scaled


def test_a_record_is_read_under_the_same_circumstances_only(tmp_path: Path) -> None:
    records = AgreementRecords(tmp_path / "cache")
    circumstances = Circumstances.observe("abc", "cpu")
    assert records.read(circumstances) is None

    records.write(circumstances, RECORD)

    assert AgreementRecords(tmp_path / "cache").read(circumstances) == RECORD
    for name in Circumstances.__dataclass_fields__:
        assert records.read(replace(circumstances, **{name: "other"})) is None
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".json"]


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"circumstances": {}, "record": 1}'])
def test_a_damaged_record_is_measured_again(tmp_path: Path, content: str) -> None:
    circumstances = Circumstances.observe("abc", "cpu")
    (tmp_path / circumstances.file_name).write_text(content)

    assert AgreementRecords(tmp_path).read(circumstances) is None


def test_a_record_with_other_circumstances_in_it_is_not_used(tmp_path: Path) -> None:
    circumstances = Circumstances.observe("abc", "cpu")
    records = AgreementRecords(tmp_path)
    records.write(circumstances, RECORD)
    file = tmp_path / circumstances.file_name
    file.write_text(json.dumps(json.loads(file.read_text()) | {"circumstances": {"revision": "xyz"}}))

    assert records.read(circumstances) is None


def test_a_folder_that_cannot_be_written_to_costs_only_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    records = AgreementRecords(tmp_path / "file" / "cache")

    with capture_logs() as logs:
        records.write(Circumstances.observe("abc", "cpu"), RECORD)
        assert records.read(Circumstances.observe("abc", "cpu")) is None

    assert logs[0]["event"] == "agreement_record_not_written"


def test_without_a_folder_nothing_is_kept() -> None:
    records = AgreementRecords(None)
    records.write(Circumstances.observe("abc", "cpu"), RECORD)

    assert records.read(Circumstances.observe("abc", "cpu")) is None


@pytest.mark.parametrize(
    ("model_cache", "environ", "folder"),
    [
        ("/srv/models", {"HOME": "/home/me"}, Path("/srv/models")),
        ("", {"HOME": "/home/me"}, Path("/home/me/.cache/maskmill")),
        ("", {"HOME": "/home/me", "XDG_CACHE_HOME": "/var/cache/me"}, Path("/var/cache/me/maskmill")),
        ("", {}, None),
    ],
)
def test_records_are_kept_in_the_model_cache_or_in_the_users_cache(
    model_cache: str, environ: dict[str, str], folder: Path | None
) -> None:
    assert find_cache_folder(model_cache, environ) == folder


def test_the_name_of_the_cpu_is_read_from_linux_and_guessed_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Abacus 3000\n\nmodel name\t: Abacus 3000\n")

    assert read_cpu_name(tmp_path / "cpuinfo") == "Abacus 3000"
    assert read_cpu_name(tmp_path / "none")


def test_the_hash_covers_the_fast_path_and_the_photos() -> None:
    assert len(hash_sources()) == 16
    assert hash_sources() == hash_sources()
