"""What people wrote of pictures that look alike: what is kept of it, and how it rates captions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from captioner.errors import BadData
from captioner.evaluation import select
from captioner.featurestore.packed import PackedFeatures
from captioner.golden import golden_images
from captioner.images import normalise
from captioner.metrics import score
from captioner.model.artifact import build_artifact
from captioner.model.beam import NEVER
from captioner.model.captioner import Captioner
from captioner.model.memory import AXES, KEPT, Memory, best_first, ngrams, remember
from captioner.model.trained import ENCODER, MEMORY, read_memory, write_trained
from captioner.records import read_manifest
from captioner.stages.evaluate import predict
from captioner.stages.export import check_parity
from captioner.text import END, PAD, START, UNKNOWN
from tests.learned import CANDIDATE, Learned
from tests.loading import script
from tests.tiny import META, VOCABULARY, decoder_params

WORDS = range(4, 60)
CELLS, CHANNELS, LONGEST = 4, 6, 9


def row(*words: int, start: bool = True) -> list[int]:
    ids = [*([START] if start else []), *words, END]
    return [*ids, *[PAD] * (LONGEST + 2 - len(ids))]


def pictures(number: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, D] that differ, and two captions of each."""
    draw = np.random.default_rng(seed)
    captions = [[row(*draw.choice(WORDS, draw.integers(3, LONGEST))) for _ in range(2)] for _ in range(number)]
    return draw.normal(size=(number, CHANNELS)).astype(np.float32), np.array(captions, np.int32)


def grid_of(seen: np.ndarray) -> tf.Tensor:
    """A grid whose mean is `seen`."""
    spread = np.linspace(-1, 1, CELLS)[None, :, None]
    return tf.constant((seen[:, None, :] + spread).astype(np.float32))


def said(*captions: Sequence[int]) -> tf.Tensor:
    return tf.constant([[row(*one, start=False) for one in captions]])


def test_an_ngram_is_the_same_wherever_it_stands() -> None:
    buckets, there = (one.numpy() for one in ngrams(tf.constant([[START, 7, 8, 9, END], [8, 9, UNKNOWN, END, PAD]])))
    assert there[0].tolist() == [
        [False, True, True, True, False],
        [False, True, True, False, False],
        [False, True, False, False, False],
        [False] * 5,
    ]
    assert there[1, 0].tolist() == [True, True, True, False, False]
    assert buckets[0, 0, 2] == buckets[1, 0, 0]  # "8"
    assert buckets[0, 1, 2] == buckets[1, 1, 0]  # "8 9"
    kinds = {int(bucket) for bucket in buckets[there]}
    assert len(kinds) == 4 + 3 + 2  # words, pairs and triples are all different


def test_agreement_is_the_mean_cosine_of_tfidf_to_the_neighbours_captions() -> None:
    """Held against counts of the n-grams themselves, over two neighbours."""
    seen, captions = pictures(40)
    grams = [[Counter(_grams([i for i in one if i > UNKNOWN])) for one in of_picture] for of_picture in captions]
    frequency = Counter(gram for of_picture in grams for gram in {gram for one in of_picture for gram in one})
    idf = {gram: math.log(len(captions) / n) for gram, n in frequency.items()}

    def cosine(one: Counter, other: Counter, order: int) -> float:
        a, b = ({g: n * idf.get(g, math.log(40)) for g, n in x.items() if len(g) == order} for x in (one, other))
        norms = math.hypot(*a.values()) * math.hypot(*b.values())
        return sum(a[g] * b[g] for g in a.keys() & b.keys()) / norms if norms else 0.0

    unit = (seen - seen.mean(axis=0)) / np.linalg.norm(seen - seen.mean(axis=0), axis=1, keepdims=True)
    nearest = np.argsort(-(unit @ unit[7]))[:2]
    written = [one for picture in nearest for one in grams[picture]]
    asked = [[i for i in captions[7, 0] if i > UNKNOWN], [5, 6, 7], [5, 5, 5, 5]]
    wanted = [
        np.mean([sum(cosine(Counter(_grams(one)), other, order) for order in range(1, 5)) / 4 for other in written])
        for one in asked
    ]
    found = Memory(remember(seen, captions)).agreement(grid_of(seen[7:8]), said(*asked), 2).numpy()[0]
    np.testing.assert_allclose(found, wanted, atol=5e-3)  # float16, and a hash
    assert found[0] > 0.2 > found[1]


def _grams(words: Sequence[int]) -> list[tuple[int, ...]]:
    return [tuple(words[at : at + n]) for n in range(1, 5) for at in range(len(words) - n + 1)]


def test_a_pictures_own_caption_agrees_wholly() -> None:
    seen, captions = pictures(30)
    captions = captions[:, :1]
    found = Memory(remember(seen, captions)).agreement(grid_of(seen), tf.constant(captions[:, :, 1:]), 1).numpy()
    # A caption of three words has no n-gram of four.
    orders = np.minimum((captions[:, 0] > UNKNOWN).sum(axis=1), 4) / 4
    np.testing.assert_allclose(found[:, 0], orders, atol=5e-3)


