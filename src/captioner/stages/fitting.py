"""The inside of the train stage: one member through its phases and epochs, from wherever a checkpoint left it.

Knows nothing of where a trained network is written, nor of the report on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from captioner.errors import BadData
from captioner.featurestore.packed import PackedFeatures
from captioner.featurestore.shards import npy_header
from captioner.metrics import Scorer
from captioner.model.trained import load_weights, weights_of
from captioner.model.vectors import Coverage, start_from
from captioner.params import DecoderParams, TrainParams
from captioner.paths import Paths
from captioner.ports import Run
from captioner.progress import Progress, track
from captioner.text import Vocabulary

if TYPE_CHECKING:
    from captioner.model.checkpoint import Checkpoint
    from captioner.model.teaching import Teacher
    from captioner.model.training import Trainer
    from captioner.stages.pictures import Pictures


@dataclass(frozen=True)
class Epoch:
    epoch: int
    loss: float  # nats a token, dropout, smoothing, teachers included; in self-critical training of its own samples
    learning_rate: float
    cider: float
    bleu_1: float
    bleu_4: float
    mean_words: float
    distinct: float
    member: int = 0  # a teacher's comes after the candidate's own
    objective: str = "cross-entropy"
    reward: float = 0.0  # mean CIDEr of the samples of self-critical training


@dataclass(frozen=True)
class Data:
    """What training sees: rows of the feature file, tokenised captions, and the dev images with their references."""

    rows: np.ndarray
    captions: list[list[list[str]]]
    dev_rows: np.ndarray
    dev_references: list[list[str]]


@dataclass(frozen=True)
class Views:
    """The training images' features in every view; an image shows one of them in each epoch."""

    plain: PackedFeatures
    others: tuple[PackedFeatures, ...]
    places: tuple[dict[str, int], ...]  # of each other view: id → row

    @classmethod
    def open(cls, paths: Paths, plain: PackedFeatures, names: Sequence[str]) -> Views:
        """Raises BadData when a view was not made."""
        missing = [name for name in names if not paths.view(name).is_dir()]
        if missing:
            raise BadData(f"data/features has no view {missing[0]}: run the features stage again.")
        others = tuple(PackedFeatures.open(paths.view(name)) for name in names)
        return cls(plain, others, tuple({name: row for row, name in enumerate(one.ids)} for one in others))

    def plain_grid(self, rows: np.ndarray) -> np.ndarray:
        """float16 [B, C, D] of the rows as they are."""
        return self.plain.rows(rows)

    def grid(self, rows: np.ndarray, seed: int, step: int) -> np.ndarray:
        """float16 [B, C, D] of the plain rows `rows`, each in a view that `seed` and `step` choose."""
        if not self.others:
            return self.plain.rows(rows)
        chosen = np.random.default_rng([seed, step, 1]).integers(0, 1 + len(self.others), len(rows))
        grid = np.empty((len(rows), self.plain.meta.cells, self.plain.meta.channels), np.float16)
        grid[chosen == 0] = self.plain.rows(rows[chosen == 0])
        for number, (view, places) in enumerate(zip(self.others, self.places, strict=True), start=1):
            here = [places[self.plain.ids[row]] for row in rows[chosen == number]]
            grid[chosen == number] = view.rows(here)
        return grid


class Seen(Protocol):
    """What the network is shown: features, or pixels where the encoder learns too."""

    def plain_grid(self, rows: np.ndarray) -> np.ndarray: ...
    def grid(self, rows: np.ndarray, seed: int, step: int) -> np.ndarray: ...


