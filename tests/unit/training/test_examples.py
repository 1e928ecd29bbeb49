"""What the network gets to see in training: images and their regions are changed together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from worker.training.augmentation import Example, Mix, cut, draw, laid_out, odds_of, pasted, random_box
from worker.training.coco_panoptic import OTHER, VOID, Photo, Scene

THINGS = np.array([True, False])


def scene(width: int = 120, height: int = 80) -> Scene:
    """Red where region 1 is, a disc of class 0; green where region 2 is, the rest, class 1; void at the left.

    The disc is less sure than the rest.
    """
    rows, columns = np.mgrid[:height, :width]
    regions = np.where((rows - 40) ** 2 + (columns - 70) ** 2 < 25**2, 1, 2).astype(np.int16)
    regions[:, :10] = 0
    colours = np.array([(0, 0, 255), (255, 0, 0), (0, 255, 0)], np.uint8)
    return Scene(
        image=Image.fromarray(colours[regions]),
        regions=regions,
        kinds=np.array([VOID, 0, 1], np.int16),
        crowds=np.zeros(3, np.bool_),
        certain=np.ones(2, np.bool_),
        sure=np.where(regions == 1, 140, 255).astype(np.uint8),
    )


def agreement(example: Example, region: int, channel: int) -> float:
    """Return how well a region fits the places where its own colour is the strongest."""
    seen, is_known = example.pixels.argmax(-1) == channel, example.regions != 0
    return float((seen == (example.regions == region))[is_known].mean())


@pytest.mark.parametrize("seed", range(12))
def test_picture_and_regions_stay_in_step(seed: int) -> None:
    # Grey images would have no colours to compare.
    rng = np.random.default_rng(seed)

    example = draw(scene(), (64, 64), rng)

    assert example.pixels.shape == (64, 64, 3)
    if np.ptp(example.pixels, axis=-1).max() > 30:
        assert agreement(example, 1, 0) > 0.96
    assert ((example.sure < 197) == (example.regions == 1))[example.regions != 0].mean() > 0.96


def test_a_drawn_example_depends_on_its_seed_alone() -> None:
    first, again, other = (draw(scene(), (64, 64), np.random.default_rng(seed)) for seed in (1, 1, 2))

    assert np.array_equal(first.pixels, again.pixels)
    assert np.array_equal(first.regions, again.regions)
    assert not np.array_equal(first.pixels, other.pixels)


def test_what_lies_beyond_the_photo_is_void() -> None:
    _, regions, sure = cut(scene(), (-60, -40, 180, 120), (64, 64))

    numbers = np.asarray(regions)
    assert (numbers[:15] == 0).all()
    assert (numbers[:, 49:] == 0).all()
    assert set(np.unique(numbers[17:47, 22:47])) == {1, 2}
    assert np.asarray(sure)[:15].max() == 0


def test_parts_and_margins_are_both_drawn() -> None:
    boxes = [random_box(120, 80, np.random.default_rng(seed)) for seed in range(100)]

    widths = np.array([right - left for left, _, right, _ in boxes])
    assert widths.min() < 70
    assert widths.max() > 130
    assert (widths == 120).any()
    assert all(bottom > top for _, top, _, bottom in boxes)


def whole(one: Scene) -> Example:
    image, regions, sure = map(np.asarray, cut(one, (0, 0, *one.image.size), (64, 64)))
    return Example(image, regions.astype(np.int16), one.kinds, one.crowds, one.certain, sure)


@pytest.mark.parametrize("seed", range(8))
def test_a_thing_is_pasted_with_its_pixels(seed: int) -> None:
    target = whole(replace(scene(), kinds=np.array([VOID, OTHER, 1], np.int16)))
    source = whole(scene())

    mixed = pasted(target, source, THINGS, np.random.default_rng(seed))

    new = mixed.regions == 3
    assert mixed.kinds.tolist() == [VOID, OTHER, 1, 0]
    # Its rim is mixed with what was around it.
    assert (mixed.pixels[new].argmax(-1) == 0).mean() > 0.9
    assert np.median(mixed.sure[new]) == 140
    assert (mixed.pixels[~new] == target.pixels[~new]).all()
    assert (mixed.regions[~new] == target.regions[~new]).all()
    assert (target.regions <= 2).all()


def test_a_pasted_thing_may_be_anywhere_and_larger_or_smaller() -> None:
    target, source = whole(replace(scene(), kinds=np.array([VOID, OTHER, 1], np.int16))), whole(scene())

    new = [pasted(target, source, THINGS, np.random.default_rng(seed)).regions == 3 for seed in range(40)]

    before = (source.regions == 1).sum()
    areas = np.array([mask.sum() for mask in new]) / before
    tops, lefts = (np.array([np.flatnonzero(mask.any(axis))[0] for mask in new]) for axis in (1, 0))
    assert areas.min() < 0.4
    assert areas.max() > 1.2
    assert areas.max() < 1.7
    assert tops.min() < 5 < 25 < tops.max()
    assert lefts.min() < 5 < 25 < lefts.max()


def test_a_thing_as_wide_as_the_picture_stays_inside() -> None:
    regions = np.full((80, 120), 2, np.int16)
    regions[30:60] = 1
    source = whole(replace(scene(), regions=regions))

    widths = [
        (pasted(source, source, THINGS, np.random.default_rng(seed)).regions == 3).any(0).sum() for seed in range(8)
    ]

    assert max(widths) == 64
    assert min(widths) < 64


def test_what_nobody_is_sure_of_is_not_pasted() -> None:
    source = whole(replace(scene(), sure=np.full((80, 120), 100, np.uint8)))

    assert pasted(source, source, THINGS, np.random.default_rng(0)) is source


def test_neither_stuff_nor_crowds_are_pasted() -> None:
    target, source = whole(scene()), whole(replace(scene(), crowds=np.array([False, True, False])))

    assert pasted(target, source, THINGS, np.random.default_rng(0)) is target


def test_things_in_several_photos_stay_apart_and_stuff_is_one() -> None:
    first, second = whole(scene()), whole(replace(scene(), certain=np.array([True, False])))

    together = laid_out([first, second], 2, THINGS)

    assert together.pixels.shape == (64, 128, 3)
    assert together.regions.shape == together.sure.shape == (64, 128)
    assert np.array_equal(together.pixels[:, 64:], second.pixels)
    assert together.certain.tolist() == [True, False]
    for kind, regions in ((0, 2), (1, 1), (VOID, 1)):
        shown = together.kinds[together.regions] == kind
        assert np.array_equal(shown, np.tile(first.kinds[first.regions] == kind, 2))
        assert len(np.unique(together.regions[shown])) == regions


def test_photos_are_laid_out_in_rows() -> None:
    tiles = [replace(whole(scene()), pixels=np.full((64, 64, 3), number, np.uint8)) for number in range(4)]

    together = laid_out(tiles, 2, THINGS)

    assert together.pixels[::64, ::64, 0].tolist() == [[0, 1], [2, 3]]


def test_a_share_of_the_examples_is_several_photos() -> None:
    rng = np.random.default_rng(0)

    for chance, expected in ((0.0, {1}), (1.0, {2, 4})):
        drawn = [Mix([scene()], [], THINGS, paste=0.0, mosaic=chance).example(32, rng) for _ in range(12)]
        assert {len(example.kinds) // 3 for example in drawn} == expected
        assert {example.pixels.shape for example in drawn} == {(32, 32, 3)}


def test_photos_of_the_same_things_are_often_shown_together() -> None:
    ground = replace(scene(), kinds=np.array([VOID, OTHER, 1], np.int16))
    mix, rng = Mix([scene(), *[ground] * 5], [], THINGS), np.random.default_rng(0)

    alike = sum(0 in mix.scene_like(scene(), rng).kinds for _ in range(60))
    by_chance = sum(0 in mix.scene_like(ground, rng).kinds for _ in range(60))

    assert alike > 20 > by_chance


def test_both_kinds_of_photos_are_drawn_from() -> None:
    annotated, labelled = scene(), replace(scene(), certain=np.zeros(2, np.bool_))
    mix = Mix([annotated], [labelled], THINGS, share=0.5, paste=0.0, mosaic=0.0)

    rng = np.random.default_rng(0)
    drawn = [bool(mix.example(32, rng).certain.all()) for _ in range(30)]

    assert 5 < sum(drawn) < 25
    assert all(Mix([annotated], [], THINGS).example(32, rng).certain.all() for _ in range(5))


def test_photos_of_rare_classes_are_drawn_more_often() -> None:
    def photo(*kinds: int) -> Photo:
        return Photo(Path("photo"), Path("truth"), dict(enumerate(kinds)), frozenset(), np.ones(2, np.bool_))

    odds = odds_of([*[photo(0)] * 40, *[photo(0, 1)] * 5, photo(OTHER)], THINGS)

    assert odds is not None
    assert odds.sum() == pytest.approx(1)
    assert odds[40] > 2 * odds[0]
    assert odds[-1] > 0
    assert odds_of([], THINGS) is None


def test_photos_of_several_things_come_up_more_often() -> None:
    def photo(*kinds: int, crowds: tuple[int, ...] = ()) -> Photo:
        return Photo(Path("photo"), Path("truth"), dict(enumerate(kinds)), frozenset(crowds), np.ones(2, np.bool_))

    odds = odds_of([photo(0), photo(0, 0), photo(0, 0, crowds=(1,)), photo(0, 1, 1)], THINGS)

    assert odds is not None
    assert odds[1] == pytest.approx(3 * odds[0])
    assert odds[0] == pytest.approx(odds[2])
    assert odds[0] == pytest.approx(odds[3])
