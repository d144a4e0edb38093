"""The simulated users: the same ones each time, with the preference that was asked for."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from captioner.demo.crowd import Crowd
from captioner.demo.story import Plan
from captioner.errors import BadParams
from captioner.ledger import CHALLENGER, CHAMPION
from tests.api.conftest import picture

PICTURES = [picture(size=(200, 120)), picture("PNG", (90, 160))]


def test_a_user_is_the_same_whoever_came_before() -> None:
    one, again = Crowd(PICTURES, 0.8, 1.2, seed=3), Crowd(PICTURES, 0.8, 1.2, seed=3)
    for number in range(5):
        one.user(number)
    assert one.user(7) == again.user(7)
    assert one.user(7) != Crowd(PICTURES, 0.8, 1.2, seed=4).user(7)


def test_users_like_the_challenger_as_much_more_as_was_said() -> None:
    crowd = Crowd(PICTURES, 0.8, 1.2, seed=0)
    users = [crowd.user(number) for number in range(400)]
    better = [one.rates(CHALLENGER) - one.rates(CHAMPION) for one in users]
    assert crowd.truth(400) == pytest.approx(np.mean(better))
    assert 0.5 < crowd.truth(400) < 0.8  # nobody gives more than five
    assert min(better) >= 0
    assert Crowd(PICTURES, 0.0, 1.2, seed=0).truth(400) == 0.0
    assert all(1 <= one.rates(variant) <= 5 for one in users for variant in (CHAMPION, CHALLENGER))


def test_a_users_picture_is_a_part_of_one_that_was_given() -> None:
    crowd = Crowd(PICTURES, 0.0, 1.2, seed=0)
    sizes = set()
    for number in range(30):
        with Image.open(io.BytesIO(crowd.user(number).picture)) as image:
            assert image.format == "JPEG"
            sizes.add(image.size)
    assert len(sizes) > 10
    assert all(width <= 200 and height <= 160 for width, height in sizes)


@pytest.mark.parametrize("wrong", [{"users": 0}, {"rate": 0.0}, {"effect": 5.0}, {"effect": float("nan")}])
def test_a_plan_that_cannot_be_played_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadParams, match="--users must be at least 1"):
        Plan(**{"users": 1, "rate": 1.0, "effect": 0.0, "seed": 0, **wrong})  # type: ignore[arg-type]
