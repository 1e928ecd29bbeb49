"""Things are counted one by one: matched, wrong, and in pieces."""

import math

import numpy as np
import pytest

from tests.evaluation.quality import PanopticMap, Region, tally
from tests.evaluation.things import (
    Matches,
    Pieces,
    count_matches,
    count_pieces,
    mark_small_as_crowd,
    share_interval,
    sum_pieces,
)

PERSON, DOG, ELSE = 0, 1, 2


def scene(*things: tuple[int, int, int]) -> PanopticMap:
    """Return a map of 1 x 100 pixels: things of a class from column to column, the rest a class of its own."""
    ids = np.full((1, 100), 100)
    for number, (_, left, right) in enumerate(things, start=1):
        ids[:, left:right] = number
    regions = [Region(number, label) for number, (label, _, _) in enumerate(things, start=1)]
    return PanopticMap(ids, (*regions, Region(100, ELSE)))


def pieces(truth: PanopticMap, found: PanopticMap) -> Pieces:
    return count_pieces(truth, found, PERSON, 0.05)


def test_a_person_in_one_segment_is_whole_and_one_in_two_is_not() -> None:
    truth = scene((PERSON, 0, 40))

    assert pieces(truth, scene((PERSON, 0, 40))) == Pieces(1, 1, 1)
    assert pieces(truth, scene((PERSON, 0, 34), (PERSON, 34, 40))) == Pieces(1, 1, 1), "85 % in the larger segment"
    assert pieces(truth, scene((PERSON, 0, 28), (PERSON, 28, 40))) == Pieces(1, 1, 0), "70 % in the larger segment"
    assert pieces(truth, scene((PERSON, 0, 22))) == Pieces(1, 1, 1), "a person whose rest is not covered at all"


def test_a_person_who_is_hardly_covered_is_not_found() -> None:
    truth = scene((PERSON, 0, 40))

    assert pieces(truth, scene((PERSON, 0, 18))) == Pieces(1, 0, 0)
    assert pieces(truth, scene((DOG, 0, 40))) == Pieces(1, 0, 0)
    assert pieces(truth, scene()) == Pieces(1, 0, 0)


def test_two_people_in_one_segment_are_both_whole() -> None:
    assert pieces(scene((PERSON, 0, 20), (PERSON, 20, 40)), scene((PERSON, 0, 40))) == Pieces(2, 2, 2)


def test_small_people_crowds_and_other_things_are_not_counted() -> None:
    truth = scene((PERSON, 0, 4), (DOG, 10, 40), (PERSON, 50, 70))
    crowd = PanopticMap(truth.ids, tuple(Region(one.id, one.label, is_crowd=one.id == 3) for one in truth.regions))

    assert pieces(truth, truth) == Pieces(1, 1, 1)
    assert pieces(crowd, truth) == Pieces(0, 0, 0)


def test_pieces_are_summed_and_an_undefined_share_is_no_number() -> None:
    assert sum_pieces([Pieces(3, 2, 1), Pieces(1, 1, 1)]) == Pieces(4, 3, 2)
    assert Pieces(4, 3, 2).share == pytest.approx(2 / 3)
    assert math.isnan(Pieces(1, 0, 0).share)


def test_matches_are_summed_over_images_and_classes() -> None:
    truth = mark_small_as_crowd(scene((PERSON, 0, 30), (DOG, 40, 60), (PERSON, 70, 71)), [PERSON], 0.02)
    found = scene((PERSON, 0, 28), (DOG, 65, 69), (PERSON, 70, 71), (PERSON, 80, 90))
    tallies = [tally(truth, found, 3), tally(truth, scene((DOG, 40, 60)), 3)]

    assert count_matches(tallies, [PERSON]) == Matches(things=2, matched=1, wrong=1)
    assert count_matches(tallies, [PERSON, DOG]) == Matches(things=4, matched=2, wrong=2)
    assert count_matches([], [PERSON]) == Matches(0, 0, 0)


def test_shares_of_matches() -> None:
    counted = Matches(things=8, matched=4, wrong=6)

    assert (counted.share, counted.wrong_per_match) == (0.5, 1.5)
    assert math.isinf(Matches(things=2, matched=0, wrong=3).wrong_per_match)


@pytest.mark.parametrize(
    ("part", "whole", "low", "high"),
    [(5, 10, 0.237, 0.763), (0, 9, 0.0, 0.299), (9, 9, 0.701, 1.0), (0, 0, 0.0, 1.0)],
)
def test_the_interval_of_a_share_is_that_of_wilson(part: int, whole: int, low: float, high: float) -> None:
    assert share_interval(part, whole) == pytest.approx((low, high), abs=0.001)
