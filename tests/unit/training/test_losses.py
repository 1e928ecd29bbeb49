"""Queries are matched to the regions of their own class, and unknown ground truth has no loss."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from worker.training.augmentation import Example
from worker.training.coco_panoptic import NO_THING, NOT_CERTAIN, OTHER, VOID
from worker.training.losses import (
    absence_loss,
    class_loss,
    class_targets,
    consistency_loss,
    mask_loss,
    match_qualities,
    mirrored_consistency_loss,
    pixel_loss,
)
from worker.training.matching import (
    Match,
    Queries,
    Truth,
    build_truth,
    compute_anchors,
    mask_locations,
    match_batch,
    match_queries,
    thing_locations,
)

CLASSES = [0, 0, 0, 1]
SINGLE = np.array([[0.5, 0.5, 0.7], [0.5, 0.5, 0.5]])
MULTIPLE = np.array([[x, y, 0.2] for x in (0.25, 0.75) for y in (0.45, 0.55)])
QUERIES = Queries(torch.tensor(CLASSES), compute_anchors(CLASSES, SINGLE, MULTIPLE))
STUFF = torch.tensor([False, True])


def make_example(labels: list[int]) -> Example:
    """Return an example of four columns of 8 pixels: regions 1, 2 and 3 with the given labels, and void."""
    regions = np.repeat([1, 2, 3, 0], 8)[None].repeat(32, 0).astype(np.int16)
    return Example(
        pixels=np.zeros((32, 32, 3), np.uint8),
        regions=regions,
        labels=np.array([VOID, *labels], np.int16),
        is_crowd=np.zeros(4, np.bool_),
        is_exhaustive=np.ones(2, np.bool_),
        confidence=np.full((32, 32), 255, np.uint8),
    )


def make_truth(labels: list[int], **changes: object) -> Truth:
    return build_truth(replace(make_example(labels), **changes), stride=4)  # type: ignore[arg-type]


def predict(classes: list[int], columns: list[int | None]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return class logits (Q, 3), 2 being no object, and mask logits (Q, 8, 8) of queries that show one column each."""
    class_logits = torch.full((len(classes), 3), -20.0)
    class_logits[range(len(classes)), classes] = 20
    mask_logits = torch.full((len(columns), 8, 8), -20.0)
    for query, column in enumerate(columns):
        if column is not None:
            mask_logits[query, :, 2 * column : 2 * column + 2] = 20
    return class_logits, mask_logits


def pairs(match: Match) -> set[tuple[int, int]]:
    return set(zip(match.queries.tolist(), match.regions.tolist(), strict=True))


def test_a_thing_is_matched_to_the_query_of_its_class_that_shows_it() -> None:
    # Query 3 shows the first person best, but its class is grass.
    classes, masks = predict([0, 0, 0, 1], [1, None, 0, 0])

    match = match_queries(classes, masks, make_truth([0, 0, 1]), QUERIES)

    assert pairs(match) == {(0, 1), (2, 0), (3, 2)}


def test_things_beyond_the_number_of_queries_stay_unmatched() -> None:
    queries = Queries(torch.tensor([0, 1]), compute_anchors([0, 1], SINGLE, MULTIPLE))
    classes, masks = predict([0, 1], [1, None])

    match = match_queries(classes, masks, make_truth([0, 0, OTHER]), queries)

    assert pairs(match) == {(0, 1)}


def test_an_image_without_trained_classes_has_no_match() -> None:
    classes, masks = predict([2, 2, 2, 2], [None] * 4)

    assert pairs(match_queries(classes, masks, make_truth([OTHER, OTHER, OTHER]), QUERIES)) == set()


def test_queries_without_predictions_are_matched_by_their_anchors() -> None:
    places = torch.tensor([[0.9, 0.5, 0.3], [0.1, 0.5, 0.3], [0.5, 0.5, 0.9], [0.5, 0.5, 0.6]])
    queries = Queries(torch.tensor(CLASSES), places)
    classes, masks = predict([2, 2, 2, 2], [None] * 4)

    match = match_queries(classes, masks, make_truth([0, OTHER, 0]), queries, anchoring=10)

    assert pairs(match) == {(1, 0), (0, 1)}


