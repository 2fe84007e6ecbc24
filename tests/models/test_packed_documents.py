"""Packed documents and prefix-LMs through every family: each document as it is alone, each prefix as a peer has it."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_families import GEMMA, GPT2, GROUPED, peer
from tiny_models import ours_from
from torch import Tensor

from germinal.errors import SettingError
from germinal.layers.attention import Attention, CapturedAttention, PaddedView
from germinal.layers.positions import ALiBi, Positions
from germinal.models import families
from germinal.models.transformer import Transformer

SIZES = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_layers": 2, "num_heads": 4}
SIZES |= {"max_position_embeddings": 24}
BUCKETS = {"num_buckets": 8, "max_distance": 9}
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "transformer": ("transformer", {}),
    "bert": ("bert", {}),
    "roberta": ("roberta", {}),
    "distilbert": ("distilbert", {}),
    "bart": ("bart", {}),
    "marian": ("marian", {}),
    "t5": ("t5", BUCKETS),
    "gpt2": ("gpt2", {}),
    "bloom": ("bloom", {}),
    "palm": ("palm", {}),
    "jurassic1": ("jurassic1", {}),
    "llama": ("llama", {"num_kv_heads": 2}),
    "mistral": ("mistral", {"window": 4}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "gemma3": ("gemma3", {"window": 4, "windowed_layers": (True, False)}),
    # Points on the axes that no family takes.
    "a decoder with buckets": ("t5", {**BUCKETS, "stacks": "decoder"}),
    "an encoder with slopes": ("bloom", {"stacks": "encoder"}),
    "slopes and a window": ("bloom", {"window": 3}),
}


def build(name: str) -> Transformer:
    """A random network whose outputs differ from token to token."""
    family, config = NETWORKS[name]
    network = families.build(family, **SIZES, **config, head=None)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        noise = torch.randn(parameter.shape, generator=generator) * 0.15
        parameter.data = noise if parameter.dim() > 1 else parameter.data + noise
    return network


CACHE: dict[str, Transformer] = {}


def network_of(name: str) -> Transformer:
    if name not in CACHE:
        CACHE[name] = build(name)
    return CACHE[name]


class Document(NamedTuple):
    """One document.

    Attributes:
        ids: Its tokens; of an encoder-decoder its source.
        prefix: Tokens of its prefix.
        target: What a decoder reads beside it.
    """

    ids: list[int]
    prefix: int
    target: list[int]


TOKENS = st.lists(st.integers(0, 60), min_size=1, max_size=6)
DOCUMENTS = st.lists(st.builds(Document, TOKENS, st.integers(0, 6), TOKENS), min_size=1, max_size=4)
LAYOUTS = st.sampled_from(["padded right", "padded left", "shuffled"])


def lay(parts: list[list[int]], layout: str, padding: int, seed: int) -> tuple[Tensor, Tensor]:
    """Documents in one row: token ids and the documents' numbers, [1, T] each; padding has the number -1."""
    numbers = [number for number, part in enumerate(parts) for _ in part]
    numbers = [-1] * padding + numbers if layout == "padded left" else numbers + [-1] * padding
    if layout == "shuffled":
        order = torch.randperm(len(numbers), generator=torch.Generator().manual_seed(seed))
        numbers = [numbers[place] for place in order.tolist()]
    queues = {number: iter(part) for number, part in enumerate(parts)}
    ids = [0 if number < 0 else next(queues[number]) for number in numbers]
    return torch.tensor([ids]), torch.tensor([numbers])


def packed_inputs(network: Transformer, documents: list[Document], layout: str, padding: int) -> dict[str, Tensor]:
    ids, numbers = lay([document.ids for document in documents], layout, padding, 1)
    inputs = {"input_ids": ids, "document_ids": numbers, "attention_mask": (numbers >= 0).long()}
    if network.config.stacks == "decoder":
        prefix = torch.zeros_like(ids)
        for number, document in enumerate(documents):
            prefix[0, (numbers[0] == number).nonzero()[: document.prefix, 0]] = 1
        inputs["prefix_mask"] = prefix
    if network.config.stacks == "encoder-decoder":
        ids, numbers = lay([document.target for document in documents], layout, padding, 2)
        inputs |= {"decoder_input_ids": ids, "decoder_document_ids": numbers}
        inputs["decoder_attention_mask"] = (numbers >= 0).long()
    return inputs


