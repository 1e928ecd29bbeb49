"""Queries are matched to the things of their own class, and what nobody knows costs nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from worker.training.augmentation import Example
from worker.training.coco_panoptic import NO_THING, OTHER, VOID
from worker.training.losses import class_loss, mask_loss, pixel_loss, wanted_classes
from worker.training.matching import Match, Queries, Truth, anchors_of, match, places_of, things_in, truth_of

CLASSES = [0, 0, 0, 1]
ALONE = np.array([[0.5, 0.5, 0.7], [0.5, 0.5, 0.5]])
AMONG = np.array([[x, y, 0.2] for x in (0.25, 0.75) for y in (0.45, 0.55)])
QUERIES = Queries(torch.tensor(CLASSES), anchors_of(CLASSES, ALONE, AMONG))
STUFF = torch.tensor([False, True])


def example(kinds: list[int]) -> Example:
    """Columns of 8 pixels: region 1, region 2, region 3, and void."""
    regions = np.repeat([1, 2, 3, 0], 8)[None].repeat(32, 0).astype(np.int16)
    return Example(
        pixels=np.zeros((32, 32, 3), np.uint8),
        regions=regions,
        kinds=np.array([VOID, *kinds], np.int16),
        crowds=np.zeros(4, np.bool_),
        certain=np.ones(2, np.bool_),
        sure=np.full((32, 32), 255, np.uint8),
    )


def truth(kinds: list[int], **changes: object) -> Truth:
    return truth_of(replace(example(kinds), **changes), stride=4)  # type: ignore[arg-type]


def answers(named: list[int], columns: list[int | None]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of queries that name a class each (2 is nothing), and show one column each."""
    classes = torch.full((len(named), 3), -20.0)
    classes[range(len(named)), named] = 20
    masks = torch.full((len(columns), 8, 8), -20.0)
    for query, column in enumerate(columns):
        if column is not None:
            masks[query, :, 2 * column : 2 * column + 2] = 20
    return classes, masks


def pairs(found: Match) -> set[tuple[int, int]]:
    return set(zip(found.queries.tolist(), found.regions.tolist(), strict=True))


def test_a_thing_goes_to_the_query_of_its_class_that_shows_it() -> None:
    # Query 3 shows the first person best of all, but answers for grass.
    classes, masks = answers([0, 0, 0, 1], [1, None, 0, 0])

    found = match(classes, masks, truth([0, 0, 1]), QUERIES)

    assert pairs(found) == {(0, 1), (2, 0), (3, 2)}


def test_more_things_than_queries_leave_some_without() -> None:
    queries = Queries(torch.tensor([0, 1]), anchors_of([0, 1], ALONE, AMONG))
    classes, masks = answers([0, 1], [1, None])

    found = match(classes, masks, truth([0, 0, OTHER]), queries)

    assert pairs(found) == {(0, 1)}


def test_a_picture_without_anything_matches_nothing() -> None:
    classes, masks = answers([2, 2, 2, 2], [None] * 4)

    assert pairs(match(classes, masks, truth([OTHER, OTHER, OTHER]), QUERIES)) == set()


def test_young_queries_go_by_their_anchors() -> None:
    places = torch.tensor([[0.9, 0.5, 0.3], [0.1, 0.5, 0.3], [0.5, 0.5, 0.9], [0.5, 0.5, 0.6]])
    queries = Queries(torch.tensor(CLASSES), places)
    classes, masks = answers([2, 2, 2, 2], [None] * 4)

    found = match(classes, masks, truth([0, OTHER, 0]), queries, anchoring=10)

    assert pairs(found) == {(1, 0), (0, 1)}