def test_the_pictures_around_it_change_nothing() -> None:
    seen, captions = pictures(30)
    memory, ids = Memory(remember(seen, captions)), tf.constant(captions[:, :, 1:])
    together = memory.agreement(grid_of(seen), ids, 3).numpy()
    alone = np.concatenate([memory.agreement(grid_of(seen[i : i + 1]), ids[i : i + 1], 3).numpy() for i in range(30)])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_what_is_kept_is_small_and_the_same_each_time() -> None:
    seen, captions = pictures(100)
    first, second = remember(seen, captions), remember(seen, captions)
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)
    assert first["buckets"].shape == first["weights"].shape == (100, KEPT)
    assert first["pictures"].shape == (100, min(AXES, CHANNELS))
    assert sum(first[name][0].nbytes for name in ("buckets", "weights", "pictures")) < 600


def test_fewer_pictures_than_neighbours_are_all_there_is() -> None:
    seen, captions = pictures(3)
    memory = Memory(remember(seen, captions))
    few, many = (memory.agreement(grid_of(seen), tf.constant(captions[:, :, 1:]), k).numpy() for k in (3, 50))
    np.testing.assert_array_equal(few, many)


def test_a_missing_caption_has_no_say() -> None:
    """Of a picture with one caption where others have two."""
    seen, captions = pictures(10)
    fewer = captions.copy()
    fewer[4, 1] = PAD
    memory = Memory(remember(seen, fewer))
    found = memory.agreement(grid_of(seen[4:5]), tf.constant(fewer[4:5, :1, 1:]), 1).numpy()[0, 0]
    assert found == pytest.approx(min((fewer[4, 0] > UNKNOWN).sum(), 4) / 4, abs=5e-3)


def test_best_first_weighs_both() -> None:
    ids = said([5, 6, 7], [8, 9], [5])
    scores = tf.constant([[-4.0, -4.4, NEVER]])
    agreement = tf.constant([[0.1, 0.5, 0.9]])

    def order(weight: float) -> list[tuple[int, float]]:
        kept, moved = best_first(ids, scores, 0.0, agreement, weight)
        return [(int(one[0]), round(float(score), 1)) for one, score in zip(kept[0], moved[0], strict=True)]

    assert order(0.0) == [(5, -4.0), (8, -4.4), (5, NEVER)]
    assert order(2.0) == [(8, -4.4), (5, -4.0), (5, NEVER)]
    assert order(100.0)[2] == (5, NEVER)  # what search did not fill stays last


@pytest.mark.timeout(600)  # the first test waits for the training
def test_an_artifact_rates_by_it_wherever_it_is_asked(
    learned: Learned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By bytes, by features and for an explanation; and it says other captions than the one without."""
    params = learned.params.export.model_copy(update={"neighbours": 5, "agreement": 50.0})
    target = tmp_path / "model.tar.gz"
    graph = build_artifact(
        learned.paths.trained(CANDIDATE), params, CANDIDATE, target, None, learned.paths.home / "encoders"
    )
    images = [normalise(data, name) for name, data in golden_images().items()]
    rated, plain = Captioner.load(target), Captioner.load(learned.artifact)
    parity = check_parity(graph, rated, images)
    assert parity.captions_equal
    assert parity.log_probabilities_equal
    assert rated.card["neighbours"] == 5
    answers, before = rated.caption(images), plain.caption(images)
    assert [one[0] for one in answers] != [one[0] for one in before]
    assert rated.explain(images[0]).caption == answers[0][0].caption
    # What scripts/decoding.py says of these settings is what they do.
    monkeypatch.chdir(learned.paths.root)
    settings = ["--beams", params.beam, "--powers", params.length_power, "--neighbours", 5, "--agreements", 50]
    assert script("decoding").main([CANDIDATE, *map(str, settings)]) == 0
    row = capsys.readouterr().out.splitlines()[-1].split(" | ")
    features = PackedFeatures.open(learned.paths.features)
    dev = select(read_manifest(learned.paths.validated / "manifest.jsonl"), features.ids, "dev")
    ours = score([one.captions[0].caption for one in predict(rated, features, dev, 32)], dev.references)
    assert row[3:9] == ["5", "50", "–", f"{ours.bleu_1:.2f}", f"{ours.bleu_4:.2f}", f"{ours.cider:.2f}"]
    for one in images:
        wide, usual = (model.caption([one], beam=params.beam, top=params.beam)[0] for model in (rated, plain))
        assert {c.caption for c in wide} == {c.caption for c in usual}  # the network's own, in another order


def test_what_was_trained_without_it_is_said(tmp_path: Path) -> None:
    from captioner.model.decoder import build_decoder

    decoder = build_decoder(decoder_params(), len(VOCABULARY), META.channels, 1)
    write_trained(tmp_path, decoder, VOCABULARY, META, max_words=8)
    assert not (tmp_path / ENCODER).exists()
    assert not (tmp_path / MEMORY).exists()
    with pytest.raises(BadData, match=r"no memory.npz, which export.neighbours needs"):
        read_memory(tmp_path)
