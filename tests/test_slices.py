from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from captioner.errors import BadImage
from captioner.metrics import CiderScorer, bleu, bleu_statistics
from captioner.slices import (
    ANIMALS,
    PEOPLE,
    length_of,
    light_of,
    luminance_of,
    score_slices,
    slices_of,
    subjects_of,
)
from tests.sentences import corpus


def picture(colour: tuple[int, int, int], kind: str = "PNG", mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (300, 200), colour).convert(mode).save(out, kind)
    return out.getvalue()


def words(number: int) -> str:
    return " ".join(["word"] * number)


@pytest.mark.parametrize(
    ("lengths", "name"),
    [((9, 9, 9), "short"), ((9, 10), "medium"), ((11, 12), "medium"), ((12, 12), "long"), ((40,), "long")],
)
def test_length_is_the_mean_of_the_references(lengths: tuple[int, ...], name: str) -> None:
    assert length_of([words(number) for number in lengths]) == name


@pytest.mark.parametrize(
    ("references", "subjects"),
    [
        (["A man runs .", "Someone is running"], ["people"]),
        (["Two dogs play", "The animals fight"], ["animals"]),
        (["A man and his dog", "A boy with a puppy", "a red ball"], ["people", "animals"]),
        (["A man 's dog", "A dog", "A dog", "A dog"], ["animals"]),
        (["a red circle above a blue square", "a circle"], ["other"]),
        (["a hot dogma", "the manual"], ["other"]),
    ],
)
def test_subject_is_what_half_of_the_references_speak_of(references: list[str], subjects: list[str]) -> None:
    assert subjects_of(references) == subjects


def test_no_word_is_both_a_person_and_an_animal() -> None:
    assert not PEOPLE & ANIMALS


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_luminance_is_that_of_the_pixels(kind: str) -> None:
    assert luminance_of(picture((0, 0, 0), kind)) == pytest.approx(0, abs=1)
    assert luminance_of(picture((255, 255, 255), kind)) == pytest.approx(255, abs=1)
    assert luminance_of(picture((200, 100, 50), kind)) == pytest.approx(0.299 * 200 + 0.587 * 100 + 0.114 * 50, abs=2)
    assert luminance_of(picture((80, 80, 80), kind, mode="L")) == pytest.approx(80, abs=1)


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(BadImage, match="brightness"):
        luminance_of(b"not a picture")


def test_light() -> None:
    assert [light_of(value) for value in (0, 94.9, 95, 134.9, 135, 255)] == [
        "dark",
        "dark",
        "medium",
        "medium",
        "bright",
        "bright",
    ]


def test_an_image_is_in_one_slice_of_each_kind_and_in_one_for_each_tag() -> None:
    found = slices_of(["a black dog"], {"weather": "rain", "combination": "unseen"}, luminance=20)
    assert found == ["length/short", "subject/animals", "light/dark", "combination/unseen", "weather/rain"]


def test_slices_are_scored_on_their_images_with_the_whole_sets_frequencies() -> None:
    hypotheses, references = corpus(40, seed=12)
    members = [["all/yes", "third/yes"] if row % 3 == 0 else ["all/yes"] for row in range(40)]
    cider = CiderScorer(references).each(hypotheses)
    found = score_slices(members, cider, bleu_statistics(hypotheses, references))
    assert list(found) == ["all/yes", "third/yes"]
    assert found["all/yes"].images == 40
    assert found["all/yes"].cider == pytest.approx(cider.mean())
    assert found["all/yes"].bleu_4 == pytest.approx(bleu(hypotheses, references)[3])
    third = found["third/yes"]
    assert third.images == 14
    assert third.cider == pytest.approx(float(np.mean(cider[::3])))
    assert third.bleu_4 == pytest.approx(bleu(hypotheses[::3], references[::3])[3])
