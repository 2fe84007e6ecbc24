"""Every key of a published config.json is accounted for, with transformers' config classes as the outside truth."""

from __future__ import annotations

import re
import resource
from dataclasses import MISSING, fields
from typing import Any

import pytest
import torch
import transformers
from test_families import CONFIGS, GROUPED, batch, expected_answer, peer

from germinal.checkpoints.assembly import read_config
from germinal.errors import GerminalError
from germinal.layers.positions import RopeScaling
from germinal.models import families
from germinal.models.families import FAMILIES
from germinal.models.families.published_keys import REQUIRED, TRAINING

CLASSES: dict[str, Any] = {
    "bert": transformers.BertConfig,
    "roberta": transformers.RobertaConfig,
    "distilbert": transformers.DistilBertConfig,
    "bart": transformers.BartConfig,
    "marian": transformers.MarianConfig,
    "t5": transformers.T5Config,
    "gpt2": transformers.GPT2Config,
    "bloom": transformers.BloomConfig,
    "llama": transformers.LlamaConfig,
    "mistral": transformers.MistralConfig,
    "qwen2": transformers.Qwen2Config,
    "qwen3": transformers.Qwen3Config,
    "gemma3": transformers.Gemma3TextConfig,
}
OLDER = {
    "rope_theta",
    "rope_scaling",
    "torch_dtype",
    "is_decoder",
    "add_cross_attention",
    "tie_word_embeddings",
    "pruned_heads",
    "output_attentions",
    "attn_implementation",
    "num_labels",
}
"""Keys that transformers 4 wrote for every class, or for every class with rotary positions."""
DERIVED = {
    "head_dim",  # null is D / H
    "num_key_value_heads",  # null is H
    "num_decoder_layers",
    "decoder_vocab_size",
    "n_inner",
    "layer_types",
}


@pytest.mark.parametrize("family", CLASSES)
def test_every_key_of_the_class_is_accounted_for(family: str) -> None:
    """Read, refused by name unless it is neutral, or in the list of those without effect."""
    config_class = CLASSES[family]
    keys = (
        {spec.name for spec in fields(config_class)} | set(config_class.attribute_map) | set(config_class().to_dict())
    )
    older = OLDER if hasattr(config_class(), "rope_parameters") else OLDER - {"rope_theta", "rope_scaling"}
    declared = FAMILIES[family].keys
    assert declared is not None
    assert keys | older <= declared.known()
    assert declared.aliases.items() <= config_class.attribute_map.items()
    assert not declared.no_effect & (set(declared.read) | set(declared.only))


def test_every_family_with_a_class_declares_its_keys() -> None:
    published = {name for name, family in FAMILIES.items() if hasattr(transformers, family.architecture)}
    assert published == set(CLASSES)


@pytest.mark.parametrize("family", CLASSES)
def test_an_absent_key_has_the_default_of_the_class(family: str) -> None:
    declared = FAMILIES[family].keys
    assert declared is not None
    defaults = {spec.name: spec.default for spec in fields(CLASSES[family]) if spec.default is not MISSING}
    for name, key in declared.keys().items():
        assert key.default is not REQUIRED
        if name in defaults and name not in DERIVED:
            assert key.default == defaults[name], name
    assert declared.tokens.items() <= defaults.items()


def whole(family: str, config: dict[str, Any], ending: str = "") -> dict[str, Any]:
    """What transformers writes of a config."""
    return {**CLASSES[family](**config).to_dict(), "architectures": [ending or FAMILIES[family].architecture]}


def family_of(name: str) -> str:
    return {"GPT2": "gpt2"}.get(name, name.lower())


LEFT_OUT = [
    pytest.param(family_of(name), name + ending, config, id=f"{name}{ending}-{number}")
    for name, models in CONFIGS.items()
    for number, (ending, config) in enumerate(models)
]


