"""``captioner caption``: images from files, folders and URLs, in order, each answered or refused on its own line."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioner.bootstrap import App
from captioner.errors import BadData, BadEnvironment, BadImage, BadInput, CaptionerError
from captioner.images import normalise
from captioner.model.captioner import Captioner, describe
from captioner.model.runtime import start_tensorflow
from captioner.progress import track
from captioner.records import Caption

SUFFIXES = frozenset([".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"])
BATCH = 16
MAX_BYTES = 50_000_000
ALIASES = ("champion", "challenger")


@dataclass(frozen=True)
class Loaded:
    captioner: Captioner
    version: str | None


def caption_all(
    app: App, sources: Sequence[str], model: str | None, beam: int | None, top: int | None, as_json: bool
) -> int:
    """Caption every image of `sources` and print the answers in order. Returns 2 when one of them failed, else 0."""
    start_tensorflow(app.settings.threads)
    images = list(expand(sources))
    loaded = load_model(app, model or "champion")
    failed = 0
    with track("captions", len(images), "images") as progress:
        for group in batches(images, BATCH):
            for line in caption_group(loaded, group, beam, top):
                failed += "error" in line
                print(json.dumps(line, ensure_ascii=False) if as_json else _plain(line), flush=True)
            progress.advance(len(group))
    if failed:
        print(f"captioner: {failed} of {len(images)} images could not be captioned.", file=sys.stderr)
    return 2 if failed else 0


def batches(images: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(images), size):
        yield images[start : start + size]


def caption_group(loaded: Loaded, group: Iterable[str], beam: int | None, top: int | None) -> Iterator[dict[str, Any]]:
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
            yield answer(image, next(answers), loaded)
        else:
            yield {"image": image, "error": str(data)}


def answer(image: str, captions: Sequence[Caption], loaded: Loaded) -> dict[str, Any]:
    """The JSON object that scripts rely on (DESIGN, contracts)."""
    model = {"version": loaded.version, "digest": loaded.captioner.digest}
    return {"image": image, **describe(captions), "model": model}


def expand(sources: Sequence[str]) -> Iterator[str]:
    """Files and URLs as they are, folders as the images below them, sorted. Raises BadInput for an empty folder."""
    for source in sources:
        if not Path(source).is_dir():
            yield source
            continue
        found = sorted(p for p in Path(source).rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not found:
            raise BadInput(f"There are no images in {source} (looked for {', '.join(sorted(SUFFIXES))}).")
        yield from (str(path) for path in found)


def read_image(source: str) -> bytes:
    """The bytes of a file or an http(s) URL. Raises BadInput or BadEnvironment."""
    if source.startswith(("http://", "https://")):
        return _download(source)
    try:
        return Path(source).read_bytes()
    except FileNotFoundError:
        raise BadInput(f"There is no file {source}.") from None
    except OSError as error:
        raise BadInput(f"{source} cannot be read: {error.strerror}.") from None


def _download(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=30) as response:  # http(s) only: checked by the caller
            data: bytes = response.read(MAX_BYTES + 1)
    except urllib.error.HTTPError as error:
        raise BadInput(f"{url} answered {error.code} {error.reason}.") from None
    except (OSError, ValueError) as error:
        raise BadEnvironment(f"{url} cannot be fetched: {getattr(error, 'reason', error)}.") from None
    if len(data) > MAX_BYTES:
        raise BadInput(f"{url} is larger than {MAX_BYTES // 1_000_000} MB.")
    return data


def load_model(app: App, model: str) -> Loaded:
    """`model` is an alias, a ``models:/`` URI, or a model.tar.gz. Raises BadInput or BadData when there is none."""
    if not model.startswith("models:/") and model not in ALIASES:
        if not Path(model).is_file():
            raise BadInput(
                f"{model} is no model: give {', '.join(ALIASES)}, models:/NAME@ALIAS, models:/NAME/VERSION "
                "or a model.tar.gz."
            )
        return Loaded(Captioner.load(Path(model), app.paths.unpacked), None)
    registry = app.registry()
    name, alias, version = _reference(app, model)
    found = registry.by_alias(name, alias) if alias else registry.by_version(name, version)
    if found is None:
        raise BadData(f"The registry has no {model} of {name}: run the pipeline first (captioner run).")
    archive = registry.fetch(found, app.paths.home / "models" / found.digest)
    return Loaded(Captioner.load(archive, app.paths.unpacked), found.version)


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
    return str(line["error"]) if "error" in line else f"{line['image']}: {line['caption']}"
