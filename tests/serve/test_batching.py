"""Requests that come together are captioned together, one that is alone does not wait, and none fails another."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from captioner.errors import BadImage
from captioner.golden import golden_images
from captioner.images import normalise
from captioner.model.captioner import Captioner
from captioner.records import Caption
from captioner.serve.batching import Answers, Batcher, Late


class Model:
    """Says what it was shown; holds the first batch until it is let go, and refuses the image b"bad"."""

    def __init__(self, held: bool = True) -> None:
        self.batches: list[tuple[list[bytes], int | None, int | None]] = []
        self.entered, self.go = threading.Semaphore(0), threading.Event()
        if not held:
            self.go.set()

    def caption(self, images: Sequence[bytes], beam: int | None = None, top: int | None = None) -> Answers:
        self.batches.append((list(images), beam, top))
        self.entered.release()
        assert self.go.wait(30)
        if b"bad" in images:
            raise BadImage("The image cannot be decoded.")
        return [(Caption(image.decode(), -1.0),) for image in images]


def ask(batcher: Batcher, model: Model, requests: Sequence[tuple[list[bytes], int | None]]) -> list[Answers | str]:
    """Occupy the model, let `requests` gather, then let go. The answers or errors, in order."""

    def one(request: tuple[list[bytes], int | None]) -> Answers | str:
        try:
            return batcher.caption(request[0], beam=request[1]).answers
        except BadImage as error:
            return str(error)

    with ThreadPoolExecutor(len(requests) + 1) as pool:
        first = pool.submit(one, ([b"first"], None))
        assert model.entered.acquire(timeout=30)
        others = []
        for number, request in enumerate(requests, start=1):
            others.append(pool.submit(one, request))
            while batcher.waiting < number:  # in this order
                first.done()
        model.go.set()
        return [first.result(30), *(other.result(30) for other in others)]


def said(answers: Answers | str) -> list[str] | str:
    return answers if isinstance(answers, str) else [captions[0].caption for captions in answers]


def test_what_gathers_is_captioned_at_once_and_everyone_gets_their_own() -> None:
    model = Model()
    answers = ask(Batcher(model), model, [([b"a"], None), ([b"b", b"c"], None), ([b"d"], None)])
    assert [said(answer) for answer in answers] == [["first"], ["a"], ["b", "c"], ["d"]]
    assert [images for images, *_ in model.batches] == [[b"first"], [b"a", b"b", b"c", b"d"]]


def test_another_beam_is_another_batch_and_a_batch_has_a_limit() -> None:
    model = Model()
    requests = [([b"a"], None), ([b"b"], 5), ([b"c"], None), ([b"d", b"e"], None), ([b"f"], 5)]
    ask(Batcher(model, largest=3), model, requests)
    assert [(images, beam) for images, beam, _ in model.batches] == [
        ([b"first"], None),
        ([b"a", b"c"], None),
        ([b"b", b"f"], 5),
        ([b"d", b"e"], None),
    ]


def test_one_bad_picture_fails_its_own_request_only() -> None:
    model = Model()
    answers = ask(Batcher(model), model, [([b"a"], None), ([b"bad"], None), ([b"c"], None)])
    assert [said(answer) for answer in answers] == [["first"], ["a"], "The image cannot be decoded.", ["c"]]


def test_largest_1_captions_every_request_alone() -> None:
    model = Model()
    ask(Batcher(model, largest=1), model, [([b"a"], None), ([b"b", b"c"], None)])
    assert [images for images, *_ in model.batches] == [[b"first"], [b"a"], [b"b", b"c"]]


def test_a_client_that_is_alone_never_waits() -> None:
    model = Model(held=False)
    batcher = Batcher(model, window_s=3600.0)  # a single wait would time this test out
    assert [said(batcher.caption([b"%d" % number]).answers) for number in range(3)] == [["0"], ["1"], ["2"]]


def test_each_is_told_how_it_was_captioned() -> None:
    model = Model(held=False)
    batcher = Batcher(model)
    alone = batcher.caption([b"a", b"b"])
    assert alone.batch == 2
    assert alone.queue_s >= 0
    assert alone.model_s >= 0


def test_who_is_late_leaves_the_queue_at_once_and_the_others_stay() -> None:
    model = Model()
    batcher = Batcher(model)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(batcher.caption, [b"first"])
        assert model.entered.acquire(timeout=30)
        patient = pool.submit(batcher.caption, [b"patient"])
        while not batcher.waiting:
            first.done()
        with pytest.raises(Late):
            batcher.caption([b"late"], until=time.monotonic() + 0.05)
        assert batcher.waiting == 1
        with pytest.raises(Late):  # too late before it was asked
            batcher.caption([b"late"], until=time.monotonic() - 1)
        model.go.set()
        assert said(first.result(30).answers) == ["first"]
        assert said(patient.result(30).answers) == ["patient"]
    assert [images for images, *_ in model.batches] == [[b"first"], [b"patient"]]


def test_the_same_captions_whatever_the_batch(tiny_artifact: Path, tmp_path: Path) -> None:
    captioner = Captioner.load(tiny_artifact, tmp_path)
    photos = [normalise(data, name) for name, data in golden_images().items()]
    alone = [captioner.caption([photo])[0] for photo in photos]
    batcher = Batcher(captioner)
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda number: batcher.caption([photos[number % len(photos)]]).answers[0], range(32)))
    for number, captions in enumerate(together):
        for one, other in zip(captions, alone[number % len(photos)], strict=True):
            assert one.caption == other.caption
            assert one.log_probability == pytest.approx(other.log_probability, abs=1e-4)
