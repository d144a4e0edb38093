"""Prints what a phase of training scores on dev as its parameters change, one at a time, seed by seed.

``.venv/bin/python scripts/ablations.py CANDIDATE --seeds 1 2 --vary train.finetune.encoder_rate=0.00003 …
[--set train.finetune.epochs=2 …]`` in a project's folder, after its features. Each row is one --vary; what is --set
holds for all rows, the first of which is the phase with nothing varied: fine-tuning, self-critical training, or
cross-entropy where something else of ``train`` or of the candidate's decoder varies. The phases before it are trained
once a seed and shared, those after it are left out. Every epoch is kept: started again, it goes on where it was. Never
on test.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from captioner.bootstrap import App, open_app
from captioner.errors import BadParams, CaptionerError
from captioner.featurestore.packed import PackedFeatures
from captioner.packs import PackReader
from captioner.params import Params, TrainParams, parse_params
from captioner.records import read_manifest, write_bytes

FIRST = "cross-entropy"  # the phase that all else of `train` tells of
SECTIONS = ("finetune", "scst")  # of `train`: each tells of the phase of its name
NO_PHASES = ("seed", "objective", *SECTIONS)  # of `train`: they say which trainings there are, not how one goes
NOTHING = "as it is"


class Row(NamedTuple):
    """One seed of one change: the best epoch of the phase, by what params.yaml monitors."""

    change: str
    seed: int
    before: float | None  # CIDEr at the end of the phases before
    cider: float
    bleu_4: float
    words: float
    distinct: float


def main(argv: Sequence[str] | None = None) -> int:
    """Print one table, or one sentence that says why there is none. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("candidate", metavar="CANDIDATE")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2])
    parser.add_argument(
        "--vary",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="train.finetune.…, train.scst.…, or train.… and decoders.CANDIDATE.…",
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="any key of params.yaml")
    options = parser.parse_args(argv)
    try:
        app = open_app()
        phase = phase_of(options.vary, options.candidate)
        file = app.paths.root / "params.yaml"
        # All are checked before the first is trained.
        wanted = []
        for seed in options.seeds:
            for change in (NOTHING, *options.vary):
                changes = [*options.set, f"train.seed={seed}", *([] if change == NOTHING else [change])]
                wanted.append((change, changed(yaml.safe_load(file.read_text(encoding="utf-8")), changes)))
                check(wanted[-1][1], options.candidate, phase)
        rows: list[Row] = []
        trained: set[Path] = set()
        for change, params in wanted:
            rows.append(measured(app, params, options.candidate, phase, change, trained))
            print(f"ablations: {change}, seed {params.train.seed}: CIDEr {rows[-1].cider:.2f}", file=sys.stderr)
    except CaptionerError as error:
        print(f"ablations: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(table(rows)))
    return 0


def phase_of(varied: Sequence[str], candidate: str) -> str:
    """The phase that all of `varied` belong to. Raises BadParams."""
    starts = {f"train.{name}=": "" for name in NO_PHASES} | {f"train.{name}.": name for name in SECTIONS}
    starts |= {"train.": FIRST, f"decoders.{candidate}.": FIRST}
    phases = {next((phase for start, phase in starts.items() if one.startswith(start)), "") for one in varied}
    if len(phases) != 1 or "" in phases:
        raise BadParams(
            "--vary takes keys of one phase: all of train.finetune, all of train.scst, or all others of train and "
            f"decoders.{candidate}."
        )
    return phases.pop()


def changed(data: dict[str, Any], changes: Sequence[str]) -> Params:
    """The parameters `data` with ``a.b.c=value`` for each of `changes`, checked as params.yaml is. Raises BadParams."""
    for change in changes:
        key, found, value = change.partition("=")
        *parents, last = key.split(".")
        section: Any = data
        for name in parents:
            section = section.get(name) if isinstance(section, dict) else None
        if not found or not isinstance(section, dict):
            raise BadParams(f"{change!r} is not KEY=VALUE with a key of params.yaml.")
        try:
            section[last] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise BadParams(f"{value!r} is not YAML (in {change!r}).") from None
    return parse_params(data, source="params.yaml, changed")


def until(params: TrainParams, phase: str) -> TrainParams:
    """The same training, ended after `phase`; what came after it makes no difference any more."""
    changes: dict[str, Any] = {} if phase == "scst" else {"objective": "cross-entropy", "scst": None}
    return params.model_copy(update={**changes, **({"finetune": None} if phase == FIRST else {})})


def check(params: Params, candidate: str, phase: str) -> None:
    """Raises BadParams when there is no such candidate, or its training has no such phase, or needs teachers."""
    from captioner.stages.fitting import phases_of

    params.decoder(candidate)
    if phase not in (trained := phases_of(params.train)):
        raise BadParams(f"Training by this params.yaml has no phase {phase}; it has: {', '.join(trained)}.")
    if params.train.distill:
        raise BadParams("train.distill trains other networks first, which is not done here: use captioner train.")


def measured(app: App, params: Params, candidate: str, phase: str, change: str, trained: set[Path]) -> Row:
    """Train one seed of one change as the train stage would, its epochs in MLflow. Raises what training raises.

    `trained`: where the phases before lie that an earlier row has trained; this row's are added.
    """
    from captioner.stages.fitting import phases_of

    phases, whole = phases_of(params.train), until(params.train, phase)
    before = phases[: phases.index(phase)]
    own = folder_of(app, params, candidate, whole)
    if before:
        first = until(params.train, before[-1])
        shared = folder_of(app, params, candidate, first)
        if shared not in trained:
            epochs(app, first, params, candidate, shared, NOTHING)
            trained.add(shared)
        for file in shared.glob("*/checkpoint.npz"):
            if not (there := own / file.relative_to(shared)).exists():
                write_bytes(there, file.read_bytes())
    history = epochs(app, whole, params, candidate, own, change)

    def best(name: str) -> Any:
        return max((e for e in history if e.objective == name), key=lambda e: float(getattr(e, params.train.monitor)))

    start, end = best(before[-1]).cider if before else None, best(phase)
    return Row(change, params.train.seed, start, end.cider, end.bleu_4, end.mean_words, end.distinct)


def folder_of(app: App, params: Params, candidate: str, train: TrainParams) -> Path:
    """Where the epochs of this very training are kept."""
    from captioner.stages.train import identity

    folder = app.paths.checkpoints / f"ablation-{identity(train, params.decoder(candidate), app.paths)}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def epochs(app: App, train: TrainParams, params: Params, candidate: str, checkpoints: Path, change: str) -> list[Any]:
    """Every epoch of `train`'s first member (``fitting.Epoch``); those in `checkpoints` are not trained again."""
    from captioner.model.runtime import start_tensorflow

    start_tensorflow(app.settings.threads)
    import keras
    import tensorflow as tf

    from captioner.stages.fitting import train_member
    from captioner.stages.pictures import Pictures
    from captioner.stages.train import given_of

    keras.utils.set_random_seed(train.seed)
    tf.config.experimental.enable_op_determinism()
    features, manifest = PackedFeatures.open(app.paths.features), read_manifest(app.paths.validated / "manifest.jsonl")
    decoder, vectors = params.decoder(candidate), app.settings.word_vectors
    given = given_of(train, decoder, app.paths, features, manifest, vectors, checkpoints)
    tags = {"captioner.candidate": candidate, "captioner.stage": "ablation", "captioner.change": change}
    tracked = app.tracker().start(f"ablation-{candidate}", tags)
    history: list[Any] = []
    try:
        with ExitStack() as stack:
            if train.finetune:
                packs = stack.enter_context(PackReader(app.paths.raw))
                strength = train.finetune.strength
                pictures = Pictures.open(app.paths, features.meta, manifest, app.settings.weights, packs, strength)
                given = replace(given, pictures=pictures)
            train_member(given, 0, history, tracked)
    except BaseException:
        tracked.end(failed=True)
        raise
    tracked.end()
    return history


def table(rows: Sequence[Row]) -> list[str]:
    """Markdown: a line a change, means over the seeds and each seed's CIDEr."""
    return [
        "| change | seeds | CIDEr | of each | before | BLEU-4 | words | distinct |",
        "| --- |" + " ---: |" * 7,
        *(
            line_of(change, [row for row in rows if row.change == change])
            for change in dict.fromkeys(r.change for r in rows)
        ),
    ]


def line_of(change: str, rows: Sequence[Row]) -> str:
    def mean(name: str) -> float:
        return float(sum(getattr(row, name) for row in rows) / len(rows))

    each = ", ".join(f"{row.cider:.1f}" for row in rows)
    before = "–" if rows[0].before is None else f"{mean('before'):.1f}"
    return (
        f"| {change} | {len(rows)} | {mean('cider'):.1f} | {each} | {before} | {mean('bleu_4'):.1f} "
        f"| {mean('words'):.1f} | {mean('distinct'):.2f} |"
    )


if __name__ == "__main__":
    sys.exit(main())
