"""Every family that transformers has: one pass over a batch, and greedy decoding, at batch 1 and 8 in float32.

The models are transformers' own with random weights, which ours takes over by the family's tables, so that both sides
do the same arithmetic. Their shapes are published ones where these are small; of others the width is published, and
layers, vocabulary and window are cut, which the row says.

A pass reads 128 tokens and gives all logits, of an encoder the hidden states; an encoder-decoder reads 128 and writes
32. The rate of decoding is that of 32 tokens after the first, the prompt's or source's work taken off.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.harness import THREADS, Row, Setting, timed

_SOURCE = 128
_TARGET = 32
_NEW = 32
_ROUNDS = 3
_BATCHES = (1, 8)
_CUT = {"vocab_size": 32_000, "num_hidden_layers": 6}
Ids = list[list[int]]
Generate = Callable[[Ids, int], Ids]


@dataclass(frozen=True)
class Shape:
    """A model of transformers.

    Attributes:
        name: What the rows call it.
        classes: Its config's and its model's class in transformers.
        config: What differs from that config's defaults.
    """

    name: str
    classes: tuple[str, str]
    config: dict[str, Any]


SHAPES = (
    Shape("bert-base", ("BertConfig", "BertModel"), {}),
    Shape("distilroberta-base", ("RobertaConfig", "RobertaModel"), {"vocab_size": 50_265, "num_hidden_layers": 6}),
    Shape("distilbert-base", ("DistilBertConfig", "DistilBertModel"), {}),
    Shape(
        "t5-small",
        ("T5Config", "T5ForConditionalGeneration"),
        {
            "vocab_size": 32_128,
            "d_model": 512,
            "d_ff": 2048,
            "num_layers": 6,
            "num_heads": 8,
            "decoder_start_token_id": 0,
        },
    ),
    Shape(
        "flan-t5-small",
        ("T5Config", "T5ForConditionalGeneration"),
        {
            "vocab_size": 32_128,
            "d_model": 512,
            "d_ff": 1024,
            "num_layers": 8,
            "num_heads": 6,
            "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": False,
            "decoder_start_token_id": 0,
        },
    ),
    Shape(
        "bart-base",
        ("BartConfig", "BartForConditionalGeneration"),
        {
            "d_model": 768,
            "encoder_layers": 6,
            "decoder_layers": 6,
            "encoder_attention_heads": 12,
            "decoder_attention_heads": 12,
            "encoder_ffn_dim": 3072,
            "decoder_ffn_dim": 3072,
        },
    ),
    Shape(
        "opus-mt (marian)",
        ("MarianConfig", "MarianMTModel"),
        {
            "vocab_size": 58_101,
            "d_model": 512,
            "encoder_layers": 6,
            "decoder_layers": 6,
            "encoder_attention_heads": 8,
            "decoder_attention_heads": 8,
            "encoder_ffn_dim": 2048,
            "decoder_ffn_dim": 2048,
            "max_position_embeddings": 512,
            "scale_embedding": True,
            "activation_function": "swish",
            "pad_token_id": 58_100,
            "decoder_start_token_id": 58_100,
        },
    ),
    Shape("gpt2", ("GPT2Config", "GPT2LMHeadModel"), {}),
    Shape(
        "bloom-560m, 6 layers",
        ("BloomConfig", "BloomForCausalLM"),
        {"vocab_size": 32_000, "hidden_size": 1024, "n_head": 16, "n_layer": 6},
    ),
    Shape(
        "smollm2-135m (llama)",
        ("LlamaConfig", "LlamaForCausalLM"),
        {
            "vocab_size": 49_152,
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "tie_word_embeddings": True,
        },
    ),
    Shape(
        "mistral, a quarter of 7b's width, 6 layers, window 64",
        ("MistralConfig", "MistralForCausalLM"),
        {
            **_CUT,
            "hidden_size": 1024,
            "intermediate_size": 3584,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "head_dim": 128,
            "sliding_window": 64,
        },
    ),
    Shape(
        "qwen2-0.5b, 6 layers",
        ("Qwen2Config", "Qwen2ForCausalLM"),
        {
            **_CUT,
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
        },
    ),
    Shape(
        "qwen3-0.6b, 6 layers",
        ("Qwen3Config", "Qwen3ForCausalLM"),
        {
            **_CUT,
            "hidden_size": 1024,
            "intermediate_size": 3072,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "tie_word_embeddings": True,
        },
    ),
    Shape(
        "gemma3-270m, 6 layers, window 64",
        ("Gemma3TextConfig", "Gemma3ForCausalLM"),
        {
            **_CUT,
            "hidden_size": 640,
            "intermediate_size": 2048,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 256,
            "sliding_window": 64,
            "query_pre_attn_scalar": 256,
        },
    ),
)


def measure(setting: Setting) -> list[Row]:
    """Rows for a pass of every shape, and for greedy decoding of those that write."""
    import torch
    import transformers

    torch.set_num_threads(THREADS)
    transformers.utils.logging.disable_progress_bar()
    return [row for shape in SHAPES if setting.only in shape.name for row in _measure(setting, shape)]


def _measure(setting: Setting, shape: Shape) -> Iterator[Row]:
    setting.log(shape.name)
    theirs = _theirs(shape)
    ours = _ours(theirs)
    two_stacks = ours.config.stacks == "encoder-decoder"
    for batch in _BATCHES:
        yield _pass(setting, shape, ours, theirs, batch)
    if ours.config.stacks == "encoder":
        return
    for batch in _BATCHES:
        yield _decoding(setting, shape, _our_generate(ours, theirs), _their_generate(theirs, two_stacks), batch)


def _theirs(shape: Shape) -> Any:
    """A random model; its weights are large enough that one token is likelier than all others by more than rounding."""
    import torch
    import transformers

    torch.manual_seed(0)
    config, model = (getattr(transformers, name) for name in shape.classes)
    theirs = model(config(**shape.config)).eval()
    for name, parameter in theirs.named_parameters():
        if parameter.dim() > 1 and "embed_positions" not in name:
            torch.nn.init.normal_(parameter, std=0.5 * parameter.shape[-1] ** -0.5)
    theirs.tie_weights()
    return theirs


def _ours(theirs: Any) -> Any:
    """Our network with the same weights, read from the folder that transformers saves."""
    import json

    import torch

    from germinal.checkpoints.assembly import assemble, has_own_head
    from germinal.checkpoints.safetensors_file import read_weights
    from germinal.models import families
    from germinal.models.transformer import Transformer

    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        published = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
        family = families.for_hf(published)
        config = family.config_from_hf(published)
        stored = read_weights(Path(folder))
        if family.ties_by_weights:
            config = replace(config, tie_embeddings=not has_own_head(stored, family.hf_rules(config)))
        state = assemble(stored, family.hf_rules(config), config, torch.float32, where=folder)
        network = Transformer(config, device="meta")
        network.load_state_dict(state, assign=True)
    return network.requires_grad_(False).eval()


def _ids(batch: int, length: int, number: int) -> Any:
    """Random tokens [B, T], none of the special ones that stand at a vocabulary's ends, others in each round."""
    import torch

    generator = torch.Generator().manual_seed(number)
    return torch.randint(1000, 30_000, (batch, length), generator=generator)


