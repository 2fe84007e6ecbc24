"""Tuning a LoRA adapter on prompts and their answers: what a project's tune step and `germinal tune` do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from germinal.checkpoints.peft_folder import save_adapter
from germinal.layers.adapters import adapter_routing, add_adapter, remove_adapter, routed
from germinal.layers.lora_config import LoRAConfig
from germinal.models.transformer import Transformer
from germinal.objectives.language_modelling import causal_lm_loss, labelled_cross_entropy
from germinal.progress import Reporter, silent
from germinal.storage import digest, write_json
from germinal.training.config import TrainingConfig
from germinal.training.examples import Batch, TuningData, TuningExample, check_examples
from germinal.training.loop import train
from germinal.training.recipe import tuning_recipe
from germinal.training.shared_prefix import hidden_states_after, shared_prefix

if TYPE_CHECKING:
    from germinal.language_model import LanguageModel

_NAME = "tuning"
"""The adapter's name while it is trained; its folder does not keep the name."""


def tune_lora(
    lm: LanguageModel,
    examples: Sequence[TuningExample],
    lora: LoRAConfig,
    config: TrainingConfig,
    folder: Path,
    reporter: Reporter = silent,
) -> Path:
    """Train an adapter of `lm` on the answers of `examples`, and write it as a PEFT folder.

    `lm` is not changed. If it is killed, calling it again with the same arguments resumes it.

    Args:
        lm: The base model.
        examples: Prompts and answers in token ids, in any order.
        lora: Rank, scale and layers of the adapter.
        config: The settings of the training.
        folder: The run's folder: the adapter in `adapter/`, one line per update in `history.jsonl`, the outcome in
            `result.json`, and checkpoints.
        reporter: Called after every update.

    Returns:
        The PEFT folder, with the adapter of the best validation loss.

    Raises:
        DataError, ContextWindowError: an example cannot be learned from.
        SettingError: `lora` names layers that the model does not have, or the folder holds another run.
        TrainingError: a loss is not finite.
    """
    answer_start = lm.writer.answer_start
    check_examples(examples, lm.config.max_position_embeddings, lm.config.vocab_size, answer_start)
    seen = digest([[example.prompt_ids, example.answer_ids] for example in examples])
    recipe = tuning_recipe(lm, config, examples=seen, lora=asdict(lora), answer_start=answer_start)
    data = TuningData(
        examples,
        micro_batch_size=config.micro_batch_size,
        validation_fraction=config.validation_fraction,
        seed=config.seed,
        pad_id=lm.tokenizer.filler_id,
        device=lm.network.device,
        answer_start=answer_start,
    )
    with fresh_adapter(lm.network, _NAME, lora, config.seed), routed(lm.network, _NAME):
        result = train(lm.network, answer_loss, data, config, folder, reporter, recipe=recipe, task="tune")
        base, revision = lm.published_reference
        save_adapter(lm.network, _NAME, folder / "adapter", family=lm.family, base=base, revision=revision)
    write_json(folder / "result.json", result.summary())
    return folder / "adapter"


def answer_loss(network: nn.Module, batch: Batch) -> Tensor:
    """Summed cross-entropy of a batch's answers.

    Padding is on the right, which a causal decoder does not see: only an encoder needs a mask, and without one the
    attention takes its fastest path. Nothing is predicted from the last token, so its hidden state is not computed.
    """
    assert isinstance(network, Transformer)
    if batch.decoder_input_ids is not None:
        hidden_states = network(batch.input_ids, batch.attention_mask, decoder_input_ids=batch.decoder_input_ids)
        return labelled_cross_entropy(hidden_states, batch.labels, network.logits, network.parameters())
    ids, labels = batch.input_ids[:, :-1], batch.labels
    prefix = shared_prefix(batch.input_ids, labels)
    hidden_states = hidden_states_after(network, ids, prefix) if prefix else network(ids)
    return causal_lm_loss(hidden_states, labels[:, prefix:], network.logits, network.parameters())


@contextmanager
def fresh_adapter(network: nn.Module, name: str, lora: LoRAConfig, seed: int) -> Iterator[None]:
    """Inside the `with`, `network` has a new adapter and nothing else requires a gradient; then it is as before."""
    required = {parameter: parameter.requires_grad for parameter in network.parameters()}
    network.requires_grad_(False)
    try:
        add_adapter(network, name, lora, seed=seed)
        yield
    finally:
        if name in adapter_routing(network).adapters:
            remove_adapter(network, name)
        for parameter, before in required.items():
            parameter.requires_grad_(before)
