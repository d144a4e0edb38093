"""Prints how many captions change when the picture hardly does: JPEG, 5 % of brightness, a shift by two pixels.

``.venv/bin/python scripts/invariance.py --model MODEL [--photos FOLDER] [--images N] [--json]`` in a project's
folder. MODEL is what ``captioner caption --model`` takes. Without --photos the pictures are those of the project's
test split, evenly spaced over their ids, and a subject counts where half of the references name it too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from captioner.bootstrap import App, open_app
from captioner.errors import BadEnvironment, BadInput, CaptionerError
from captioner.evaluation import fixed_indices
from captioner.images import normalise
from captioner.inputs import SUFFIXES
from captioner.invariance import PERTURBATIONS, Change, Direction, change, directions, perturb
from captioner.packs import PackReader
from captioner.records import read_manifest

JPEG = b"\xff\xd8"

Say = Callable[[Iterable[bytes]], list[str]]
"""Pictures in, the best caption of each out."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables, or one sentence that says why there are none. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="as for captioner caption (default: what that takes by default)")
    parser.add_argument("--photos", metavar="FOLDER", help="pictures, instead of the project's test split")
    parser.add_argument("--images", type=int, default=200, help="how many, evenly spaced (default: 200)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    options = parser.parse_args(argv)
    try:
        if options.images < 1:
            raise BadInput(f"{options.images} images cannot be captioned: give --images from 1.")
        pictures, references = chosen(open_app(), options.photos, options.images)
        changes, kept = measure(captions_by(options.model), pictures, references)
    except CaptionerError as error:
        print(f"invariance: {error}", file=sys.stderr)
        return error.exit_code
    if options.json:
        print(json.dumps({"changes": [asdict(c) for c in changes], "directions": [asdict(k) for k in kept]}, indent=2))
    else:
        print("\n".join([*change_table(changes), "", *direction_table(kept)]))
    return 0


def chosen(app: App, folder: str | None, images: int) -> tuple[list[bytes], list[tuple[str, ...]] | None]:
    """Normalised pictures, and their references where they are known. Raises BadInput, BadData or BadImage."""
    if folder is not None:
        files = sorted(file for file in Path(folder).rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        if not files:
            raise BadInput(f"There are no pictures in {folder}.")
        some = [files[index] for index in fixed_indices(len(files), images)]
        return [normalise(file.read_bytes(), file.name) for file in some], None
    rows = sorted(read_manifest(app.paths.validated / "manifest.jsonl"), key=lambda row: row.id)
    test = [row for row in rows if row.split == "test" and row.captions]
    if not test:
        raise BadInput("The project's test split has no images with captions: name a folder of pictures with --photos.")
    records = [test[index] for index in fixed_indices(len(test), images)]
    with PackReader(app.paths.raw) as packs:
        return [normalise(packs.read(row), row.id) for row in records], [row.captions for row in records]


def captions_by(model: str | None, folder: Path | None = None) -> Say:
    """What ``captioner caption`` says in `folder` (default: here), by its JSON lines: what a user would get.

    Raises BadEnvironment, with what it said last, when a picture gets no caption.
    """

    def say(pictures: Iterable[bytes]) -> list[str]:
        with tempfile.TemporaryDirectory(prefix="captioner-") as temporary:
            number = 0
            for number, data in enumerate(pictures, start=1):
                Path(temporary, f"{number:06d}.{'jpg' if data.startswith(JPEG) else 'png'}").write_bytes(data)
            command = [sys.executable, "-m", "captioner", "caption", temporary, "--json"]
            command += ["--model", model] if model else []
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        if done.returncode or len(lines) != number:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise BadEnvironment(f"captioner caption did not answer for every picture ({last}).")
        return [str(line["caption"]) for line in lines]

    return say


def measure(
    say: Say, pictures: Sequence[bytes], references: Sequence[Sequence[str]] | None
) -> tuple[list[Change], list[Direction]]:
    """The changes by perturbation, and what stayed of each subject. Asked once: loading takes long."""
    rounds = (perturb(data, name) for name in PERTURBATIONS for data in pictures)
    said = say(itertools.chain(pictures, rounds))
    size = len(pictures)
    before, changes, kept = said[:size], [], []
    for number, name in enumerate(PERTURBATIONS, start=1):
        after = said[number * size : (number + 1) * size]
        changes.append(change(name, before, after))
        kept += directions(name, before, after, references)
    return changes, kept


def change_table(changes: Sequence[Change]) -> list[str]:
    rows = (f"| {one.perturbation} | {one.images} | {one.changed:.1%} | {one.words_kept:.1%} |" for one in changes)
    return ["| perturbation | images | captions that change | words kept |", "| --- | ---: | ---: | ---: |", *rows]


def direction_table(kept: Sequence[Direction]) -> list[str]:
    """A row for each subject, a column for each perturbation: the share of captions that still name it."""
    names = list(dict.fromkeys(one.perturbation for one in kept))
    cells = {(one.subject, one.perturbation): one for one in kept}
    rows = []
    for subject, first in {one.subject: one for one in kept}.items():
        shares = (f"{cells[subject, name].kept:.1%}" for name in names)
        rows.append(f"| {subject} | {first.images} | {' | '.join(shares)} |")
    head = f"| still named | captions | {' | '.join(names)} |"
    return [head, "| --- | ---: |" + " ---: |" * len(names), *rows]


if __name__ == "__main__":
    sys.exit(main())
