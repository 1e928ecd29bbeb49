"""Which classes are stuff."""

from worker.engine.coco_classes import LABEL_COUNT, STUFF, THINGS, stuff_among


def test_coco_has_80_things_and_53_kinds_of_stuff() -> None:
    assert (len(THINGS), len(STUFF), len(THINGS & STUFF)) == (80, 53, 0)


def test_names_of_coco_tell() -> None:
    assert stuff_among({0: "cat", 1: "sky-other-merged", 2: "road"}) == {1, 2}


def test_without_names_the_order_of_coco_tells() -> None:
    assert stuff_among({number: f"LABEL_{number}" for number in range(LABEL_COUNT)}) == set(range(80, 133))


def test_of_other_classes_nothing_is_known() -> None:
    assert stuff_among({0: "cat", 1: "unicorn"}) is None
    assert stuff_among({0: "LABEL_0"}) is None
