"""Simulated users with known preferences: who they are, what they send, how they rate. Knows nothing of HTTP.

A user's rating depends on who captioned and on nothing else, so that the truth is known and the verdict can be judged.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from captioner.ledger import CHALLENGER

MEAN, LOWEST, HIGHEST = 3.2, 1, 5  # rating points
SMALLEST = 0.7  # of a picture's sides, that a user's crop keeps


@dataclass(frozen=True)
class User:
    """One user: the JPEG that they send, and what they would rate a caption of each variant."""

    picture: bytes
    champion: int
    challenger: int

    def rates(self, variant: str) -> int:
        """The rating of a caption by `variant`."""
        return self.challenger if variant == CHALLENGER else self.champion


class Crowd:
    """Users drawn from `seed`: `effect` is how many points more they give the challenger, before rounding."""

    def __init__(self, pictures: Sequence[bytes], effect: float, deviation: float, seed: int) -> None:
        self._pictures = [Image.open(io.BytesIO(data)).convert("RGB") for data in pictures]
        self._effect, self._deviation, self._seed = effect, deviation, seed

    def user(self, number: int) -> User:
        """The user `number`: always the same one, whoever came before."""
        draw = np.random.default_rng((self._seed, number))
        champion, challenger = self._ratings(draw)
        return User(self._picture(draw), champion, challenger)

    def truth(self, users: int) -> float:
        """What the first `users` would give the challenger more, on average, if each rated both."""
        drawn = [self._ratings(np.random.default_rng((self._seed, number))) for number in range(users)]
        return float(np.mean([challenger - champion for champion, challenger in drawn]))

    def _ratings(self, draw: np.random.Generator) -> tuple[int, int]:
        """What one user gives a caption of the champion, and of the challenger."""
        mood = draw.normal(MEAN, self._deviation)
        champion, challenger = (int(np.clip(round(mood + more), LOWEST, HIGHEST)) for more in (0.0, self._effect))
        return champion, challenger

    def _picture(self, draw: np.random.Generator) -> bytes:
        """A crop of one of the pictures, as a phone would send it."""
        whole = self._pictures[draw.integers(len(self._pictures))]
        scale = draw.uniform(SMALLEST, 1.0)
        width, height = round(whole.width * scale), round(whole.height * scale)
        left, top = draw.integers(whole.width - width + 1), draw.integers(whole.height - height + 1)
        out = io.BytesIO()
        whole.crop((int(left), int(top), int(left) + width, int(top) + height)).save(out, "JPEG", quality=88)
        return out.getvalue()