def test_a_perfect_prediction_has_almost_no_loss() -> None:
    truth = make_truth([0, 0, 1])
    classes, masks = predict([0, 2, 0, 1], [1, None, 0, 2])
    matches = [match_queries(classes, masks, truth, QUERIES)]
    targets, weights = class_targets([truth], matches, QUERIES)
    qualities = match_qualities(masks[None], [truth], matches, STUFF)

    assert qualities.tolist() == [[1, 1, 1, 1]]
    assert class_loss(classes[None], targets, weights, qualities).item() < 1e-3
    assert mask_loss(masks[None], [truth], matches, STUFF).item() < 1e-3
    assert pixel_loss(masks[None], [truth], matches, QUERIES).item() < 1e-3
    assert class_loss(-classes[None], targets, weights, qualities).item() > 10
    assert mask_loss(-masks[None], [truth], matches, STUFF).item() > 10
    assert pixel_loss(-masks[None], [truth], matches, QUERIES).item() > 10


def test_the_class_target_of_a_poor_mask_is_its_intersection_over_union() -> None:
    truth = make_truth([0, 0, 1])
    classes, masks = predict([0, 2, 2, 1], [0, None, None, 2])
    # The first query shows half of the first person, and as much of what is void.
    masks[0, :, 1], masks[0, :, 6] = -20, 20
    matches = [match_queries(classes, masks, truth, QUERIES)]
    targets, weights = class_targets([truth], matches, QUERIES)
    qualities = match_qualities(masks[None], [truth], matches, STUFF)

    def compute(prob: float) -> float:
        logits = torch.full((1, 4, 3), -20.0)
        logits[0, range(4), targets[0]] = 20
        logits[0, 0] = torch.tensor([prob, 1e-9, 1 - prob]).log()
        return class_loss(logits, targets, weights, qualities).item()

    assert qualities[0, 0].item() == pytest.approx(0.5)
    assert min((0.3, 0.5, 0.7, 0.99), key=compute) == 0.5


def test_of_two_queries_that_show_one_thing_neither_is_sure() -> None:
    truth, (_, masks) = make_truth([0, OTHER, OTHER]), predict([0, 0, 2, 2], [0, 0, None, None])
    one, other = (Match(torch.tensor([query]), torch.tensor([0])) for query in (0, 1))

    def compute(prob: float) -> float:
        """Return the loss of two queries with this probability, of which each is matched half of the time."""
        logits = torch.full((1, 4, 3), -20.0)
        logits[0, 2:, 2] = 20
        logits[0, :2] = torch.tensor([prob, 1e-9, 1 - prob]).log()
        qualities = match_qualities(masks[None], [truth], [one], STUFF)
        return sum(
            class_loss(logits, *class_targets([truth], [match], QUERIES), qualities).item() for match in (one, other)
        )

    assert min((0.3, 0.5, 0.7, 0.9), key=compute) == 0.5


@pytest.mark.parametrize(
    ("labels", "columns"),
    [
        pytest.param([0, 1, OTHER], [3], id="void"),
        pytest.param([0, 1, NO_THING], [3], id="void beside no thing"),
    ],
)
def test_unlabelled_pixels_have_no_loss(labels: list[int], columns: list[int]) -> None:
    truth, (classes, masks) = make_truth(labels), predict([0, 2, 2, 1], [0, None, None, 1])
    matches = [match_queries(classes, masks, truth, QUERIES)]
    changed = masks.clone()
    for column in columns:
        changed[:, :, 2 * column : 2 * column + 2] *= -1

    for loss in (
        lambda logits: mask_loss(logits[None], [truth], matches, STUFF),
        lambda logits: pixel_loss(logits[None], [truth], matches, QUERIES),
    ):
        assert loss(changed).item() == loss(masks).item()


