"""Sections about the forward pass and its output: attention, predictions layer by layer, the choice of a token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from germinal import figures
from germinal.generation.config import GenerationConfig
from germinal.generation.distribution import NextTokenDistribution, Stage, next_token_distribution
from germinal.inspection.picture import Picture, Section, Table
from germinal.inspection.subject import Subject
from germinal.models.heads import describe_head
from germinal.models.inspection import AttentionMap, logit_lens, writes_words
from germinal.reading.classes import classification

EXAMPLE: dict[str, Any] = {"temperature": 0.8, "top_k": 20, "top_p": 0.9}
"""Settings that illustrate sampling if neither the user's nor the model's settings sample."""

_MAP_TOKENS, _MAP_CELLS = 48, 1_500_000  # most tokens of an attention map, most cells over all layers and heads
_LENS_TOKENS = 12
_RIVALS = 6
_CANDIDATES, _FEW = 24, 5
_RANKS = 160

_MAPS = {
    "encoder": ("Encoder self-attention", "Every token can attend to every other token."),
    "decoder": ("Decoder self-attention", "A token attends to itself and to earlier tokens: the upper right is empty."),
    "cross": ("Cross-attention", "The decoder's tokens attend to the tokens of the prompt."),
}


def attention_section(subject: Subject) -> Section:
    """The attention weights of all heads in all layers."""
    pictures, shortened = [], ""
    for name, (title, reading) in _MAPS.items():
        found: AttentionMap | None = getattr(subject.trace.attention, name)
        if found is None:
            continue
        shown = _map_tokens(found)
        queries, keys = found.query_ids[-shown:], found.key_ids[-shown:]
        if shown < max(len(found.query_ids), len(found.key_ids)):
            shortened = f" The last {shown} tokens are shown, without their attention to earlier ones."
        weights = found.weights[:, :, -shown:, -shown:]
        chart = figures.attention(
            weights.tolist(), subject.spelt(queries), subject.spelt(keys), layer=weights.shape[0] // 2
        )
        caption = f"{reading} Rows are queries, columns are keys. The slider selects the layer, a click the head."
        pictures.append(Picture(f"attention-{name}", title, caption + shortened, chart))
    lead = (
        "In each head of each layer, every token gathers information from other tokens. The weights depend on the "
        "text; these are the ones of this prompt, computed without the fused kernel, which does not return them. Many "
        "heads put most of their weight on the first token when no other is relevant."
    )
    return Section("attention", "Attention", lead, pictures)


def _map_tokens(found: AttentionMap) -> int:
    """Number of tokens, counted from the end, whose maps fit on one page."""
    layers, heads, queries, keys = found.weights.shape
    fit = int((_MAP_CELLS / (layers * heads)) ** 0.5)
    return max(8, min(_MAP_TOKENS, fit, max(queries, keys)))


def layers_section(subject: Subject) -> Section | None:
    """The prediction after each layer; None for a model that does not predict tokens."""
    network, trace = subject.lm.network, subject.trace
    if not writes_words(network):
        return None
    first = max(0, len(trace.ids) - _LENS_TOKENS)
    if subject.fills_masks:
        first = max(0, min(first, subject.place - _LENS_TOKENS // 2))
    places = range(first, min(len(trace.ids), first + _LENS_TOKENS))
    layers = [logits.softmax(-1) for logits in logit_lens(network, trace.states[:, places.start : places.stop])]
    best = [probabilities.max(-1) for probabilities in layers]  # values and ids [T] of each layer
    found = [
        figures.Guess(layer, place, token, probability)
        for layer, (values, ids) in enumerate(best)
        for place, (token, probability) in enumerate(zip(subject.spelt(ids.tolist()), values.tolist(), strict=True))
    ]
    expected = "belongs here" if subject.fills_masks else "comes next"
    at = subject.place - places.start
    rivals = layers[-1][at].topk(min(_RIVALS, layers[-1].shape[-1])).indices.tolist()
    named = _distinct_names(subject.spelt(rivals), rivals)
    series = [
        figures.Growth(name, tuple(float(probabilities[at, id]) for probabilities in layers))
        for name, id in zip(named, rivals, strict=True)
    ]
    asked = subject.spelt([trace.ids[subject.place]])[0]
    pictures = [
        Picture(
            "lens",
            "The most likely token after each layer",
            f"Each column is a token of the text; each cell shows the token that {expected}, if the network stopped "
            "after that layer. Stronger colour means higher probability. The top row is the model's own prediction.",
            figures.guesses(found, subject.spelt([trace.ids[place] for place in places]), expected=expected),
        ),
        Picture(
            "growth",
            f"The {len(series)} most likely tokens at “{asked}”, layer by layer",
            "The probability after each layer of the tokens that are most likely in the end.",
            figures.growth(series),
        ),
    ]
    lead = (
        "Applying the final norm and the output matrix to the states after each layer turns them into predictions (the "
        "logit lens). Only the last layer is trained for this: predictions of early layers can be noise, and the final "
        "answer often appears in the last third of the layers."
    )
    return Section("layers", "Layer by layer", lead, pictures)


def _distinct_names(names: list[str], ids: list[int]) -> list[str]:
    """Unambiguous names of tokens: those that are spelt the same get their ids."""
    return [f"{name} ({id})" if names.count(name) > 1 else name for name, id in zip(names, ids, strict=True)]


def next_token_section(subject: Subject, config: GenerationConfig) -> Section | None:
    """From logits to the sampled token; None for a model that does not predict tokens, or a prompt without a mask."""
    network = subject.lm.network
    if not writes_words(network) or (subject.fills_masks and subject.mask is None):
        return None
    with torch.inference_mode():
        hidden = subject.trace.hidden_states[subject.place].to(network.device, network.dtype)
        logits = network.logits(hidden).float().cpu()
    borrowed = config.greedy and not subject.fills_masks
    shown = config.override(**EXAMPLE) if borrowed else config
    # For the processors, an encoder-decoder's prompt is its start token; the other decoder tokens are the answer.
    prompt_ids = subject.trace.ids[:1] if subject.lm.config.stacks == "encoder-decoder" else subject.ids
    found = next_token_distribution(logits, shown, prompt_ids, subject.trace.ids[len(prompt_ids) :])
    what = "The token at the mask" if subject.fills_masks else "The next token"
    lead = (
        f"The last state times the output matrix gives a logit for each of the {len(logits):,} tokens of the "
        "vocabulary; softmax turns the logits into probabilities that sum to 1. The next steps, in this order: "
        f"{'; '.join(found.steps)}."
    )
    if borrowed:
        own = ", ".join(f"{name} {value:g}" for name, value in EXAMPLE.items())
        lead += (
            "\n\nNeither the given settings nor the model's defaults ask for sampling, so the most likely token would "
            f"be chosen. The steps are shown with {own} as an example."
        )
    pictures = [
        Picture(
            "next-token",
            f"{what}: logit, probability, and the effect of each step",
            "The most likely tokens, each with its id. A cross marks the step that cut a token; the probabilities of "
            "the remaining tokens grow, because they are renormalized to sum to 1.",
            figures.next_token(_candidates(subject, found), steps=[_step(stage) for stage in found.stages]),
        ),
        Picture(
            "vocabulary",
            "The whole vocabulary",
            "All tokens by rank. A dot at the end of a step's line is the last token that can still be sampled.",
            figures.vocabulary_curve([_curve(stage) for stage in found.stages]),
        ),
    ]
    return Section("next-token", what, lead, pictures, [_steps(subject, found)])


@torch.inference_mode()
def reading_section(subject: Subject) -> Section | None:
    """The output of a model that does not predict tokens; None for one that does."""
    lm = subject.lm
    if writes_words(lm.network):
        return None
    head = describe_head(lm.config)
    lead = f"This model does not predict tokens, so there are no predictions layer by layer: it has {head}. "
    if lm.config.head != "sequence-classification":
        lead += "Its output is computed from the states after the last layer, one vector per token."
        return Section("reading", "Output", lead)
    head_module = lm.network.head
    assert head_module is not None
    states = subject.trace.hidden_states[None].to(lm.network.device, lm.network.dtype)
    found = classification(lm.reader, head_module(states)[0].float().cpu())
    if found.value is not None and not found.probabilities:
        return Section("reading", "Output", f"{lead}Its output for this text is {found.value:.4f}.")
    if found.values:
        table = Table(("output", "value"), [(k, f"{v:.4f}") for k, v in found.values.items()], frozenset({1}))
        return Section("reading", "Output", f"{lead}Its outputs for this text:", tables=[table])
    independent = lm.head_config.multi_label or found.value is not None
    kind = "independent of each other" if independent else "which sum to 1"
    likely = sorted(found.probabilities.items(), key=lambda item: -item[1])
    rows = [(label, f"{probability:.1%}") for label, probability in likely]
    table = Table(("label", "probability"), rows, numbers=frozenset({1}))
    return Section("reading", "Output", f"{lead}Its probabilities for this text, {kind}:", tables=[table])


def _step(stage: Stage) -> str:
    return {"model": "probability"}.get(stage.name, stage.text.replace(": ", " "))


def _candidates(subject: Subject, found: NextTokenDistribution) -> list[figures.Candidate]:
    """The most likely tokens before and after the steps, by logit."""
    first, last = found.stages[0].logits, found.stages[-1].logits
    count = min(_CANDIDATES, len(first))
    ids = first.topk(count).indices.tolist()
    late = [id for id, _ in found.top(count // 2) if id not in ids]
    ids = sorted([*ids[: count - len(late)], *late], key=lambda id: -float(first[id]))
    assert last.shape == first.shape
    return [
        figures.Candidate(
            name,
            id,
            float(first[id]),
            tuple(
                float(stage.probabilities[id]) if torch.isfinite(stage.logits[id]) else None for stage in found.stages
            ),
        )
        for name, id in zip(subject.spelt(ids), ids, strict=True)
    ]


def _curve(stage: Stage) -> figures.RankCurve:
    """A step's probabilities by rank, at ranks spaced evenly on the logarithmic axis."""
    ordered: Tensor = stage.probabilities[torch.isfinite(stage.logits)].sort(descending=True).values
    spread = torch.logspace(0, torch.log10(torch.tensor(float(len(ordered)))).item(), _RANKS)
    ranks = sorted({min(len(ordered), max(1, round(rank))) for rank in spread.tolist()} | {len(ordered)})
    return figures.RankCurve(_step(stage), tuple((rank, float(ordered[rank - 1])) for rank in ranks))


def _steps(subject: Subject, found: NextTokenDistribution) -> Table:
    """How many tokens each step left and cut."""
    rows = []
    for stage in found.stages:
        likeliest = ", ".join(subject.spelt(stage.cut[:_FEW]))
        more = f" and {len(stage.cut) - _FEW:,} more" if len(stage.cut) > _FEW else ""
        rows.append(
            (
                "softmax of the logits" if stage.name == "model" else stage.text,
                f"{stage.left:,}",
                f"{len(stage.cut):,}" if stage.cut else "–",
                f"{stage.cut_mass:.1%}" if stage.cut else "–",
                f"{stage.entropy:.2f}",
                likeliest + more or "–",
            )
        )
    columns = ("step", "tokens left", "cut", "probability cut", "entropy, bits", "most likely tokens cut")
    return Table(columns, rows, numbers=frozenset({1, 2, 3, 4}))
