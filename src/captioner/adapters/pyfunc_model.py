"""The model as MLflow's pyfunc: the code that ``mlflow models serve`` and ``mlflow.pyfunc.load_model`` run.

Logged as code, never pickled: MLflow copies this file into the model version, beside the artifact and the package's
sources, and runs it again wherever the version is loaded. It therefore imports lazily and keeps no state of its own.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any

import mlflow.models
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel

from captioner.errors import BadInput


class CaptionerModel(PythonModel):
    """Column ``image`` (bytes; base64 text in JSON) → ``caption``, ``log_probability`` and ``alternatives``."""

    # MLflow finds `context` by its name.
    def load_context(self, context: Any) -> None:
        from captioner.model.captioner import Captioner

        self.captioner = Captioner.load(Path(context.artifacts["model"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row per image, in order. A picture that cannot be captioned is MLflow's invalid parameter (HTTP 400)."""
        from captioner.images import normalise
        from captioner.model.captioner import describe

        try:
            images = [normalise(_bytes(cell), f"image {n}") for n, cell in enumerate(model_input["image"], start=1)]
            answers = self.captioner.caption(images)
        except BadInput as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        return pd.DataFrame(
            [describe(captions) for captions in answers], columns=["caption", "log_probability", "alternatives"]
        )


def _bytes(cell: Any) -> bytes:
    if not isinstance(cell, str):
        return bytes(cell)
    try:
        return base64.b64decode(cell, validate=True)
    except binascii.Error:
        raise BadInput("The column image must hold bytes, or base64 text.") from None


mlflow.models.set_model(CaptionerModel())