@pytest.mark.parametrize(("family", "architecture", "config"), LEFT_OUT)
def test_a_key_left_out_is_read_as_transformers_reads_it(family: str, architecture: str, config: Any) -> None:
    """Each key in turn is deleted: ours of what is left is ours of what transformers makes of it."""
    written = whole(family, config, architecture)
    compared = 0
    for key in written:
        if key in ("model_type", "architectures"):
            continue
        less = {name: value for name, value in written.items() if name != key}
        try:
            completed = whole(
                family, {name: value for name, value in less.items() if name != "model_type"}, architecture
            )
        except Exception:  # a config that transformers refuses, such as heads that do not divide the width
            continue
        try:
            expected = FAMILIES[family].config_from_hf(completed)
        except GerminalError:
            with pytest.raises(GerminalError):
                FAMILIES[family].config_from_hf(less)
            continue
        assert FAMILIES[family].config_from_hf(less) == expected, key
        compared += 1
    assert compared > 10


@pytest.mark.parametrize("family", CLASSES)
def test_another_name_of_a_key_counts_before_it(family: str) -> None:
    declared = FAMILIES[family].keys
    assert declared is not None
    written = CLASSES[family]().to_dict()
    for other, name in declared.aliases.items():
        contradicting = {**written, other: 48}
        assert getattr(CLASSES[family](**{**contradicting, "id2label": None}), name) == 48
        assert declared.values(contradicting) == declared.values({**written, name: 48})


OTHER: dict[type, Any] = {int: 192, float: 0.25}
SAID_BY_OTHERS = {
    "rope_parameters",  # each of their own form
    "rope_scaling",
    "architectures",
    "num_labels",
    "id2label",
    "layer_types",
    "n_embed",  # as good as hidden_size
    "original_max_position_embeddings",  # where positions are stretched
    "max_window_layers",  # where a window is used
    "decoder_vocab_size",
    "slow_but_exact",  # which has an effect, a refused one, where pretraining_tp is more than 1
    "pretraining_tp",
}


@pytest.mark.parametrize("family", CLASSES)
def test_a_key_that_is_read_changes_the_config(family: str) -> None:
    declared = FAMILIES[family].keys
    assert declared is not None
    usual = FAMILIES[family].config_from_hf({})
    for name, key in declared.keys().items():
        if name in SAID_BY_OTHERS or (name == "sliding_window" and "use_sliding_window" in declared.read):
            continue
        other = "gated-silu" if name == "feed_forward_proj" else OTHER.get(key.kind, "relu6")
        if "head" in name and key.kind is int:
            other = 2 if "key_value" in name else 64
        other = not key.default if key.kind is bool else other
        other = (
            False if name == "scale_decoder_outputs" or (name == "tie_word_embeddings" and family == "t5") else other
        )
        assert FAMILIES[family].config_from_hf({name: other}) != usual, name


SMALL = {name: models[0] for name, models in CONFIGS.items()} | {"Llama": ("ForCausalLM", GROUPED)}


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_a_key_without_effect_has_none(name: str) -> None:
    """All of them at once have other values than the usual ones."""
    family, (ending, config) = FAMILIES[family_of(name)], SMALL[name]
    assert family.keys is not None
    usual = CLASSES[family.name]().to_dict()
    changed: dict[str, Any] = {"chunk_size_feed_forward": 1, "pretraining_tp": 2, "use_cache": False, "n_ctx": 3}
    for key in (family.keys.no_effect | TRAINING) & set(usual):
        changed[key] = not usual[key] if isinstance(usual[key], bool) else 0.4
    changed |= {"summary_type": "last", "summary_activation": "tanh"} if name == "GPT2" else {}
    changed |= {"is_decoder": False} if name in ("Bart", "Marian", "T5") else {}  # of the class's inside
    assert len(changed) > 5
    theirs, same = peer(name, ending, config), peer(name, ending, {**config, **changed})
    same.load_state_dict(theirs.state_dict())
    inputs = batch(theirs.config.is_encoder_decoder, "none")
    found, expected = expected_answer(name, ending, same(**inputs)), expected_answer(name, ending, theirs(**inputs))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)  # sums in another order
    written = same.config.to_dict() | {"architectures": [name + ending]}
    assert family.config_from_hf(written) == family.config_from_hf(
        {**theirs.config.to_dict(), "architectures": [name + ending]}
    )