@dataclass(frozen=True)
class Given:
    """What the training of every member starts from."""

    params: TrainParams
    decoder: DecoderParams
    views: Seen
    channels: int  # of a cell
    data: Data
    encoded: np.ndarray  # [images, N, max_words + 2]
    vocabulary: Vocabulary
    word_vectors: Path
    checkpoints: Path
    pictures: Pictures | None = None  # where the encoder is to learn
    teachers: tuple[Teacher, ...] = ()

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        return -(-len(self.data.rows) // self.params.images_per_batch)


@dataclass(frozen=True)
class Trained:
    """One member: its best weights, what word vectors it started from, and the encoder's where that learned too."""

    weights: dict[str, np.ndarray]
    coverage: Coverage | None
    encoder: dict[str, np.ndarray] | None


def train_member(given: Given, member: int, history: list[Epoch], tracked: Run) -> Trained:
    """One member through its phases. `history` grows, and the encoder of `given.pictures` learns."""
    from captioner.model.checkpoint import Checkpoint
    from captioner.model.decoder import build_decoder
    from captioner.model.scst import CiderReward, SelfCritical
    from captioner.model.training import Trainer
    from captioner.model.tuning import Tuner
    from captioner.stages.pictures import Encoded

    params = given.params.model_copy(update={"seed": given.params.seed + member})
    decoder = build_decoder(given.decoder, len(given.vocabulary), given.channels, params.seed)
    coverage, tuned = None, None
    if given.decoder.word_vectors:
        coverage = start_from(given.word_vectors / given.decoder.word_vectors, decoder, given.vocabulary)
    for phase in phases_of(params):
        if phase == "scst":
            assert params.scst is not None, "params.py sees to it"
            reward = CiderReward(given.data.captions, given.vocabulary, params.scst.brevity)
            trainer: Trainer = SelfCritical(decoder, params, given.steps, reward)
        elif phase == "finetune":
            assert given.pictures is not None, "train.py sees to it"
            encoder, dropout = given.pictures.encoder, given.decoder.dropout
            trainer = Tuner(decoder, encoder, params, dropout, given.steps, given.teachers)
            given = replace(given, views=given.pictures)
        else:
            trainer = Trainer(decoder, params, given.decoder.dropout, given.steps, given.teachers)
        checkpoint = Checkpoint(given.checkpoints / f"{member}-{phase}", trainer)
        own = [Epoch(**epoch) for epoch in checkpoint.restore()]
        for epoch in own:
            tracked.metrics(epoch_metrics(asdict(epoch)), step=epoch.epoch)
        fit(given, params, trainer, member, len(history), own, checkpoint, tracked)
        history += own
        checkpoint.load_best()
        if isinstance(trainer, Tuner):
            assert given.pictures is not None
            tuned = trainer.settle()
            given = replace(given, views=Encoded(given.pictures))
    return Trained(weights_of(decoder), coverage, tuned)


def train_teacher(given: Given, member: int, history: list[Epoch], tracked: Run) -> Teacher:
    """A network that people's captions alone have taught, through all phases, and what it looks at from now on."""
    from captioner.model.decoder import build_decoder
    from captioner.model.teaching import Teacher
    from captioner.stages.pictures import Encoded

    plain = replace(given, params=given.params.model_copy(update={"distill": None}), teachers=())
    trained = train_member(plain, member, history, tracked)
    decoder = build_decoder(given.decoder, len(given.vocabulary), given.channels)
    load_weights(decoder, trained.weights, "a teacher")
    rows = given.data.rows
    if given.pictures is None:
        return Teacher(decoder, lambda images: given.views.plain_grid(rows[images]))
    seen = kept(Encoded(given.pictures), rows, given.checkpoints / f"{member}-seen.npy")
    return Teacher(decoder, lambda images: seen[images])


def kept(shown: Seen, rows: np.ndarray, file: Path) -> np.ndarray:
    """float16 [N, C, D]: what is shown of each of the `rows`, in `file`, where it stays for a run that goes on."""
    if not file.exists():
        part = file.with_suffix(".part")
        # Not through a memmap: a full disk would kill the process instead of being told.
        with part.open("wb") as out:
            for number, grid in enumerate(by_hundreds(shown, rows, "what a teacher looks at")):
                if not number:
                    out.write(npy_header((len(rows), *grid.shape[1:])))
                out.write(grid.tobytes())
        part.replace(file)
    found: np.ndarray = np.load(file, mmap_mode="r")
    return found


def by_hundreds(shown: Seen, rows: np.ndarray, name: str) -> Iterator[np.ndarray]:
    """What is shown of each of the `rows`, float16 [up to 100, C, D] at a time, with a progress bar called `name`."""
    with track(name, len(rows), "images") as progress:
        for start in range(0, len(rows), 100):
            grid = shown.plain_grid(rows[start : start + 100])
            yield grid
            progress.advance(len(grid))


def phases_of(params: TrainParams) -> list[str]:
    """What a member goes through, by the objectives' names, in order."""
    # What teachers have brought, self-critical training takes back (docs/LOG.md): it is theirs alone.
    further = {"finetune": params.finetune is not None, "scst": params.objective == "scst" and not params.distill}
    return ["cross-entropy", *(name for name, wanted in further.items() if wanted)]


def fit(
    given: Given,
    params: TrainParams,
    trainer: Trainer,
    member: int,
    before: int,
    history: list[Epoch],
    checkpoint: Checkpoint,
    tracked: Run,
) -> None:
    """Epochs from where `history` ends until the last one or until patience is out; `history` grows in place.

    `before` epochs, of other members and phases, are counted already.
    """
    from captioner.model.training import words_of

    scorer = Scorer(given.data.dev_references)
    while len(history) < trainer.epochs and not out_of_patience(history, params.monitor, trainer.patience):
        number = len(history) + 1
        name = f"epoch {number}/{trainer.epochs}" + (f", {trainer.objective}" if before else "")
        with track(name, int((given.encoded != 0).any(axis=2).sum()), "captions") as progress:
            loss, rate, reward = one_epoch(given, params, trainer, number, progress)
        hypotheses = []
        with trainer.averaged(), track(f"dev captions {number}", len(given.data.dev_rows), "images") as progress:
            for start in range(0, len(given.data.dev_rows), 100):
                rows = given.data.dev_rows[start : start + 100]
                hypotheses += words_of(trainer.caption(given.views.plain_grid(rows)), given.vocabulary)
                progress.advance(len(rows))
        dev = scorer.score(hypotheses)
        epoch = Epoch(
            epoch=before + number,
            loss=loss,
            learning_rate=rate,
            cider=dev.cider,
            bleu_1=dev.bleu_1,
            bleu_4=dev.bleu_4,
            mean_words=dev.mean_words,
            distinct=dev.distinct,
            member=member,
            objective=trainer.objective,
            reward=reward,
        )
        improved = not history or getattr(epoch, params.monitor) > max(getattr(e, params.monitor) for e in history)
        history.append(epoch)
        checkpoint.save([asdict(e) for e in history], improved)
        tracked.metrics(epoch_metrics(asdict(epoch)), step=epoch.epoch)


def one_epoch(
    given: Given, params: TrainParams, trainer: Trainer, number: int, progress: Progress
) -> tuple[float, float, float]:
    """The mean loss a token of one epoch, the learning rate at its end, and the mean reward of its samples."""
    from captioner.model.training import epoch_batches

    # Every phase goes over the data in an order of its own.
    seed = params.seed + {"cross-entropy": 0, "scst": 1_000_000, "finetune": 2_000_000}[trainer.objective]
    total, tokens, rewards = 0.0, 0, 0.0
    step = (number - 1) * given.steps
    for batch in epoch_batches(given.data.rows, given.encoded, params.images_per_batch, seed, number):
        loss, count, reward = trainer.update(given.views.grid(batch.rows, seed, step), batch, step)
        if not np.isfinite(loss):
            raise BadData(f"The loss became {loss} in epoch {number}: lower train.learning_rate or train.clip_norm.")
        total, tokens, rewards, step = total + loss * count, tokens + count, rewards + reward, step + 1
        progress.advance(int((batch.captions != 0).any(axis=2).sum()), note=f"loss {total / tokens:.3f}")
    return total / tokens, float(trainer.rate(step)), rewards / given.steps


def out_of_patience(history: Sequence[Epoch], monitor: str, patience: int) -> bool:
    """Whether the last `patience` epochs brought nothing better than what was there before them."""
    scores = [getattr(epoch, monitor) for epoch in history]
    return len(scores) > patience and max(scores[-patience:]) <= max(scores[:-patience])


def epoch_metrics(epoch: Mapping[str, Any]) -> dict[str, float]:
    """One epoch of a report under the names that it has in MLflow."""
    plain = ("loss", "learning_rate", "reward", "member")
    return {
        n if n in plain else f"dev_{n}": float(value) for n, value in epoch.items() if n not in ("epoch", "objective")
    }
