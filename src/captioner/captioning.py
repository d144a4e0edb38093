"""``captioner caption``: images from files, folders and URLs, in order, each answered or refused on its own line.

Lines are printed while the images are worked through: however many there are, no more than BATCH are held.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioner.bootstrap import App
from captioner.drawings import Drawings
from captioner.errors import BadData, BadEnvironment, BadImage, BadInput, CaptionerError
from captioner.explaining import Looks, draw
from captioner.images import normalise
from captioner.inputs import expand, read_image
from captioner.model.captioner import Captioner, describe
from captioner.model.runtime import start_tensorflow
from captioner.progress import track
from captioner.records import Caption
from captioner.shipped import SHIPPED, read_shipped, rebuild

BATCH = 16
ALIASES = ("champion", "challenger")


@dataclass(frozen=True)
class Found:
    """A model's archive, where it comes from, and how that is said to people."""

    archive: Path
    version: str | None
    called: str


@dataclass(frozen=True)
class Loaded:
    captioner: Captioner
    version: str | None


def caption_all(
    app: App,
    sources: Sequence[str],
    model: str | None = None,
    beam: int | None = None,
    top: int | None = None,
    as_json: bool = False,
    explain: str | None = None,
) -> int:
    """Caption every image of `sources` and print the answers in order. Returns 2 when one of them failed, else 0.

    `explain`: where the drawings go (``Drawings``), None for no drawings.
    """
    images = expand(sources)
    drawings = None if explain is None else Drawings(explain, sources)
    found = find_model(app, model)
    start_tensorflow(app.settings.threads, keras=False)
    loaded = Loaded(Captioner.load(found.archive, app.paths.unpacked), found.version)
    loaded.captioner.sizes(beam, top)
    if drawings is not None:
        loaded.captioner.check_explains()
    _say(f"with {found.called}")
    seen = failed = 0
    known = None if any(Path(source).is_dir() for source in sources) else len(sources)
    with track("captions", known, "images") as progress:
        for group in batches(images, BATCH):
            for line in caption_group(loaded, group, beam, top, drawings):
                seen, failed = seen + 1, failed + ("error" in line)
                print(json.dumps(line, ensure_ascii=False) if as_json else _plain(line), flush=True)
            progress.advance(len(group))
    if failed:
        _say(f"{failed} of {seen} images could not be captioned.")
    return 2 if failed else 0


def batches(images: Iterable[str], size: int) -> Iterator[Sequence[str]]:
    """One image, then two, four, … up to `size`: the first answer waits for nothing but its own image."""
    images, now = iter(images), 1
    while group := list(itertools.islice(images, now)):
        yield group
        now = min(2 * now, size)


def caption_group(
    loaded: Loaded, group: Iterable[str], beam: int | None, top: int | None, drawings: Drawings | None = None
) -> Iterator[dict[str, Any]]:
    """One answer for each image of `group`, in order. An image that fails does not stop the others."""
    read: list[tuple[str, bytes | CaptionerError]] = []
    for image in group:
        try:
            read.append((image, normalise(read_image(image), image)))
        except (BadImage, BadInput, BadEnvironment) as error:
            read.append((image, error))
    good = [data for _, data in read if isinstance(data, bytes)]
    answers = iter(loaded.captioner.caption(good, beam, top))
    for image, data in read:
        if isinstance(data, bytes):
            line = answer(image, next(answers), loaded)
            yield line if drawings is None else {**line, "explained": explained(loaded, image, data, beam, drawings)}
        else:
            yield {"image": image, "error": str(data)}


def answer(image: str, captions: Sequence[Caption], loaded: Loaded) -> dict[str, Any]:
    """The JSON object that scripts rely on (DESIGN, contracts)."""
    model = {"version": loaded.version, "digest": loaded.captioner.digest}
    return {"image": image, **describe(captions), "model": model}


def explained(loaded: Loaded, image: str, data: bytes, beam: int | None, drawings: Drawings) -> str:
    """Draw where the network looked at `image`; gives the drawing's place. Raises BadInput where a photo lies there."""
    found = loaded.captioner.explain(data, beam)
    looks = Looks(found.caption, found.words, found.attention, found.sentinel)
    return str(drawings.write(image, draw(data, looks, Path(image).name)))


def find_model(app: App, model: str | None) -> Found:
    """`model` is ``shipped``, an alias, a ``models:/`` URI or a model.tar.gz; None chooses (``default_model``).

    Raises BadInput or BadData when there is none.
    """
    if model is None:
        model = default_model(app)
    if model == SHIPPED:
        shipped = read_shipped(app.paths.shipped)
        archive = rebuild(shipped, app.paths, app.settings.threads, app.settings.weights, _say)
        return Found(archive, SHIPPED, f"the shipped model ({shipped.title})")
    if not model.startswith("models:/") and model not in ALIASES:
        if not Path(model).is_file():
            raise BadInput(
                f"{model} is no model: give {SHIPPED}, {', '.join(ALIASES)}, models:/NAME@ALIAS, models:/NAME/VERSION "
                "or a model.tar.gz."
            )
        return Found(Path(model), None, model)
    registry = app.registry()
    name, alias, version = _reference(app, model)
    found = registry.by_alias(name, alias) if alias else registry.by_version(name, version)
    if found is None:
        raise BadData(f"The registry has no {model} of {name}: run the pipeline first (captioner run).")
    archive = registry.fetch(found, app.paths.home / "models" / found.digest)
    return Found(archive, found.version, f"version {found.version} of {name}{f' ({alias})' if alias else ''}")


def default_model(app: App) -> str:
    """The champion where the registry has one of a real dataset; else the model that comes with the code.

    The sample's champion knows rendered scenes only: it is no use to anybody's photo. A registry that is not there yet
    is not made for the question.
    """
    if app.params.acquire.dataset == "sample" or not app.has_registry():
        return SHIPPED
    return "champion" if app.registry().by_alias(app.name, "champion") is not None else SHIPPED


def _reference(app: App, model: str) -> tuple[str, str, str]:
    """(registered model, alias, version) of an alias or a models:/ URI."""
    if model in ALIASES:
        return app.name, model, ""
    name, _, rest = model.removeprefix("models:/").partition("@")
    if rest:
        return name, rest, ""
    name, _, version = name.partition("/")
    if not version:
        raise BadInput(f"{model} names no version: write models:/NAME@ALIAS or models:/NAME/VERSION.")
    return name, "", version


def _plain(line: dict[str, Any]) -> str:
    # The sentence of an error names the image itself.
    if "error" in line:
        return str(line["error"])
    return f"{line['image']}: {line['caption']}" + (f"  → {line['explained']}" if "explained" in line else "")


def _say(sentence: str) -> None:
    print(f"captioner: {sentence}", file=sys.stderr, flush=True)
