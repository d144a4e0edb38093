"""Token by token, one network: teacher forcing, step by step, the SavedModel, and the server over HTTP.

Every shape that a profile trains is exported at full size with weights drawn at random, scaled until it has opinions;
the same is asked of a model that has learned.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from captioner.digests import sha256_file
from captioner.emulator.children import free_port
from captioner.golden import golden_images
from captioner.images import normalise
from captioner.model.captioner import Captioner, unpack
from captioner.model.encoder import load_encoder
from captioner.model.ensemble import build_network
from captioner.model.memory import remember
from captioner.model.preprocess import decode_and_resize
from captioner.model.recurrence import Packing
from captioner.model.trained import read_trained, write_trained
from captioner.params import DecoderParams, ExportParams, load_params
from captioner.paths import Paths
from captioner.records import Caption
from captioner.stages import export
from captioner.text import END, PAD, SPECIAL, START, UNKNOWN, Vocabulary, tokenize
from tests.learned import CANDIDATE, Learned
from tests.local_aws import until

ROOT = Path(__file__).resolve().parents[2]
PROFILES = sorted(file.stem for file in (ROOT / "profiles").glob("*.yaml"))
# Enough words that a beam has a choice; "'s" is spelled onto the word before it.
VOCABULARY = Vocabulary((*SPECIAL, "'s", *(f"word{number}" for number in range(60))))
EXACT, CLOSE = 1e-4, 1e-3  # of a token's log probability, of a caption's

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Shape:
    """What a profile makes of a candidate: everything that shapes its artifact."""

    encoder: str
    layout: str
    decoder: DecoderParams
    export: ExportParams
    max_words: int


def shapes() -> dict[str, Shape]:
    """Name → shape, of every candidate of every profile; equal ones once, named after all who have them."""
    found: dict[str, tuple[list[str], Shape]] = {}
    for profile in PROFILES:
        params = load_params(ROOT / "profiles" / f"{profile}.yaml")
        for candidate in params.candidates:
            # Dropout and the vectors that an embedding starts from leave no trace in the network's shape.
            decoder = params.decoder(candidate).model_copy(update={"dropout": 0.0, "word_vectors": None})
            shape = Shape(
                params.features.encoder, params.features.layout, decoder, params.export, params.train.max_words
            )
            found.setdefault(repr(shape), ([], shape))[0].append(f"{profile}-{candidate}")
    every = {"+".join(names): shape for names, shape in found.values()}
    if all(shape.decoder.members == 1 for shape in every.values()):
        # Networks that decide together are one artifact too, whether or not a profile has them at the moment.
        first = next(shape for shape in every.values() if shape.decoder.kind == "attention")
        together = first.decoder.model_copy(update={"units": 64, "embedding": 32, "members": 2})
        every["two-members"] = replace(first, decoder=together)
    return every


SHAPES = shapes()


@dataclass(frozen=True)
class Both:
    """A decoder as training has it, and its artifact on disk and loaded."""

    decoder: Any
    vocabulary: Vocabulary
    max_words: int
    archive: Path
    artifact: Captioner
    grid: np.ndarray  # of the golden images, as evaluation has it
    images: list[bytes]
    between_batches: float  # how far log probabilities may be apart when the batch is another one


@pytest.fixture(scope="module", params=[*SHAPES, "learned"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    if request.param == "learned":
        learned: Learned = request.getfixturevalue("learned")
        return opened(learned.paths, CANDIDATE, EXACT)
    shape = SHAPES[request.param]
    root = tmp_path_factory.mktemp("parity")
    paths = Paths(root, root / ".captioner")
    encoder = load_encoder(shape.encoder, shape.layout, None, paths.home / "encoders")
    decoder = build_network(shape.decoder, len(VOCABULARY), encoder.channels)
    # Fresh weights find all words about as likely: no two tokens may be so close that rounding decides.
    for member in members_of(decoder):
        member.softmax.kernel.assign(12.0 * member.softmax.kernel)
    memory = remembered(encoder.channels) if shape.export.neighbours else None
    write_trained(paths.trained("one"), decoder, VOCABULARY, encoder.meta, shape.max_words, memory=memory)
    export.run(shape.export, paths, "one")
    return opened(paths, "one", CLOSE)  # what was scaled up magnifies rounding as well


def remembered(channels: int) -> dict[str, np.ndarray]:
    """Of twenty pictures that nobody has seen, with captions of any words."""
    draw = np.random.default_rng(0)
    captions = [[VOCABULARY.encode(list(draw.choice(VOCABULARY.words[4:], 6)), 6)] for _ in range(20)]
    return remember(draw.normal(size=(20, channels)).astype(np.float32), np.array(captions, np.int32))


def opened(paths: Paths, candidate: str, between_batches: float) -> Both:
    decoder, vocabulary, meta, max_words = read_trained(paths.trained(candidate))
    encoder = load_encoder(meta.encoder, meta.layout, None, paths.home / "encoders")
    images = [normalise(data, name) for name, data in golden_images().items()]
    pixels = tf.stack([decode_and_resize(tf.constant(image), encoder.image_size) for image in images])
    archive = paths.exported(candidate) / "model.tar.gz"
    artifact = Captioner.load(archive, paths.unpacked)
    grid = encoder.encode(pixels, artifact.card["flip"]).numpy().astype(np.float16)
    return Both(decoder, vocabulary, max_words, archive, artifact, grid, images, between_batches)


def ids_of(captions: list[tuple[Caption, ...]], vocabulary: Vocabulary) -> np.ndarray:
    """[images, captions, T + 1] with start and end, padded."""
    rows = [[vocabulary.encode(tokenize(one.caption), 1000) for one in of_image] for of_image in captions]
    longest = max(len(row) for of_image in rows for row in of_image)
    padded = [[row + [PAD] * (longest - len(row)) for row in of_image] for of_image in rows]
    return np.array(padded, np.int32)


def log_softmax(logits: Any) -> np.ndarray:
    return tf.nn.log_softmax(tf.cast(logits, tf.float32)).numpy()


def members_of(decoder: Any) -> list[Any]:
    """The networks that decide together; a single one decides alone."""
    return list(getattr(decoder, "members", [decoder]))


def teacher_forced(both: Both, ids: np.ndarray) -> np.ndarray:
    """Log probabilities of every next word as training computes them, [B, N, T, V]; zero behind a caption's end."""
    inputs, targets = ids[:, :, :-1], ids[:, :, 1:]
    packing = Packing.of(tf.constant(targets != PAD))
    votes = []
    for member in members_of(both.decoder):
        context = member.image(tf.cast(both.grid, tf.float32))
        votes.append(log_softmax(member.softmax(member.hidden(context, tf.constant(inputs), packing))))
    packed = np.logaddexp.reduce(votes, axis=0) - np.log(len(votes))
    found = np.zeros((targets.size, packed.shape[-1]), np.float32)
    found[packing.flat.numpy()] = packed
    return found.reshape(*targets.shape, -1)


