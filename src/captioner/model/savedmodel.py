"""The artifact, written: encoder, decoder and beam search as one SavedModel, packed as SageMaker's model.tar.gz.

decode → resize → encoder → float16 → decoder → beam search (→ memory) → words, in one graph. The same bytes for the
same weights.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, saved_model_pb2

from captioner.digests import pack_folder
from captioner.model.beam import beam_search
from captioner.model.captioner import CARD
from captioner.model.decoder import Context
from captioner.model.encoder import Encoder
from captioner.model.ensemble import Network
from captioner.model.explain import attention_over, can_explain
from captioner.model.memory import Memory, best_first
from captioner.model.preprocess import decode_and_resize
from captioner.params import ExportParams
from captioner.records import write_bytes, write_json
from captioner.text import SPECIAL, Vocabulary

Answer = dict[str, tf.Tensor]


class Graph(tf.Module):
    """What is saved. It holds plain variables only, so that nothing but the signatures is traced into the file."""

    def __init__(
        self,
        encoder: Encoder,
        decoder: Network,
        vocabulary: Vocabulary,
        max_words: int,
        params: ExportParams,
        memory: Memory | None = None,
    ) -> None:
        super().__init__(name="captioner")
        self._encode, self._decoder, self._memory = _untracked(encoder), _untracked(decoder), _untracked(memory)
        # Special tokens spell nothing; a word brings the space before it, "'s" does not.
        self._spelling = ["" for _ in SPECIAL] + [w if w == "'s" else f" {w}" for w in vocabulary.words[len(SPECIAL) :]]
        self.weights: list[tf.Variable] = []
        self._max_words, self.params = max_words, params
        # One copy of the encoder, called by every signature: what is loaded stays small, and runs as fast.
        images = tf.TensorSpec([None], tf.string)
        self._features = _untracked(tf.function(self.features, input_signature=[images], autograph=False))

    def features(self, image_bytes: tf.Tensor) -> tf.Tensor:
        """[B] encoded images → [B, cells, channels] float16."""
        encoder = self._encode.it
        images = tf.map_fn(
            lambda one: decode_and_resize(one, encoder.image_size), image_bytes, fn_output_signature=tf.float32
        )
        return tf.cast(encoder.encode(images), tf.float16)

    def captions(self, grid: tf.Tensor, beam: tf.Tensor | int, top: tf.Tensor | int) -> Answer:
        """[B, cells, channels] float16 → captions and log probabilities, [B, top] each."""
        _, ids, scores = self._search(grid, beam)
        return {"captions": self._spell(ids[:, :top]), "log_probabilities": scores[:, :top]}

    def _search(self, grid: tf.Tensor, beam: tf.Tensor | int) -> tuple[Context, tf.Tensor, tf.Tensor]:
        """What the network sees of each image, and its captions [B, beam, T], best first, with their log
        probabilities [B, beam]."""
        grid, power, once = tf.cast(grid, tf.float32), self.params.length_power, self.params.no_repeat_ngram_size
        context = self._decoder.it.image(grid)
        ids, scores = beam_search(self._decoder.it, context, beam, self._max_words, power, once)
        if self._memory.it:
            agreement = self._memory.it.agreement(grid, ids, self.params.neighbours)
            ids, scores = best_first(ids, scores, power, agreement, self.params.agreement)
        return context, ids, scores

    def explanation(self, grid: tf.Tensor, beam: tf.Tensor | int) -> Answer:
        """The best caption of each image and the weights that its words were chosen by, T the words of the longest.

        ``captions`` [B]; ``words`` [B, T], "" after the last; ``attention`` [B, T, cells] and ``sentinel`` [B, T],
        which add up to 1 for each word.
        """
        context, ids, _ = self._search(grid, beam)
        best = ids[:, 0]
        spelled = tf.reduce_sum(tf.cast(best >= len(SPECIAL), tf.int32), axis=1)
        best = best[:, : tf.maximum(1, tf.reduce_max(spelled))]
        attention, sentinel = attention_over(self._decoder.it, context, best)
        words = tf.strings.strip(tf.gather(tf.constant(self._spelling), best))
        return {
            "captions": self._spell(best),
            "words": words,
            "attention": attention,
            "sentinel": sentinel,
        }

    def _spell(self, ids: tf.Tensor) -> tf.Tensor:
        """[..., T] → the sentences that the ids spell."""
        return tf.strings.strip(tf.strings.reduce_join(tf.gather(tf.constant(self._spelling), ids), axis=-1))

    def serve(self, image_bytes: tf.Tensor) -> Answer:
        return self.captions(self._features.it(image_bytes), self.params.beam, self.params.top)

    def serve_features(self, grid: tf.Tensor) -> Answer:
        return self.captions(grid, self.params.beam, self.params.top)

    def serve_with_beam(self, image_bytes: tf.Tensor, beam: tf.Tensor) -> Answer:
        return self.captions(self._features.it(image_bytes), beam, beam)

    def serve_explanation(self, image_bytes: tf.Tensor, beam: tf.Tensor) -> Answer:
        return self.explanation(self._features.it(image_bytes), beam)

    def can_explain(self) -> bool:
        """Has the decoder something to show of where it looked?"""
        return can_explain(self._decoder.it, self._encode.it.cells)


class _untracked:
    """Keeps an object out of tf.Module's sight, which would save every Keras layer beside the graph."""

    def __init__(self, it: Any) -> None:
        self.it = it


