"""A training phase's checkpoint in one atomic file: weights, their average, optimizer, history, and the best weights.

The step and the order of the data follow from the number of epochs done, and dropout from the step, so nothing else is
needed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from captioner.errors import BadData
from captioner.model.arrays import pack_arrays, unpack_arrays
from captioner.records import write_bytes

if TYPE_CHECKING:
    from captioner.model.training import Trainer


class Checkpoint:
    def __init__(self, folder: Path, trainer: Trainer) -> None:
        self.folder, self.trainer = folder, trainer
        self.file = folder / "checkpoint.npz"
        self.best: dict[str, np.ndarray] = trainer.weights()

    def save(self, history: list[dict[str, Any]], improved: bool) -> None:
        """Write the state after an epoch; `improved` makes these weights the best so far."""
        weights = self.trainer.weights()
        if improved:
            with self.trainer.averaged():
                self.best = self.trainer.weights()
        arrays = {f"weights/{name}": array for name, array in weights.items()}
        arrays |= {f"best/{name}": array for name, array in self.best.items()}
        arrays |= {f"optimizer/{i:03d}": v.numpy() for i, v in enumerate(self.trainer.state())}
        arrays["history"] = np.frombuffer(json.dumps(history).encode(), np.uint8)
        write_bytes(self.file, pack_arrays(arrays))

    def restore(self) -> list[dict[str, Any]]:
        """The history of the run that was cut short, its state loaded; empty when there is none. Raises BadData."""
        if not self.file.exists():
            return []
        arrays = unpack_arrays(self.file)
        groups: dict[str, dict[str, np.ndarray]] = {"weights": {}, "best": {}, "optimizer": {}}
        try:
            history: list[dict[str, Any]] = json.loads(arrays.pop("history").tobytes())
            for name, array in arrays.items():
                group, _, rest = name.partition("/")
                groups[group][rest] = array
        except (KeyError, ValueError):
            raise BadData(f"{self.file} is not a checkpoint: delete it and train again.") from None
        self.trainer.load(groups["weights"], str(self.file))
        self.best = groups["best"]
        variables = self.trainer.state()
        saved = [groups["optimizer"][name] for name in sorted(groups["optimizer"])]
        if [v.shape for v in variables] != [a.shape for a in saved]:
            raise BadData(f"{self.file} belongs to another optimizer: delete it and train again.")
        for variable, array in zip(variables, saved, strict=True):
            variable.assign(array)
        return history

    def load_best(self) -> None:
        """Put the best weights into the network."""
        self.trainer.load(self.best, str(self.file))