KINDS = ["sliding_attention", "full_attention"]
CONTRADICTING: list[tuple[str, dict[str, Any], str]] = [
    ("qwen2", {"num_hidden_layers": 2, "layer_types": KINDS}, "no sliding_window is given or used"),
    ("qwen3", {"layer_types": KINDS}, "2 entries for 32 layers"),
    ("gemma3", {"sliding_window": None}, "sliding_window: is null"),
    (
        "gemma3",
        {"num_hidden_layers": 2, "layer_types": ["sliding_attention", "chunked_attention"]},
        "'chunked_attention'",
    ),
    ("gemma3", {"rope_parameters": {"rope_theta": 1e4}}, "an entry for each kind of layer"),
    (
        "gemma3",
        {"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}},
        "scaling of layers with",
    ),
    ("gemma3", {"final_logit_softcapping": 30.0}, "final_logit_softcapping=30.0"),
    ("mistral", {"num_hidden_layers": 2, "layer_types": KINDS}, "such as ministral"),
    ("llama", {"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "share one rotary base"),
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
    ("llama", {"is_causal": False}, "is_causal=False"),
    ("llama", {"rope_scaling": {"rope_type": "longrope"}}, "'longrope' is not supported"),
    ("llama", {"hidden_act": "xielu"}, "'xielu' is not supported"),
    ("bert", {"position_embedding_type": "relative_key"}, "5 passes over this key"),
    ("roberta", {"is_decoder": True}, "read as an encoder"),
    ("marian", {"decoder_vocab_size": 7}, "a vocabulary of its own"),
    ("bloom", {"slow_but_exact": True, "pretraining_tp": 4}, "leaves out the biases"),
    ("t5", {"feed_forward_proj": "half-gated-gelu"}, "'half-gated-gelu'"),
    ("gpt2", {"add_cross_attention": True}, "add_cross_attention=True"),
]


@pytest.mark.parametrize(("family", "said", "message"), CONTRADICTING)
def test_what_contradicts_itself_or_is_not_supported(family: str, said: dict[str, Any], message: str) -> None:
    with pytest.raises(GerminalError, match=re.escape(message)):
        FAMILIES[family].config_from_hf(said)


def wrong(family: str, published: dict[str, Any]) -> str:
    """Where the error lies that reading a config gives, if it gives one."""
    try:
        read_config(lambda: FAMILIES[family].config_from_hf(published))
    except GerminalError as error:
        return str(error.where)
    return ""


WRONG = (
    float("nan"),
    float("inf"),
    -1,
    0,
    1.5,
    True,
    "x",
    "12",
    [],
    {},
    [[[]]],
    None,
    10**30,
    2_000_000_000,
    -(10**30),
)


@pytest.mark.parametrize("family", CLASSES)
def test_a_wrong_value_is_an_error_that_names_a_file(family: str) -> None:
    """Whatever a damaged file holds: the config, or an error of ours. Nothing is allocated for it."""
    written = whole(family, {})
    declared = FAMILIES[family].keys
    assert declared is not None
    told = 0
    for key in sorted(declared.known()):
        for value in WRONG:
            told += "config" in wrong(family, {**written, key: value})
    assert told > 100


HUGE = 2**31 - 2


@pytest.mark.parametrize(
    ("family", "sizes"),
    [
        ("llama", {"head_dim": HUGE}),
        ("llama", {"head_dim": HUGE, "rope_scaling": RopeScaling("yarn", 4.0)}),
        ("gemma3", {"head_dim": HUGE, "window": 4}),
        ("transformer", {"hidden_size": HUGE, "head_dim": 4}),
        ("bloom", {"num_heads": HUGE, "num_kv_heads": 1, "head_dim": 1}),
        ("t5", {"num_buckets": HUGE - 1, "max_distance": HUGE}),
        ("bert", {"max_position_embeddings": HUGE, "num_token_types": HUGE, "vocab_size": HUGE}),
    ],
)
def test_a_size_that_no_memory_holds_costs_nothing_before_it_is_checked(family: str, sizes: dict[str, Any]) -> None:
    """The network is built without memory for its weights, and its tables of positions when they are used."""
    small: dict[str, Any] = {
        "vocab_size": 50,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_layers": 1,
        "num_heads": 4,
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    families.build(family, device="meta", **{**small, "max_position_embeddings": 32, **sizes})
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KB
