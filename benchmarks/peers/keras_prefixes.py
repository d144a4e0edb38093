"""Training and decoding as the classic Keras tutorial has it: one sample for each prefix of each caption.

The generator pads every prefix to the longest caption and one-hot encodes its next word; the network reads the whole
prefix again for every word. The same network as our ``merge`` decoder (image + word → LSTM → softmax), in Keras's own
layers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from captioner.text import END, PAD, START, UNKNOWN

NEVER = -1e9


def build(decoder: Any, max_words: int, channels: int) -> Any:
    """A keras.Model ([pooled image, padded prefix] → next word's probabilities) with the weights of `decoder`."""
    import keras

    units, size = decoder.params.units, decoder.params.embedding
    image = keras.Input((channels,), name="image")
    prefix = keras.Input((max_words + 1,), dtype="int32", name="prefix")
    project = keras.layers.Dense(size, activation="relu")
    words = keras.layers.Embedding(decoder.vocabulary, size, mask_zero=True)
    lstm = keras.layers.LSTM(units)
    softmax = keras.layers.Dense(decoder.vocabulary, activation="softmax")
    repeated = keras.layers.RepeatVector(max_words + 1)(project(image))
    # The mask is handed over by name: a sum of masked words and an unmasked image has none of its own.
    read = lstm(keras.layers.Add()([words(prefix), repeated]), mask=words.compute_mask(prefix))
    model = keras.Model([image, prefix], softmax(read))
    project.set_weights(decoder.project.get_weights())
    words.set_weights(decoder.embedding.get_weights())
    recurrence = decoder.recurrence
    lstm.set_weights([*decoder.word_gates.get_weights(), recurrence.kernel.numpy(), recurrence.bias.numpy()])
    softmax.set_weights(decoder.softmax.get_weights())
    return model


def samples(
    grid: np.ndarray, captions: np.ndarray, max_words: int, vocabulary: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """What the tutorial's generator yields for a batch of images: ([images, prefixes], one-hot next words)."""
    from keras.utils import pad_sequences, to_categorical

    images, prefixes, following = [], [], []
    for picture, of_image in zip(grid.astype(np.float32).mean(axis=1), captions, strict=True):
        for caption in of_image:
            ids = [int(word) for word in caption if word != PAD]
            for place in range(1, len(ids)):
                images.append(picture)
                prefixes.append(pad_sequences([ids[:place]], maxlen=max_words + 1, padding="post")[0])
                following.append(to_categorical([ids[place]], num_classes=vocabulary)[0])
    return [np.array(images), np.array(prefixes)], np.array(following)


def beam_search(model: Any, pooled: np.ndarray, beam: int, max_words: int, length_power: float) -> list[int]:
    """The best caption of one image, as ids without start and end: a ``predict`` for every beam and word.

    The rules are ours (captioner.model.beam), so that the tokens can be equal.
    """
    length = max_words + 1
    alive: list[tuple[float, list[int]]] = [(0.0, [])]
    done: list[tuple[float, list[int]]] = []
    for step in range(length):
        candidates: list[tuple[float, list[int]]] = []
        for score, words in alive:
            prefix = np.full((1, max_words + 1), PAD, np.int32)
            prefix[0, : len(words) + 1] = [START, *words]
            chances = np.log(model.predict([pooled[None], prefix], verbose=0)[0])
            chances[[PAD, START, UNKNOWN]] += NEVER
            if step == max_words:
                chances[np.arange(len(chances)) != END] += NEVER
            best = np.argsort(-chances, kind="stable")[: 2 * beam]
            candidates += [(score + float(chances[word]), [*words, int(word)]) for word in best]
        candidates = sorted(candidates, key=lambda one: -one[0])[: 2 * beam]
        for score, words in candidates[:beam]:
            if words[-1] == END and score > NEVER / 2:
                done.append((score / len(words) ** length_power, words))
        done = sorted(done, key=lambda one: -one[0])[:beam]
        alive = [one for one in candidates if one[1][-1] != END][:beam]
        if len(done) == beam and alive[0][0] / length**length_power <= done[-1][0]:
            break
    return done[0][1][:-1]
