"""Options of a training run that cannot be are named."""

from __future__ import annotations

import pytest

from ihp_backend.training.config import TrainConfig


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"speed": 3}, "speed.*known"),
        ({"base_loss": "l2"}, "'l2'.*ce, focal"),
        ({"parser": {"colour": 1}}, "colour"),
        ({"parser": {"maps": "bogus"}}, "'bogus'; expected gaussian or disk"),
        ({"sampling": {"luck": 1}}, "luck"),
        ({"warmup": 0}, "warmup is 0; expected a whole number of at least 1"),
        ({"batch": 0}, "batch is 0"),
        ({"steps": "5"}, "steps is '5'; expected a whole number"),
        ({"rate": True}, "rate is True; expected a number"),
        ({"validate_every": 0.5}, "validate_every is 0.5; expected a whole number"),
        ({"sampling": {"drop_all": 7}}, "drop_all is 7; expected a number from 0 to 1"),
        ({"parser": {"area": 100}}, "area is 100; expected a whole number from 1024"),
        ({"parser": {"semantic": "no"}}, "semantic is 'no'; expected true or false"),
        ({"parser": [1]}, r"parser is \[1\]; expected an object"),
        ({"base_loss": "focal", "rare_classes": 0.3}, "rare_classes weighs"),
    ],
)
def test_options_that_cannot_be(fields: dict[str, object], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        TrainConfig.from_dict(fields)


def test_a_configuration_of_an_older_release_is_read() -> None:
    found = TrainConfig.from_dict({"sampling": {"spare": 0.5}, "parser": {"spares": 0}})
    assert (found.sampling.open_classes, found.parser.open_channels) == (0.5, 0)
