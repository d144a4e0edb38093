"""Adam (Kingma & Ba 2015, arXiv:1412.6980) whose step over a variable is one operation instead of Keras' twelve.

A step of Keras' own reads and writes each weight and its moments again for every operation; memory is what that costs.
"""

from __future__ import annotations

import keras
import tensorflow as tf


class Adam(keras.optimizers.Adam):
    """Keras' optimizer, state and schedule; float32 variables, without amsgrad."""

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        place = self._get_variable_index(variable)
        taken = tf.cast(self.iterations.value, tf.float32) + 1.0
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[place].value.handle,
            v=self._velocities[place].value.handle,
            beta1_power=self.beta_1**taken,
            beta2_power=self.beta_2**taken,
            lr=learning_rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.convert_to_tensor(gradient),
        )