def write_artifact(graph: Graph, cells: int, channels: int, card: Mapping[str, Any], target: Path) -> None:
    """Save `graph` with its signatures (``explain`` where the decoder attends) and `card`, packed into `target`."""
    images = tf.TensorSpec([None], tf.string, "image_bytes")
    grid = tf.TensorSpec([None, cells, channels], tf.float16, "grid")
    beam = tf.TensorSpec([], tf.int32, "beam")
    signatures = {
        "serving_default": tf.function(graph.serve, input_signature=[images], autograph=False).get_concrete_function(),
        "from_features": tf.function(
            graph.serve_features, input_signature=[grid], autograph=False
        ).get_concrete_function(),
        "with_beam": tf.function(
            graph.serve_with_beam, input_signature=[images, beam], autograph=False
        ).get_concrete_function(),
    }
    if graph.can_explain():
        explain = tf.function(graph.serve_explanation, input_signature=[images, beam], autograph=False)
        signatures["explain"] = explain.get_concrete_function()
    with tempfile.TemporaryDirectory(prefix="captioner-") as temporary:
        folder = Path(temporary)
        # The variables that the graphs really use; TensorFlow lists them in another order in each process.
        used = {v.name: v for f in signatures.values() for v in f.graph.variables}
        graph.weights = [used[name] for name in sorted(used)]
        tf.saved_model.save(graph, str(folder / "1"), signatures=signatures)
        # A fingerprint holds a random id: without it equal models are equal bytes.
        (folder / "1" / "fingerprint.pb").unlink(missing_ok=True)
        forget_the_machine(folder / "1" / "saved_model.pb")
        write_json(folder / CARD, card)
        write_bytes(target, pack_folder(folder))


def forget_the_machine(file: Path) -> None:
    """Take out of a saved_model.pb how many threads and devices this process had, which every call in it would keep."""
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for graph in (meta.graph_def for meta in model.meta_graphs):
        for node in (*graph.node, *(node for function in graph.library.function for node in function.node_def)):
            if "config_proto" in node.attr:
                config = config_pb2.ConfigProto.FromString(node.attr["config_proto"].s)
                for field in ("device_count", "intra_op_parallelism_threads", "inter_op_parallelism_threads"):
                    config.ClearField(field)
                node.attr["config_proto"].s = config.SerializeToString(deterministic=True)
    write_bytes(file, model.SerializeToString(deterministic=True))