def test_covering_another_thing_of_the_class_costs_more_than_covering_other_pixels() -> None:
    truth, (_, masks) = make_truth([0, 0, 1]), predict([0, 0, 2, 1], [0, 1, None, 2])
    matches = [Match(torch.arange(1), torch.arange(1))]
    over_sibling, over_grass = masks.clone(), masks.clone()
    over_sibling[0, :, 2:4] = 20
    over_grass[0, :, 4:6] = 20

    sibling, grass = (mask_loss(one[None], [truth], matches, STUFF).item() for one in (over_sibling, over_grass))

    assert sibling > 2 * grass > 0


def test_no_thing_pixels_have_a_loss_for_things_only() -> None:
    truth, (classes, masks) = make_truth([0, 1, NO_THING]), predict([0, 2, 2, 1], [0, None, None, 1])
    matches = [match_queries(classes, masks, truth, QUERIES)]
    thing, stuff = masks.clone(), masks.clone()
    thing[0, :, 4:6] *= -1
    stuff[3, :, 4:6] *= -1

    assert mask_loss(stuff[None], [truth], matches, STUFF).item() == mask_loss(masks[None], [truth], matches, STUFF)
    assert mask_loss(thing[None], [truth], matches, STUFF).item() > 1


def test_a_class_that_is_not_annotated_exhaustively_has_no_loss() -> None:
    truth = make_truth([1, OTHER, OTHER], is_exhaustive=np.array([False, True]))
    classes, masks = predict([0, 0, 0, 1], [2, 2, 2, 0])
    matches = [match_queries(classes, masks, truth, QUERIES)]

    _, weights = class_targets([truth], matches, QUERIES)

    assert weights.tolist() == [[0, 0, 0, 1]]
    assert pixel_loss(masks[None], [truth], matches, QUERIES).item() < 1


def test_a_thing_shown_by_two_queries_of_its_class_is_penalized() -> None:
    truth, (classes, masks) = make_truth([0, 1, OTHER]), predict([0, 2, 2, 1], [0, None, None, 1])
    matches = [match_queries(classes, masks, truth, QUERIES)]
    double = masks.clone()
    double[1] = double[0]

    assert pixel_loss(masks[None], [truth], matches, QUERIES).item() < 1e-3
    assert pixel_loss(double[None], [truth], matches, QUERIES).item() > 0.1


def test_no_object_weighs_more_where_another_query_of_the_class_is_matched() -> None:
    classes, masks = predict([0, 2, 2, 1], [0, None, None, 1])
    no_object_weights = []
    for truth in (make_truth([0, 1, OTHER]), make_truth([OTHER, 1, OTHER])):
        _, weights = class_targets([truth], [match_queries(classes, masks, truth, QUERIES)], QUERIES)
        no_object_weights.append(weights[0, 1].item())

    assert no_object_weights[0] > no_object_weights[1] > 0


def test_half_confidence_halves_the_weight() -> None:
    confidence = np.full((32, 32), 255, np.uint8)
    confidence[:, :8] = 127
    truth, half = make_truth([0, 1, OTHER]), make_truth([0, 1, OTHER], confidence=confidence)
    classes, masks = predict([0, 2, 2, 1], [0, None, None, 1])
    masks[:, :, 1:2] *= -1
    matches = [match_queries(classes, masks, truth, QUERIES)]

    _, weights = class_targets([half], matches, QUERIES)

    assert weights[0, 0] == pytest.approx(0.5, abs=0.01)
    assert weights[0, 3] == 1
    for loss in (
        lambda one: mask_loss(masks[None], [one], matches, STUFF),
        lambda one: pixel_loss(masks[None], [one], matches, QUERIES),
    ):
        assert 0.3 * loss(truth) < loss(half) < 0.8 * loss(truth)


def test_crowds_and_tiny_regions_are_unknown() -> None:
    crowd = make_truth([0, 1, OTHER], is_crowd=np.array([False, True, False, False]))
    speck = make_example([0, 1, OTHER])
    speck.regions[speck.regions == 1] = 2
    speck.regions[:2, :2] = 1

    for truth in (crowd, build_truth(speck, stride=4)):
        assert truth.classes.tolist() == [1]
        assert truth.is_exhaustive.tolist() == [False, True]
        assert truth.known[1].min() < 1


