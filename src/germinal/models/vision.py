"""The Vision Transformer (Dosovitskiy et al. 2020, arXiv 2010.11929): the encoder, applied to images.

An image is cut into patches, and a linear map makes each of them a token. A learned class token is put before them; its
hidden state is classified. Blocks, attention and norms are those of the other models here.

Shapes beside those of `germinal.layers`: C channels, P patch width, N patches, H and W an image's height and width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from germinal.errors import SettingError, UnsupportedError
from germinal.layers.activations import ACTIVATIONS
from germinal.layers.attention import Attention, PaddedView
from germinal.layers.blocks import PreNormBlock
from germinal.layers.feed_forward import FeedForward
from germinal.layers.linear import Linear
from germinal.layers.norms import LayerNorm
from germinal.layers.positions import Learned
from germinal.layers.stack import Stack
from germinal.models.weight_rules import Squeeze, WeightRule, WeightRules

Device = torch.device | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionConfig:
    """What a Vision Transformer is built from; the defaults are ViT-B/16's.

    Attributes:
        image_size: Height and width of an image in pixels.
        patch_size: P; divides `image_size`.
        num_channels: C.
        hidden_size: D.
        intermediate_size: Width inside the feed-forward network.
        num_layers: Blocks.
        num_heads: H; divides D.
        num_labels: Classes.
        norm_eps: The epsilon under the square root.
        activation: A name in `layers.activations.ACTIVATIONS`.
    """

    image_size: int = 224
    patch_size: int = 16
    num_channels: int = 3
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_layers: int = 12
    num_heads: int = 12
    num_labels: int = 1000
    norm_eps: float = 1e-12
    activation: str = "gelu"

    def __post_init__(self) -> None:
        for name in ("image_size", "patch_size", "num_channels", "num_layers", "num_heads", "num_labels"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise SettingError(f"must be a positive whole number, not {value!r}.", where=f"config.{name}")
        if self.image_size % self.patch_size:
            what = f"patches of {self.patch_size} pixels do not divide an image of {self.image_size}."
            raise SettingError(what, where="config.patch_size")
        if self.hidden_size % self.num_heads:
            what = f"{self.num_heads} heads do not divide a width of {self.hidden_size}."
            raise SettingError(what, where="config.num_heads")
        if self.activation not in ACTIVATIONS:
            hint = f"Known: {', '.join(ACTIVATIONS)}."
            raise UnsupportedError(f"no implementation of {self.activation!r}.", where="config.activation", hint=hint)

    @property
    def num_patches(self) -> int:
        """N."""
        return (self.image_size // self.patch_size) ** 2


class VisionTransformer(nn.Module):
    """Pixels to hidden states to the logits of classes."""

    def __init__(self, config: VisionConfig, device: Device = None) -> None:
        super().__init__()
        width = config.hidden_size
        norm = partial(LayerNorm, width, config.norm_eps, device=device)
        # A convolution whose stride is its width: one linear map of each patch.
        self.patch_embedding = nn.Conv2d(
            config.num_channels, width, config.patch_size, stride=config.patch_size, device=device
        )
        self.class_token = nn.Parameter(torch.zeros(1, 1, width, device=device))
        self.encoder = _encoder(config, norm, device)
        self.classifier = Linear(width, config.num_labels, device=device)
        self.config = config

    def forward(self, pixels: Tensor) -> Tensor:
        """Hidden states of the class token and of every patch, row by row: [B, C, H, W] -> [B, 1 + N, D].

        Raises:
            SettingError: the images are of another size, or have another number of channels.
        """
        expected = (self.config.num_channels, self.config.image_size, self.config.image_size)
        if pixels.dim() != 4 or tuple(pixels.shape[1:]) != expected:
            what = f"must be [B, {', '.join(map(str, expected))}], not {list(pixels.shape)}."
            raise SettingError(what, where="pixels", hint="Resize the images to the model's size.")
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)  # [B, N, D]
        tokens = torch.cat((self.class_token.expand(len(patches), -1, -1), patches), 1)  # [B, 1 + N, D]
        places = torch.arange(tokens.shape[1], device=tokens.device).expand(len(tokens), -1)
        return self.encoder(tokens, PaddedView(places, causal=False, position_ids=places))

    def logits(self, hidden_states: Tensor) -> Tensor:
        """Logits of the classes, from the class token: [B, 1 + N, D] -> [B, num_labels]."""
        return self.classifier(hidden_states[:, 0])

    def num_parameters(self) -> int:
        """The number of weights."""
        return sum(parameter.numel() for parameter in self.parameters())


def _encoder(config: VisionConfig, norm: Callable[[], nn.Module], device: Device) -> Stack:
    width, heads = config.hidden_size, config.num_heads
    positions = Learned(1 + config.num_patches, width, device=device)

    def block() -> PreNormBlock:
        attention = Attention(
            width,
            heads,
            heads,
            width // heads,
            scale=(width // heads) ** -0.5,
            bias=True,
            output_bias=True,
            positions=positions,
            device=device,
        )
        feed_forward = FeedForward(
            width, config.intermediate_size, activation=config.activation, gated=False, bias=True, device=device
        )
        return PreNormBlock(norm, attention, feed_forward, None)

    return Stack([block() for _ in range(config.num_layers)], positions, nn.Identity(), norm())


_LAYER_NAMES = {
    "attention_norm": "layernorm_before",
    "self_attention.q_proj": "attention.attention.query",
    "self_attention.k_proj": "attention.attention.key",
    "self_attention.v_proj": "attention.attention.value",
    "self_attention.o_proj": "attention.output.dense",
    "feed_forward_norm": "layernorm_after",
    "feed_forward.up_proj": "intermediate.dense",
    "feed_forward.down_proj": "output.dense",
}


def hf_rules() -> WeightRules:
    """Names of transformers' ViTForImageClassification."""
    theirs, ours = "vit.encoder.layer.{i}", "encoder.layers.{i}"
    rules = [
        WeightRule("vit.embeddings.cls_token", "class_token"),
        WeightRule("vit.embeddings.position_embeddings", "encoder.positions.table.weight", Squeeze()),
    ]
    for kind in ("weight", "bias"):
        rules.append(WeightRule(f"vit.embeddings.patch_embeddings.projection.{kind}", f"patch_embedding.{kind}"))
        rules.append(WeightRule(f"vit.layernorm.{kind}", f"encoder.final_norm.{kind}"))
        rules.append(WeightRule(f"classifier.{kind}", f"classifier.{kind}"))
        rules += [
            WeightRule(f"{theirs}.{published}.{kind}", f"{ours}.{name}.{kind}")
            for name, published in _LAYER_NAMES.items()
        ]
    return WeightRules(rules)
