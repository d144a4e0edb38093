"""Flickr8k: the public release's two zips, the same unpacked, or Kaggle's layout; from a folder or a URL.

The release: ``Flickr8k_Dataset.zip`` (``Flicker8k_Dataset/*.jpg``; the misspelling is theirs) and ``Flickr8k_text.zip``
(``Flickr8k.token.txt`` and the official splits). Kaggle: ``Images/`` and ``captions.txt``, without splits. Known
oddities: captions of ``2258277193_586949ec62.jpg.1``, which has no image, and 91 images in no split. Knows nothing of
how pictures are stored.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from captioner.checksums import Checksums, file_sum
from captioner.datasets.archives import Archive, FolderArchive, ZipArchive
from captioner.datasets.dataset import Dataset, Item
from captioner.errors import BadData, BadEnvironment
from captioner.params import Flickr8kParams
from captioner.paths import Paths
from captioner.records import Quarantined, Split

URL = "https://github.com/jbrownlee/Datasets/releases/download/Flickr8k/"
IMAGES_ZIP, TEXT_ZIP = "Flickr8k_Dataset.zip", "Flickr8k_text.zip"
TOKENS = "Flickr8k.token.txt"
SPLIT_FILES: dict[Split, str] = {
    "train": "Flickr_8k.trainImages.txt",
    "dev": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}
KAGGLE_CAPTIONS = "captions.txt"
_KAGGLE_HELD_OUT = 1000  # each of dev and test, as in the official splits, of 8,091

Captions = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class _Text:
    """Captions by image name, splits by image name, and lines that could not be read."""

    captions: Captions
    splits: Mapping[str, Split]
    bad: tuple[Quarantined, ...] = ()
    notes: tuple[str, ...] = ()


def open_flickr8k(params: Flickr8kParams, source: str | None, paths: Paths) -> Dataset:
    """Flickr8k from `source`, a folder or a URL that ends before the archives' names (default: the public release).

    Raises BadData when the layout, an archive or a checksum is not as it should be, BadEnvironment when there is no
    such folder or the download fails.
    """
    source = source or URL
    folder = _download(source, params, paths.downloads) if "://" in source else paths.root / Path(source).expanduser()
    if not folder.is_dir():
        raise BadEnvironment(
            f"{folder} is not a folder: set CAPTIONER_FLICKR8K to the folder or URL that holds Flickr8k."
        )
    notes: list[str] = []
    images = _images(folder, params, notes)
    text = _text(folder, params, notes)
    return _join(images, text, tuple(notes) + text.notes)


def _download(url: str, params: Flickr8kParams, downloads: Path) -> Path:
    from captioner.download import download

    # One folder per address: what was kept of one server's file must not meet another's.
    folder = downloads / "flickr8k" / hashlib.sha256(url.encode()).hexdigest()[:12]
    for name in (TEXT_ZIP, IMAGES_ZIP):
        download(url.rstrip("/") + "/" + name, folder / name, _checksums(params, name))
    return folder


def _images(folder: Path, params: Flickr8kParams, notes: list[str]) -> Archive:
    if (folder / IMAGES_ZIP).is_file():
        return _checked_zip(folder / IMAGES_ZIP, params, notes)
    for name in ("Flicker8k_Dataset", "Flickr8k_Dataset", "Images", "images"):
        if (folder / name).is_dir():
            notes.append(f"The images were read from the folder {name}; there is no checksum for it.")
            return FolderArchive(folder / name)
    raise BadData(f"{folder} holds no Flickr8k images: {IMAGES_ZIP}, Flicker8k_Dataset/ or Images/ is needed.")


def _text(folder: Path, params: Flickr8kParams, notes: list[str]) -> _Text:
    if (folder / TEXT_ZIP).is_file():
        return _release_text(_checked_zip(folder / TEXT_ZIP, params, notes))
    for place in (folder, folder / "Flickr8k_text"):
        if (place / TOKENS).is_file():
            notes.append(f"The captions were read from {TOKENS}, unpacked; there is no checksum for it.")
            return _release_text(FolderArchive(place))
    if (folder / KAGGLE_CAPTIONS).is_file():
        return _kaggle_text(FolderArchive(folder))
    raise BadData(f"{folder} holds no Flickr8k captions: {TEXT_ZIP}, {TOKENS} or {KAGGLE_CAPTIONS} is needed.")


def _checksums(params: Flickr8kParams, name: str) -> Checksums:
    return Checksums(params.sha256.get(name, ()), params.md5.get(name, ()))


def _checked_zip(path: Path, params: Flickr8kParams, notes: list[str]) -> ZipArchive:
    checksums = _checksums(params, path.name)
    try:
        checksums.check(path)
    except BadData as error:
        raise BadData(f"{error} Get it again, or list its checksum in params.yaml (acquire.flickr8k).") from None
    if not checksums:
        found = file_sum(path, "sha256")
        notes.append(
            f"{path.name} was accepted unchecked: params.yaml lists no checksum for it; its SHA-256 is {found}."
        )
    return ZipArchive(path)


def _release_text(archive: Archive) -> _Text:
    names = {PurePosixPath(name).name: name for name in archive.names()}
    missing = sorted({TOKENS, *SPLIT_FILES.values()} - set(names))
    if missing:
        raise BadData(f"{archive.title} does not hold {', '.join(missing)}: it is not Flickr8k's text archive.")
    captions: dict[str, list[str]] = {}
    bad = []
    for number, line in enumerate(_lines(archive, names[TOKENS]), start=1):
        key, tab, caption = line.partition("\t")
        name, mark, _ = key.rpartition("#")
        if tab and mark:
            captions.setdefault(name, []).append(caption.strip())
        elif line.strip():
            bad.append(Quarantined(f"{TOKENS}:{number}", "malformed line", line.strip(), "no tab or no caption number"))
    splits: dict[str, Split] = {}
    for split, file in SPLIT_FILES.items():
        for name in filter(None, map(str.strip, _lines(archive, names[file]))):
            if splits.setdefault(name, split) != split:
                raise BadData(
                    f"{archive.title} puts {name} into both {splits[name]} and {split}: the splits are damaged."
                )
    return _Text({name: tuple(lines) for name, lines in captions.items()}, splits, tuple(bad))


def _kaggle_text(archive: Archive) -> _Text:
    rows = csv.reader(io.StringIO("\n".join(_lines(archive, KAGGLE_CAPTIONS))))
    header = [cell.strip().lower() for cell in next(rows, [])]
    if header[:2] != ["image", "caption"]:
        raise BadData(f"{KAGGLE_CAPTIONS} starts with {','.join(header)!r}; Kaggle's starts with 'image,caption'.")
    captions: dict[str, list[str]] = {}
    bad = []
    for row in rows:
        if len(row) >= 2:
            # Kaggle's file does not quote every caption that holds a comma.
            captions.setdefault(row[0].strip(), []).append(",".join(row[1:]).strip())
        elif row:
            bad.append(Quarantined(f"{KAGGLE_CAPTIONS}:{rows.line_num}", "malformed line", row[0], "no caption"))
    ranked = sorted(captions, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    held_out = min(_KAGGLE_HELD_OUT, len(ranked) // 8)
    splits: dict[str, Split] = dict.fromkeys(ranked, "train")
    splits.update(dict.fromkeys(ranked[:held_out], "test"))
    splits.update(dict.fromkeys(ranked[held_out : 2 * held_out], "dev"))
    note = (
        f"Kaggle's layout has no official splits: {held_out} images each for dev and test are chosen by the SHA-256 of "
        "their names, so scores do not compare with published ones."
    )
    return _Text({name: tuple(lines) for name, lines in captions.items()}, splits, tuple(bad), (note,))


def _lines(archive: Archive, name: str) -> list[str]:
    try:
        return archive.read(name).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise BadData(f"{name} is not UTF-8 (byte {error.start}): get the dataset again.") from None


def _join(images: Archive, text: _Text, notes: tuple[str, ...]) -> Dataset:
    """Pictures that have captions, in the order of their names; everything that lacks its other half is an orphan."""
    files = {PurePosixPath(name).name: name for name in images.names()}
    pictures = {name: path for name, path in files.items() if name.lower().endswith((".jpg", ".jpeg", ".png"))}
    if not pictures:
        raise BadData(f"{images.title} holds no pictures: it is not Flickr8k's image archive.")
    orphans = list(text.bad)
    for name in sorted(set(text.captions) - set(pictures)):
        orphans += [Quarantined(name, "caption without image", caption) for caption in text.captions[name]]
    orphans += [Quarantined(name, "image without captions") for name in sorted(set(pictures) - set(text.captions))]
    orphans += [Quarantined(name, "split entry without image") for name in sorted(set(text.splits) - set(pictures))]
    ids = sorted(set(pictures) & set(text.captions))

    def items() -> Iterator[Item]:
        for name in ids:
            yield Item(name, images.read(pictures[name]), text.splits.get(name, "none"), text.captions[name])

    return Dataset(len(ids), items(), tuple(orphans), notes)
