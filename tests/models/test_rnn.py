"""The recurrent language model against torch's own cells, and through the training loop and the engine."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from germinal.errors import SettingError, UnsupportedError
from germinal.generation.backends.backend import Backend, Chunk
from germinal.generation.backends.rnn_backend import RNNBackend
from germinal.generation.config import GenerationConfig
from germinal.generation.engine import Engine
from germinal.generation.sequence import Sequence
from germinal.models.rnn import RNNConfig, RNNLanguageModel
from germinal.objectives.language_modelling import causal_lm_loss
from germinal.training.config import TrainingConfig
from germinal.training.examples import Batch, TuningData, TuningExample
from germinal.training.loop import train

SHAPES: list[dict[str, Any]] = [
    {"cell": "gru"},
    {"cell": "lstm"},
    {"cell": "gru", "num_layers": 3, "hidden_size": 7},
    {"cell": "lstm", "num_layers": 2, "tie_embeddings": True},
]
GREEDY = GenerationConfig(max_new_tokens=12, eos_ids=(2,))


def network(**config: Any) -> RNNLanguageModel:
    torch.manual_seed(0)
    return RNNLanguageModel(RNNConfig(**{"vocab_size": 31, "hidden_size": 20, **config})).eval()


@pytest.fixture(params=SHAPES, ids=lambda shape: f"{shape['cell']}-{shape.get('num_layers', 1)}")
def rnn(request: pytest.FixtureRequest) -> RNNLanguageModel:
    return network(**request.param)


def cells(rnn: RNNLanguageModel) -> list[nn.RNNCellBase]:
    """torch's single cells with the network's weights, one per layer."""
    made = []
    for layer in range(rnn.config.num_layers):
        cell = {"gru": nn.GRUCell, "lstm": nn.LSTMCell}[rnn.config.cell](rnn.config.hidden_size, rnn.config.hidden_size)
        cell.load_state_dict(
            {
                name: getattr(rnn.recurrent, f"{name}_l{layer}")
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            }
        )
        made.append(cell)
    return made


@torch.no_grad()
def by_steps(rnn: RNNLanguageModel, ids: list[int]) -> Tensor:
    """Logits [T, V], one token and one cell at a time."""
    layers, states = cells(rnn), [None] * rnn.config.num_layers
    rows = []
    for token in ids:
        x = rnn.embed_tokens.weight[token][None]
        for index, cell in enumerate(layers):
            states[index] = cell(x, states[index])
            x = states[index][0] if rnn.config.cell == "lstm" else states[index]
        rows.append(x[0])
    weight = rnn.lm_head.matrix
    return torch.stack(rows) @ weight.T


def sequences(count: int, shared: int = 0) -> list[list[int]]:
    chance = random.Random(1)
    prefix = [chance.randrange(3, 31) for _ in range(shared)]
    return [prefix + [chance.randrange(3, 31) for _ in range(chance.randint(1, 25))] for _ in range(count)]


@torch.no_grad()
def test_logits_are_those_of_torchs_cells(rnn: RNNLanguageModel) -> None:
    (ids,) = sequences(1, shared=9)
    torch.testing.assert_close(rnn.logits(rnn(torch.tensor([ids])))[0], by_steps(rnn, ids), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("padding", ["left", "right", "holes"])
def test_padding_and_holes_leave_no_trace(rnn: RNNLanguageModel, padding: str) -> None:
    ids = torch.randint(3, 31, (2, 13))
    mask = torch.ones_like(ids)
    mask[0, {"left": slice(0, 4), "right": slice(-4, None), "holes": slice(3, 7)}[padding]] = 0
    logits = rnn.logits(rnn(ids, mask))
    for row in range(2):
        real = mask[row].bool()
        expected = by_steps(rnn, ids[row][real].tolist())
        torch.testing.assert_close(logits[row][real], expected, atol=1e-5, rtol=1e-5)
    assert torch.isfinite(rnn(ids, torch.zeros_like(ids))).all()


def greedy(rnn: RNNLanguageModel, prompt: list[int]) -> list[int]:
    ids = list(prompt)
    while len(ids) < len(prompt) + 12:
        token = int(by_steps(rnn, ids)[-1].argmax())
        if token == 2:
            break
        ids.append(token)
    return ids[len(prompt) :]


def run(engine: Engine, wanted: list[Sequence]) -> None:
    for sequence in wanted:
        engine.add(sequence)
    while engine.has_work:
        engine.step()


@pytest.mark.parametrize("shared", [0, 20], ids=["unrelated", "shared prefix"])
def test_the_engine_decodes_as_one_token_at_a_time(rnn: RNNLanguageModel, shared: int) -> None:
    prompts = sequences(12, shared)
    wanted = [Sequence(prompt, GREEDY) for prompt in prompts]
    # Few slots and small steps: sequences wait, prompts run in chunks, slots are reused.
    run(Engine(RNNBackend(rnn, num_slots=4), max_step_tokens=24), wanted)
    assert [sequence.token_ids for sequence in wanted] == [greedy(rnn, prompt) for prompt in prompts]
    assert sum(sequence.cached_tokens for sequence in wanted) >= shared * 8


def test_scores_and_forks_share_a_prompt(rnn: RNNLanguageModel) -> None:
    (prompt,) = sequences(1, shared=6)
    targets = [[5, 6, 7], [8], [9, 3, 4, 5]]
    forks = [Sequence(prompt, target_ids=target) for target in targets]
    leader = Sequence(prompt, GREEDY, forks=forks)
    run(Engine(RNNBackend(rnn)), [leader])
    assert leader.token_ids == greedy(rnn, prompt)
    for fork, target in zip(forks, targets, strict=True):
        logps = by_steps(rnn, [*prompt, *target]).log_softmax(-1)[len(prompt) - 1 : -1]
        expected = [float(row[token]) for row, token in zip(logps, target, strict=True)]
        assert fork.target_logprobs == pytest.approx(expected, abs=1e-4)
        assert fork.cached_tokens == (len(prompt) if len(target) > 1 else 0)  # one target needs no token of its own


def test_forks_and_cuts_at_any_length(rnn: RNNLanguageModel) -> None:
    """As in a beam search: a slot is copied up to the middle, and another continues before its end."""
    backend: Backend = RNNBackend(rnn, num_slots=3)
    (ids,) = sequences(1, shared=12)
    backend.forward([Chunk(0, 0, ids, 1)])
    backend.fork(0, 1, 7)
    logits = backend.forward([Chunk(0, len(ids) - 1, [9], 1), Chunk(1, 7, [4, 11], 2)])
    expected = [by_steps(rnn, [*ids[:-1], 9])[-1:], by_steps(rnn, [*ids[:7], 4, 11])[-2:]]
    torch.testing.assert_close(logits, torch.cat(expected), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(backend.forward([Chunk(1, 0, [8], 1)]), by_steps(rnn, [8]), atol=1e-5, rtol=1e-5)


def test_new_weights_are_used_from_the_next_step_on(rnn: RNNLanguageModel) -> None:
    backend = RNNBackend(rnn)
    backend.forward([Chunk(0, 0, [3, 4, 5], 1)])
    with torch.no_grad():
        rnn.recurrent.weight_ih_l0.mul_(-2)
    backend.weights_changed()
    logits = backend.forward([Chunk(0, 3, [6], 1)])
    torch.testing.assert_close(logits, by_steps(rnn, [3, 4, 5, 6])[-1:], atol=1e-5, rtol=1e-5)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    assert isinstance(model, RNNLanguageModel)
    hidden_states = model(batch.input_ids[:, :-1], batch.attention_mask[:, :-1])
    return causal_lm_loss(hidden_states, batch.labels, model.logits, model.parameters())


def test_the_loop_trains_it_and_the_engine_says_what_it_learned(tmp_path: Path) -> None:
    """Counting: after 5 6 7 comes 8, wherever it starts."""
    rnn = network(cell="gru", hidden_size=32)
    config = TrainingConfig(epochs=60, learning_rate=1e-2, micro_batch_size=8)
    examples = [TuningExample((start,), (*range(start + 1, start + 6), 2)) for start in range(3, 25)]
    data = TuningData(examples, micro_batch_size=8, validation_fraction=0.0, seed=0)
    result = train(rnn, loss, data, config, tmp_path, recipe={"counting": 1})
    assert result.history[-1].loss < 0.1 < result.history[0].loss
    wanted = [Sequence((start,), GREEDY) for start in (4, 11, 20)]
    run(Engine(RNNBackend(rnn)), wanted)
    assert [sequence.token_ids for sequence in wanted] == [list(range(s + 1, s + 6)) for s in (4, 11, 20)]


def test_parameters_and_a_shape_without_memory() -> None:
    config = RNNConfig(vocab_size=1000, hidden_size=64, num_layers=2, cell="lstm")
    on_meta = RNNLanguageModel(config, device="meta")
    assert on_meta.device.type == "meta"
    assert on_meta.num_parameters() == 2 * 1000 * 64 + 2 * (4 * (64 * 64 + 64 * 64 + 64 + 64))
    assert network(tie_embeddings=True).num_parameters() == network().num_parameters() - 31 * 20


def test_what_it_refuses() -> None:
    with pytest.raises(UnsupportedError, match=r"config\.cell.*'elman'.*gru, lstm"):
        RNNConfig(vocab_size=9, hidden_size=4, cell="elman")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match=r"config\.num_layers"):
        RNNConfig(vocab_size=9, hidden_size=4, num_layers=0)
    with pytest.raises(SettingError, match=r"config\.dropout"):
        RNNConfig(vocab_size=9, hidden_size=4, dropout=1.0)
    backend = RNNBackend(network())
    with pytest.raises(UnsupportedError, match="no adapters"):
        backend.forward([Chunk(0, 0, [1], 1, adapter="mine")])
    with pytest.raises(UnsupportedError, match="no encoder"):
        backend.encode([])
