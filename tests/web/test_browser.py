"""The web app in a real browser, in front of the real API: a picture, its caption, a rating, the experiment."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from captioner.emulator.children import free_port
from tests.api.conftest import World, picture
from tests.local_aws import until
from tests.test_pages import browser as browser

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def app(api: str, tmp_path: Path) -> Iterator[str]:
    """`captioner web` as a process."""
    port = free_port()
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "CAPTIONER_WEB_API": api}
    log = (tmp_path / "web.log").open("w+", encoding="utf-8")
    command = [sys.executable, "-m", "captioner", "web", "--port", str(port)]
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, Path(log.name).read_text(encoding="utf-8")
        try:
            return bool(urllib.request.urlopen(f"{url}/_stcore/health", timeout=5).status == 200)
        except OSError:
            return False

    until(answers, "the web app to answer")
    yield url
    process.terminate()
    process.wait(30)
    log.close()


def looks(page: Page, name: str) -> None:
    """Keep a picture of the page, where whoever runs the tests names a folder for it."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def upload(page: Page, *pictures: bytes) -> None:
    files = [
        {"name": f"photo-{number}.jpg", "mimeType": "image/jpeg", "buffer": data}
        for number, data in enumerate(pictures)
    ]
    page.locator("input[type=file]").first.set_input_files(files)  # type: ignore[arg-type]


def test_from_a_picture_to_the_experiment(browser: Page, app: str, world: World) -> None:
    world.start()
    attention = {"words": ["a", "dog"], "rows": 2, "columns": 2, "weights": [[0.7, 0.1, 0.1, 0.1]] * 2}
    world.runtime.more = {"attention": {**attention, "looked_away": [0.0, 0.0]}}
    browser.set_viewport_size({"width": 1100, "height": 900})
    browser.goto(app)
    expect(browser.get_by_role("heading", name="Tell me about the image")).to_be_visible(timeout=30_000)
    upload(browser, picture(size=(320, 240)))
    expect(browser.get_by_role("heading", name="a dog of the")).to_be_visible(timeout=30_000)
    browser.get_by_text("Where it looked for each word").click()
    expect(browser.locator("img")).to_have_count(2, timeout=30_000)
    browser.get_by_text("4 ★★★★", exact=True).click()
    expect(browser.get_by_text("Thank you: your rating counts.")).to_be_visible(timeout=30_000)
    looks(browser, "caption")
    browser.get_by_label("A better caption").fill("a red field")
    browser.get_by_role("button", name="Send the correction").click()
    expect(browser.get_by_text("Thank you: your caption was stored.")).to_be_visible(timeout=30_000)
    assert [(line["rating"], line["correction"]) for line in world.feedback()] == [(4, None), (None, "a red field")]

    world.exposures()
    world.now += 60
    browser.goto(f"{app}/experiment")
    expect(browser.get_by_text("Not decided yet")).to_be_visible(timeout=30_000)
    expect(browser.get_by_text("Too few users have rated: 1 in all", exact=False)).to_be_visible(timeout=30_000)
    looks(browser, "experiment")


def test_several_pictures_at_once_on_a_phone_and_one_that_is_none(browser: Page, app: str) -> None:
    browser.set_viewport_size({"width": 375, "height": 800})
    browser.goto(app)
    expect(browser.get_by_role("heading", name="Tell me about the image")).to_be_visible(timeout=30_000)
    upload(browser, picture(), picture("JPEG", (60, 40)), b"this is no picture")
    expect(browser.get_by_role("heading", name="a dog of the")).to_have_count(2, timeout=30_000)
    expect(
        browser.get_by_text("photo-2.jpg: The picture is not a picture that can be read", exact=False)
    ).to_be_visible()
    assert browser.evaluate("document.documentElement.scrollWidth") <= 375
    looks(browser, "phone")


def test_an_example_for_whoever_has_no_picture_at_hand(browser: Page, app: str) -> None:
    browser.set_viewport_size({"width": 1100, "height": 900})
    browser.goto(app)
    browser.get_by_role("tab", name="An example").click(timeout=30_000)
    browser.get_by_text("Cat", exact=True).click()
    expect(browser.get_by_role("heading", name="a dog of the")).to_be_visible(timeout=30_000)
    looks(browser, "example")


def test_the_keyboard_alone_is_enough_for_a_rating(browser: Page, app: str, world: World) -> None:
    browser.set_viewport_size({"width": 1100, "height": 900})
    browser.goto(app)
    expect(browser.get_by_role("heading", name="Tell me about the image")).to_be_visible(timeout=30_000)
    upload(browser, picture())
    expect(browser.get_by_role("heading", name="a dog of the")).to_be_visible(timeout=30_000)
    browser.get_by_role("radio").first.focus()
    browser.keyboard.press("ArrowRight")
    expect(browser.get_by_text("Thank you: your rating counts.")).to_be_visible(timeout=30_000)
    assert world.feedback()[-1]["rating"] == 2


def test_the_docs_page_shows_every_route_without_the_internet(browser: Page, api: str) -> None:
    asked: list[str] = []
    browser.goto("about:blank")  # what an earlier page still asks for is not this one's
    browser.on("request", lambda request: asked.append(request.url))
    browser.goto(f"{api}/docs")
    for path in ("/v1/captions", "/v1/captions/{inference_id}/feedback", "/v1/experiment"):
        expect(browser.get_by_text(path, exact=True).first).to_be_visible(timeout=30_000)
    expect(browser.get_by_text("Unable to render")).to_have_count(0)
    assert [url for url in asked if url.startswith("http") and not url.startswith(api)] == []
    looks(browser, "docs")
