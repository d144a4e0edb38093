"""Prints what trained candidates score on dev for each way of decoding: `export` in params.yaml is chosen by it.

``.venv/bin/python scripts/decoding.py CANDIDATE… [--beams 1 3 5] [--powers 0.5 0.8 1.1] [--neighbours 0 8]
[--agreements 10 20] [--no-repeat 0 2] [--flip] [--images N]`` in a project's folder, after training. Never on test. A
beam of 1 has no length power, and nothing to choose from.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from captioner.bootstrap import App, open_app
from captioner.errors import BadInput, CaptionerError
from captioner.evaluation import select
from captioner.featurestore.packed import PackedFeatures
from captioner.metrics import Scorer, Scores
from captioner.packs import PackReader
from captioner.progress import track
from captioner.records import ImageRecord, read_manifest

BATCH = 100  # images


def main(argv: Sequence[str] | None = None) -> int:
    """Print one table, or one sentence that says why there is none. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("candidates", nargs="*", metavar="CANDIDATE", help="default: every candidate of params.yaml")
    parser.add_argument("--beams", nargs="+", type=int, default=[1, 3, 5])
    parser.add_argument("--powers", nargs="+", type=float, default=[0.5, 0.8, 1.1], help="length powers")
    parser.add_argument("--neighbours", nargs="+", type=int, default=[0], help="training pictures that have a say")
    parser.add_argument("--agreements", nargs="+", type=float, default=[15.0], help="how much they have")
    parser.add_argument("--no-repeat", nargs="+", type=int, default=[0], help="words in a row that are said once only")
    parser.add_argument("--flip", action="store_true", help="look at mirror images, too")
    parser.add_argument("--images", type=int, help="the first so many of dev (default: all)")
    options = parser.parse_args(argv)
    try:
        if min(options.beams) < 1 or (options.images or 1) < 1:
            raise BadInput("Beams and images count from 1.")
        if min(*options.powers, *options.neighbours, *options.agreements, *options.no_repeat) < 0:
            raise BadInput("Length powers, neighbours, agreements and words that are not repeated count from 0.")
        app = open_app()
        names = options.candidates or list(app.params.candidates)
        votes = [(k, weight) for k in options.neighbours for weight in (options.agreements if k else [0.0])]
        found = [
            (name, *row)
            for name in names
            for row in decode(
                app,
                app.paths.trained(name),
                options.beams,
                options.powers,
                votes,
                options.no_repeat,
                options.images,
                options.flip,
            )
        ]
    except CaptionerError as error:
        print(f"decoding: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(table(found)))
    return 0


class Way(NamedTuple):
    """One way of decoding, as params.yaml's `export` has it."""

    beam: int
    length_power: float
    neighbours: int
    agreement: float
    no_repeat: int


def decode(
    app: App,
    trained: Path,
    beams: Sequence[int],
    powers: Sequence[float],
    votes: Sequence[tuple[int, float]],
    no_repeat: Sequence[int] = (0,),
    images: int | None = None,
    flip: bool = False,
) -> Iterator[tuple[Way, Scores]]:
    """The dev scores of the network in `trained`. `votes`: (neighbours, agreement); they cost no search of their own.
    `flip`: as params.yaml's `export` has it.

    Raises BadData when it or its data is missing.
    """
    from captioner.model.runtime import start_tensorflow

    start_tensorflow(app.settings.threads)
    import tensorflow as tf

    from captioner.model.beam import beam_search
    from captioner.model.memory import Memory, best_first
    from captioner.model.trained import read_memory, read_trained
    from captioner.model.training import words_of

    network, vocabulary, _, max_words = read_trained(trained)
    memory = Memory(read_memory(trained)) if any(k for k, _ in votes) else None
    features = PackedFeatures.open(app.paths.features)
    manifest = read_manifest(app.paths.validated / "manifest.jsonl")
    dev = select(manifest, features.ids, "dev")
    rows, scorer = np.array(dev.rows[:images]), Scorer(dev.references[:images])
    parts = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    with looking(app, trained, features, manifest, flip) as grid:
        grids = [grid(part) for part in parts]

    def search(grid: tf.Tensor, beam: tf.Tensor, power: tf.Tensor, once: int) -> tuple[tf.Tensor, tf.Tensor]:
        return beam_search(network, network.image(tf.cast(grid, tf.float32)), beam, max_words, power, once)

    settings = [(beam, power) for beam in beams for power in (powers if beam > 1 else [0.0])]
    for once in no_repeat:
        # Beam and power are inputs of the graph: it is traced once for all of them.
        compiled = tf.function(partial(search, once=once), reduce_retracing=True, autograph=False)
        for beam, power in settings:
            said: dict[tuple[int, float], list[str]] = {vote: [] for vote in (votes if beam > 1 else [(0, 0.0)])}
            with track(f"{trained.parent.name}, beam {beam}, power {power:g}", len(rows), "images") as progress:
                for part in grids:
                    ids, scores = compiled(tf.constant(part), tf.constant(beam), tf.constant(power, tf.float32))
                    asked = {k for k, _ in said if k}
                    agreement = {k: memory.agreement(tf.cast(part, tf.float32), ids, k) for k in asked if memory}
                    for (k, weight), hypotheses in said.items():
                        best = best_first(ids, scores, power, agreement[k], weight)[0] if k else ids
                        hypotheses += words_of(np.asarray(best[:, 0]), vocabulary)
                    progress.advance(len(part))
            for (k, weight), hypotheses in said.items():
                yield Way(beam, power, k, weight, once), scorer.score(hypotheses)


@contextmanager
def looking(
    app: App, trained: Path, features: PackedFeatures, manifest: Sequence[ImageRecord], flip: bool
) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    """What the network in `trained` sees of rows of the manifest: data/features, or what its encoder makes of pictures
    where that is another one, or is shown them both ways."""
    from captioner.model.encoder import load_encoder
    from captioner.model.trained import tuned_encoder
    from captioner.stages.pictures import Encoded, Pictures

    tuned = tuned_encoder(trained)
    if tuned is None and not flip:
        yield features.rows
        return
    meta = features.meta
    encoder = load_encoder(meta.encoder, meta.layout, app.settings.weights, app.paths.home / "encoders", tuned)
    with PackReader(app.paths.raw) as packs:
        yield Encoded(Pictures(encoder, manifest, packs, strength=0.0), flip).plain_grid


def table(rows: Sequence[tuple[str, Way, Scores]]) -> list[str]:
    """Markdown, a line a row."""
    lines = [
        "| candidate | beam | length power | neighbours | agreement | no repeat "
        "| BLEU-1 | BLEU-4 | CIDEr | words | distinct |"
    ]
    lines.append("| --- |" + " ---: |" * 10)
    for name, way, s in rows:
        power = f"{way.length_power:g}" if way.beam > 1 else "–"
        votes = f"{way.neighbours} | {way.agreement:g}" if way.neighbours else "– | –"
        once = way.no_repeat or "–"
        figures = f"{s.bleu_1:.2f} | {s.bleu_4:.2f} | {s.cider:.2f} | {s.mean_words:.1f} | {s.distinct:.2f}"
        lines.append(f"| {name} | {way.beam} | {power} | {votes} | {once} | {figures} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
