"""Fine-tuning: the encoder's last blocks learn together with the decoder, from pixels rather than from features.

The blocks before them stay as published and only run forwards. Batch normalisation is folded into the convolutions, so
there are no statistics that a small batch could spoil. Knows nothing of files, stores or stopping.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from captioner.model.adam import Adam
from captioner.model.arrays import rounded
from captioner.model.decoder import Decoder
from captioner.model.encoder import Encoder, assign, named
from captioner.model.several import split
from captioner.model.teaching import Teacher
from captioner.model.training import Trainer, schedule
from captioner.params import TrainParams

PREFIX = "encoder/"  # of the encoder's weights among the trainer's


class Tuner(Trainer):
    """The same step, with the encoder's end inside it; what it is given are pixels, float32 [B, size, size, 3]."""

    objective = "finetune"

    def __init__(
        self,
        decoder: Decoder,
        encoder: Encoder,
        params: TrainParams,
        dropout: float,
        steps_per_epoch: int,
        teachers: Sequence[Teacher] = (),
    ) -> None:
        """Changes `encoder`'s weights. Raises BadParams when it has no such block."""
        assert params.finetune is not None, "the stage sees to it"
        self.decoder, self.encoder, self.dropout, self.finetune = decoder, encoder, dropout, params.finetune
        self.teachers = teachers
        # The encoder computes in float32 in any case: scaled losses would be for the decoder alone.
        self.params = params.model_copy(update={"precision": "float32"})
        self.epochs, self.patience = self.finetune.epochs, self.finetune.patience
        self._front, self._end = split(encoder.network, self.finetune.first)
        self._learning = learning(self._end)
        steps, warmup = steps_per_epoch * self.epochs, self.finetune.warmup_steps
        own = schedule(self.finetune.encoder_rate, warmup, steps)
        self._encoder_optimizer = Adam(own, global_clipnorm=params.clip_norm)
        self._encoder_optimizer.build(list(self._learning.values()))
        self._compile(schedule(self.finetune.learning_rate, warmup, steps))

    @property
    def variables(self) -> list[keras.Variable]:
        return [*super().variables, *self._learning.values()]

    def weights(self) -> dict[str, np.ndarray]:
        return {**super().weights(), **{PREFIX + n: v.value.numpy() for n, v in self._learning.items()}}

    def load(self, arrays: Mapping[str, np.ndarray], source: str) -> None:
        super().load({n: a for n, a in arrays.items() if not n.startswith(PREFIX)}, source)
        assign(self._end, {n[len(PREFIX) :]: a for n, a in arrays.items() if n.startswith(PREFIX)}, source)

    def state(self) -> list[tf.Variable]:
        return [*super().state(), *(v.value for v in self._encoder_optimizer.variables)]

    def settle(self) -> dict[str, np.ndarray]:
        """The encoder's weights that learned, as they are kept: float16, which it has itself from here on."""
        arrays = rounded({name: v.value.numpy() for name, v in self._learning.items()})
        assign(self._end, arrays, self.encoder.name)
        return arrays

    def _features(self, grid: tf.Tensor) -> tf.Tensor:
        return self.encoder.arranged(self._end(self._front(grid, training=False), training=False))

    def _apply(self, gradients: list[tf.Tensor]) -> None:
        of_decoder = len(super().variables)
        self.optimizer.apply(gradients[:of_decoder], super().variables)
        self._encoder_optimizer.apply(gradients[of_decoder:], list(self._learning.values()))


def learning(end: keras.Model) -> dict[str, keras.Variable]:
    """What learns of an encoder's end, by name: all but the depthwise filters.

    They are 5 % of its weights, and their gradient would be a third of the time that the end takes.
    """
    layers = [one for one in end.layers if one.weights and not isinstance(one, keras.layers.DepthwiseConv2D)]
    for layer in layers:
        layer.trainable = True
    return named(end, {layer.name for layer in layers})
