"""The engine: sequences go in, and each step brings every running one further. Generating, scoring, evaluation and the
server all go through it.

One step: the scheduler picks who runs, the backend turns their tokens into logits, and by these given tokens are scored
and others chosen, by a sampler or a beam search. The engine sees token ids only, and belongs to one thread.

Shapes: N wanted logits of a step, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from germinal.errors import SettingError
from germinal.generation.backends.backend import Backend
from germinal.generation.beam_search import BeamSearch
from germinal.generation.sampler import choose_batch
from germinal.generation.scheduler import MAX_STEP_TOKENS, Scheduled, Scheduler
from germinal.generation.sequence import FinishReason, Sequence
from germinal.generation.slots import SlotManager

Rows = list[tuple[Sequence, range]]
"""Sequences, each with its rows of a step's logits."""


class Engine:
    """Runs sequences on a backend.

    Args:
        backend: What runs the network.
        max_step_tokens: Tokens a step at most.
    """

    def __init__(self, backend: Backend, max_step_tokens: int = MAX_STEP_TOKENS) -> None:
        self._backend = backend
        self._slots = SlotManager(backend.num_slots)
        self._scheduler = Scheduler(self._slots, max_step_tokens)
        self._searches: dict[Sequence, BeamSearch] = {}  # by lead and by beam

    @property
    def has_work(self) -> bool:
        """Whether `step` would do anything."""
        return self._scheduler.has_work

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence; its forks start when its prompt has been computed.

        Raises:
            ContextWindowError: it does not fit the model's context window.
            SettingError: it wants more beams than the backend has slots.
        """
        window, num_slots = self._backend.context_window, self._backend.num_slots
        for each in (sequence, *sequence.forks):
            each.check_fits(window)
        if sequence.num_beams > num_slots:
            raise SettingError(
                f"{sequence.num_beams} beams are more than the {num_slots} sequences that run at once.",
                where="num_beams",
            )
        self._backend.reserve(min(window, max(each.most_tokens for each in (sequence, *sequence.forks))))
        if sequence.num_beams == 1:
            self._scheduler.add((sequence,))
            return
        search = BeamSearch(sequence, window)
        self._searches |= dict.fromkeys((sequence, *search.beams), search)
        self._scheduler.add(search.beams)

    def cancel(self, sequence: Sequence) -> None:
        """End a sequence and its forks now; their places are free in the next step."""
        for each in (sequence, *sequence.forks):
            if not each.finished:
                self.finish(each, "cancelled")

    def finish(self, sequence: Sequence, reason: FinishReason) -> None:
        """End one sequence for a reason that the engine cannot see, as a stop string in its text."""
        sequence.finish_reason = reason
        self._remove(sequence)

    def weights_changed(self) -> None:
        """The network or one of its adapters was changed: what was computed with it serves no other sequence.

        Sequences that are running go on from what they have computed.
        """
        self._slots.weights_changed()
        self._backend.weights_changed()

    @torch.inference_mode()
    def step(self) -> list[Sequence]:
        """Run one step.

        Returns:
            The sequences that got a token or a score, or ended; a beam search gives its answer when it ends.
        """
        scheduled = self._scheduler.schedule()
        if not scheduled:
            return []
        for copy in self._slots.take_copies():
            self._backend.fork(*copy)
        if inputs := [part.encoder_input for part in scheduled if part.encoder_input is not None]:
            self._backend.encode(inputs)
        logits = self._backend.forward([part.chunk for part in scheduled])  # [N, V]
        for part in scheduled:
            self._scheduler.computed(part)
        scoring, choosing = _rows(scheduled)
        changed = [*self._score(scoring, logits), *self._choose(choosing, logits)]
        for part in scheduled:
            for fork in part.starting_forks:
                self._scheduler.fork(part.sequence, fork)
        for sequence in changed:
            if sequence.finished:
                self._remove(sequence)
        return changed

    def _score(self, rows: Rows, logits: Tensor) -> list[Sequence]:
        """Score the next targets of each sequence."""
        for sequence, own in rows:
            assert sequence.target_ids is not None
            first = len(sequence.target_logprobs)
            targets = torch.tensor(sequence.target_ids[first : first + len(own)], device=logits.device)
            logprobs = logits[own.start : own.stop].log_softmax(-1).gather(-1, targets[:, None])
            sequence.append_scores(logprobs.squeeze(-1).tolist())
        return [sequence for sequence, _ in rows]

    def _choose(self, rows: Rows, logits: Tensor) -> list[Sequence]:
        """Choose the next token of each sequence: the beams of a search together, when all of them are there."""
        drawing = [(sequence, own.start) for sequence, own in rows if sequence not in self._searches]
        if drawing:
            numbers = [number for _, number in drawing]
            wanted = logits if numbers == list(range(len(logits))) else logits[numbers]
            samplers = [sequence.sampler for sequence, _ in drawing]
            tokens = choose_batch(wanted, samplers, [sequence.token_ids for sequence, _ in drawing])
            for (sequence, _), token in zip(drawing, tokens, strict=True):
                sequence.append(token, self._backend.context_window)
        changed = [sequence for sequence, _ in drawing]
        for beam, own in rows:
            search = self._searches.get(beam)
            if search is None or not search.take(beam, logits[own.start]):
                continue
            parents = search.advance()
            if parents is None:
                changed.append(search.lead)
            else:
                self._slots.regroup(search.beams, parents)
        return changed

    def _remove(self, sequence: Sequence) -> None:
        """Free the places of a sequence, or of the beams of its search."""
        search = self._searches.get(sequence)
        for each in (sequence,) if search is None else search.beams:
            self._scheduler.remove(each)
        if search is not None:
            for each in (sequence, *search.beams):
                del self._searches[each]


def _rows(scheduled: list[Scheduled]) -> tuple[Rows, Rows]:
    """Which rows of a step's logits score given tokens, and which choose a token.

    After a prompt's last token the same logits serve the sequence and all its forks.
    """
    scoring: Rows = []
    choosing: Rows = []
    end = 0
    for part in scheduled:
        own = range(end, end + part.chunk.num_logits)
        end = own.stop
        if own:
            following = [(fork, own[:1]) for fork in part.starting_forks]
            for sequence, rows in ((part.sequence, own), *following):
                (choosing if sequence.target_ids is None else scoring).append((sequence, rows))
    return scoring, choosing