def test_a_perfect_answer_costs_next_to_nothing() -> None:
    shown = truth([0, 0, 1])
    classes, masks = answers([0, 2, 0, 1], [1, None, 0, 2])
    matches = [match(classes, masks, shown, QUERIES)]
    wanted, weights = wanted_classes([shown], matches, QUERIES)

    assert class_loss(classes[None], wanted, weights).item() < 1e-3
    assert mask_loss(masks[None], [shown], matches, STUFF).item() < 1e-3
    assert pixel_loss(masks[None], [shown], matches, QUERIES).item() < 1e-3
    assert class_loss(-classes[None], wanted, weights).item() > 10
    assert mask_loss(-masks[None], [shown], matches, STUFF).item() > 10
    assert pixel_loss(-masks[None], [shown], matches, QUERIES).item() > 10


@pytest.mark.parametrize(
    ("kinds", "columns"),
    [
        pytest.param([0, 1, OTHER], [3], id="void"),
        pytest.param([0, 1, NO_THING], [3], id="void beside what is no thing"),
    ],
)
def test_pixels_that_nobody_labelled_do_not_matter(kinds: list[int], columns: list[int]) -> None:
    shown, (classes, masks) = truth(kinds), answers([0, 2, 2, 1], [0, None, None, 1])
    matches = [match(classes, masks, shown, QUERIES)]
    changed = masks.clone()
    for column in columns:
        changed[:, :, 2 * column : 2 * column + 2] *= -1

    for loss in (
        lambda logits: mask_loss(logits[None], [shown], matches, STUFF),
        lambda logits: pixel_loss(logits[None], [shown], matches, QUERIES),
    ):
        assert loss(changed).item() == loss(masks).item()


def test_to_show_another_thing_of_ones_class_costs_more_than_to_show_anything_else() -> None:
    shown, (_, masks) = truth([0, 0, 1]), answers([0, 0, 2, 1], [0, 1, None, 2])
    matches = [Match(torch.arange(1), torch.arange(1))]
    over_sibling, over_grass = masks.clone(), masks.clone()
    over_sibling[0, :, 2:4] = 20
    over_grass[0, :, 4:6] = 20

    sibling, grass = (mask_loss(one[None], [shown], matches, STUFF).item() for one in (over_sibling, over_grass))

    assert sibling > 2 * grass > 0


def test_where_no_thing_is_only_things_are_judged() -> None:
    shown, (classes, masks) = truth([0, 1, NO_THING]), answers([0, 2, 2, 1], [0, None, None, 1])
    matches = [match(classes, masks, shown, QUERIES)]
    thing, stuff = masks.clone(), masks.clone()
    thing[0, :, 4:6] *= -1
    stuff[3, :, 4:6] *= -1

    assert mask_loss(stuff[None], [shown], matches, STUFF).item() == mask_loss(masks[None], [shown], matches, STUFF)
    assert mask_loss(thing[None], [shown], matches, STUFF).item() > 1


def test_a_class_that_may_be_there_is_neither_asked_for_nor_silenced() -> None:
    shown = truth([1, OTHER, OTHER], certain=np.array([False, True]))
    classes, masks = answers([0, 0, 0, 1], [2, 2, 2, 0])
    matches = [match(classes, masks, shown, QUERIES)]

    _, weights = wanted_classes([shown], matches, QUERIES)

    assert weights.tolist() == [[0, 0, 0, 1]]
    assert pixel_loss(masks[None], [shown], matches, QUERIES).item() < 1


def test_what_one_query_shows_no_other_of_its_class_may_show_too() -> None:
    shown, (classes, masks) = truth([0, 1, OTHER]), answers([0, 2, 2, 1], [0, None, None, 1])
    matches = [match(classes, masks, shown, QUERIES)]
    double = masks.clone()
    double[1] = double[0]

    assert pixel_loss(masks[None], [shown], matches, QUERIES).item() < 1e-3
    assert pixel_loss(double[None], [shown], matches, QUERIES).item() > 0.1


def test_a_query_is_silenced_more_where_another_of_its_class_speaks() -> None:
    classes, masks = answers([0, 2, 2, 1], [0, None, None, 1])
    silence = []
    for shown in (truth([0, 1, OTHER]), truth([OTHER, 1, OTHER])):
        _, weights = wanted_classes([shown], [match(classes, masks, shown, QUERIES)], QUERIES)
        silence.append(weights[0, 1].item())

    assert silence[0] > silence[1] > 0