def step_by_step(both: Both, ids: np.ndarray) -> np.ndarray:
    """The same as decoding computes it, one step after the other."""
    context = both.decoder.image(tf.cast(both.grid, tf.float32))
    state = both.decoder.initial(context, ids.shape[1])
    found = []
    for place in range(ids.shape[2] - 1):
        logits, state = both.decoder.step(context, tf.constant(ids[:, :, place]), state)
        found.append(log_softmax(logits))
    return np.stack(found, axis=2) * (ids[:, :, 1:] != PAD)[..., None]


def of_captions(log_words: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """[B, N] log probabilities of whole captions, end token included."""
    return np.take_along_axis(log_words, ids[:, :, 1:, None], axis=3)[..., 0].sum(axis=2)


def test_training_and_decoding_see_the_same_next_word(both: Both) -> None:
    ids = ids_of(both.artifact.caption(both.images), both.vocabulary)
    assert UNKNOWN not in ids
    np.testing.assert_allclose(teacher_forced(both, ids), step_by_step(both, ids), atol=EXACT, rtol=0)


def test_the_saved_models_log_probability_is_the_sum_over_training_s_tokens(both: Both) -> None:
    answers = both.artifact.caption(both.images)
    ids = ids_of(answers, both.vocabulary)
    theirs = np.array([[one.log_probability for one in of_image] for of_image in answers])
    np.testing.assert_allclose(of_captions(teacher_forced(both, ids), ids), theirs, atol=CLOSE, rtol=0)
    np.testing.assert_allclose(of_captions(step_by_step(both, ids), ids), theirs, atol=CLOSE, rtol=0)


def forbid_repeats(log_words: np.ndarray, said: np.ndarray, words: int) -> None:
    """Make -inf of what would complete `words` words in a row of `said` [T] once more, in `log_words` [T, V]."""
    for t in range(len(said)):
        for earlier in range(t - words + 1):
            *begin, end = said[earlier : earlier + words]
            if begin == list(said[t - words + 1 : t]):
                log_words[t, end] = -np.inf


def test_each_greedy_token_of_the_saved_model_is_training_s_most_likely_allowed_one(both: Both) -> None:
    ids = ids_of(both.artifact.caption(both.images, beam=1), both.vocabulary)
    log_words = teacher_forced(both, ids)
    log_words[..., [PAD, START, UNKNOWN]] = -np.inf
    if once := both.artifact.card["no_repeat_ngram_size"]:
        for place in np.ndindex(ids.shape[:2]):
            forbid_repeats(log_words[place], ids[place][1:], once)
    # After so many words only the end is allowed.
    last = np.arange(log_words.shape[2]) == both.max_words
    log_words[:, :, last] = np.where(np.arange(log_words.shape[3]) == END, 0.0, -np.inf)
    real = ids[:, :, 1:] != PAD
    assert (log_words.argmax(axis=3)[real] == ids[:, :, 1:][real]).all()


def test_pixels_and_stored_features_lead_to_the_same_captions(both: Both) -> None:
    from_pixels, from_features = both.artifact.caption(both.images), both.artifact.caption_features(both.grid)
    assert [[c.caption for c in row] for row in from_pixels] == [[c.caption for c in row] for row in from_features]


def test_the_server_answers_with_the_same_tokens(both: Both, tmp_path: Path) -> None:
    expected, greedy = both.artifact.caption(both.images), both.artifact.caption(both.images, beam=1)
    unpack(both.archive, tmp_path / "model")
    with served(tmp_path / "model", sha256_file(both.archive)) as port:
        for image, wanted, first in zip(both.images, expected, greedy, strict=True):
            answer = asked(port, image, "application/x-image")
            told = [answer, *answer["alternatives"]]
            assert [one["caption"] for one in told] == [one.caption for one in wanted]
            theirs, ours = [one["log_probability"] for one in told], [one.log_probability for one in wanted]
            np.testing.assert_allclose(theirs, ours, atol=both.between_batches, rtol=0)
            assert answer["model"]["digest"] == sha256_file(both.archive)
            body = json.dumps({"image": b64encode(image).decode(), "beam": 1}).encode()
            assert asked(port, body, "application/json")["caption"] == first[0].caption


@contextmanager
def served(folder: Path, digest: str) -> Iterator[int]:
    """The container's own program over `folder`; gives its port."""
    port = free_port()
    command = [sys.executable, "-m", "captioner.serve", "--model-dir", str(folder), "--host", "127.0.0.1"]
    environ = {**os.environ, "CAPTIONER_MODEL_VERSION": "1", "CAPTIONER_MODEL_DIGEST": digest}
    with subprocess.Popen([*command, "--port", str(port)], env=environ, stdout=subprocess.DEVNULL) as process:
        try:
            until(lambda: process.poll() is not None or ping(port), "the server to answer", 240)
            assert process.poll() is None, "the server ended"
            yield port
        finally:
            process.terminate()
            process.wait(60)


def ping(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def asked(port: int, body: bytes, kind: str) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/invocations", body, {"Content-Type": kind, "Accept": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        found: dict[str, Any] = json.loads(answer.read())
        return found
    finally:
        connection.close()


def test_every_profile_and_both_kinds_of_network_are_here() -> None:
    names = "+".join(SHAPES)
    assert all(profile in names for profile in PROFILES)
    assert {shape.decoder.kind for shape in SHAPES.values()} >= {"merge", "attention"}