def inputs_alone(network: Transformer, document: Document) -> dict[str, Tensor]:
    inputs = {"input_ids": torch.tensor([document.ids])}
    if network.config.stacks == "decoder":
        inputs["prefix_mask"] = (torch.arange(len(document.ids)) < document.prefix).long()[None]
    if network.config.stacks == "encoder-decoder":
        inputs["decoder_input_ids"] = torch.tensor([document.target])
    return inputs


def gradients(network: Transformer, loss: Tensor) -> dict[str, Tensor]:
    named = dict(network.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name: grad for name, grad in zip(named, found, strict=True) if grad is not None}


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=12, deadline=None)
@given(documents=DOCUMENTS, layout=LAYOUTS, padding=st.integers(0, 3))
def test_packed_documents_are_what_each_is_alone(
    name: str, documents: list[Document], layout: str, padding: int
) -> None:
    """Outputs and gradients; positions start anew, prefixes, windows and padding hold within each document."""
    network = network_of(name)
    inputs = packed_inputs(network, documents, layout, padding)
    numbers = inputs.get("decoder_document_ids", inputs["document_ids"])[0]
    together = network(**inputs)[0]
    losses = []
    for number, document in enumerate(documents):
        alone = network(**inputs_alone(network, document))[0]
        torch.testing.assert_close(together[numbers == number], alone, atol=2e-5, rtol=1e-4)
        losses.append(alone.square().mean(-1).sum())
    expected = gradients(network, torch.stack(losses).sum())
    found = gradients(network, together[numbers >= 0].square().mean(-1).sum())
    assert found.keys() == expected.keys()
    for parameter, gradient in expected.items():
        torch.testing.assert_close(found[parameter], gradient, atol=1e-3, rtol=1e-3, msg=parameter)


def test_rows_of_a_batch_have_documents_and_prefixes_of_their_own() -> None:
    network = network_of("llama")
    ids = torch.randint(0, 61, (2, 9), generator=torch.Generator().manual_seed(0))
    documents = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 2, 2], [5] * 9])
    prefix = torch.tensor([[0, 0, 0, 1, 1, 0, 0, 1, 0], [1, 1, 1, 1, 0, 0, 0, 0, 0]])
    together = network(ids, document_ids=documents, prefix_mask=prefix)
    for row in range(2):
        alone = network(ids[row : row + 1], document_ids=documents[row : row + 1], prefix_mask=prefix[row : row + 1])
        torch.testing.assert_close(together[row], alone[0], atol=1e-5, rtol=1e-4)
    assert (together - network(ids)).abs().amax((1, 2)).min() > 1e-2


