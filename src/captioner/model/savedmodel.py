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
IMAGES = tf.TensorSpec([None], tf.string, "image_bytes")
BEAM = tf.TensorSpec([], tf.int32, "beam")


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
        # One copy of the encoder and of the search, called by every signature: what is loaded stays small, and runs as
        # fast.
        self._features = _untracked(tf.function(self.features, input_signature=[IMAGES], autograph=False))
        self._grid = tf.TensorSpec([None, encoder.cells, encoder.channels], tf.float16, "grid")
        self._search = _untracked(tf.function(self.search, input_signature=[self._grid, BEAM], autograph=False))

    def signatures(self) -> dict[str, Any]:
        """Each signature, traced: of pictures or of features, with the params' beam or the caller's; ``explain`` where
        the decoder attends."""
        served = {
            "serving_default": (self.serve, [IMAGES]),
            "from_features": (self.serve_features, [self._grid]),
            "with_beam": (self.serve_with_beam, [IMAGES, BEAM]),
            **({"explain": (self.serve_explanation, [IMAGES, BEAM])} if self.can_explain() else {}),
        }
        return {
            name: tf.function(answer, input_signature=inputs, autograph=False).get_concrete_function()
            for name, (answer, inputs) in served.items()
        }

    def features(self, image_bytes: tf.Tensor) -> tf.Tensor:
        """[B] encoded images → [B, cells, channels] float16."""
        encoder = self._encode.it
        images = tf.map_fn(
            lambda one: decode_and_resize(one, encoder.image_size), image_bytes, fn_output_signature=tf.float32
        )
        return tf.cast(encoder.encode(images, self.params.flip), tf.float16)

    def search(self, grid: tf.Tensor, beam: tf.Tensor | int) -> tuple[Context, tf.Tensor, tf.Tensor]:
        """[B, cells, channels] float16 → what the network sees of each image, and its captions [B, beam, T], best
        first, with their log probabilities [B, beam]."""
        grid, power, once = tf.cast(grid, tf.float32), self.params.length_power, self.params.no_repeat_ngram_size
        context = self._decoder.it.image(grid)
        ids, scores = beam_search(self._decoder.it, context, beam, self._max_words, power, once)
        if self._memory.it:
            agreement = self._memory.it.agreement(grid, ids, self.params.neighbours)
            ids, scores = best_first(ids, scores, power, agreement, self.params.agreement)
        return context, ids, scores

    def captions(self, ids: tf.Tensor, scores: tf.Tensor, top: tf.Tensor | int) -> Answer:
        """What `search` found → the `top` best captions and their log probabilities, [B, top] each."""
        return {"captions": self._spell(ids[:, :top]), "log_probabilities": scores[:, :top]}

    def explanation(self, context: Context, ids: tf.Tensor) -> Answer:
        """What `search` found → the best caption of each image and the weights that its words were chosen by, T the
        words of the longest.

        ``captions`` [B]; ``words`` [B, T], "" after the last; ``attention`` [B, T, cells] and ``sentinel`` [B, T],
        which add up to 1 for each word.
        """
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
        return self.serve_features(self._features.it(image_bytes))

    def serve_features(self, grid: tf.Tensor) -> Answer:
        _, ids, scores = self._search.it(grid, self.params.beam)
        return self.captions(ids, scores, self.params.top)

    def serve_with_beam(self, image_bytes: tf.Tensor, beam: tf.Tensor) -> Answer:
        _, ids, scores = self._search.it(self._features.it(image_bytes), beam)
        return self.captions(ids, scores, beam)

    def serve_explanation(self, image_bytes: tf.Tensor, beam: tf.Tensor) -> Answer:
        context, ids, _ = self._search.it(self._features.it(image_bytes), beam)
        return self.explanation(context, ids)

    def can_explain(self) -> bool:
        """Has the decoder something to show of where it looked?"""
        return can_explain(self._decoder.it, self._encode.it.cells)


class _untracked:
    """Keeps an object out of tf.Module's sight, which would save every Keras layer beside the graph."""

    def __init__(self, it: Any) -> None:
        self.it = it


def write_artifact(graph: Graph, card: Mapping[str, Any], target: Path) -> None:
    """Save `graph` with its signatures and `card`, packed into `target`."""
    signatures = graph.signatures()
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
