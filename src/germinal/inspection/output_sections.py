"""The second half of the way: attention, the guess that grows from layer to layer, the choice of the next token."""

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
"""The settings that show the steps of sampling where neither the user nor the model has any."""

_MAP_TOKENS, _MAP_CELLS = 48, 1_500_000  # of one attention map, and of all maps of a page
_LENS_TOKENS = 12
_RIVALS = 6
_CANDIDATES, _FEW = 24, 5
_RANKS = 160

_MAPS = {
    "encoder": ("Among the encoder's tokens", "Every token may look at every other one."),
    "decoder": ("Among the decoder's tokens", "A token sees itself and what came before: the upper right is empty."),
    "cross": ("From the decoder to the encoder", "What each written token looks at in the prompt."),
}


def attention_section(subject: Subject) -> Section:
    """Who looks at whom."""
    pictures, shortened = [], ""
    for name, (title, reading) in _MAPS.items():
        found: AttentionMap | None = getattr(subject.trace.attention, name)
        if found is None:
            continue
        shown = _map_tokens(found)
        queries, keys = found.query_ids[-shown:], found.key_ids[-shown:]
        if shown < max(len(found.query_ids), len(found.key_ids)):
            shortened = f" The last {shown} tokens are shown; what was paid to earlier ones is left out."
        weights = found.weights[:, :, -shown:, -shown:]
        chart = figures.attention(
            weights.tolist(), subject.spelt(queries), subject.spelt(keys), layer=weights.shape[0] // 2
        )
        caption = f"{reading} A row looks, a column is looked at. The slider picks the layer, a click the head."
        pictures.append(Picture(f"attention-{name}", title, caption + shortened, chart))
    lead = (
        "Each head of each layer lets every token gather from others. How much it takes from whom is worked out anew "
        "for every text; these are the weights of this one, computed by the function that otherwise runs fused. Many "
        "heads rest on the first token when they find nothing to gather."
    )
    return Section("attention", "Attention", lead, pictures)


def _map_tokens(found: AttentionMap) -> int:
    """How many of the last tokens one page can hold the maps of."""
    layers, heads, queries, keys = found.weights.shape
    fit = int((_MAP_CELLS / (layers * heads)) ** 0.5)
    return max(8, min(_MAP_TOKENS, fit, max(queries, keys)))


def layers_section(subject: Subject) -> Section | None:
    """The guess after each layer; None for a model whose states are no words."""
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
    expected = "stands here" if subject.fills_masks else "comes next"
    at = subject.place - places.start
    rivals = layers[-1][at].topk(min(_RIVALS, layers[-1].shape[-1])).indices.tolist()
    named = _unlike(subject.spelt(rivals), rivals)
    series = [
        figures.Growth(name, tuple(float(probabilities[at, id]) for probabilities in layers))
        for name, id in zip(named, rivals, strict=True)
    ]
    asked = subject.spelt([trace.ids[subject.place]])[0]
    pictures = [
        Picture(
            "lens",
            "The likeliest word after each layer",
            f"A column is a token of the text, a cell the word that {expected} if the network stopped there. Strong "
            "colour is a sure guess. The top row is the model's answer.",
            figures.guesses(found, subject.spelt([trace.ids[place] for place in places]), expected=expected),
        ),
        Picture(
            "growth",
            f"The {len(series)} likeliest words at “{asked}”, layer by layer",
            "How the model's final favourites came up.",
            figures.growth(series),
        ),
    ]
    lead = (
        "The final norm and the output matrix, laid on the states that leave each layer, read them as words (the logit "
        "lens). Layers were not trained to be read so: what early ones say can be noise, and what is right often "
        "appears in the last third."
    )
    return Section("layers", "Layer by layer", lead, pictures)


def _unlike(names: list[str], ids: list[int]) -> list[str]:
    """Names by which tokens can be told apart: two that are spelt the same get their ids."""
    return [f"{name} ({id})" if names.count(name) > 1 else name for name, id in zip(names, ids, strict=True)]


