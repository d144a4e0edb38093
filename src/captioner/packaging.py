"""``captioner package``: a model as the ``model.tar.gz`` that SageMaker takes, the same bytes each time.

The layout is TensorFlow Serving's (``1/saved_model.pb``, ``1/variables/…``), so both our serving image and AWS's own
can run it. What is packed already is packed again: equal content then has one digest, whoever packed it first. Knows
nothing of S3 or endpoints.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from captioner.bootstrap import App
from captioner.captioning import find_model
from captioner.digests import pack_folder, sha256_file
from captioner.errors import BadData, BadInput
from captioner.model.captioner import unpack
from captioner.records import write_bytes


@dataclass(frozen=True)
class Packed:
    """An archive on disk. `sha256` is what identifies the model everywhere; `called` says where it comes from."""

    out: str
    sha256: str
    bytes: int
    model: str

    def render(self) -> str:
        return f"{self.sha256}  {self.out}"


def package(app: App, model: str | None, out: Path) -> Packed:
    """Pack what `captioner caption --model` would use into `out`, which is replaced whole or not at all.

    Raises BadInput or BadData when there is no such model or it is none, BadEnvironment when `out` cannot be written.
    """
    if out.is_dir():
        raise BadInput(f"{out} is a folder: name the file, e.g. --out {out / 'model.tar.gz'}.")
    found = find_model(app, model)
    with tempfile.TemporaryDirectory(prefix="captioner-") as temporary:
        folder = Path(temporary) / "model"
        unpack(found.archive, folder)
        check_layout(folder, found.archive)
        content = pack_folder(folder)
    write_bytes(out, content)
    return Packed(str(out), sha256_file(out), len(content), found.called)


def check_layout(folder: Path, source: Path) -> None:
    """Raises BadData unless `folder` holds a SavedModel below a version number, where the serving images look."""
    if not any(found.parent.name.isdigit() for found in folder.glob("*/saved_model.pb")):
        raise BadData(f"{source} holds no NUMBER/saved_model.pb: the serving images would find no model in it.")
