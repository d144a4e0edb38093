"""The pages that we write, in a real browser: they show what they hold, fit, and ask the network for nothing."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from captioner import gallery
from captioner.checks import Rule
from captioner.expectations import Expectations

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is missing: .ci/run installs it")
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield chromium.new_page()
        chromium.close()


def visit(browser: Page, file: Path, width: int = 1280) -> list[str]:
    """Open a page; returns what it complained about or asked the network for."""
    complaints: list[str] = []
    browser.on("console", lambda message: complaints.append(message.text))
    browser.on("pageerror", lambda error: complaints.append(str(error)))
    browser.on("request", lambda r: complaints.append(r.url) if r.url.startswith("http") else None)
    browser.set_viewport_size({"width": width, "height": 900})
    browser.goto(file.as_uri())
    return complaints


def gallery_page(folder: Path) -> Path:
    picture = io.BytesIO()
    Image.new("RGB", (320, 200), (30, 120, 200)).save(picture, "JPEG")
    entries = tuple(
        gallery.Entry(
            f"{i}_a_rather_long_name_of_a_photo.jpg", "a blue field", 42.0, ("The sky .", "Blue ."), ("blue",)
        )
        for i in range(9)
    )
    page = gallery.Page(
        title="Captions by attention",
        facts=(("split", "test"),),
        tables=(gallery.Table("Scores", ("", "BLEU-4"), (("this model", "21.0"),), note="a note"),),
        sections=(gallery.Section("Best", "The highest.", entries),),
    )
    file = folder / "gallery.html"
    file.write_text(gallery.render(page, lambda _: gallery.thumbnail(picture.getvalue())), encoding="utf-8")
    return file


@pytest.mark.parametrize("width", [390, 1280])
def test_the_gallery_shows_its_pictures_and_fits(browser: Page, tmp_path: Path, width: int) -> None:
    assert visit(browser, gallery_page(tmp_path), width) == []
    assert browser.get_by_text("Captions by attention").first.is_visible()
    assert browser.locator("img").count() == 9
    assert browser.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert browser.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_data_docs_open_without_a_network_and_lead_on(browser: Page, tmp_path: Path) -> None:
    frame = pd.DataFrame({"row": [0, 1, 2], "caption": ["a dog", "", "<img src=x onerror=alert(1)>"]})
    rule = Rule("empty caption", "expect_column_values_to_match_regex", {"column": "caption", "regex": r"\S"})
    expectations = Expectations()
    expectations.check("captions", "raw", frame, [rule])
    index = expectations.build_docs(tmp_path / "docs")
    assert visit(browser, index) == []
    assert "captions" in browser.inner_text("body")
    browser.locator("a").first.click()
    assert browser.url != index.as_uri()
