"""The heads on top of a stack, by name: from hidden states [B, T, D] to the outputs of a task.

The product with the output matrix, the last step of a vocabulary head, is in `Transformer.logits`: it may be tied.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from germinal.errors import UnsupportedError
from germinal.layers.activations import ACTIVATIONS
from germinal.layers.linear import Linear
from germinal.layers.norms import NORMS
from germinal.models.config import TransformerConfig

Device = torch.device | str | None


class LanguageModelHead(nn.Identity):
    """The head of a language model: nothing before the output matrix."""

    def __init__(self, config: TransformerConfig, device: Device) -> None:
        super().__init__()


class MaskedLanguageModelHead(nn.Module):
    """A transform before the output matrix (BERT, arXiv 1810.04805, its published code)."""

    def __init__(self, config: TransformerConfig, device: Device) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size, device=device)
        self.activation = ACTIVATIONS[config.head_activation or config.activation]
        self.norm = NORMS[config.norm](config.hidden_size, config.norm_eps, device=device)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        return self.norm(self.activation(self.dense(hidden_states)))


class Pooler(nn.Module):
    """activation(dense(state of one token)): one vector per sequence."""

    def __init__(self, config: TransformerConfig, device: Device) -> None:
        super().__init__()
        plain = config.pooler_activation is None
        self.dense = nn.Identity() if plain else Linear(config.hidden_size, config.hidden_size, device=device)
        self.activation = nn.Identity() if config.pooler_activation is None else ACTIVATIONS[config.pooler_activation]
        self.last = config.pooled_token == "last"

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """[B, T, D] -> [B, D]; `attention_mask` [B, T] determines which token is the last."""
        return self.activation(self.dense(self._token(hidden_states, attention_mask)))

    def _token(self, hidden_states: Tensor, attention_mask: Tensor | None) -> Tensor:
        if not self.last:
            return hidden_states[:, 0]
        if attention_mask is None:
            return hidden_states[:, -1]
        places = torch.arange(hidden_states.shape[1], device=hidden_states.device)
        last = (attention_mask.ne(0) * places).argmax(-1)  # [B]
        return hidden_states[torch.arange(len(last), device=last.device), last]


class SequenceClassificationHead(Pooler):
    """One score per class and sequence: for classes, regressions and rewards."""

    def __init__(self, config: TransformerConfig, device: Device) -> None:
        super().__init__(config, device)
        biased = config.pooler_activation is not None
        self.classifier = Linear(config.hidden_size, config.num_labels, bias=biased, device=device)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """[B, T, D] -> [B, num_labels]."""
        return self.classifier(super().forward(hidden_states, attention_mask))


class TokenClassificationHead(nn.Module):
    """One score per class and token; for question answering two: whether an answer starts, and ends, at the token."""

    def __init__(self, config: TransformerConfig, device: Device) -> None:
        super().__init__()
        self.classifier = Linear(config.hidden_size, config.num_labels, device=device)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """[B, T, D] -> [B, T, num_labels]; the mask has no effect."""
        return self.classifier(hidden_states)


HEADS: dict[str, type[nn.Module]] = {
    "lm": LanguageModelHead,
    "masked-lm": MaskedLanguageModelHead,
    "pooler": Pooler,
    "sequence-classification": SequenceClassificationHead,
    "token-classification": TokenClassificationHead,
    "question-answering": TokenClassificationHead,
}
VOCABULARY_HEADS = ("lm", "masked-lm")


def require_head(config: TransformerConfig, model: str, purpose: str, *heads: str) -> None:
    """Refuse what a model has no head for.

    Raises:
        UnsupportedError: names the model, its head and the heads that could.
    """
    if config.head not in heads:
        raise UnsupportedError(
            f"{model} cannot {purpose}: it has {describe_head(config)}.",
            hint=f"That takes a model with a head for {' or '.join(heads)}.",
        )


def describe_head(config: TransformerConfig) -> str:
    """What stands on a network, in words."""
    if config.head is None:
        return "no head"
    if config.head in VOCABULARY_HEADS:
        return "a language-model head" if config.head == "lm" else "a masked-language-model head"
    return f"a head for {config.head.replace('-', ' ')}"
