"""Beam search for the likeliest answer (Sutskever et al. 2014, arXiv 1409.3215).

The rules are those of transformers. Every step takes the best continuations of all beams together. Those that end are
kept as hypotheses if they are among the best `num_beams`; the best of the others become the new beams. The score of a
hypothesis is

    sum of log p(token) / (number of tokens, including the end-of-sequence token) ** length_penalty

with log-probabilities after bias, penalties and forced tokens, renormalized if `renormalize_logits` is set.

The beams of a search are sequences that run at the same time. The first one computes the prompt, and all start from
there. After every step, each beam continues from the keys and values of the beam that its tokens extend.

Shapes: B beams, V vocabulary, C candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from germinal.generation.config import GenerationConfig
from germinal.generation.processors import History
from germinal.generation.sampler import SampledToken, check_finite, processed
from germinal.generation.sequence import Sequence
from germinal.generation.slots import SlotManager

IMPOSSIBLE = -1.0e9
"""The score of a beam that must not continue. Before the first token, all beams are equal and all but one have it."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A finished answer: its score and its tokens, including the end-of-sequence token."""

    score: float
    token_ids: tuple[int, ...]


class BeamSearch:
    """One search, from its prompt to the best answer.

    Args:
        lead: The sequence to answer. It does not run itself; it receives the best answer at the end.
        window: The context window.

    Attributes:
        beams: The sequences that run for it. The first has the lead's forks.
        hypotheses: Finished answers, best first, at most `num_beams`.
    """

    def __init__(self, lead: Sequence, window: int) -> None:
        config = lead.config
        self.lead = lead
        self.config = config
        self.window = window
        self.most_tokens = min(config.max_new_tokens, window - len(lead.prompt_ids))
        self.beams = tuple(_beam(lead, first=number == 0) for number in range(config.num_beams))
        self.hypotheses: list[Hypothesis] = []
        self._answers: list[list[int]] = [[] for _ in self.beams]
        self._scores = torch.full((config.num_beams,), IMPOSSIBLE)
        self._scores[0] = 0.0
        self._rows: dict[Sequence, Tensor] = {}

    def take(self, beam: Sequence, logits: Tensor) -> bool:
        """Add a beam's logits [V]; those of the prompt are for all beams. Returns whether all beams have theirs."""
        self._rows |= dict.fromkeys(self.beams if not self._answers[0] else (beam,), logits)
        return len(self._rows) == len(self.beams)

    def advance(self) -> list[int] | None:
        """Extend all beams by one token.

        Returns:
            For each beam, the number of the beam that it continues; None if the search has ended and the lead has its
            answer.
        """
        first = not self._answers[0]
        logprobs = self._logprobs(torch.stack([self._rows[beam] for beam in self.beams]))  # [B, V]
        self._rows.clear()
        scores, parents, tokens = self._candidates(logprobs)
        eos_ids = self.config.eos_ids or ()
        answers = [[*self._answers[parent], token] for parent, token in zip(parents, tokens, strict=True)]
        ends = [answer[-1] in eos_ids or len(answer) >= self.most_tokens for answer in answers]
        self._keep(scores, answers, ends)
        going_on = (scores + torch.tensor(ends) * IMPOSSIBLE).topk(len(self.beams))
        chosen = going_on.indices.tolist()
        self._scores = going_on.values
        self._answers = [answers[number] for number in chosen]
        if all(ends) or not self._may_improve():
            self._conclude()
            return None
        for beam, answer in zip(self.beams, self._answers, strict=True):
            beam.ids = [*beam.prompt_ids, *answer]
            beam.num_computed = len(beam.ids) - 1
        return [0 if first else parents[number] for number in chosen]

    def _conclude(self) -> None:
        """Give the lead the best answer and the token counts of the search."""
        for token in self.hypotheses[0].token_ids:
            self.lead.append(SampledToken(token), self.window)
        assert self.lead.finished
        first = self.beams[0]
        self.lead.cached_tokens, self.lead.encoded_tokens = first.cached_tokens, first.encoded_tokens
        self.lead.computed_tokens = sum(beam.computed_tokens for beam in self.beams)

    def _logprobs(self, logits: Tensor) -> Tensor:
        """Log-probabilities of the beams' logits [B, V] after the processors."""
        check_finite(logits.amax(-1))
        logprobs = logits.log_softmax(-1)
        if not self.lead.sampler.processors:
            return logprobs
        history = History([self.lead.sampler.prompt_ids] * len(self.beams), self._answers)
        left = processed(logprobs, self.lead.sampler.processors, history)
        return left.log_softmax(-1) if self.config.renormalize_logits else left

    def _candidates(self, logprobs: Tensor) -> tuple[Tensor, list[int], list[int]]:
        """The best continuations, best first: score [C], beam and token of each.

        C is large enough for `num_beams` of them to continue even if every end-of-sequence token of every beam is among
        the best.
        """
        count = max(2, 1 + len(self.config.eos_ids or ())) * len(self.beams)
        totals = logprobs + self._scores.to(logprobs.device)[:, None]
        scores, places = totals.flatten().topk(min(count, totals.numel()))
        vocab_size = logprobs.shape[-1]
        found = places.tolist()
        return scores.cpu(), [place // vocab_size for place in found], [place % vocab_size for place in found]

    def _keep(self, scores: Tensor, answers: list[list[int]], ends: list[bool]) -> None:
        """Keep candidates that end as hypotheses, if they are among the first and better than those kept so far."""
        number = len(self.beams)
        if self.config.early_stopping is True and len(self.hypotheses) == number:
            return
        found = [
            Hypothesis(score / len(answer) ** self.config.length_penalty, tuple(answer))
            for score, answer, end in zip(scores.tolist()[:number], answers, ends, strict=False)
            if end and score > IMPOSSIBLE / 2
        ]
        self.hypotheses = sorted([*self.hypotheses, *found], key=lambda each: -each.score)[:number]

    def _may_improve(self) -> bool:
        """Whether a beam might still become better than the worst hypothesis.

        The score depends on the final length, which is unknown. "never" assumes the best possible length. The other
        settings assume the current one; for a length penalty above 0 that is no upper bound, but stops much earlier.
        """
        if len(self.hypotheses) < len(self.beams):
            return True
        if self.config.early_stopping is True:
            return False
        longest = self.config.early_stopping == "never" and self.config.length_penalty > 0
        length = self.most_tokens if longest else len(self._answers[0])
        return bool(self._scores[0].item() / length**self.config.length_penalty > self.hypotheses[-1].score)


class BeamSearches:
    """The searches of an engine.

    Args:
        slots: Where the beams run.
        window: The context window.
    """

    def __init__(self, slots: SlotManager, window: int) -> None:
        self._slots = slots
        self._window = window
        self._searches: dict[Sequence, BeamSearch] = {}  # by lead and by beam

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self._searches

    def begin(self, lead: Sequence) -> tuple[Sequence, ...]:
        """Start a search.

        Returns:
            Its beams, which must run at the same time.
        """
        search = BeamSearch(lead, self._window)
        self._searches |= dict.fromkeys((lead, *search.beams), search)
        return search.beams

    def advance(self, beam: Sequence, logits: Tensor) -> list[Sequence]:
        """Give a beam its logits [V]; the last beam of a search to get them advances all of them.

        Returns:
            The lead of the search, if that ends it.
        """
        search = self._searches[beam]
        if not search.take(beam, logits):
            return []
        parents = search.advance()
        if parents is None:
            return [search.lead]
        self._slots.regroup(search.beams, parents)
        return []

    def end(self, lead: Sequence) -> tuple[Sequence, ...]:
        """Forget a search, if the sequence leads one.

        Returns:
            Its beams.
        """
        if lead not in self._searches:
            return ()
        search = self._searches.pop(lead)
        for beam in search.beams:
            del self._searches[beam]
        return search.beams


def _beam(lead: Sequence, *, first: bool) -> Sequence:
    """One beam of a lead's search. All but the first have nothing pending until the prompt has been computed."""
    config = GenerationConfig(max_new_tokens=lead.config.max_new_tokens)
    forks = lead.forks if first else ()
    beam = Sequence(
        lead.prompt_ids, config, adapter=lead.adapter, forks=forks, encoder_input_ids=lead.encoder_input_ids
    )
    beam.num_computed = 0 if first else len(beam.prompt_ids)
    return beam
