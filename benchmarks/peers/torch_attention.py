"""Our attention network in PyTorch, as the Show-Attend-Tell tutorials loop: step by step, caption by caption.

Every caption carries its own copy of its image's grid, and every step projects the whole grid again before it attends.
Captions are sorted by length and drop out when they end. The arithmetic is that of captioner.model.decoder.Attention,
so losses and captions can be equal.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np

from captioner.text import END, PAD, START, UNKNOWN

NEVER = -1e9
AVAILABLE = importlib.util.find_spec("torch") is not None


def network(weights: Mapping[str, np.ndarray], heads: int = 1) -> Any:
    """A torch.nn.Module with the weights of our decoder, by their paths (``captioner.model.trained.weights_of``).

    It has a sentinel when they have.
    """
    import torch

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for path, array in weights.items():
                setattr(self, path.replace("/", "_"), torch.nn.Parameter(torch.tensor(array)))
            self.units = self.recurrence_kernel.shape[0]
            self.has_sentinel = "sentinel_gate/kernel" in weights

        def values(self, grid: Any) -> Any:
            return torch.relu(grid @ self.values_kernel + self.values_bias)

        def start(self, values: Any) -> Any:
            return torch.tanh(values.mean(1) @ self.start_kernel + self.start_bias).split(self.units, dim=-1)

        def gates(self, values: Any) -> Any:
            return values.mean(1) @ self.image_gates_kernel

        def step(self, values: Any, keys: Any, gates: Any, tokens: Any, h: Any, c: Any) -> tuple[Any, Any, Any]:
            """Logits and the new state for `tokens` [R]; `values` and `keys` [R, cells, units]."""
            words = self.embedding_embeddings[tokens]
            before = h
            parts = words @ self.word_gates_kernel + gates + h @ self.recurrence_kernel + self.recurrence_bias
            i, f, g, o = parts.chunk(4, dim=-1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            query, keys, values = (self.by_head(x) for x in (h @ self.query_kernel, keys, values))
            if self.has_sentinel:
                gate = before @ self.sentinel_gate_kernel + self.sentinel_gate_bias + words @ self.sentinel_input_kernel
                sentinel = torch.sigmoid(gate) * torch.tanh(c)
                query = query * (self.units // heads) ** -0.5
                own = (query * self.by_head(sentinel @ self.sentinel_key_kernel)).sum(-1, keepdim=True)
                weights = torch.softmax(torch.cat([query @ keys.transpose(-1, -2), own], dim=-1), dim=-1)
                seen = weights[..., :-1] @ values + weights[..., -1:] * self.by_head(sentinel)
            else:
                seen = torch.nn.functional.scaled_dot_product_attention(query, keys, values)
            joined = torch.tanh(torch.cat([seen.flatten(1), h], dim=-1) @ self.join_kernel + self.join_bias)
            return joined @ self.softmax_kernel + self.softmax_bias, h, c

        def by_head(self, x: Any) -> Any:
            """[R, U] or [R, M, U] → [R, heads, M, X], M = 1 in the first case."""
            return x.reshape(len(x), -1, heads, self.units // heads).transpose(1, 2)

    return Network()


class Loop:
    """One training step as the tutorials have it."""

    def __init__(self, model: Any, clip_norm: float) -> None:
        import torch

        self.model, self.clip_norm = model, clip_norm
        self.optimizer = torch.optim.Adam(model.parameters(), lr=0.0, eps=1e-7)  # Keras's epsilon

    def train(self, grid: np.ndarray, captions: np.ndarray, rate: float) -> float:
        """One update on `grid` [B, C, D] and `captions` [B, N, T + 1]; returns the mean loss a token."""
        import torch

        rows = captions.reshape(-1, captions.shape[-1])
        lengths = (rows != PAD).sum(1) - 1
        order = np.argsort(-lengths, kind="stable")
        order = order[lengths[order] > 0]
        features = torch.from_numpy(grid.astype(np.float32)).repeat_interleave(captions.shape[1], dim=0)[order.copy()]
        ids, lengths = torch.from_numpy(rows[order].astype(np.int64)), lengths[order]
        model = self.model
        values = model.values(features)
        (h, c), logits = model.start(values), []
        for step in range(int(lengths[0])):
            count = int((lengths > step).sum())
            values = model.values(features[:count])  # again, for every step and every caption
            keys = values @ model.keys_kernel
            out, h, c = model.step(values, keys, model.gates(values), ids[:count, step], h[:count], c[:count])
            logits.append((out, ids[:count, step + 1]))
        loss = torch.nn.functional.cross_entropy(torch.cat([a for a, _ in logits]), torch.cat([b for _, b in logits]))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), self.clip_norm)
        self.optimizer.step()
        return float(loss.detach())


def beam_search(model: Any, grid: np.ndarray, beam: int, max_words: int, length_power: float) -> np.ndarray:
    """The best caption of each image, ids [B, max_words + 1], all images and beams in one batch, by our rules.

    The grid is projected once for each image here: the batched search that people write well.
    """
    import torch

    with torch.no_grad():
        batch, length = len(grid), max_words + 1
        values = model.values(torch.from_numpy(grid.astype(np.float32)))
        gates, (h, c) = model.gates(values), model.start(values)
        h, c, gates = (x.repeat_interleave(beam, 0) for x in (h, c, gates))
        keys = (values @ model.keys_kernel).repeat_interleave(beam, 0)
        values = values.repeat_interleave(beam, 0)
        ids = torch.zeros(batch, beam, length, dtype=torch.long)
        last = torch.full((batch * beam,), START)
        score = torch.full((batch, beam), NEVER)
        score[:, 0] = 0.0
        done_ids, done_score = torch.zeros_like(ids), torch.full((batch, beam), NEVER)
        image = torch.arange(batch)[:, None]
        for step in range(length):
            logits, h, c = model.step(values, keys, gates, last, h, c)
            chances = torch.log_softmax(logits, -1)
            chances[:, [PAD, START, UNKNOWN]] += NEVER
            if step == max_words:
                chances[:, torch.arange(chances.shape[1]) != END] += NEVER
            total = (score.reshape(-1, 1) + chances).reshape(batch, -1)
            total, flat = total.topk(2 * beam, dim=1)
            parent, word = flat // chances.shape[1], flat % chances.shape[1]
            longer = ids[image, parent]
            longer[:, :, step] = word
            ends = word == END
            finishes = ends & (torch.arange(2 * beam) < beam) & (total > NEVER / 2)
            finished = torch.where(finishes, total / (step + 1) ** length_power, torch.tensor(NEVER))
            done_score, keep = torch.cat([done_score, finished], 1).topk(beam, dim=1)
            done_ids = torch.cat([done_ids, longer], 1)[image, keep]
            score, keep = torch.where(ends, torch.tensor(NEVER), total).topk(beam, dim=1)
            ids, rows = longer[image, keep], (parent[image, keep] + image * beam).reshape(-1)
            last, h, c = word[image, keep].reshape(-1), h[rows], c[rows]
            if not bool((score[:, 0] / length**length_power > done_score[:, -1]).any()):
                break
        return done_ids[:, 0].numpy()