def _pass(setting: Setting, shape: Shape, ours: Any, theirs: Any, batch: int) -> Row:
    """All outputs of a batch, without a cache."""
    import torch

    config = ours.config
    writes = config.stacks != "encoder"

    def inputs(number: int) -> dict[str, Any]:
        ids = _ids(batch, _SOURCE, number)
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if config.stacks == "encoder-decoder":
            given["decoder_input_ids"] = _ids(batch, _TARGET, 1000 + number)
        return given

    @torch.inference_mode()
    def run_ours(number: int) -> Any:
        hidden_states = ours(**inputs(number))
        return ours.logits(hidden_states) if writes else hidden_states

    @torch.inference_mode()
    def run_theirs(number: int) -> Any:
        if writes:
            return theirs(**inputs(number), use_cache=False).logits
        return theirs(**inputs(number)).last_hidden_state

    difference = float((run_ours(0) - run_theirs(0)).abs().max())  # warms up both
    seconds = setting.in_turn(
        lambda number: timed(lambda: run_ours(number)),
        lambda number: timed(lambda: run_theirs(number)),
        rounds=min(_ROUNDS, setting.rounds),
    )
    rates = [[batch * _SOURCE / each for each in of_side] for of_side in seconds]
    note = f"outputs differ by {difference:.0e} at most"
    return Row(f"{shape.name}: pass, batch {batch}", "tok/s", *rates, "transformers", goal=1.0, note=note)


def _decoding(setting: Setting, shape: Shape, ours: Generate, peer: Generate, batch: int) -> Row:
    new = 9 if setting.quick else _NEW + 1

    def rate(generate: Generate, number: int) -> float:
        # Other prompts each time: ours would not read again what it has in its cache.
        prompts, others = (_ids(batch, _SOURCE, 1 + 2 * number + second).tolist() for second in (0, 1))
        one = timed(lambda: generate(prompts, 1))
        return batch * (new - 1) / (timed(lambda: generate(others, new)) - one)

    first = _ids(batch, _SOURCE, 0).tolist()
    note = "same tokens" if ours(first, 9) == peer(first, 9) else "DIFFERENT TOKENS"  # warms up both
    rates = setting.in_turn(
        lambda number: rate(ours, number), lambda number: rate(peer, number), rounds=min(_ROUNDS, setting.rounds)
    )
    two_stacks = "ConditionalGeneration" in shape.classes[1] or "MTModel" in shape.classes[1]
    goal = 1.5 if two_stacks else 1.0
    return Row(f"{shape.name}: decoding, batch {batch}", "tok/s", *rates, "transformers", goal=goal, note=note)


def _our_generate(network: Any, theirs: Any) -> Generate:
    from germinal.generation.backends.torch_backend import TorchBackend
    from germinal.generation.config import GenerationConfig
    from germinal.generation.engine import Engine
    from germinal.generation.sequence import Sequence

    engine = Engine(TorchBackend(network))
    start = theirs.config.decoder_start_token_id if network.encoder is not None else None

    def generate(prompts: Ids, new: int) -> Ids:
        config = GenerationConfig(max_new_tokens=new, eos_ids=())
        if start is None:
            sequences = [Sequence(ids, config) for ids in prompts]
        else:
            sequences = [Sequence([start], config, encoder_input_ids=ids) for ids in prompts]
        for sequence in sequences:
            engine.add(sequence)
        while engine.has_work:
            engine.step()
        return [sequence.token_ids for sequence in sequences]

    return generate


def _their_generate(model: Any, two_stacks: bool) -> Generate:
    import torch

    config = model.generation_config
    config.eos_token_id = config.forced_eos_token_id = config.bad_words_ids = None
    config.pad_token_id = 0

    def generate(prompts: Ids, new: int) -> Ids:
        ids = torch.tensor(prompts)  # [B, T]
        with torch.inference_mode():
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False, num_beams=1
            )
        return out[:, 1 if two_stacks else _SOURCE :].tolist()

    return generate