def test_an_entirely_unknown_image_has_zero_loss() -> None:
    truth = make_truth([VOID, VOID, VOID], is_exhaustive=np.zeros(2, np.bool_))
    logits = torch.randn(4, 8, 8)
    matches = [match_queries(torch.randn(4, 3), logits, truth, QUERIES)]
    targets, weights = class_targets([truth], matches, QUERIES)

    losses = [
        class_loss(torch.randn(1, 4, 3), targets, weights, torch.ones(1, 4)),
        mask_loss(logits[None], [truth], matches, STUFF),
        pixel_loss(logits[None], [truth], matches, QUERIES),
    ]

    assert [loss.item() for loss in losses] == [0, 0, 0]


def test_the_first_anchor_is_for_single_things_and_the_others_cluster_the_rest() -> None:
    anchors = compute_anchors(CLASSES, SINGLE, MULTIPLE)

    assert anchors[[0, 3]].numpy() == pytest.approx(np.array([[0.5, 0.5, 0.6]] * 2))
    assert np.array(sorted(anchors[1:3].tolist())) == pytest.approx(np.array([[0.25, 0.5, 0.2], [0.75, 0.5, 0.2]]))


def test_the_location_of_a_mask_is_its_centroid_and_its_side() -> None:
    masks = torch.zeros(2, 8, 8)
    masks[0, :, :4] = 1
    masks[1, 6:, 2:6] = 0.5

    assert mask_locations(masks).numpy() == pytest.approx(np.array([[0.25, 0.5, 0.5**0.5], [0.5, 7 / 8, 0.25]]))


def test_locations_are_of_single_and_multiple_things_and_not_of_stuff() -> None:
    one, two = make_truth([0, 1, OTHER]), make_truth([0, 0, 1])

    single, multiple = thing_locations([one, two], STUFF)

    assert single[1:] == pytest.approx(np.array([[1 / 8, 0.5, 0.5]]))
    assert multiple[-2:] == pytest.approx(np.array([[1 / 8, 0.5, 0.5], [3 / 8, 0.5, 0.5]]))


def test_small_things_do_not_influence_the_anchors() -> None:
    small = make_example([0, OTHER, 1])
    small = replace(small, regions=small.regions.repeat(2, 0).repeat(2, 1), confidence=np.full((64, 64), 255, np.uint8))
    small.regions[small.regions == 1] = 2
    small.regions[:8, :8] = 1
    truth = build_truth(small, stride=4)

    single, multiple = thing_locations([truth], STUFF)

    assert 0 in truth.classes
    assert len(single) == 1
    assert len(compute_anchors([0] * 10, single, multiple)) == 10


PERSON_CERTAIN = np.array([True, False])


@pytest.mark.parametrize(
    ("is_exhaustive", "has_loss"),
    [
        pytest.param(PERSON_CERTAIN, True, id="certain class"),
        pytest.param(~PERSON_CERTAIN, False, id="another class"),
    ],
)
def test_where_no_certain_class_is_shown_only_certain_classes_have_a_mask_loss(
    is_exhaustive: np.ndarray, has_loss: bool
) -> None:
    truth = make_truth([0, OTHER, NOT_CERTAIN], is_exhaustive=is_exhaustive)
    classes, masks = predict([0, 2, 2, 2], [0, None, None, None])
    matches = [match_queries(classes, masks, truth, QUERIES)]
    over = masks.clone()
    over[0, :, 4:6] = 20

    more = mask_loss(over[None], [truth], matches, STUFF) - mask_loss(masks[None], [truth], matches, STUFF)

    assert (more.item() > 1) == has_loss
    assert more.item() >= 0