PEERS = {
    "GPT2": ("LMHeadModel", GPT2),
    "Llama": ("ForCausalLM", GROUPED),
    "Mistral": ("ForCausalLM", {**GROUPED, "sliding_window": 4}),
    "Qwen2": (
        "ForCausalLM",
        {**GROUPED, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    ),
    "Qwen3": ("ForCausalLM", {**GROUPED, "head_dim": 10}),
    "Gemma3": ("ForCausalLM", {**GEMMA, "layer_types": ["full_attention", "sliding_attention"]}),
}


def explicit(prefixes: list[int], lengths: list[int], window: int | None) -> Tensor:
    """What transformers takes as a mask of four dimensions, [B, 1, T, T], by the definition."""
    width = max(lengths)
    mask = torch.full((len(lengths), 1, width, width), torch.finfo(torch.float32).min)
    for row, (prefix, length) in enumerate(zip(prefixes, lengths, strict=True)):
        for query in range(width):
            for key in range(length):
                near = window is None or abs(query - key) < window
                if near and (key <= query or max(query, key) < prefix):
                    mask[row, 0, query, key] = 0
            mask[row, 0, query, query] = 0
    return mask


@pytest.mark.parametrize("family", PEERS)
def test_a_prefix_lm_is_the_peers_model_under_an_explicit_mask(family: str) -> None:
    ending, config = PEERS[family]
    theirs = peer(family, ending, config)
    ours: Transformer = ours_from(theirs).requires_grad_(True)
    ids = torch.randint(3, 61, (3, 11), generator=torch.Generator().manual_seed(1))
    prefixes, lengths = [6, 0, 8], [11, 11, 8]
    mask = torch.arange(11) < torch.tensor(lengths)[:, None]
    windows = {"full_attention": None, "sliding_attention": ours.config.window}
    masks = {kind: explicit(prefixes, lengths, window) for kind, window in windows.items()}
    by_kind = family in ("Qwen2", "Qwen3", "Gemma3")
    only = masks["sliding_attention" if family == "Mistral" else "full_attention"]
    expected = theirs(ids, attention_mask=masks if by_kind else only, use_cache=False).logits
    prefix_mask = torch.arange(11) < torch.tensor(prefixes)[:, None]
    found = ours.logits(ours(ids, mask.long(), prefix_mask=prefix_mask))
    torch.testing.assert_close(found[mask], expected[mask], atol=1e-4, rtol=1e-4)
    plain = ours.logits(ours(ids, mask.long()))
    assert (found[0] - plain[0]).abs().max() > 1e-2
    torch.testing.assert_close(found[1], plain[1], atol=1e-5, rtol=1e-4)

    weights = torch.randn(int(mask.sum()), 61, generator=torch.Generator().manual_seed(2))
    (found[mask] * weights).mean().backward()
    (expected[mask] * weights).mean().backward()
    rules = families.for_hf(theirs.config.to_dict()).hf_rules(ours.config)
    parameters, checked = dict(ours.named_parameters()), 0
    for name, parameter in theirs.named_parameters():
        names, transform = rules.ours(name) or ((), None)
        if parameter.grad is None or transform is None:
            continue
        for each, part in zip(names, transform.to_ours(parameter.grad), strict=True):
            if each in parameters and parameters[each].grad is not None:
                torch.testing.assert_close(parameters[each].grad, part, atol=1e-4, rtol=1e-3)
                checked += 1
    assert checked > 10


class LoopedView(PaddedView):
    """A prefix-LM's row whose mask and bias are written as loops, for what no peer runs with a mask of its own."""

    def __init__(self, ids: Tensor, prefix: int) -> None:
        super().__init__(ids, causal=True)
        self.prefix = prefix

    def _mask(self, window: int | None, positions: Positions) -> Tensor:
        from transformers.models.t5.modeling_t5 import T5Attention

        width = self.position_ids.shape[1]
        mask = torch.full((1, 4, width, width), -torch.inf)
        for query in range(width):
            for key in range(width):
                if not (key <= query or max(query, key) < self.prefix):
                    continue
                if window is not None and abs(query - key) >= window:
                    continue
                if isinstance(positions, ALiBi):  # four heads: 1/4, 1/16, 1/64, 1/256 a place
                    bias = torch.tensor([-abs(query - key) * 4.0**-head for head in range(1, 5)])
                else:
                    bucket = T5Attention._relative_position_bucket(torch.tensor(key - query), False, 8, 9)
                    bias = positions.table.weight[bucket]
                mask[0, :, query, key] = bias
        return mask


@pytest.mark.parametrize("name", ["bloom", "slopes and a window", "a decoder with buckets"])
def test_a_prefix_lm_with_a_bias_is_the_one_of_the_loops(name: str) -> None:
    network = network_of(name)
    ids = torch.randint(0, 61, (1, 9), generator=torch.Generator().manual_seed(3))
    prefix_mask = (torch.arange(9) < 5).long()[None]
    expected = network.hidden_states(ids, LoopedView(ids, 5))
    torch.testing.assert_close(network(ids, prefix_mask=prefix_mask), expected, atol=1e-5, rtol=1e-4)
    assert (network(ids) - expected).abs().max() > 1e-2


@pytest.mark.parametrize("name", NETWORKS)
def test_captured_attention_agrees_with_the_fused_path(name: str) -> None:
    network = network_of(name)
    documents = [Document([5, 6, 7, 8, 9], 3, [1, 2, 3]), Document([4, 4, 8], 0, [9, 8, 7, 6])]
    inputs = packed_inputs(network, documents, "padded left", 2)
    own = ("attention_mask", "document_ids", "prefix_mask")
    facts = {key: inputs[key] for key in own if key in inputs}
    captures = CapturedAttention(), CapturedAttention()
    ids = inputs["input_ids"]
    view = PaddedView(ids, causal=network.encoder is None, capture=captures[0], **facts)
    if network.config.stacks != "encoder-decoder":
        written, found = ids, network.hidden_states(ids, view)
    else:
        written = inputs["decoder_input_ids"]
        decoder_view = PaddedView(
            written,
            inputs["decoder_attention_mask"],
            causal=True,
            document_ids=inputs["decoder_document_ids"],
            memory=network.encode(ids, view),
            memory_mask=inputs["attention_mask"],
            memory_document_ids=inputs["document_ids"],
            capture=captures[1],
        )
        found = network.hidden_states(written, decoder_view)
    real = inputs.get("decoder_attention_mask", inputs["attention_mask"]).bool()
    torch.testing.assert_close(found[real], network(**inputs)[real], atol=1e-5, rtol=1e-4)
    kinds = [(captures[0].self_attention, inputs["document_ids"], inputs["document_ids"])]
    if network.config.stacks == "encoder-decoder":
        numbers = inputs["decoder_document_ids"]
        kinds += [(captures[1].self_attention, numbers, numbers)]
        kinds += [(captures[1].cross_attention, numbers, inputs["document_ids"])]
    for layers, queries, keys in kinds:
        assert len(layers) == 2
        for weights in layers:
            assert weights[:, :, queries[0] >= 0].sum(-1).sub(1).abs().max() < 1e-5
            assert weights.masked_select((queries[:, :, None] != keys[:, None])[:, None]).abs().sum() == 0


def test_every_kind_of_positions_is_among_them() -> None:
    kinds = {type(first_attention(network_of(name)).positions).__name__ for name in NETWORKS}
    assert kinds >= {"Rotary", "Learned", "Sinusoidal", "ALiBi", "RelativeBuckets"}


def first_attention(network: Transformer) -> Attention:
    stack = network.encoder or network.decoder
    assert stack is not None
    attention = stack.layers[0].self_attention
    assert isinstance(attention, Attention)
    return attention


def test_what_it_refuses() -> None:
    ids = torch.ones(2, 5, dtype=torch.long)
    decoder, encoder, both = (network_of(name) for name in ("llama", "bert", "t5"))
    with pytest.raises(SettingError, match=r"prefix_mask.*\[2, 4\].*\[2, 5\]"):
        decoder(ids, prefix_mask=ids[:, :4])
    with pytest.raises(SettingError, match=r"document_ids.*\[5\].*\[2, 5\]"):
        decoder(ids, document_ids=ids[0])
    with pytest.raises(SettingError, match=r"prefix_mask.*see everything"):
        encoder(ids, prefix_mask=ids)
    with pytest.raises(SettingError, match=r"decoder_document_ids.*one stack"):
        decoder(ids, decoder_document_ids=ids)
    with pytest.raises(SettingError, match="both"):
        both(ids, decoder_input_ids=ids, document_ids=ids)
    with pytest.raises(SettingError, match="prefix_mask"):
        both(ids, decoder_input_ids=ids, prefix_mask=ids)
