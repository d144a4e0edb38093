"""Flickr8k in each of its layouts, from a folder and from a server, with its oddities, damaged and dangerous."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from captioner.datasets.dataset import Dataset
from captioner.datasets.flickr8k import IMAGES_ZIP, TEXT_ZIP, open_flickr8k
from captioner.errors import BadData, BadEnvironment
from captioner.params import Flickr8kParams
from captioner.paths import Paths
from tests.webserver import Behaviour, serve

ANY = Flickr8kParams(sha256={})
PICTURES = {f"{i}.jpg": f"picture {i}".encode() for i in range(5)}
TOKENS = (
    "".join(f"{i}.jpg#{n}\tcaption {n} of {i} .\n" for i in range(5) for n in range(2)) + "9.jpg.1#0\tno picture .\n"
)
SPLITS = {
    "Flickr_8k.trainImages.txt": "0.jpg\n1.jpg\n",
    "Flickr_8k.devImages.txt": "2.jpg\n",
    "Flickr_8k.testImages.txt": "3.jpg\n",
}
TEXTS = {"Flickr8k.token.txt": TOKENS, **SPLITS}


def zipped(path: Path, members: dict[str, str | bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def release(folder: Path, pictures: dict[str, bytes] = PICTURES, texts: dict[str, str] = TEXTS) -> Path:
    zipped(folder / IMAGES_ZIP, {f"Flicker8k_Dataset/{name}": data for name, data in pictures.items()})
    zipped(folder / TEXT_ZIP, dict(texts))
    return folder


def unpacked(folder: Path) -> Path:
    for name, data in PICTURES.items():
        (folder / "Flicker8k_Dataset").mkdir(parents=True, exist_ok=True)
        (folder / "Flicker8k_Dataset" / name).write_bytes(data)
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    return folder


def opened(folder: Path | str, paths: Paths, params: Flickr8kParams = ANY) -> Dataset:
    return open_flickr8k(params, str(folder), paths)


@pytest.mark.parametrize("layout", [release, unpacked])
def test_the_release_packed_and_unpacked(tmp_path: Path, paths: Paths, layout: object) -> None:
    dataset = opened(layout(tmp_path / "f"), paths)  # type: ignore[operator]
    items = list(dataset.items)
    assert dataset.total == 5
    assert {item.id: item.data for item in items} == PICTURES
    assert [item.split for item in items] == ["train", "train", "dev", "test", "none"]
    assert items[3].captions == ("caption 0 of 3 .", "caption 1 of 3 .")
    assert [(o.id, o.reason, o.caption) for o in dataset.orphans] == [
        ("9.jpg.1", "caption without image", "no picture .")
    ]


def test_shadow_files_of_macos_are_no_pictures(tmp_path: Path, paths: Paths) -> None:
    release(tmp_path)
    with zipfile.ZipFile(tmp_path / IMAGES_ZIP, "a") as archive:
        archive.writestr("__MACOSX/Flicker8k_Dataset/._0.jpg", b"resource fork")
        archive.writestr("Flicker8k_Dataset/.DS_Store", b"")
    assert opened(tmp_path, paths).total == 5


def test_pictures_without_captions_and_split_entries_without_picture_are_counted(tmp_path: Path, paths: Paths) -> None:
    texts = {**TEXTS, "Flickr_8k.trainImages.txt": "0.jpg\n1.jpg\n77.jpg\n"}
    dataset = opened(release(tmp_path, {**PICTURES, "8.jpg": b"8"}, texts), paths)
    assert dataset.total == 5
    assert [(o.id, o.reason) for o in dataset.orphans][1:] == [
        ("8.jpg", "image without captions"),
        ("77.jpg", "split entry without image"),
    ]


def test_a_malformed_line_is_counted_and_kept(tmp_path: Path, paths: Paths) -> None:
    dataset = opened(release(tmp_path, texts={**TEXTS, "Flickr8k.token.txt": TOKENS + "no tab in here\n\n"}), paths)
    (line,) = [o for o in dataset.orphans if o.reason == "malformed line"]
    assert (line.id, line.caption) == ("Flickr8k.token.txt:12", "no tab in here")


def kaggle(folder: Path, table: str) -> Path:
    (folder / "Images").mkdir(parents=True)
    for i in range(40):
        (folder / "Images" / f"{i}.jpg").write_bytes(str(i).encode())
    (folder / "captions.txt").write_text(table)
    return folder


def test_kaggles_layout_has_splits_of_our_own_and_says_so(tmp_path: Path, paths: Paths) -> None:
    table = "image,caption\n" + "".join(f"{i}.jpg,A dog , number {i} .\n{i}.jpg,A cat .\n" for i in range(40))
    dataset = opened(kaggle(tmp_path, table), paths)
    items = list(dataset.items)
    assert items[1].captions == ("A dog , number 1 .", "A cat .")
    splits = [item.split for item in items]
    assert {split: splits.count(split) for split in set(splits)} == {"train": 30, "dev": 5, "test": 5}
    assert [item.split for item in opened(tmp_path, paths).items] == splits
    assert any("no official splits" in note for note in dataset.notes)


def test_kaggles_table_with_another_header_is_refused(tmp_path: Path, paths: Paths) -> None:
    with pytest.raises(BadData, match=r"starts with 'image_name,comment'"):
        opened(kaggle(tmp_path, "image_name,comment\n0.jpg,x\n"), paths)


def test_without_a_listed_checksum_it_is_accepted_and_said(tmp_path: Path, paths: Paths) -> None:
    release(tmp_path)
    found = hashlib.sha256((tmp_path / TEXT_ZIP).read_bytes()).hexdigest()
    assert any(TEXT_ZIP in note and found in note for note in opened(tmp_path, paths).notes)


def test_a_listed_checksum_is_checked(tmp_path: Path, paths: Paths) -> None:
    release(tmp_path)
    found = hashlib.sha256((tmp_path / TEXT_ZIP).read_bytes()).hexdigest()
    good = Flickr8kParams(sha256={TEXT_ZIP: ("0" * 64, found)})
    assert not any(TEXT_ZIP in note for note in opened(tmp_path, paths, good).notes)
    bad = Flickr8kParams(sha256={TEXT_ZIP: ("0" * 64,)})
    with pytest.raises(BadData, match=f"{found}.*{'0' * 64}"):
        opened(tmp_path, paths, bad)


@pytest.mark.parametrize("name", ["../evil.jpg", "/etc/evil.jpg", "a/../../evil.jpg", "..\\evil.jpg", "C:/evil.jpg"])
def test_a_path_that_leaves_the_archive_is_refused(tmp_path: Path, paths: Paths, name: str) -> None:
    release(tmp_path / "f")
    with zipfile.ZipFile(tmp_path / "f" / IMAGES_ZIP, "a") as archive:
        archive.writestr(name, b"evil")
    with pytest.raises(BadData, match="unsafe path"):
        opened(tmp_path / "f", paths)
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("name", [IMAGES_ZIP, TEXT_ZIP])
def test_a_truncated_archive_is_refused(tmp_path: Path, paths: Paths, name: str) -> None:
    release(tmp_path)
    data = (tmp_path / name).read_bytes()
    for share in (0.0, 0.5, 0.95):
        (tmp_path / name).write_bytes(data[: int(len(data) * share)])
        with pytest.raises(BadData, match="not a whole zip file"):
            opened(tmp_path, paths)


def test_a_damaged_picture_is_named(tmp_path: Path, paths: Paths) -> None:
    release(tmp_path)
    data = (tmp_path / IMAGES_ZIP).read_bytes()
    (tmp_path / IMAGES_ZIP).write_bytes(data.replace(b"picture 3", b"PICTURE 3"))
    with pytest.raises(BadData, match=r"Flickr8k_Dataset\.zip is damaged at 'Flicker8k_Dataset/3\.jpg'"):
        list(opened(tmp_path, paths).items)


def test_a_member_that_swells_is_refused(tmp_path: Path, paths: Paths) -> None:
    release(tmp_path)
    with zipfile.ZipFile(tmp_path / IMAGES_ZIP, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Flicker8k_Dataset/bomb.jpg", bytes(257_000_000))
    assert (tmp_path / IMAGES_ZIP).stat().st_size < 1_000_000
    with pytest.raises(BadData, match=r"bomb\.jpg' of 257,000,000 bytes"):
        opened(tmp_path, paths)


def test_what_is_not_there_is_named(tmp_path: Path, paths: Paths) -> None:
    with pytest.raises(BadEnvironment, match=r"nowhere is not a folder: set CAPTIONER_FLICKR8K"):
        opened(tmp_path / "nowhere", paths)
    with pytest.raises(BadData, match="holds no Flickr8k images"):
        opened(tmp_path, paths)
    (tmp_path / "Images").mkdir()
    with pytest.raises(BadData, match="holds no Flickr8k captions"):
        opened(tmp_path, paths)
    zipped(tmp_path / TEXT_ZIP, {"Flickr8k.token.txt": TOKENS})
    with pytest.raises(BadData, match=r"does not hold Flickr_8k\.devImages\.txt"):
        opened(tmp_path, paths)


def test_an_image_in_two_splits_is_refused(tmp_path: Path, paths: Paths) -> None:
    with pytest.raises(BadData, match=r"puts 1\.jpg into both train and test"):
        opened(release(tmp_path, texts={**TEXTS, "Flickr_8k.testImages.txt": "1.jpg\n"}), paths)


def test_captions_in_another_encoding_are_refused(tmp_path: Path, paths: Paths) -> None:
    unpacked(tmp_path)
    (tmp_path / "Flickr8k.token.txt").write_bytes(b"0.jpg#0\ta caf\xe9\n")
    with pytest.raises(BadData, match=r"Flickr8k\.token\.txt is not UTF-8 \(byte 13\)"):
        opened(tmp_path, paths)


def test_the_release_from_a_server_is_kept_and_not_asked_for_again(tmp_path: Path, paths: Paths) -> None:
    """Both archives are one body here, which holds everything that either must."""
    members = {f"Flicker8k_Dataset/{name}": data for name, data in PICTURES.items()}
    zipped(tmp_path / "both.zip", {**members, **TEXTS})
    how = Behaviour((tmp_path / "both.zip").read_bytes(), break_after=[100])
    with serve(how) as url:
        address = url.rsplit("/", 1)[0]
        assert {item.id: item.data for item in opened(address, paths).items} == PICTURES
        asked = len(how.requests)
        assert opened(address, paths).total == 5
    assert len(how.requests) == asked == 3
    assert sorted(path.name for path in paths.downloads.rglob("*.zip")) == [IMAGES_ZIP, TEXT_ZIP]


def test_the_real_one(flickr8k: Path, paths: Paths, root: Path) -> None:
    """The figures of the public release, and its known oddity."""
    import yaml

    given = yaml.safe_load((root / "profiles/flickr8k.yaml").read_text())["acquire"]["flickr8k"]
    listed = {key: {name: tuple(sums) for name, sums in given[key].items()} for key in given}
    dataset = opened(flickr8k, paths, Flickr8kParams(**listed))
    assert dataset.notes == ()
    assert dataset.total == 8091
    assert [o.id for o in dataset.orphans] == ["2258277193_586949ec62.jpg.1"] * 5
    first = next(dataset.items)
    assert (first.id, first.split, len(first.captions)) == ("1000268201_693b08cb0e.jpg", "train", 5)
