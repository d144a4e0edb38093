"""One operation a variable, and the steps of Keras' own optimizer."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from captioner.model.adam import Adam

STEPS = 5


def walked(kind: type[keras.optimizers.Adam]) -> list[np.ndarray]:
    """Where a matrix, and an embedding that is asked for two of its rows, are after STEPS steps; and the moments."""
    draw = np.random.default_rng(0)
    matrix = keras.Variable(draw.normal(0, 1, (3, 4)).astype(np.float32))
    embedding = keras.Variable(draw.normal(0, 1, (5, 2)).astype(np.float32))
    schedule = keras.optimizers.schedules.CosineDecay(0.0, STEPS, warmup_target=0.1, warmup_steps=2)
    optimizer = kind(schedule, global_clipnorm=1.0)
    optimizer.build([matrix, embedding])

    @tf.function
    def step(x: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            rows = tf.gather(embedding.value, [0, 3, 3])
            loss = tf.reduce_sum(tf.tanh(x @ matrix.value) ** 2) + tf.reduce_sum(rows**2)
        optimizer.apply(tape.gradient(loss, [matrix.value, embedding.value]), [matrix, embedding])

    for _ in range(STEPS):
        step(tf.constant(draw.normal(0, 1, (2, 3)), tf.float32))
    return [v.value.numpy() for v in (matrix, embedding, *optimizer.variables)]


def test_its_steps_are_those_of_keras() -> None:
    for own, wanted in zip(walked(Adam), walked(keras.optimizers.Adam), strict=True):
        np.testing.assert_allclose(own, wanted, rtol=1e-5, atol=1e-6)


def test_a_step_is_one_operation_a_variable() -> None:
    variable = keras.Variable(np.ones(3, np.float32))
    optimizer = Adam(0.1)
    optimizer.build([variable])
    step = tf.function(lambda: optimizer.apply([tf.ones(3)], [variable]))
    kinds = [operation.type for operation in step.get_concrete_function().graph.get_operations()]
    assert kinds.count("ResourceApplyAdam") == 1
    assert "AssignSubVariableOp" not in kinds
