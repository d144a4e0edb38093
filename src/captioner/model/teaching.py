"""Networks that teach another one what they think likely. Knows nothing of how any of them is trained.

As in Hinton et al. (2015), "Distilling the Knowledge in a Neural Network" (arXiv:1503.02531), at temperature 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from captioner.model.decoder import Decoder
from captioner.model.recurrence import Packing


@dataclass(frozen=True)
class Teacher:
    """A trained network, and what it looks at: its own features of pictures as they are."""

    decoder: Decoder
    seen: Callable[[np.ndarray], np.ndarray]  # places among the training images [B] → float16 [B, C, D]


def said_by(teachers: Sequence[Teacher], shown: Sequence[tf.Tensor], inputs: tf.Tensor, packing: Packing) -> tf.Tensor:
    """The mean of what `teachers` think likely after each real token, each of what it is shown [B, C, D].

    `inputs` [B, N, T] are the captions so far. Probabilities, [P, V].
    """
    chances = [
        tf.nn.softmax(one.softmax(one.hidden(one.image(tf.cast(grid, tf.float32)), inputs, packing)))
        for one, grid in zip((teacher.decoder for teacher in teachers), shown, strict=True)
    ]
    return tf.add_n(chances) / float(len(chances))
