"""Vectors of 1,000 real sentences by MiniLM, text in and vectors out, against sentence-transformers."""

from __future__ import annotations

from bench.harness import THREADS, Row, Setting, reviews, timed

_MODEL = "minilm"


def measure(setting: Setting) -> list[Row]:
    """Sentences a second of both sides, each as its own interface sorts and batches them."""
    import numpy as np
    import torch
    from sentence_transformers import SentenceTransformer

    import germinal
    from germinal.checkpoints.sources import fetch

    torch.set_num_threads(THREADS)
    texts = [text for text, _ in reviews(100 if setting.quick else 1000)]
    lm = germinal.load(_MODEL, precision="float32")
    peer = SentenceTransformer(str(fetch(_MODEL)), device="cpu")
    difference = np.abs(lm.encode(texts[:100]) - peer.encode(texts[:100])).max()  # warms up both
    seconds = setting.in_turn(
        lambda _: timed(lambda: lm.encode(texts)),
        lambda _: timed(lambda: peer.encode(texts)),
    )
    rates = [[len(texts) / each for each in of_side] for of_side in seconds]
    name = f"vectors of {len(texts):,} sentences by MiniLM"
    note = f"values differ by {difference:.0e} at most"
    return [Row(name, "sentences/s", *rates, "sentence-transformers", goal=1.3, note=note)]
