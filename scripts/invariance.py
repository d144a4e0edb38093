"""Prints how many captions change when the picture hardly does: JPEG, 5 % of brightness, a shift by two pixels.

``.venv/bin/python scripts/invariance.py --model MODEL [--photos FOLDER] [--images N] [--json]`` in a project's
folder. MODEL is what ``captioner caption --model`` takes. Without --photos the pictures are those of the project's
test split, evenly spaced over their ids, and a subject counts where half of the references name it too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from captioner.bootstrap import App, open_app
from captioner.captioning import expand, load_model, read_image
from captioner.errors import BadInput, CaptionerError
from captioner.evaluation import fixed_indices
from captioner.images import normalise
from captioner.invariance import PERTURBATIONS, Change, Direction, change, directions, perturb
from captioner.model.captioner import Captioner
from captioner.model.runtime import start_tensorflow
from captioner.packs import PackReader
from captioner.progress import track
from captioner.records import read_manifest

BATCH = 16


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables, or one sentence that says why there are none. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="champion", help="as for captioner caption (default: champion)")
    parser.add_argument("--photos", metavar="FOLDER", help="pictures, instead of the project's test split")
    parser.add_argument("--images", type=int, default=200, help="how many, evenly spaced (default: 200)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    options = parser.parse_args(argv)
    try:
        if options.images < 1:
            raise BadInput(f"{options.images} images cannot be captioned: give --images from 1.")
        app = open_app()
        start_tensorflow(app.settings.threads)
        pictures, references = chosen(app, options.photos, options.images)
        changes, kept = measure(load_model(app, options.model).captioner, pictures, references)
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
        if not Path(folder).is_dir():
            raise BadInput(f"There is no folder {folder}.")
        files = list(expand([folder]))
        return [normalise(read_image(files[i]), files[i]) for i in fixed_indices(len(files), images)], None
    rows = sorted(read_manifest(app.paths.validated / "manifest.jsonl"), key=lambda row: row.id)
    test = [row for row in rows if row.split == "test" and row.captions]
    some = [test[index] for index in fixed_indices(len(test), images)]
    with PackReader(app.paths.raw) as packs:
        return [normalise(packs.read(row), row.id) for row in some], [row.captions for row in some]


def measure(
    captioner: Captioner, pictures: Sequence[bytes], references: Sequence[Sequence[str]] | None
) -> tuple[list[Change], list[Direction]]:
    """The changes by perturbation, and what stayed of each subject."""
    changes: list[Change] = []
    kept: list[Direction] = []
    with track("captions", len(pictures) * (len(PERTURBATIONS) + 1), "pictures") as progress:

        def said(data: Sequence[bytes]) -> list[str]:
            found: list[str] = []
            for start in range(0, len(data), BATCH):
                some = data[start : start + BATCH]
                found += [captions[0].caption for captions in captioner.caption(some)]
                progress.advance(len(some))
            return found

        before = said(pictures)
        for name in PERTURBATIONS:
            after = said([perturb(data, name) for data in pictures])
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