def test_what_is_half_sure_counts_half() -> None:
    sure = np.full((32, 32), 255, np.uint8)
    sure[:, :8] = 127
    shown, half = truth([0, 1, OTHER]), truth([0, 1, OTHER], sure=sure)
    classes, masks = answers([0, 2, 2, 1], [0, None, None, 1])
    masks[:, :, 1:2] *= -1
    matches = [match(classes, masks, shown, QUERIES)]

    _, weights = wanted_classes([half], matches, QUERIES)

    assert weights[0, 0] == pytest.approx(0.5, abs=0.01)
    assert weights[0, 3] == 1
    for loss in (
        lambda one: mask_loss(masks[None], [one], matches, STUFF),
        lambda one: pixel_loss(masks[None], [one], matches, QUERIES),
    ):
        assert 0.3 * loss(shown) < loss(half) < 0.8 * loss(shown)


def test_crowds_and_specks_are_left_alone() -> None:
    crowd = truth([0, 1, OTHER], crowds=np.array([False, True, False, False]))
    speck = example([0, 1, OTHER])
    speck.regions[speck.regions == 1] = 2
    speck.regions[:2, :2] = 1

    for shown in (crowd, truth_of(speck, stride=4)):
        assert shown.classes.tolist() == [1]
        assert shown.certain.tolist() == [False, True]
        assert shown.known[1].min() < 1


def test_a_picture_with_nothing_known_teaches_nothing_and_breaks_nothing() -> None:
    shown = truth([VOID, VOID, VOID], certain=np.zeros(2, np.bool_))
    logits = torch.randn(4, 8, 8)
    matches = [match(torch.randn(4, 3), logits, shown, QUERIES)]
    wanted, weights = wanted_classes([shown], matches, QUERIES)

    losses = [
        class_loss(torch.randn(1, 4, 3), wanted, weights),
        mask_loss(logits[None], [shown], matches, STUFF),
        pixel_loss(logits[None], [shown], matches, QUERIES),
    ]

    assert [loss.item() for loss in losses] == [0, 0, 0]


def test_one_query_is_for_what_is_alone_and_the_others_share_out_the_rest() -> None:
    anchors = anchors_of(CLASSES, ALONE, AMONG)

    assert anchors[[0, 3]].numpy() == pytest.approx(np.array([[0.5, 0.5, 0.6]] * 2))
    assert np.array(sorted(anchors[1:3].tolist())) == pytest.approx(np.array([[0.25, 0.5, 0.2], [0.75, 0.5, 0.2]]))


def test_the_place_of_a_thing_is_its_middle_and_its_side() -> None:
    masks = torch.zeros(2, 8, 8)
    masks[0, :, :4] = 1
    masks[1, 6:, 2:6] = 0.5

    assert places_of(masks).numpy() == pytest.approx(np.array([[0.25, 0.5, 0.5**0.5], [0.5, 7 / 8, 0.25]]))


def test_things_are_alone_or_among_their_like_and_stuff_is_neither() -> None:
    one, two = truth([0, 1, OTHER]), truth([0, 0, 1])

    alone, among = things_in([one, two], STUFF)

    assert alone[1:] == pytest.approx(np.array([[1 / 8, 0.5, 0.5]]))
    assert among[-2:] == pytest.approx(np.array([[1 / 8, 0.5, 0.5], [3 / 8, 0.5, 0.5]]))


def test_what_is_tiny_does_not_tell_where_things_are() -> None:
    small = example([0, OTHER, 1])
    small = replace(small, regions=small.regions.repeat(2, 0).repeat(2, 1), sure=np.full((64, 64), 255, np.uint8))
    small.regions[small.regions == 1] = 2
    small.regions[:8, :8] = 1
    shown = truth_of(small, stride=4)

    alone, among = things_in([shown], STUFF)

    assert 0 in shown.classes
    assert len(alone) == 1
    assert len(anchors_of([0] * 10, alone, among)) == 10
