"""One vector for each text, pooled from its hidden states (Reimers and Gurevych 2019, arXiv 1908.10084)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from germinal.checkpoints.sentence_vectors import Pooling
from germinal.errors import SettingError, nearest
from germinal.progress import Reporter, silent
from germinal.reading.reader import Batch, Reader, Text

Vectors = NDArray[np.float32]


def encode(
    reader: Reader,
    texts: Sequence[Text],
    pooling: str | None = None,
    normalize: bool | None = None,
    reporter: Reporter = silent,
    prompt: str | None = None,
) -> Vectors:
    """One vector for each text, float32 [N, D], in the order of the texts.

    Args:
        pooling: "mean", "first", "last", "max" or "pooler"; None takes the checkpoint's own, or "mean" if it has none.
        normalize: Whether each vector is scaled to length 1; None takes the checkpoint's own choice, or does not.
        reporter: Told of every batch, in texts.
        prompt: The name of one of the checkpoint's prompts ("query"), which is put before each text; None takes the
            checkpoint's default, "" puts nothing there.

    Raises:
        SettingError: there is no such pooling or prompt.
        UnsupportedError: the model has no pooler.
        ContextWindowError: a text has more tokens than the model was trained to embed.
    """
    chosen = reader.head_config.pooling or Pooling()
    chosen = replace(
        chosen,
        mode=chosen.mode if pooling is None else pooling,
        normalized=chosen.normalized if normalize is None else normalize,
    )
    if chosen.mode not in POOLINGS:
        raise SettingError(f"'{pooling}' is unknown.", where="pooling", hint=nearest(chosen.mode, list(POOLINGS)))
    if chosen.mode == "pooler":
        reader.require_head("pool with a pooler", "pooler")
    pool = POOLINGS[chosen.mode]
    encodings = reader.tokenize(_after(texts, _prompt(reader, chosen, prompt)), max_tokens=chosen.max_tokens)
    width = chosen.dense[-1].weight.shape[0] if chosen.dense else reader.config.hidden_size
    vectors = np.empty((len(texts), width), dtype=np.float32)
    for batch in reader.batches(encodings, reporter):
        pooled = pool(reader, batch).float()
        for dense in chosen.dense:
            pooled = dense(pooled)
        if chosen.normalized:
            pooled = F.normalize(pooled, dim=-1)
        vectors[list(batch.numbers)] = pooled.cpu().numpy()
    return vectors


def _prompt(reader: Reader, pooling: Pooling, name: str | None) -> str:
    """The text that is put before every text."""
    name = pooling.default_prompt if name is None else name
    if not name:
        return ""
    if name not in pooling.prompts:
        known = list(pooling.prompts)
        hint = nearest(name, known) if known else "Write the prompt into the texts themselves."
        raise SettingError(f"{reader.name} has no prompt '{name}'.", where="prompt", hint=hint)
    return pooling.prompts[name]


def _after(texts: Sequence[Text], prompt: str) -> Sequence[Text]:
    if not prompt:
        return texts
    return [(prompt + text[0], text[1]) if isinstance(text, tuple) else prompt + text for text in texts]


def similarities(vectors: Vectors) -> Vectors:
    """Cosine of the angle between each two vectors, [N, D] -> [N, N], from -1 to 1."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    cosines: Vectors = np.clip(directions @ directions.T, -1.0, 1.0).astype(np.float32)
    return cosines


def _mean(reader: Reader, batch: Batch) -> Tensor:
    mask = batch.attention_mask.float()
    return (mask[:, None] @ batch.hidden_states.float()).squeeze(1) / mask.sum(1, keepdim=True)


def _first(reader: Reader, batch: Batch) -> Tensor:
    return batch.hidden_states[:, 0]


def _last(reader: Reader, batch: Batch) -> Tensor:
    rows = torch.arange(len(batch.numbers), device=batch.hidden_states.device)
    return batch.hidden_states[rows, batch.attention_mask.sum(1) - 1]


def _max(reader: Reader, batch: Batch) -> Tensor:
    return batch.hidden_states.masked_fill(batch.attention_mask[:, :, None] == 0, -torch.inf).amax(1)


def _pooler(reader: Reader, batch: Batch) -> Tensor:
    assert reader.network.head is not None
    pooled: Tensor = reader.network.head(batch.hidden_states)
    return pooled


POOLINGS: dict[str, Callable[[Reader, Batch], Tensor]] = {
    "mean": _mean,
    "first": _first,
    "last": _last,
    "max": _max,
    "pooler": _pooler,
}
