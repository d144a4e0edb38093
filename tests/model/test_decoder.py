"""The decoders, on a tiny alphabet: what training sees and what decoding sees are the same network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from captioner.model.beam import beam_search
from captioner.model.decoder import Decoder, build_decoder
from captioner.model.dropout import Dropout
from captioner.model.encoder import Encoder
from captioner.model.ensemble import Ensemble
from captioner.model.recurrence import Packing
from captioner.model.teaching import Teacher
from captioner.model.trained import read_trained, weights_of, write_trained
from captioner.model.training import Batch, Trainer, bag_of_words, epoch_batches
from captioner.model.tuning import Tuner
from captioner.params import DecoderParams, TrainParams
from captioner.text import END, PAD, SPECIAL, START, UNKNOWN, Vocabulary
from tests.tiny import META

KINDS = ("merge", "attention")


def tiny(kind: str, vocabulary: int = 12, seed: int = 3):
    return build_decoder(DecoderParams(kind=kind, units=8, embedding=8, dropout=0.0), vocabulary, channels=6, seed=seed)


def train_params(**changes) -> TrainParams:
    values = {
        "seed": 1, "epochs": 2, "images_per_batch": 2, "learning_rate": 0.01, "warmup_steps": 1, "label_smoothing": 0.0,
        "clip_norm": 5.0, "min_count": 1, "max_words": 5, "monitor": "cider", "patience": 3, "dev_images": 4,
    }  # fmt: skip
    return TrainParams(**{**values, **changes})


@pytest.fixture
def grid() -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).random((2, 4, 6)), tf.float32)


CAPTIONS = np.array(
    [
        [[START, 5, 6, 7, END, PAD], [START, 8, END, PAD, PAD, PAD]],
        [[START, 9, 10, 11, 4, END], [PAD, PAD, PAD, PAD, PAD, PAD]],
    ],
    np.int32,
)


def test_packing_keeps_every_real_token_once_and_no_padding() -> None:
    targets = CAPTIONS[:, :, 1:]
    packing = Packing.of(tf.constant(targets != PAD))
    picked = packing.pick(tf.constant(targets)).numpy()
    assert sorted(picked) == sorted(targets[targets != PAD])
    # Step after step, longest caption first.
    assert packing.sizes.numpy().tolist() == [3, 3, 2, 2, 1]
    assert picked[:3].tolist() == [9, 5, 8]
    assert packing.image.numpy()[:3].tolist() == [1, 0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_teacher_forcing_equals_decoding_step_by_step(kind: str, grid: tf.Tensor) -> None:
    decoder = tiny(kind)
    inputs, targets = CAPTIONS[:, :, :-1], CAPTIONS[:, :, 1:]
    packing = Packing.of(tf.constant(targets != PAD))
    context = decoder.image(grid)
    packed = decoder.softmax(decoder.hidden(context, tf.constant(inputs), packing)).numpy()

    state = decoder.initial(context, 2)
    stepwise = []
    for t in range(inputs.shape[2]):
        logits, state = decoder.step(context, tf.constant(inputs[:, :, t]), state)
        stepwise.append(logits.numpy())
    padded = np.stack(stepwise, axis=2).reshape(-1, decoder.vocabulary)
    np.testing.assert_allclose(packed, padded[packing.flat.numpy()], atol=1e-5)


@pytest.mark.parametrize(("heads", "sentinel"), [(1, False), (2, True), (4, False)])
def test_so_it_does_with_heads_and_without_a_sentinel(heads: int, sentinel: bool, grid: tf.Tensor) -> None:
    params = DecoderParams(kind="attention", units=8, embedding=8, dropout=0.0, heads=heads, sentinel=sentinel)
    decoder = build_decoder(params, 12, channels=6, seed=3)
    inputs, targets = CAPTIONS[:, :, :-1], CAPTIONS[:, :, 1:]
    packing = Packing.of(tf.constant(targets != PAD))
    context = decoder.image(grid)
    packed = decoder.softmax(decoder.hidden(context, tf.constant(inputs), packing)).numpy()
    state, stepwise = decoder.initial(context, 2), []
    for t in range(inputs.shape[2]):
        logits, state = decoder.step(context, tf.constant(inputs[:, :, t]), state)
        stepwise.append(logits.numpy())
    padded = np.stack(stepwise, axis=2).reshape(-1, decoder.vocabulary)
    np.testing.assert_allclose(packed, padded[packing.flat.numpy()], atol=1e-5)
    assert any("sentinel" in name for name in weights_of(decoder)) is sentinel


@pytest.mark.parametrize("kind", KINDS)
def test_the_image_changes_the_words(kind: str, grid: tf.Tensor) -> None:
    decoder = tiny(kind)
    tokens = tf.constant([[START], [START]])
    logits, _ = decoder.step(decoder.image(grid), tokens, decoder.initial(decoder.image(grid), 1))
    assert not np.allclose(logits[0], logits[1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_decoder_learns_two_captions_by_heart(kind: str, grid: tf.Tensor) -> None:
    decoder = tiny(kind)
    trainer = Trainer(decoder, train_params(epochs=150, learning_rate=0.03), dropout=0.0, steps_per_epoch=1)
    captions = np.array([[[START, 5, 6, 7, END]], [[START, 8, 9, END, PAD]]], np.int32)
    losses = [trainer.train(grid.numpy().astype(np.float16), captions, step)[0] for step in range(150)]
    assert losses[-1] < 0.1 < losses[0]
    said = trainer.caption(grid.numpy().astype(np.float16))
    assert said[0, :4].tolist() == [5, 6, 7, END]
    assert said[1, :3].tolist() == [8, 9, END]


def test_dropout_depends_on_seed_and_step_alone() -> None:
    ones = tf.ones([1000])
    first = Dropout(0.5, seed=1, step=tf.constant(7))(ones)
    assert np.array_equal(first, Dropout(0.5, seed=1, step=tf.constant(7))(ones))
    assert not np.array_equal(first, Dropout(0.5, seed=1, step=tf.constant(8))(ones))
    assert abs(float(tf.reduce_mean(first)) - 1.0) < 0.1


def test_an_epoch_visits_every_image_once_in_an_order_of_its_own() -> None:
    rows = np.arange(10, 17)
    captions = np.zeros((7, 1, 4), np.int32) + START

    def order(epoch: int) -> list[int]:
        return [int(r) for batch in epoch_batches(rows, captions, 3, seed=1, epoch=epoch) for r in batch.rows]

    assert sorted(order(1)) == rows.tolist()
    assert order(1) == order(1)
    assert order(1) != order(2)


def test_the_loss_is_cross_entropy_on_real_tokens_only(grid: tf.Tensor) -> None:
    decoder = tiny("merge")
    half = grid.numpy().astype(np.float16)
    short = np.array([[[START, 5, END]], [[START, 6, END]]], np.int32)
    padded = np.pad(short, ((0, 0), (0, 1), (0, 4)))
    losses = [Trainer(tiny("merge"), train_params(), 0.0, 10).train(half, c, 0) for c in (short, padded)]
    assert losses[0][1] == losses[1][1] == 4
    assert losses[0][0] == pytest.approx(losses[1][0], abs=1e-6)
    assert losses[0][0] == pytest.approx(np.log(decoder.vocabulary), abs=0.5)


class TestBagOfWords:
    @pytest.mark.parametrize("kind", KINDS)
    def test_its_loss_is_of_what_people_say_in_any_order(self, kind: str, grid: tf.Tensor) -> None:
        captions = np.array(
            [
                [[7, 5, 5, 5, END, PAD], [5, 5, UNKNOWN, END, PAD, PAD]],
                [[9, 10, 11, 4, 6, END], [PAD, PAD, PAD, PAD, PAD, PAD]],
            ],
            np.int32,
        )
        decoder = tiny(kind)
        context = decoder.image(grid)
        logs = tf.nn.log_softmax(decoder.softmax(decoder.gist(context))).numpy()
        # Five times the word 5 in two captions is no more than twice.
        wanted = [-(2 * logs[0, 5] + logs[0, 7]) / 3, -logs[1, [4, 6, 9, 10, 11]].mean()]
        np.testing.assert_allclose(bag_of_words(decoder, context, tf.constant(captions)), wanted, rtol=1e-5)
        nothing = tf.fill([2, 2, 3], PAD)
        assert bag_of_words(decoder, context, nothing).numpy().tolist() == [0.0, 0.0]

    @pytest.mark.parametrize("kind", KINDS)
    def test_with_it_an_image_tells_its_words_before_any_is_said(self, kind: str, grid: tf.Tensor) -> None:
        half = grid.numpy().astype(np.float16)
        captions = np.array([[[START, 5, 6, 7, END]], [[START, 8, 9, END, PAD]]], np.int32)

        def taught(weight: float) -> tuple[float, list[list[int]]]:
            decoder = tiny(kind)
            params = train_params(epochs=150, learning_rate=0.03, bag_of_words=weight)
            trainer = Trainer(decoder, params, dropout=0.0, steps_per_epoch=1)
            for step in range(150):
                trainer.train(half, captions, step)
            chances = tf.nn.softmax(decoder.softmax(decoder.gist(decoder.image(grid)))).numpy()
            return min(chances[0, 5:8].sum(), chances[1, 8:10].sum()), trainer.caption(half)[:, :3].tolist()

        with_it, without = taught(1.0), taught(0.0)
        assert with_it[0] > 0.9 > without[0]
        assert with_it[1] == without[1] == [[5, 6, 7], [8, 9, END]]


def chances(decoder: Decoder, grid: tf.Tensor, captions: np.ndarray) -> np.ndarray:
    """Word after word, as decoding goes: probabilities [B, N, T, V]."""
    context, found = decoder.image(grid), []
    state = decoder.initial(context, captions.shape[1])
    for t in range(captions.shape[2] - 1):
        logits, state = decoder.step(context, tf.constant(captions[:, :, t]), state)
        found.append(tf.nn.softmax(logits).numpy())
    return np.stack(found, axis=2)


class TestDistillation:
    @pytest.mark.parametrize("kind", KINDS)
    def test_its_loss_is_the_captions_and_the_teachers_in_shares(self, kind: str, grid: tf.Tensor) -> None:
        captions = np.array([[[START, 5, 6, END], [START, 7, END, PAD]], [[START, 8, 9, END]] * 2], np.int32)
        half = tf.cast(tf.cast(grid, tf.float16), tf.float32)
        networks, grids = [tiny(kind, seed=seed) for seed in (5, 6)], (half, half[:, ::-1] * 2)
        said = np.mean([chances(one, seen, captions) for one, seen in zip(networks, grids, strict=True)], axis=0)
        shown = [seen.numpy().astype(np.float16) for seen in grids]
        teachers = [Teacher(one, lambda images: np.empty(0)) for one in networks]
        logs = np.log(chances(tiny(kind), half, captions))
        targets = captions[:, :, 1:]
        real = targets != PAD
        by_people = -np.take_along_axis(logs, targets[..., None], axis=-1)[..., 0][real].mean()
        by_teachers = -(said * logs).sum(axis=-1)[real].mean()
        for share in (0.25, 1.0):
            params = train_params(label_smoothing=0.0, distill={"teachers": 2, "share": share})
            trainer = Trainer(tiny(kind), params, 0.0, 10, teachers)
            loss, tokens = trainer.train(half.numpy().astype(np.float16), captions, 0, shown)
            assert tokens == real.sum()
            assert loss == pytest.approx((1 - share) * by_people + share * by_teachers, rel=1e-5)

    def test_so_it_is_where_the_encoder_learns(self, grid: tf.Tensor) -> None:
        captions = np.array([[[START, 5, 6, END]], [[START, 8, 9, END]]], np.int32)
        pixels = np.random.default_rng(2).random((2, 2, 2, 3)).astype(np.float32)
        given = keras.Input((2, 2, 3))
        stem = keras.layers.Conv2D(4, 1, name="stem")(given)
        encoder = Encoder(
            keras.Model(given, keras.layers.Conv2D(6, 1, name="block1-expand")(stem)), "tiny", "grid", "0"
        )
        half = grid.numpy().astype(np.float16)
        teacher = tiny("attention", seed=5)
        said = chances(teacher, tf.cast(half, tf.float32), captions)
        wanted = -(said * np.log(chances(tiny("attention"), encoder.encode(pixels), captions))).sum(axis=-1).mean()
        finetune = {"first": "block1", "epochs": 1, "learning_rate": 0.01, "encoder_rate": 0.01}
        params = train_params(
            distill={"teachers": 1, "share": 1.0}, finetune={**finetune, "warmup_steps": 1, "patience": 1}
        )
        tuner = Tuner(tiny("attention"), encoder, params, 0.0, 2, [Teacher(teacher, lambda images: half[images])])
        before = encoder.encode(pixels).numpy()
        batch = Batch(rows=np.arange(2), captions=captions, images=np.arange(2))
        losses = [tuner.update(pixels, batch, step)[0] for step in range(4)]  # the first at a rate of 0
        assert losses[0] == pytest.approx(wanted, rel=1e-5)
        assert losses[-1] < losses[0]
        assert (encoder.encode(pixels).numpy() != before).any(), "the encoder learns from the teacher, too"

    def test_a_network_learns_what_its_teachers_say_and_they_learn_nothing(self, grid: tf.Tensor) -> None:
        half = grid.numpy().astype(np.float16)
        theirs = np.array([[[START, 5, 6, END]], [[START, 8, 9, END]]], np.int32)
        ours = np.array([[[START, 10, 11, END]], [[START, 10, 11, END]]], np.int32)

        def trained(captions: np.ndarray, *networks: Decoder, **changes: Any) -> Trainer:
            params = train_params(epochs=150, learning_rate=0.03, label_smoothing=0.0, **changes)
            teachers = [Teacher(one, lambda images: half[images]) for one in networks]
            trainer = Trainer(tiny("attention"), params, 0.0, 1, teachers)
            batch = Batch(rows=np.arange(2), captions=captions, images=np.arange(2))
            for step in range(150):
                trainer.update(half, batch, step)
            return trainer

        teacher = trained(theirs)
        before = weights_of(teacher.decoder)
        whole = trained(ours, teacher.decoder, distill={"teachers": 1, "share": 1.0})
        small = trained(ours, teacher.decoder, distill={"teachers": 1, "share": 0.2})
        assert teacher.caption(half)[:, 0].tolist() == whole.caption(half)[:, 0].tolist() == [5, 8]
        assert small.caption(half)[:, :3].tolist() == [[10, 11, END]] * 2
        assert all((array == before[name]).all() for name, array in weights_of(teacher.decoder).items())


class TestEnsemble:
    @pytest.fixture
    def members(self) -> list:
        params = DecoderParams(kind="attention", units=8, embedding=8, dropout=0.0, members=2)
        return [build_decoder(params, 12, channels=6, seed=seed) for seed in (1, 2)]

    def test_its_probabilities_are_the_mean_of_its_members(self, members: list, grid: tf.Tensor) -> None:
        together = Ensemble(members)
        tokens = tf.constant([[START, 5], [7, 8]])
        context = together.image(grid)
        logits, state = together.step(context, tokens, together.initial(context, 2))
        alone = []
        for member in members:
            own = member.image(grid)
            alone.append(tf.nn.softmax(member.step(own, tokens, member.initial(own, 2))[0]).numpy())
        np.testing.assert_allclose(tf.exp(logits), np.mean(alone, axis=0), atol=1e-6)
        assert state[0].shape[-1] == together.state_size == 16

    def test_equal_members_decide_as_one_does(self, members: list, grid: tf.Tensor) -> None:
        one = members[0]
        ids, scores = beam_search(one, one.image(grid), 3, 5, 0.7)
        both = Ensemble([one, one])
        same_ids, same_scores = beam_search(both, both.image(grid), 3, 5, 0.7)
        assert same_ids.numpy().tolist() == ids.numpy().tolist()
        np.testing.assert_allclose(same_scores, scores, atol=1e-5)

    def test_it_is_read_back_as_it_was_written(self, members: list, grid: tf.Tensor, tmp_path: Path) -> None:
        vocabulary = Vocabulary((*SPECIAL, *"abcdefgh"))
        write_trained(tmp_path, Ensemble(members), vocabulary, META, max_words=5)
        network, _, _, _ = read_trained(tmp_path)
        written = weights_of(Ensemble(members))
        read = weights_of(network)
        assert {name.split("/")[0] for name in read} == {"0", "1"}
        for name, array in read.items():
            np.testing.assert_array_equal(array, written[name].astype(np.float16).astype(np.float32))


def test_the_average_of_the_weights_stands_in_for_a_while_only(grid: tf.Tensor) -> None:
    decoder = tiny("attention")
    trainer = Trainer(decoder, train_params(ema=0.9, learning_rate=0.05, epochs=20), 0.0, 1)
    for step in range(20):
        trainer.train(grid.numpy().astype(np.float16), CAPTIONS, step)
    raw = weights_of(decoder)
    with trainer.averaged():
        averaged = weights_of(decoder)
    assert any(not np.allclose(raw[name], averaged[name]) for name in raw)
    for name, array in weights_of(decoder).items():
        np.testing.assert_array_equal(array, raw[name])
