"""The choice of a network's backend."""

from __future__ import annotations

from germinal.generation.backends.backend import NUM_SLOTS, Backend
from germinal.generation.backends.rnn_backend import RNNBackend
from germinal.generation.backends.torch_backend import TorchBackend
from germinal.models.rnn import RNNLanguageModel
from germinal.models.transformer import Transformer


def make_backend(network: Transformer | RNNLanguageModel, num_slots: int = NUM_SLOTS) -> Backend:
    """A backend for a network, which holds `num_slots` sequences at the same time."""
    if isinstance(network, RNNLanguageModel):
        return RNNBackend(network, num_slots)
    return TorchBackend(network, num_slots)
