"""Which classes are stuff."""

from worker.engine.coco_classes import LABEL_COUNT, STUFF, THINGS, find_stuff


def test_coco_has_80_things_and_53_kinds_of_stuff() -> None:
    assert (len(THINGS), len(STUFF), len(THINGS & STUFF)) == (80, 53, 0)


def test_stuff_is_known_by_the_names_of_coco() -> None:
    assert find_stuff({0: "cat", 1: "sky-other-merged", 2: "road"}) == {1, 2}


def test_without_names_stuff_is_known_by_the_order_of_coco() -> None:
    assert find_stuff({number: f"LABEL_{number}" for number in range(LABEL_COUNT)}) == set(range(80, 133))


def test_stuff_among_other_classes_is_unknown() -> None:
    assert find_stuff({0: "cat", 1: "unicorn"}) is None
    assert find_stuff({0: "LABEL_0"}) is None
