"""Training examples: an image and its regions stay aligned under every augmentation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.support.images import cat
from worker.training.augmentation import (
    Example,
    crop_scene,
    draw_crop,
    draw_crop_box,
    paste_things,
    tile_examples,
)
from worker.training.coco_panoptic import OTHER, VOID, ImageRecord, Scene
from worker.training.sampler import CUTOUT_ASPECT, ExampleSampler, mix_weights, sampling_weights, widen_box
from worker.training.variation import compress_jpeg, vary_pixels

IS_THING = np.array([True, False])


def scene(width: int = 120, height: int = 80) -> Scene:
    """Return a scene of a red disc (region 1, class 0) on green (region 2, class 1), with void at the left.

    The confidence of the disc is 140, that of the rest 255.
    """
    rows, columns = np.mgrid[:height, :width]
    regions = np.where((rows - 40) ** 2 + (columns - 70) ** 2 < 25**2, 1, 2).astype(np.int16)
    regions[:, :10] = 0
    colours = np.array([(0, 0, 255), (255, 0, 0), (0, 255, 0)], np.uint8)
    return Scene(
        image=Image.fromarray(colours[regions]),
        regions=regions,
        labels=np.array([VOID, 0, 1], np.int16),
        is_crowd=np.zeros(3, np.bool_),
        is_exhaustive=np.ones(2, np.bool_),
        confidence=np.where(regions == 1, 140, 255).astype(np.uint8),
    )


def agreement(example: Example, region: int, channel: int) -> float:
    """Return the share of known pixels where a region agrees with its colour being the strongest."""
    is_coloured, is_known = example.pixels.argmax(-1) == channel, example.regions != 0
    return float((is_coloured == (example.regions == region))[is_known].mean())


@pytest.mark.parametrize("seed", range(12))
def test_image_and_regions_stay_aligned(seed: int) -> None:
    rng = np.random.default_rng(seed)

    example = draw_crop(scene(), (64, 64), rng)

    assert example.pixels.shape == (64, 64, 3)
    # A grey example has no colours to compare.
    if np.ptp(example.pixels, axis=-1).max() > 30:
        assert agreement(example, 1, 0) > 0.96
    assert ((example.confidence < 197) == (example.regions == 1))[example.regions != 0].mean() > 0.96


def test_a_drawn_example_depends_on_its_seed_only() -> None:
    first, again, other = (draw_crop(scene(), (64, 64), np.random.default_rng(seed)) for seed in (1, 1, 2))

    assert np.array_equal(first.pixels, again.pixels)
    assert np.array_equal(first.regions, again.regions)
    assert not np.array_equal(first.pixels, other.pixels)


def test_padding_outside_of_the_image_is_void() -> None:
    _, regions, confidence = crop_scene(scene(), (-60, -40, 180, 120), (64, 64))

    numbers = np.asarray(regions)
    assert (numbers[:15] == 0).all()
    assert (numbers[:, 49:] == 0).all()
    assert set(np.unique(numbers[17:47, 22:47])) == {1, 2}
    assert np.asarray(confidence)[:15].max() == 0


def test_crops_and_paddings_are_both_drawn() -> None:
    boxes = [draw_crop_box(120, 80, np.random.default_rng(seed)) for seed in range(100)]

    widths = np.array([right - left for left, _, right, _ in boxes])
    assert widths.min() < 70
    assert widths.max() > 130
    assert (widths == 120).any()
    assert all(bottom > top for _, top, _, bottom in boxes)


def whole_image(one: Scene) -> Example:
    """Return the uncropped, unaugmented example of a scene, 64 x 64."""
    image, regions, confidence = map(np.asarray, crop_scene(one, (0, 0, *one.image.size), (64, 64)))
    return Example(image, regions.astype(np.int16), one.labels, one.is_crowd, one.is_exhaustive, confidence)


@pytest.mark.parametrize("seed", range(8))
def test_a_thing_is_pasted_with_its_pixels(seed: int) -> None:
    target = whole_image(replace(scene(), labels=np.array([VOID, OTHER, 1], np.int16)))
    source = whole_image(scene())

    mixed = paste_things(target, source, IS_THING, np.random.default_rng(seed))

    new = mixed.regions == 3
    assert mixed.labels.tolist() == [VOID, OTHER, 1, 0]
    # Resizing blends its rim with its surroundings.
    assert (mixed.pixels[new].argmax(-1) == 0).mean() > 0.9
    assert np.median(mixed.confidence[new]) == 140
    assert (mixed.pixels[~new] == target.pixels[~new]).all()
    assert (mixed.regions[~new] == target.regions[~new]).all()
    assert (target.regions <= 2).all()


def test_a_pasted_thing_has_a_random_place_and_scale() -> None:
    target, source = whole_image(replace(scene(), labels=np.array([VOID, OTHER, 1], np.int16))), whole_image(scene())

    new = [paste_things(target, source, IS_THING, np.random.default_rng(seed)).regions == 3 for seed in range(40)]

    before = (source.regions == 1).sum()
    areas = np.array([mask.sum() for mask in new]) / before
    tops, lefts = (np.array([np.flatnonzero(mask.any(axis))[0] for mask in new]) for axis in (1, 0))
    assert areas.min() < 0.4
    assert areas.max() > 1.2
    assert areas.max() < 1.7
    assert tops.min() < 5 < 25 < tops.max()
    assert lefts.min() < 5 < 25 < lefts.max()


def test_a_thing_as_wide_as_the_image_stays_inside() -> None:
    regions = np.full((80, 120), 2, np.int16)
    regions[30:60] = 1
    source = whole_image(replace(scene(), regions=regions))

    mixed = [paste_things(source, source, IS_THING, np.random.default_rng(seed)) for seed in range(8)]
    widths = [(one.regions == 3).any(0).sum() for one in mixed]

    assert max(widths) == 64
    assert min(widths) < 64


def test_things_of_low_confidence_are_not_pasted() -> None:
    source = whole_image(replace(scene(), confidence=np.full((80, 120), 100, np.uint8)))

    assert paste_things(source, source, IS_THING, np.random.default_rng(0)) is source


def test_neither_stuff_nor_crowds_are_pasted() -> None:
    target, source = whole_image(scene()), whole_image(replace(scene(), is_crowd=np.array([False, True, False])))

    assert paste_things(target, source, IS_THING, np.random.default_rng(0)) is target


def test_a_mosaic_keeps_things_separate_and_merges_stuff() -> None:
    first, second = whole_image(scene()), whole_image(replace(scene(), is_exhaustive=np.array([True, False])))

    together = tile_examples([first, second], 2, IS_THING)

    assert together.pixels.shape == (64, 128, 3)
    assert together.regions.shape == together.confidence.shape == (64, 128)
    assert np.array_equal(together.pixels[:, 64:], second.pixels)
    assert together.is_exhaustive.tolist() == [True, False]
    for label, regions in ((0, 2), (1, 1), (VOID, 1)):
        shown = together.labels[together.regions] == label
        assert np.array_equal(shown, np.tile(first.labels[first.regions] == label, 2))
        assert len(np.unique(together.regions[shown])) == regions


def test_a_mosaic_is_filled_row_by_row() -> None:
    tiles = [replace(whole_image(scene()), pixels=np.full((64, 64, 3), number, np.uint8)) for number in range(4)]

    together = tile_examples(tiles, 2, IS_THING)

    assert together.pixels[::64, ::64, 0].tolist() == [[0, 1], [2, 3]]


def test_mosaics_are_drawn_with_their_probability() -> None:
    rng = np.random.default_rng(0)

    for probability, expected in ((0.0, {1}), (1.0, {2, 4})):
        drawn = [
            ExampleSampler([scene()], [], IS_THING, paste_probability=0.0, mosaic_probability=probability).draw_example(
                32, rng
            )
            for _ in range(12)
        ]
        assert {len(example.labels) // 3 for example in drawn} == expected
        assert {example.pixels.shape for example in drawn} == {(32, 32, 3)}


def test_scenes_with_the_same_thing_classes_are_often_drawn_together() -> None:
    ground = replace(scene(), labels=np.array([VOID, OTHER, 1], np.int16))
    sampler, rng = ExampleSampler([scene(), *[ground] * 5], [], IS_THING), np.random.default_rng(0)

    alike = sum(0 in sampler.draw_similar_scene(scene(), rng).labels for _ in range(60))
    by_chance = sum(0 in sampler.draw_similar_scene(ground, rng).labels for _ in range(60))

    assert alike > 20 > by_chance


def test_annotated_and_labelled_scenes_are_both_drawn() -> None:
    annotated, labelled = scene(), replace(scene(), is_exhaustive=np.zeros(2, np.bool_))
    sampler = ExampleSampler(
        [annotated], [labelled], IS_THING, annotated_share=0.5, paste_probability=0.0, mosaic_probability=0.0
    )

    rng = np.random.default_rng(0)
    drawn = [bool(sampler.draw_example(32, rng).is_exhaustive.all()) for _ in range(30)]

    assert 5 < sum(drawn) < 25
    assert all(ExampleSampler([annotated], [], IS_THING).draw_example(32, rng).is_exhaustive.all() for _ in range(5))


def test_images_of_rare_classes_have_larger_weights() -> None:
    def record(*labels: int) -> ImageRecord:
        return ImageRecord(Path("image"), Path("truth"), dict(enumerate(labels)), frozenset(), np.ones(2, np.bool_))

    weights = sampling_weights([*[record(0)] * 40, *[record(0, 1)] * 5, record(OTHER)], IS_THING)

    assert weights is not None
    assert weights.sum() == pytest.approx(1)
    assert weights[40] > 2 * weights[0]
    assert weights[-1] > 0
    assert sampling_weights([], IS_THING) is None


def test_images_of_several_things_have_larger_weights() -> None:
    def record(*labels: int, crowds: tuple[int, ...] = ()) -> ImageRecord:
        return ImageRecord(
            Path("image"), Path("truth"), dict(enumerate(labels)), frozenset(crowds), np.ones(2, np.bool_)
        )

    weights = sampling_weights([record(0), record(0, 0), record(0, 0, crowds=(1,)), record(0, 1, 1)], IS_THING)

    assert weights is not None
    assert weights[1] == pytest.approx(3 * weights[0])
    assert weights[0] == pytest.approx(weights[2])
    assert weights[0] == pytest.approx(weights[3])


def record(*labels: int) -> ImageRecord:
    return ImageRecord(Path("image"), Path("truth"), dict(enumerate(labels)), frozenset(), np.ones(2, np.bool_))


def test_each_group_of_images_has_its_share() -> None:
    weights = mix_weights([[record(0)] * 30, [], [record(0), record(1)]], (3, 9, 1), IS_THING)

    assert weights is not None
    assert len(weights) == 32
    assert weights[:30].sum() == pytest.approx(0.75)
    assert weights[30:].sum() == pytest.approx(0.25)
    assert mix_weights([[]], [1], IS_THING) is None


def test_cut_outs_are_pasted_and_never_shown_themselves() -> None:
    ground = replace(scene(), labels=np.array([VOID, OTHER, 1], np.int16))
    sampler = ExampleSampler(
        [ground], [], IS_THING, paste_probability=1, mosaic_probability=0, cutouts=[scene()], cutout_probability=1
    )
    rng = np.random.default_rng(0)

    drawn = [sampler.draw_example(64, rng) for _ in range(10)]

    assert all((example.labels == 0).sum() <= 1 for example in drawn)
    assert sum(0 in example.labels for example in drawn) > 5
    assert all(OTHER in example.labels for example in drawn)


@pytest.mark.parametrize("aspect", [*CUTOUT_ASPECT, 1.0])
@pytest.mark.parametrize("size", [(100, 200), (200, 100)])
def test_a_box_is_widened_to_an_aspect_and_holds_the_image(size: tuple[int, int], aspect: float) -> None:
    left, top, right, bottom = widen_box(*size, aspect)

    assert left <= 0 <= size[0] <= right
    assert top <= 0 <= size[1] <= bottom
    assert (right - left) / (bottom - top) == pytest.approx(aspect, rel=0.02)
    assert right - left == size[0] or bottom - top == size[1]


@pytest.mark.parametrize("seed", range(6))
def test_a_variation_keeps_every_region_in_its_place(seed: int) -> None:
    example = whole_image(scene())

    varied = replace(example, pixels=vary_pixels(example.pixels, np.random.default_rng(seed)))

    assert varied.pixels.shape == example.pixels.shape
    assert varied.pixels.dtype == np.uint8
    assert agreement(varied, 1, 0) > 0.96


def test_variations_differ_and_a_lower_jpeg_quality_changes_more() -> None:
    photo = np.asarray(cat().resize((128, 128)))

    def change(pixels: NDArray[np.uint8]) -> float:
        return float(np.abs(pixels.astype(int) - photo).mean())

    low, high = (change(np.asarray(compress_jpeg(Image.fromarray(photo), quality))) for quality in (50, 95))
    assert low > 1.5 * high > 0
    changes = [change(vary_pixels(photo, np.random.default_rng(seed))) for seed in range(20)]
    assert len(set(changes)) > 10
    assert max(changes) < 30