def next_token_section(subject: Subject, config: GenerationConfig) -> Section | None:
    """From logits to the token that is drawn; None for a model that gives no words."""
    network = subject.lm.network
    if not writes_words(network) or (subject.fills_masks and subject.mask is None):
        return None
    with torch.inference_mode():
        hidden = subject.trace.hidden_states[subject.place].to(network.device, network.dtype)
        logits = network.logits(hidden).float().cpu()
    borrowed = config.greedy and not subject.fills_masks
    shown = config.override(**EXAMPLE) if borrowed else config
    # The start token of an encoder-decoder is its prompt, the rest of what it has written its answer.
    prompt_ids = subject.trace.ids[:1] if subject.lm.config.stacks == "encoder-decoder" else subject.ids
    found = next_token_distribution(logits, shown, prompt_ids, subject.trace.ids[len(prompt_ids) :])
    what = "The word at the mask" if subject.fills_masks else "The next token"
    lead = (
        f"The last state times the output matrix gives each of the {len(logits):,} tokens of the vocabulary a logit; "
        "softmax turns logits into probabilities that add up to 1. Then, in this order: "
        f"{'; '.join(found.steps)}."
    )
    if borrowed:
        own = ", ".join(f"{name} {value:g}" for name, value in EXAMPLE.items())
        lead += (
            f"\n\nNeither the command nor the model asks for sampling, so the likeliest token would be taken. The "
            f"steps are shown with {own}, as an example."
        )
    pictures = [
        Picture(
            "next-token",
            f"{what}: logit, probability, and what each step leaves",
            "The likeliest tokens, each with its id. A cross stands where a step cut the token away; the probabilities "
            "of those that are left grow, since they have to add up to 1 again.",
            figures.next_token(_candidates(subject, found), steps=[_step(stage) for stage in found.stages]),
        ),
        Picture(
            "vocabulary",
            "The whole vocabulary",
            "Every token by rank. A dot ends the line of a step where the last token stands that can still be drawn.",
            figures.vocabulary_curve([_curve(stage) for stage in found.stages]),
        ),
    ]
    return Section("next-token", what, lead, pictures, [_steps(subject, found)])


@torch.inference_mode()
def reading_section(subject: Subject) -> Section | None:
    """What comes out of a model that gives no words; None for one that does."""
    lm = subject.lm
    if writes_words(lm.network):
        return None
    head = describe_head(lm.config)
    lead = f"This model gives no words, so there is no guess to follow from layer to layer: it has {head}. "
    if lm.config.head != "sequence-classification":
        lead += "Its answer is made of the states that leave the last layer: one vector a token."
        return Section("reading", "What comes out", lead)
    head_module = lm.network.head
    assert head_module is not None
    states = subject.trace.hidden_states[None].to(lm.network.device, lm.network.dtype)
    found = classification(lm.reader, head_module(states)[0].float().cpu())
    if found.value is not None:
        return Section("reading", "What comes out", f"{lead}For this text it says {found.value:.4f}.")
    if found.values:
        table = Table(("output", "value"), [(k, f"{v:.4f}") for k, v in found.values.items()], frozenset({1}))
        return Section("reading", "What comes out", f"{lead}What it says of this text:", tables=[table])
    kind = "each on its own" if lm.head_config.multi_label else "which add up to 1"
    likely = sorted(found.probabilities.items(), key=lambda item: -item[1])
    rows = [(label, f"{probability:.1%}") for label, probability in likely]
    table = Table(("label", "probability"), rows, numbers=frozenset({1}))
    return Section("reading", "What comes out", f"{lead}Its probabilities for this text, {kind}:", tables=[table])


def _step(stage: Stage) -> str:
    return {"model": "probability"}.get(stage.name, stage.text.replace(": ", " "))


def _candidates(subject: Subject, found: NextTokenDistribution) -> list[figures.Candidate]:
    """The likeliest tokens before the steps and after them, by logit."""
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
    """A step's probabilities by rank, thinned evenly on the logarithmic axis."""
    ordered: Tensor = stage.probabilities[torch.isfinite(stage.logits)].sort(descending=True).values
    spread = torch.logspace(0, torch.log10(torch.tensor(float(len(ordered)))).item(), _RANKS)
    ranks = sorted({min(len(ordered), max(1, round(rank))) for rank in spread.tolist()} | {len(ordered)})
    return figures.RankCurve(_step(stage), tuple((rank, float(ordered[rank - 1])) for rank in ranks))


def _steps(subject: Subject, found: NextTokenDistribution) -> Table:
    """What each step left and cut."""
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
    columns = ("step", "tokens left", "cut", "probability cut", "entropy, bits", "the likeliest that were cut")
    return Table(columns, rows, numbers=frozenset({1, 2, 3, 4}))
