from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from captioner.errors import BadImage
from captioner.gallery import SIDE, Bars, Entry, Page, Section, Table, render, thumbnail


def picture(size: tuple[int, int], mode: str = "RGB", kind: str = "JPEG") -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(out, kind)
    return out.getvalue()


def page(*entries: Entry) -> Page:
    return Page(
        title="Captions by <merge>",
        facts=(("split", "test & more"),),
        tables=(Table("Scores", ("", "BLEU-4"), (("this model", "21.0"),), note="a note"),),
        sections=(Section("Best", "The highest.", entries),),
    )


ENTRY = Entry(
    "a.jpg", 'a <b>dog</b> & "cat"', 61.25, ("A dog 's ball .", "<script>alert(1)</script>"), ("a dog", "a cat")
)


class Seen(HTMLParser):
    """Tags, text and attributes, with unclosed tags found out."""

    VOID = frozenset({"meta", "img", "!doctype"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def values(self, tag: str, attribute: str) -> list[str]:
        return [value for found, name, value in self.attributes if (found, name) == (tag, attribute)]


def test_the_page_shows_captions_scores_and_references() -> None:
    seen = Seen(render(page(ENTRY), lambda _: picture((300, 200))))
    assert not seen.open
    for text in ('a <b>dog</b> & "cat"', "61.2", "A dog's ball.", "a dog", "21.0", "a note", "test & more"):
        assert text in seen.texts, text
    assert seen.values("img", "alt") == ['a <b>dog</b> & "cat"']


def test_text_is_text_and_never_a_tag() -> None:
    html = render(page(ENTRY), lambda _: picture((300, 200)))
    assert "<script" not in html
    assert "<b>dog" not in html
    assert "&lt;script&gt;" in html


def test_the_page_needs_nothing_but_itself() -> None:
    html = render(page(ENTRY, ENTRY), lambda _: picture((300, 200)))
    seen = Seen(html)
    assert all(value.startswith("data:image/jpeg;base64,") for value in seen.values("img", "src"))
    assert all(value.startswith("#") for value in seen.values("a", "href"))
    assert not re.search(r"https?:|url\(|@import|<link", html)
    assert "prefers-color-scheme: dark" in html


def test_each_link_leads_to_its_section() -> None:
    seen = Seen(render(page(ENTRY), lambda _: picture((30, 20))))
    assert [link[1:] for link in seen.values("a", "href")] == seen.values("section", "id") == ["best"]


def test_equal_content_gives_equal_bytes() -> None:
    first, second = (render(page(ENTRY), lambda _: picture((300, 200))) for _ in range(2))
    assert first == second


def test_an_empty_caption_is_said_to_be_empty() -> None:
    html = render(page(Entry("a.jpg", "", 0.0, ("a dog",))), lambda _: picture((30, 20)))
    assert "<em>no words</em>" in html
    assert "Next in the beam" not in html


@pytest.mark.parametrize("size", [(640, 480), (100, 900), (50, 40), (1, 1)])
@pytest.mark.parametrize(("mode", "kind"), [("RGB", "JPEG"), ("L", "JPEG"), ("RGB", "PNG"), ("L", "PNG")])
def test_pictures_are_small_jpegs_of_the_same_shape(size: tuple[int, int], mode: str, kind: str) -> None:
    with Image.open(io.BytesIO(thumbnail(picture(size, mode, kind)))) as small:
        assert small.format == "JPEG"
        assert small.mode == "RGB"
        assert max(small.size) == min(SIDE, max(size))
        assert small.width / small.height == pytest.approx(size[0] / size[1], rel=0.05)


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(BadImage, match="gallery"):
        thumbnail(base64.b64decode("AAAA"))


def test_what_is_wrong_stands_under_the_score_with_its_name_in_bold() -> None:
    wrong = Entry("a.jpg", "a cat", 0.0, ("a dog",), notes=("wrong subject: says <cat>", "no words"), label="125")
    html = render(page(wrong), lambda _: picture((30, 20)))
    assert "<li><b>wrong subject</b> says &lt;cat&gt;</li><li><b>no words</b></li>" in html
    assert ">125 · a.jpg</span>" in html
    assert '<ul class="notes">' not in render(page(ENTRY), lambda _: picture((30, 20)))


def test_bars_are_drawn_to_scale_and_fetch_nothing() -> None:
    bars = Bars("Words <a caption>", "words", (("people", (0.0, 0.5, 0.5)), ("model", (0.0, 0.25, 0.75))), note="so")
    html = render(Page("title", (), (), (), bars=(bars,)), lambda _: b"")
    seen = Seen(html)
    assert not seen.open
    heights = [float(value) for value in seen.values("rect", "height")]
    assert heights == [100.0, 100.0, 50.0, 150.0]
    assert "Words &lt;a caption&gt;" in html
    assert "1: 25.0%" in seen.texts
    assert not re.search(r"https?:|url\(", html)
