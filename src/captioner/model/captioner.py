"""The artifact, loaded: image bytes in, captions with log probabilities out. Whoever captions an image calls this.

A model.tar.gz holds ``1/saved_model.pb``, ``1/variables/`` and ``1/assets.extra/captioner.json`` (the card: what it was
made of).
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from captioner.digests import is_plain, sha256_file
from captioner.errors import BadData, BadEnvironment, BadImage, BadInput
from captioner.records import Caption

CARD = "1/assets.extra/captioner.json"


@dataclass(frozen=True)
class Explanation:
    """The best caption of one image, and where the network looked for each of its T words."""

    caption: str
    words: tuple[str, ...]
    attention: np.ndarray  # [T, cells], row by row of the grid
    sentinel: np.ndarray  # [T]: the share that went to no cell; with the cells' it adds up to 1


class Captioner:
    """One loaded artifact. Build with `Captioner.load`."""

    def __init__(self, folder: Path, digest: str) -> None:
        import tensorflow as tf

        self.digest = digest
        try:
            self.card: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
            self._model = tf.saved_model.load(str(folder / "1"))
            self._signatures = dict(self._model.signatures)
            for name in ("serving_default", "from_features", "with_beam"):
                self._signatures[name]  # one that is missing is found out here
        except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
            raise BadData(
                f"{folder} does not hold a captioner model ({type(error).__name__}: {_line(error)})."
            ) from None

    @classmethod
    def load(cls, source: Path, cache: Path | None = None) -> Captioner:
        """A model.tar.gz (unpacked below `cache`, once per digest) or an unpacked folder. Raises BadData."""
        if source.is_dir():
            return cls(source, "")
        if not source.exists():
            raise BadData(f"There is no model at {source}.")
        digest = sha256_file(source)
        if cache is not None:
            folder = cache / digest
            if not folder.exists():
                unpack(source, folder)
            return cls(folder, digest)
        with tempfile.TemporaryDirectory(prefix="captioner-") as temporary:
            unpack(source, Path(temporary) / "model")
            return cls(Path(temporary) / "model", digest)

    @staticmethod
    def card_of(archive: Path) -> dict[str, Any]:
        """The card of a model.tar.gz, read without unpacking the rest. Raises BadData."""
        try:
            with tarfile.open(archive, "r:gz") as packed:
                file = packed.extractfile(CARD)
                card: dict[str, Any] = json.loads(file.read() if file else b"")
                return card
        except (tarfile.TarError, EOFError, OSError, ValueError, KeyError) as error:
            raise BadData(f"{archive} is not a whole model archive ({_line(error)}).") from None

    def caption(
        self, images: Sequence[bytes], beam: int | None = None, top: int | None = None
    ) -> list[tuple[Caption, ...]]:
        """The best captions of each image, best first. `images` went through images.normalise.

        Raises BadInput for a beam or top that is out of range, BadImage when the bytes cannot be decoded.
        """
        import tensorflow as tf

        if not images:
            return []
        width, count = self.sizes(beam, top)
        batch = tf.constant(list(images), tf.string)
        try:
            if width == self.card["beam"]:
                answer = self._signatures["serving_default"](image_bytes=batch)
            else:
                answer = self._signatures["with_beam"](image_bytes=batch, beam=tf.constant(width, tf.int32))
        except tf.errors.InvalidArgumentError as error:
            raise BadImage(f"The image cannot be decoded: {_line(error)}.") from None
        return _captions(answer, count)

    def caption_features(self, grid: np.ndarray) -> list[tuple[Caption, ...]]:
        """The same from features [n, cells, channels] float16 on: what evaluation uses."""
        import tensorflow as tf

        if grid.shape[1:] != (self.card["features"]["cells"], self.card["features"]["channels"]):
            raise BadData(f"Features of shape {grid.shape[1:]} do not fit this model; run export again.")
        return _captions(self._signatures["from_features"](grid=tf.constant(grid)), self.card["top"])

    def explain(self, image: bytes, beam: int | None = None) -> Explanation:
        """Where the network looked for each word of the caption that `caption` gives.

        Raises BadInput when the model cannot tell or the beam is out of range, BadImage for what is no image.
        """
        import tensorflow as tf

        width, _ = self.sizes(beam, None)
        self.check_explains()
        batch, size = tf.constant([image], tf.string), tf.constant(width, tf.int32)
        try:
            answer = self._signatures["explain"](image_bytes=batch, beam=size)
        except tf.errors.InvalidArgumentError as error:
            raise BadImage(f"The image cannot be decoded: {_line(error)}.") from None
        words = tuple(word.decode() for word in answer["words"].numpy()[0] if word)
        attention, sentinel = (answer[name].numpy()[0, : len(words)] for name in ("attention", "sentinel"))
        return Explanation(answer["captions"].numpy()[0].decode(), words, attention, sentinel)

    def check_explains(self) -> None:
        """Raises BadInput, and says why, for a model that cannot tell where it looked."""
        if "explain" in self._signatures:
            return
        if "explains" not in self.card:
            raise BadInput("This model was exported before there was --explain: run captioner export CANDIDATE again.")
        kind = self.card["decoder"]["kind"]
        raise BadInput(f"This model's network ({kind}) does not look at parts of the picture: nothing can be drawn.")

    def sizes(self, beam: int | None, top: int | None) -> tuple[int, int]:
        """The beam's width and the number of captions that these ask for. Raises BadInput when out of range."""
        width = self.card["beam"] if beam is None else beam
        if not 1 <= width <= 20:
            raise BadInput(f"A beam of {width} is not possible; give one from 1 to 20.")
        count = min(self.card["top"], width) if top is None else top
        if not 1 <= count <= width:
            raise BadInput(f"{count} captions cannot come from a beam of {width}; give --top from 1 to {width}.")
        return width, count


