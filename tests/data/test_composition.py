from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ihp_backend.data.composition import Layer, compose
from ihp_backend.parts import IGNORE

HEIGHT, WIDTH = 8, 10


def box(rows: slice, columns: slice) -> NDArray[np.bool_]:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[rows, columns] = True
    return mask


LEFT, RIGHT = box(slice(0, 4), slice(0, 6)), box(slice(0, 4), slice(4, 10))


def test_the_later_mask_wins_and_what_it_hides_is_counted() -> None:
    found = compose([Layer(LEFT, "Face", 13), Layer(RIGHT, "Hair", 2)], HEIGHT, WIDTH)
    assert (found.labels[RIGHT] == 2).all()
    assert (found.labels[LEFT & ~RIGHT] == 13).all()
    assert found.labels[4:].max() == 0
    assert found.overlaps == {"Hair over Face": 8}
    assert found.overlapping == 8


def test_two_masks_of_one_class_do_not_overlap_but_those_of_two_people_do() -> None:
    assert compose([Layer(LEFT, "Hair", 2), Layer(RIGHT, "Hair", 2)], HEIGHT, WIDTH).overlapping == 0
    of_two = compose([Layer(LEFT, "Hair", 2, 1), Layer(RIGHT, "Hair", 2, 2)], HEIGHT, WIDTH)
    assert of_two.overlaps == {"Hair of person 2 over Hair of person 1": 8}


def test_a_pixel_that_three_claim_is_counted_once() -> None:
    layers = [Layer(LEFT, "A", 1), Layer(LEFT, "B", 2), Layer(LEFT, "C", 3)]
    found = compose(layers, HEIGHT, WIDTH)
    assert found.overlapping == LEFT.sum() == 24
    assert found.overlaps == {"B over A": 24, "C over B": 24}
    assert found.kinds == ((3, 0),)


def test_what_has_no_class_is_ignored_and_hides_nothing() -> None:
    found = compose([Layer(LEFT, "Face", 13), Layer(RIGHT, "Tattoo", None)], HEIGHT, WIDTH)
    assert (found.labels[LEFT] == 13).all()
    assert (found.labels[RIGHT & ~LEFT] == IGNORE).all()
    assert found.without_class == (RIGHT & ~LEFT).sum()
    assert found.overlapping == 0


def test_a_gap_is_enclosed_and_not_outside() -> None:
    ring = box(slice(2, 7), slice(2, 7)) & ~box(slice(3, 6), slice(3, 6))
    assert compose([Layer(ring, "Face", 1)], HEIGHT, WIDTH).gaps == 9
    ring[2, 4] = False  # a way out
    assert compose([Layer(ring, "Face", 1)], HEIGHT, WIDTH).gaps == 0
    corner = box(slice(0, 3), slice(0, 3)) & ~box(slice(0, 2), slice(0, 2))
    assert compose([Layer(corner, "Face", 1)], HEIGHT, WIDTH).gaps == 0


def test_an_instance_is_a_part_of_a_person_or_a_mask_that_does_not_say_whose_it_is() -> None:
    top, bottom = box(slice(0, 1), slice(0, 3)), box(slice(6, 7), slice(0, 3))
    layers = [
        Layer(top, "Hair", 2, 2),
        Layer(bottom, "Hair", 2, 2),
        Layer(box(slice(3, 4), slice(0, 1)), "Hair", 2),
        Layer(box(slice(3, 4), slice(5, 6)), "Hair", 2),
    ]
    found = compose(layers, HEIGHT, WIDTH)
    assert found.kinds == ((2, 2), (2, 0), (2, 0))
    assert found.instances[0, 0] == found.instances[6, 0] == 1
    assert (found.instances[3, 0], found.instances[3, 5]) == (2, 3)
    assert found.people[0, 0] == 2
    assert found.people[3, 0] == 0
    assert found.without_person == 2


def test_a_hidden_instance_leaves_no_number_free() -> None:
    layers = [Layer(LEFT, "A", 1, 1), Layer(LEFT, "B", 2, 1), Layer(RIGHT & ~LEFT, "C", 3, 1)]
    found = compose(layers, HEIGHT, WIDTH)
    assert found.kinds == ((2, 1), (3, 1))
    assert set(np.unique(found.instances)) == {0, 1, 2}
