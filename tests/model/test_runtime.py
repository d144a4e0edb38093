"""TensorFlow's first import: what it leaves aside, and that it is still there for whoever asks later."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from captioner.model.runtime import EXTRAS
from tests.imports import closure

LEFT = """
import json, sys
from captioner.model.runtime import EXTRAS, start_tensorflow

start_tensorflow(1, keras={keras})
left = [name for name in ("keras", *EXTRAS) if name not in sys.modules]
import keras, matplotlib, pandas, pydot, scipy, sklearn, tensorflow as tf

sum_of_two = keras.layers.Dense(1, kernel_initializer="ones")(tf.ones((1, 2)))
print(json.dumps([left, float(sum_of_two[0, 0]), tf.keras.layers.Dense is keras.layers.Dense]))
"""


@pytest.mark.parametrize(("keras", "left"), [(True, [*EXTRAS]), (False, ["keras", *EXTRAS])])
def test_what_is_left_aside_can_be_imported_later(keras: bool, left: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", LEFT.format(keras=keras)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [left, 2.0, True]


def test_serving_a_model_needs_no_keras() -> None:
    lines = [
        line.split() for file in closure("captioner.serve.server") for line in file.read_text("utf-8").splitlines()
    ]
    imports = [line for line in lines if len(line) > 1 and line[0] in ("import", "from")]
    assert imports
    assert [line for line in imports if line[1].split(".")[0] == "keras"] == []