def describe(captions: Sequence[Caption]) -> dict[str, Any]:
    """The captions of one image as every JSON answer has them: the best one, and its alternatives."""
    best, *others = ({"caption": c.caption, "log_probability": c.log_probability} for c in captions)
    return {**best, "alternatives": others}


def _plain(packed: tarfile.TarFile, archive: Path) -> Iterator[tarfile.TarInfo]:
    """What `packed` holds, as it is read. Raises BadData at the first that is no plain file or folder inside it."""
    for member in packed:
        if not is_plain(member):
            raise BadData(f"{archive} holds {member.name!r}, which is not a plain file inside it.")
        yield member


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a model.tar.gz into `folder`, whole or not at all. Raises BadData on anything but plain files in it."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name[:12]}."))
    except OSError as error:
        raise BadEnvironment(f"{folder.parent} cannot be written: {error.strerror}.") from None
    try:
        with tarfile.open(archive, "r:gz") as packed:
            # Python before 3.11.4 knows no filters; where they are known, leaving them out is warned of.
            if hasattr(tarfile, "data_filter"):
                packed.extraction_filter = tarfile.data_filter
            packed.extractall(temporary, _plain(packed, archive))
        os.chmod(temporary, 0o755)
        try:
            os.rename(temporary, folder)
        except OSError:
            # Another process was first; what it unpacked is the same.
            if not folder.is_dir():
                raise
    except (tarfile.TarError, EOFError, OSError) as error:
        raise BadData(f"{archive} is not a whole model archive ({_line(error)}).") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _captions(answer: dict[str, Any], count: int) -> list[tuple[Caption, ...]]:
    texts, scores = answer["captions"].numpy(), answer["log_probabilities"].numpy()
    return [
        tuple(
            Caption(text.decode(), round(float(score), 5)) for text, score in list(zip(row, line, strict=True))[:count]
        )
        for row, line in zip(texts, scores, strict=True)
    ]


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
