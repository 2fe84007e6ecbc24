"""GenerationConfig: ranges, settings without effect, leniency over HTTP, generation_config.json translated."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import GenerationConfig as PeerConfig

from germinal.checkpoints.generation_file import SETTINGS
from germinal.errors import CheckpointError, SettingError, UnsupportedError
from germinal.generation import config as module
from germinal.generation import published
from germinal.generation.config import GenerationConfig, parse_logit_bias


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 0),
        ("max_new_tokens", 2.5),
        ("max_new_tokens", True),
        ("max_new_tokens", None),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", "hot"),
        ("temperature", 10**400),
        ("top_k", -1),
        ("top_k", 1.5),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("min_p", -0.1),
        ("min_p", 1.5),
        ("repetition_penalty", 0),
        ("presence_penalty", 2.1),
        ("frequency_penalty", -2.1),
        ("logit_bias", {1: 101}),
        ("logit_bias", {-1: 1}),
        ("logit_bias", {"1": 1}),
        ("logit_bias", 3),
        ("stop", ("",)),
        ("stop", (1,)),
        ("stop", None),
        ("eos_ids", (-1,)),
        ("eos_ids", ("2",)),
        ("seed", 2**63),
        ("seed", 0.5),
        ("n", 0),
        ("num_beams", 0),
        ("length_penalty", float("nan")),
        ("early_stopping", "always"),
        ("early_stopping", 1),
        ("renormalize_logits", "never"),
        ("no_repeat_ngram_size", -1),
        ("min_new_tokens", 0.5),
        ("forced_bos_id", -1),
        ("forced_eos_id", "2"),
        ("logprobs", -1),
        ("logprobs", True),
    ],
)
def test_a_value_out_of_range_is_refused_by_name_in_both_constructors(name: str, value: Any) -> None:
    for construct in (GenerationConfig, GenerationConfig.lenient):
        with pytest.raises(SettingError) as caught:
            construct(**{"temperature": 0.5, name: value})
        assert caught.value.where == name
        assert repr(value) in caught.value.what


@pytest.mark.parametrize(("name", "value"), [("top_k", 5), ("top_p", 0.9), ("min_p", 0.1), ("seed", 1), ("n", 2)])
def test_sampling_settings_at_temperature_zero_are_refused(name: str, value: Any) -> None:
    with pytest.raises(SettingError, match="temperature 0") as caught:
        GenerationConfig(**{name: value})
    assert caught.value.where == name
    assert getattr(GenerationConfig(temperature=1, **{name: value}), name) == value


@pytest.mark.parametrize("stop", [("a", "a"), ("\n", "\n\n"), ("ab", "xaby")])
def test_a_stop_text_that_could_never_act_is_refused(stop: tuple[str, ...]) -> None:
    with pytest.raises(SettingError):
        GenerationConfig(stop=stop)
    assert GenerationConfig.lenient(stop=stop).stop == stop[:1]


@pytest.mark.parametrize(("name", "value"), [("temperature", 0.7), ("logprobs", 0)])
def test_beam_search_that_samples_or_reports_is_refused_by_name(name: str, value: Any) -> None:
    for construct in (GenerationConfig, GenerationConfig.lenient):
        with pytest.raises(UnsupportedError, match=f"{name}={value} and beam search .num_beams=4."):
            construct(num_beams=4, **{name: value})


def test_settings_of_beam_search_need_one() -> None:
    for name, value in (("length_penalty", 2.0), ("early_stopping", True)):
        with pytest.raises(SettingError, match=f"{name}={value} has no effect without beam search"):
            GenerationConfig(**{name: value})
        assert GenerationConfig.lenient(**{name: value}) == GenerationConfig()
        assert getattr(GenerationConfig(num_beams=2, **{name: value}), name) == value
    assert GenerationConfig(num_beams=2, early_stopping="True").early_stopping is True
    assert GenerationConfig(num_beams=2, early_stopping="never").early_stopping == "never"


def test_a_checkpoints_beams_yield_to_a_user_who_samples() -> None:
    defaults = GenerationConfig(num_beams=4, length_penalty=2.0, early_stopping=True)
    assert defaults.override(temperature=0.5) == GenerationConfig(temperature=0.5)
    assert defaults.override(logprobs=0) == GenerationConfig(logprobs=0)
    assert defaults.override(num_beams=1) == GenerationConfig()
    assert defaults.override(num_beams=2).length_penalty == 2.0
    with pytest.raises(UnsupportedError, match=r"temperature=0\.5"):
        defaults.override(temperature=0.5, num_beams=2)


def test_values_that_switch_a_setting_off_are_the_same_as_none() -> None:
    off = GenerationConfig(
        top_k=0, top_p=1.0, min_p=0, repetition_penalty=1, presence_penalty=0.0, frequency_penalty=0, logit_bias={}
    )
    assert off == GenerationConfig()
    assert hash(off) == hash(GenerationConfig())


def test_equal_settings_are_stored_equal() -> None:
    one = GenerationConfig(temperature=1, logit_bias={7: 1, 3: -2}, stop="x", eos_ids=[5, 2, 5])
    two = GenerationConfig(temperature=1.0, logit_bias=((3, -2.0), (7, 1.0)), stop=["x"], eos_ids=(2, 5))
    assert one == two
    assert isinstance(one.temperature, float)
    assert GenerationConfig(eos_ids=2).eos_ids == (2,)
    assert GenerationConfig(eos_ids=()).eos_ids == ()
    assert GenerationConfig(**one.to_dict()) == one


def test_lenient_drops_what_has_no_effect_and_still_checks_names() -> None:
    lenient = GenerationConfig.lenient(temperature=1e-7, top_p=0.9, top_k=3, seed=1, n=3, presence_penalty=1.0)
    assert lenient == GenerationConfig(presence_penalty=1.0)
    assert GenerationConfig.lenient(temperature=0.5, top_p=0.9, seed=1, n=3).n == 3
    with pytest.raises(SettingError, match="Did you mean 'temperature'"):
        GenerationConfig.lenient(temprature=1.0)


def test_override_lets_defaults_yield_but_holds_the_user_to_account() -> None:
    defaults = GenerationConfig(temperature=0.6, top_p=0.9, repetition_penalty=1.1)
    assert defaults.override(temperature=0) == GenerationConfig(repetition_penalty=1.1)
    assert defaults.override(seed=3).top_p == 0.9
    with pytest.raises(SettingError, match="top_k=5 has no effect"):
        defaults.override(temperature=0, top_k=5)
    with pytest.raises(SettingError, match="Did you mean 'top_p'"):
        defaults.override(topp=0.5)


def test_from_hf_translates_what_transformers_would_do() -> None:
    llama = {"bos_token_id": 1, "do_sample": True, "eos_token_id": [3, 2], "temperature": 0.6, "top_p": 0.9}
    expected = GenerationConfig(temperature=0.6, top_p=0.9, top_k=50, eos_ids=(2, 3))
    assert GenerationConfig.from_hf({**llama, "max_length": 4096, "transformers_version": "4.31.0"}) == expected
    assert GenerationConfig.from_hf({"do_sample": False, "temperature": 0.6, "top_p": 0.9, "eos_token_id": 2}) == (
        GenerationConfig(eos_ids=(2,))
    )
    assert GenerationConfig.from_hf({"do_sample": True}) == GenerationConfig(temperature=1.0, top_k=50)
    assert GenerationConfig.from_hf({"do_sample": True, "top_k": 0}).top_k is None
    assert GenerationConfig.from_hf({"repetition_penalty": 1.1, "max_new_tokens": 5, "stop_strings": ["x"]}) == (
        GenerationConfig(repetition_penalty=1.1, max_new_tokens=5, stop=("x",))
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_length", 3),
        ("suppress_tokens", [1]),
        ("guidance_scale", 2.0),
        ("forced_bos_token_id", 4),
        ("num_beam_groups", 2),
        ("diversity_penalty", 1.5),
        ("num_return_sequences", 3),
    ],
)
def test_from_hf_ignores_nothing(name: str, value: Any) -> None:
    with pytest.raises(UnsupportedError, match=name):
        GenerationConfig.from_hf({"num_beams": 4, name: value})


def test_every_key_of_transformers_is_accounted_for() -> None:
    keys = set(vars(PeerConfig())) | set(PeerConfig._get_default_generation_params())
    assert keys - published.READ - set(published.REFUSED) - published.WITHOUT_EFFECT == set()
    assert not published.WITHOUT_EFFECT & (published.READ | set(published.REFUSED))


@pytest.mark.parametrize("values", [{"max_new_tokens": "10"}, {"eos_token_id": "</s>"}, {"repetition_penalty": 0}])
def test_a_value_out_of_range_is_named_with_its_file(values: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError) as caught:
        GenerationConfig.from_hf(values)
    assert str(caught.value.where).startswith("generation_config.json (else config.json), ")


def test_config_json_gives_the_same_settings_where_it_is_the_only_file() -> None:
    assert published.READ | set(published.REFUSED) == SETTINGS


def test_an_end_below_zero_ends_nothing() -> None:
    assert GenerationConfig.from_hf({"eos_token_id": -1}).eos_ids == ()
    assert GenerationConfig.from_hf({"eos_token_id": [3, -1]}).eos_ids == (3,)


def test_from_hf_translates_what_published_encoder_decoders_ask_for() -> None:
    bart = {"decoder_start_token_id": 2, "early_stopping": True, "eos_token_id": 2, "forced_bos_token_id": 0}
    bart |= {"forced_eos_token_id": [2], "length_penalty": 2.0, "max_length": 142, "min_length": 56}
    bart |= {"no_repeat_ngram_size": 3, "num_beams": 4, "pad_token_id": 1}
    assert GenerationConfig.from_hf(bart, encoder_decoder=True) == GenerationConfig(
        num_beams=4,
        early_stopping=True,
        length_penalty=2.0,
        max_new_tokens=141,
        min_new_tokens=55,
        no_repeat_ngram_size=3,
        forced_bos_id=0,
        forced_eos_id=2,
        eos_ids=2,
    )
    marian = {"bad_words_ids": [[58]], "num_beams": 6, "renormalize_logits": True, "max_length": 512}
    assert GenerationConfig.from_hf(marian, encoder_decoder=True) == GenerationConfig(
        num_beams=6, logit_bias={58: -100}, max_new_tokens=511, renormalize_logits=True
    )
    with pytest.raises(UnsupportedError, match="bad_words_ids"):
        GenerationConfig.from_hf({"bad_words_ids": [[5, 8]]})


def test_from_hf_accepts_every_neutral_default_that_transformers_writes() -> None:
    defaults = PeerConfig._get_default_generation_params()
    assert GenerationConfig.from_hf(defaults) == GenerationConfig()
    assert GenerationConfig.from_hf(PeerConfig().to_dict()) == GenerationConfig()


def test_ids_outside_the_vocabulary_are_refused() -> None:
    GenerationConfig(logit_bias={9: 1}, eos_ids=(9,), logprobs=10).check_vocabulary(10)
    for settings in ({"logit_bias": {10: 1}}, {"eos_ids": (10,)}, {"logprobs": 11}, {"forced_bos_id": 10}):
        with pytest.raises(SettingError, match="vocabulary of 10"):
            GenerationConfig(**settings).check_vocabulary(10)


def test_settings_describe_every_field_for_an_option_parser() -> None:
    settings = {setting.name: setting for setting in GenerationConfig.settings()}
    assert list(settings) == list(GenerationConfig().to_dict())
    assert settings["top_p"].type is float
    assert settings["stop"].many
    assert settings["max_new_tokens"].default == GenerationConfig().max_new_tokens
    assert all(setting.help.endswith(".") and setting.allowed for setting in settings.values())


def test_the_number_of_settings_grows_only_on_purpose() -> None:
    assert len(module.GenerationConfig.settings()) == 22


def test_logit_bias_from_a_command_line() -> None:
    assert parse_logit_bias(["15=-100", "3=2.5"]) == {15: -100.0, 3: 2.5}
    with pytest.raises(SettingError, match="'15' is not ID=BIAS"):
        parse_logit_bias(["15"])


def test_a_temperature_too_low_to_sample_is_refused_or_taken_for_greedy() -> None:
    with pytest.raises(SettingError, match=r"from 0\.001 up"):
        GenerationConfig(temperature=1e-5)
    assert GenerationConfig.lenient(temperature=1e-5).greedy
