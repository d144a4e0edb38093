"""Several decoders that decide together, by the mean of their probabilities: one network to whoever decodes.

Its context holds every member's, its state all their states side by side. Where encoders learned too, each member has
its own, and looks at that one's features. Knows nothing of training: each member is trained alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import tensorflow as tf

from captioner.model.decoder import Context, Decoder, build_decoder
from captioner.model.recurrence import State
from captioner.params import DecoderParams


class Ensemble:
    """Members of one architecture and one vocabulary. `encoders`: 1, or as many as there are members; then each member
    has channels of the grid to itself."""

    def __init__(self, members: Sequence[Decoder], encoders: int = 1) -> None:
        first = members[0]
        self.members, self.params = list(members), first.params
        self.vocabulary, self.channels, self._encoders = first.vocabulary, first.channels * encoders, encoders
        self.state_size = sum(member.state_size for member in members)

    def image(self, grid: tf.Tensor) -> Context:
        """What the rows of an image share, of every member. `grid` [B, C, D]; every tensor starts with B."""
        parts = [grid] * len(self.members) if self._encoders == 1 else tf.split(grid, self._encoders, axis=-1)
        return {
            f"{number}/{name}": tensor
            for number, (member, own) in enumerate(zip(self.members, parts, strict=True))
            for name, tensor in member.image(own).items()
        }

    def initial(self, context: Context, rows: tf.Tensor | int) -> State:
        """The state before the first word, [B, rows, state_size] twice."""
        states = [member.initial(self._own(context, i), rows) for i, member in enumerate(self.members)]
        return tf.concat([h for h, _ in states], axis=-1), tf.concat([c for _, c in states], axis=-1)

    def step(self, context: Context, tokens: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        """One decoding step: log probabilities [B, N, V] and the new state, for `tokens` [B, N]."""
        votes, states = [], []
        for member, own, part in self.parts(context, state):
            logits, after = member.step(own, tokens, part)
            votes.append(tf.nn.log_softmax(logits))
            states.append(after)
        together = tf.reduce_logsumexp(tf.stack(votes), axis=0) - tf.math.log(float(len(votes)))
        return together, (tf.concat([h for h, _ in states], axis=-1), tf.concat([c for _, c in states], axis=-1))

    def parts(self, context: Context, state: State) -> Iterator[tuple[Decoder, Context, State]]:
        """Each member with its own part of the context and of the state."""
        sizes = [member.state_size for member in self.members]
        states = zip(tf.split(state[0], sizes, axis=-1), tf.split(state[1], sizes, axis=-1), strict=True)
        for number, (member, part) in enumerate(zip(self.members, states, strict=True)):
            yield member, self._own(context, number), part

    def _own(self, context: Context, number: int) -> Context:
        prefix = f"{number}/"
        return {name[len(prefix) :]: tensor for name, tensor in context.items() if name.startswith(prefix)}


Network = Decoder | Ensemble


def build_network(params: DecoderParams, vocabulary: int, channels: int, encoders: int = 1) -> Network:
    """What `params` describe, untrained: a decoder, or as many as it has members; `channels` are those of the grid."""
    own = channels // encoders
    members = [build_decoder(params, vocabulary, own, seed) for seed in range(params.members)]
    return members[0] if len(members) == 1 else Ensemble(members, encoders)