def test_a_crowd_does_not_make_the_rest_of_the_image_unknown() -> None:
    truth = make_truth([0, 0, NOT_CERTAIN], is_crowd=np.array([False, False, True, False]))
    classes, masks = predict([0, 2, 2, 2], [0, None, None, None])
    matches = [match_queries(classes, masks, truth, QUERIES)]
    over_crowd, over_rest = masks.clone(), masks.clone()
    over_crowd[0, :, 2:4] = 20
    over_rest[0, :, 4:6] = 20

    none, crowd, rest = (mask_loss(one[None], [truth], matches, STUFF).item() for one in (masks, over_crowd, over_rest))

    assert crowd == pytest.approx(none)
    assert rest > none + 1
    assert not truth.is_exhaustive[0]


@pytest.mark.parametrize(
    ("label", "is_exhaustive", "shown_by", "has_loss"),
    [
        pytest.param(NOT_CERTAIN, PERSON_CERTAIN, 0, True, id="certain class"),
        pytest.param(NOT_CERTAIN, PERSON_CERTAIN, 3, False, id="another class"),
        pytest.param(NO_THING, PERSON_CERTAIN, 0, True, id="thing where there is none"),
        pytest.param(NO_THING, PERSON_CERTAIN, 3, False, id="stuff where there is no thing"),
        pytest.param(VOID, PERSON_CERTAIN, 0, False, id="unknown"),
    ],
)
def test_a_query_that_cannot_show_a_pixel_is_penalized_there(
    label: int, is_exhaustive: np.ndarray, shown_by: int, has_loss: bool
) -> None:
    truth = make_truth([OTHER, OTHER, label], is_exhaustive=is_exhaustive)
    _, masks = predict([2, 2, 2, 2], [None] * 4)
    masks[shown_by, :, 4:6] = 20

    loss = absence_loss(masks[None], [truth], QUERIES, STUFF).item()

    assert (loss > 5) == has_loss
    assert loss < 0.1 or has_loss


def test_views_of_an_image_are_matched_by_their_mean_cost() -> None:
    truth = make_truth([0, OTHER, OTHER])
    sure, unsure = predict([0, 2, 2, 2], [0, None, None, None]), predict([2, 0, 2, 2], [None, 0, None, None])
    output = SimpleNamespace(
        class_queries_logits=torch.stack([sure[0], sure[0], 0.1 * unsure[0], sure[0]]),
        masks_queries_logits=torch.stack([sure[1], sure[1], 0.1 * unsure[1], sure[1]]),
    )

    matches = match_batch(output, [truth, truth], QUERIES, anchoring=0)

    assert [pairs(match) for match in matches] == [{(0, 0)}, {(0, 0)}]
    alone = match_queries(0.1 * unsure[0], 0.1 * unsure[1], truth, QUERIES)
    assert pairs(alone) == {(1, 0)}


def test_views_may_not_differ() -> None:
    classes, masks = predict([0, 2, 2, 1], [0, None, None, 1])
    other_classes, other_masks = predict([2, 0, 2, 1], [None, 0, None, 1])

    def compare(one: torch.Tensor, other: torch.Tensor) -> float:
        return consistency_loss(torch.stack([classes, one]), torch.stack([masks, other]), 2).item()

    assert compare(classes, masks) == pytest.approx(0, abs=1e-4)
    assert compare(other_classes, masks) > 0.5
    assert compare(classes, other_masks) > 0.1
    assert consistency_loss(classes[None], masks[None], 1).item() == 0


def test_mirrored_views_may_differ_in_their_queries_and_not_in_the_classes_that_they_show() -> None:
    classes, masks = predict([0, 2, 2, 1], [0, None, None, 1])

    def compare(other_classes: list[int], columns: list[int | None]) -> float:
        other = predict(other_classes, columns)
        output = SimpleNamespace(
            class_queries_logits=torch.stack([classes, other[0]]), masks_queries_logits=torch.stack([masks, other[1]])
        )
        return mirrored_consistency_loss(output, QUERIES, 2).item()

    assert compare([2, 0, 2, 1], [None, 0, None, 1]) == pytest.approx(0, abs=1e-4), "another query of the class"
    assert compare([0, 2, 2, 1], [2, None, None, 1]) > 0.1, "another place"
    assert compare([2, 2, 2, 1], [0, None, None, 1]) > 0.05, "no person"
