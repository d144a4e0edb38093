"""One's own pictures: the CSV is believed only as far as it fits the folder, and every refusal names the row."""

from __future__ import annotations

from pathlib import Path

import pytest

from captioner.datasets.dataset import Dataset
from captioner.datasets.folder import open_folder
from captioner.errors import BadData, BadParams
from captioner.params import FolderParams

PARAMS = FolderParams(path="mine", captions="captions.csv")


def make(root: Path, table: str | bytes, pictures: tuple[str, ...] = ("a.jpg", "b.png", "sub/c.jpg")) -> Dataset:
    for name in pictures:
        path = root / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"the bytes of {name}".encode())
    (root / "mine").mkdir(exist_ok=True)
    (root / "mine/captions.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    return open_folder(PARAMS, root)


def test_pictures_come_with_their_captions_and_splits(tmp_path: Path) -> None:
    rows = ('b.png,"a dog, running",test', "a.jpg,a cat,train", "sub/c.jpg,a cow,val", "a.jpg,the cat,train")
    dataset = make(tmp_path, "\n".join(("image,caption,split", *rows)))
    items = list(dataset.items)
    assert dataset.total == 3
    assert [(i.id, i.split, i.captions) for i in items] == [
        ("a.jpg", "train", ("a cat", "the cat")),
        ("b.png", "test", ("a dog, running",)),
        ("sub/c.jpg", "dev", ("a cow",)),
    ]
    assert items[2].data == b"the bytes of sub/c.jpg"


def test_columns_may_come_in_any_order_and_case_with_others_between(tmp_path: Path) -> None:
    dataset = make(tmp_path, "Rating, Caption ,IMAGE\n5,a cat,a.jpg\n")
    assert [(i.id, i.captions) for i in dataset.items] == [("a.jpg", ("a cat",))]


def test_a_byte_order_mark_and_windows_lines_are_fine(tmp_path: Path) -> None:
    dataset = make(tmp_path, b"\xef\xbb\xbfimage,caption\r\na.jpg,a caf\xc3\xa9\r\n\r\n")
    assert [i.captions for i in dataset.items] == [("a café",)]


def test_a_caption_may_span_lines(tmp_path: Path) -> None:
    dataset = make(tmp_path, 'image,caption\na.jpg,"a cat\non a mat"\nb.png,a dog\n')
    assert [i.captions for i in dataset.items] == [("a cat\non a mat",), ("a dog",)]


def test_pictures_without_captions_are_counted(tmp_path: Path) -> None:
    dataset = make(tmp_path, "image,caption\na.jpg,a cat\n")
    assert [(o.id, o.reason) for o in dataset.orphans] == [
        ("b.png", "image without captions"),
        ("sub/c.jpg", "image without captions"),
    ]


def test_splits_are_decided_by_name_alone(tmp_path: Path) -> None:
    names = tuple(f"{i:04d}.jpg" for i in range(1000))
    before = make(tmp_path, "image,caption\n" + "".join(f"{n},x\n" for n in names[:500]), names)
    splits = {item.id: item.split for item in before.items}
    after = make(tmp_path, "image,caption\n" + "".join(f"{n},x\n" for n in reversed(names)), names)
    later = {item.id: item.split for item in after.items}
    assert {name: later[name] for name in splits} == splits
    counts = {split: list(later.values()).count(split) for split in ("train", "dev", "test")}
    assert 760 <= counts["train"] <= 840
    assert 70 <= counts["dev"] <= 130
    assert 70 <= counts["test"] <= 130


def test_a_blank_split_is_decided_by_name(tmp_path: Path) -> None:
    dataset = make(tmp_path, "image,caption,split\na.jpg,a cat,\nb.png,a dog,none\n")
    assert [i.split for i in dataset.items] == ["train", "none"]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("", "captions.csv is empty"),
        ("  \n\n", "captions.csv is empty"),
        ("image,caption\n", "has a header and no rows"),
        ("file,caption\na.jpg,x\n", "has no column image: its first line names file, caption"),
        ("a.jpg,a cat\nb.png,a dog\n", "has no column image and no column caption: its first line names a.jpg, a cat"),
        ("image;caption\na.jpg;x\n", "has no column image and no column caption: its first line names image;caption"),
        ("image,caption\na.jpg,x\nz.jpg,y\n", r"captions\.csv, row 3: there is no picture 'z\.jpg' in the folder"),
        ('image,caption\na.jpg,"two\nlines"\nz.jpg,y\n', r"row 4: there is no picture"),
        ("image,caption\n../a.jpg,x\n", r"row 2: '\.\./a\.jpg' points outside the folder"),
        ("image,caption\n/etc/passwd,x\n", r"row 2: '/etc/passwd' points outside the folder"),
        ("image,caption\nC:\\a.jpg,x\n", r"row 2: .* points outside the folder"),
        ("image,caption\ncaptions.csv,x\n", r"row 2: there is no picture 'captions\.csv'"),
        ("image,caption\na.jpg\n", "row 2: 1 cells, but the header names more"),
        (
            "image,caption,split\na.jpg,x,trian\n",
            "row 2: there is no split 'trian'; the splits are: train, dev, test, none",
        ),
        ("image,caption,split\na.jpg,x,train\na.jpg,y,test\n", r"row 3: 'a\.jpg' is in test here and in train before"),
        ('image,caption\na.jpg,"never closed\n', r"row \d: not a row of a CSV file"),
        (b"image,caption\na.jpg,a caf\xe9\n", "row 2: not UTF-8 .*: save the file as UTF-8"),
        ("image,caption\na.jpg,a cat\n".encode("utf-16"), "row 1: not UTF-8"),
    ],
)
def test_a_csv_that_does_not_fit_is_refused_with_the_row(tmp_path: Path, table: str | bytes, says: str) -> None:
    with pytest.raises(BadData, match=says) as error:
        make(tmp_path, table)
    assert "\n" not in str(error.value)


def test_a_missing_csv_or_folder_says_which_param(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"acquire\.folder\.path"):
        open_folder(PARAMS, tmp_path)
    (tmp_path / "mine").mkdir()
    with pytest.raises(BadData, match=r"acquire\.folder\.captions"):
        open_folder(PARAMS, tmp_path)


def test_shares_must_leave_something(tmp_path: Path) -> None:
    with pytest.raises(BadParams, match="add up to less than 1"):
        open_folder(PARAMS.model_copy(update={"dev_share": 0.5, "test_share": 0.5}), tmp_path)
