"""Generation settings: one frozen, validated dataclass for Python, the command line, germinal.toml and HTTP.

Temperature 0 is greedy; above 0 samples. A setting without effect (`top_p` at temperature 0) is an error. Only
`GenerationConfig.lenient` drops such settings, for HTTP clients that always send them. Values that switch a setting off
(`top_p=1.0`, `top_k=0`, `repetition_penalty=1.0`, ...) are stored as None, so that configs with equal behaviour are
equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from germinal.errors import CheckpointError, SettingError, UnsupportedError, nearest
from germinal.generation import published
from germinal.generation.settings import (
    Rule,
    Values,
    When,
    biases,
    integer,
    integers,
    is_number,
    number,
    numbers,
    setting,
    texts,
    token_ids,
    true_false_or_never,
    true_or_false,
)

MIN_TEMPERATURE = 1e-3
"""The lowest temperature that samples. Dividing float32 logits by less loses precision; 0 means greedy."""

_TOKEN_ID = Values(int, "a token id", integer, lambda v: v >= 0)


@dataclass(frozen=True, slots=True)
class Setting:
    """What an option parser needs to know about one field of `GenerationConfig`.

    Attributes:
        name: The field's name.
        type: int, float or str; if `many`, the type of one item.
        many: Whether the option may be repeated. `logit_bias` is given as "ID=BIAS" texts, see `parse_logit_bias`.
        default: The field's default.
        help: One line for a user.
        allowed: The values it takes, in words.
    """

    name: str
    type: type
    many: bool
    default: Any
    help: str
    allowed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationConfig:
    """How tokens are chosen and when generation ends.

    Raises:
        SettingError: a value is out of range, contradicts another, or could have no effect.
        UnsupportedError: beam search combined with sampling or log-probabilities.
    """

    max_new_tokens: int = setting(256, integers(1), "always", "Most tokens to generate.")
    temperature: float = setting(
        0.0,
        numbers("0 (greedy) or a number from 0.001 up", lambda v: v == 0 or v >= MIN_TEMPERATURE),
        "always",
        "0 takes the likeliest token; above 0 samples, and higher values give less likely tokens more often.",
    )
    top_k: int | None = setting(None, integers(1, off=0), "sampling", "Sample from the k likeliest tokens.")
    top_p: float | None = setting(
        None,
        numbers("a number above 0 and at most 1 (1 is off)", lambda v: 0 < v <= 1, off=1.0),
        "sampling",
        "Sample from the fewest likeliest tokens whose probabilities add up to p.",
    )
    min_p: float | None = setting(
        None,
        numbers("a number from 0 to 1 (0 is off)", lambda v: 0 <= v <= 1, off=0.0),
        "sampling",
        "Drop tokens less likely than this fraction of the likeliest one.",
    )
    repetition_penalty: float | None = setting(
        None,
        numbers("a number above 0 (1 is off)", lambda v: v > 0, off=1.0),
        "always",
        "Make tokens that occur in the prompt or in the answer so far less likely (below 1: likelier).",
    )
    presence_penalty: float | None = setting(
        None,
        numbers("a number from -2 to 2 (0 is off)", lambda v: -2 <= v <= 2, off=0.0),
        "always",
        "Subtract this from the logits of tokens that occur in the answer so far.",
    )
    frequency_penalty: float | None = setting(
        None,
        numbers("a number from -2 to 2 (0 is off)", lambda v: -2 <= v <= 2, off=0.0),
        "always",
        "Subtract this from a token's logit for each of its occurrences in the answer so far.",
    )
    no_repeat_ngram_size: int | None = setting(
        None, integers(1, off=0), "always", "Never repeat a run of this many tokens."
    )
    min_new_tokens: int | None = setting(None, integers(1, off=0), "always", "Fewest tokens to generate.")
    forced_bos_id: int | None = setting(None, _TOKEN_ID, "always", "Token id that the answer starts with.")
    forced_eos_id: int | None = setting(None, _TOKEN_ID, "always", "Token id that ends an answer of max_new_tokens.")
    logit_bias: tuple[tuple[int, float], ...] | None = setting(
        None,
        Values(
            str,
            "token ids, each with a number from -100 to 100",
            biases,
            lambda pairs: all(token >= 0 and -100 <= bias <= 100 for token, bias in pairs),
            off=(),
            many=True,
        ),
        "always",
        "Add a number to a token's logit; -100 bans it.",
    )
    stop: tuple[str, ...] = setting(
        (), Values(str, "texts, none of them empty", texts, all, many=True), "always", "End before this text appears."
    )
    eos_ids: tuple[int, ...] | None = setting(
        None,
        Values(int, "token ids", token_ids, lambda ids: all(token >= 0 for token in ids), many=True),
        "always",
        "Token ids that end the answer, in place of the model's own.",
    )
    seed: int | None = setting(
        None,
        Values(int, "an integer of 64 bits", integer, lambda v: -(2**63) <= v < 2**63),
        "sampling",
        "The same seed gives the same tokens for the same prompt, whatever else is asked.",
    )
    n: int = setting(1, integers(1), "sampling", "How many answers to sample.")
    num_beams: int = setting(1, integers(1), "always", "Number of beams in beam search; 1 does not search.")
    length_penalty: float = setting(
        1.0,
        Values(float, "a number", number),
        "beam search",
        "Beam search divides an answer's log-probability by its length to this power: higher values favour longer "
        "answers.",
    )
    early_stopping: bool | str = setting(
        False,
        Values(str, "true, false or never", true_false_or_never),
        "beam search",
        "When beam search ends: true, once it has num_beams answers; false, once a better one is unlikely; never, once "
        "a better one is impossible.",
    )
    renormalize_logits: bool = setting(
        False,
        Values(str, "true or false", true_or_false),
        "beam search",
        "Whether beam search renormalizes probabilities after bias, penalties and forced tokens: true or false.",
    )
    logprobs: int | None = setting(
        None,
        integers(0),
        "always",
        "Report the log-probability of each token, and those of this many likeliest tokens at its position.",
    )

    def __post_init__(self) -> None:
        for spec in fields(self):
            value = spec.metadata["rule"].apply(spec.name, getattr(self, spec.name))
            object.__setattr__(self, spec.name, value)
        _refuse_without_effect(self)
        _refuse_unsupported_search(self)

    @classmethod
    def lenient(cls, **settings: Any) -> Self:
        """A config from settings of which those without effect are dropped; names and ranges are still checked.

        For HTTP clients, which often send `top_p` or `seed` with temperature 0, or a stop string twice. At temperature
        0, `n` becomes 1 and the caller returns the answer n times. A temperature below 0.001 becomes 0.
        """
        temperature = settings.get("temperature", 0.0)
        if is_number(temperature) and 0 <= temperature < MIN_TEMPERATURE:
            settings["temperature"] = 0.0
        for name in _without_effect(settings):
            if name in settings:
                _rule(name).apply(name, settings.pop(name))
        if "stop" in settings:
            settings["stop"] = _useful_stops(_rule("stop").apply("stop", settings["stop"]))
        return cls.from_settings(settings)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """A config from names and values.

        Raises:
            SettingError: a name is unknown (the error suggests the nearest known one) or a value is invalid.
        """
        for name in settings:
            _rule(name)
        return cls(**settings)

    @classmethod
    def from_hf(cls, generation_config: Mapping[str, Any], *, encoder_decoder: bool = False) -> Self:
        """Translate a checkpoint's generation_config.json, as `transformers` interprets it.

        `do_sample` false or absent is temperature 0, whatever sampling settings accompany it; true without `top_k`
        means transformers' default of 50. `max_length` counts the prompt too, so that it is not one of these settings:
        `Writer` sees to it. For an encoder-decoder it counts the answer and the decoder's start token, and is kept. An
        id of `eos_token_id` below 0 ends nothing.

        Args:
            generation_config: The file's content.
            encoder_decoder: Whether the model is an encoder-decoder; only then are forced tokens used.

        Raises:
            CheckpointError: a value is out of range.
            UnsupportedError: the file has a setting that germinal does not support.
        """
        settings = published.settings_from_hf(generation_config, encoder_decoder=encoder_decoder)
        if "eos_ids" in settings:
            ids = settings["eos_ids"]
            settings["eos_ids"] = _of_tokens(ids if isinstance(ids, list) else [ids])
        try:
            return cls.lenient(**settings)
        except SettingError as error:
            raise CheckpointError(error.what, where=f"{published.FILE}, {error.where}", hint=error.hint) from error

    def override(self, **settings: Any) -> Self:
        """A config from a user's settings, checked strictly, with this config's values as defaults.

        Defaults that have no effect with the user's settings (a checkpoint's `top_p` with `temperature=0`) are dropped,
        and so is a checkpoint's beam search if the user samples or asks for log-probabilities.
        """
        for name in settings:
            _rule(name)
        defaults = self.to_dict()
        if settings.get("temperature") or settings.get("logprobs") is not None:
            defaults["num_beams"] = 1
        defaults |= {name: _rule(name).default for name in _without_effect({**defaults, **settings})}
        return type(self)(**{**defaults, **settings})

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken (after bias and penalties)."""
        return self.temperature == 0

    def to_dict(self) -> dict[str, Any]:
        """All settings by name; `GenerationConfig(**config.to_dict())` equals the config."""
        return {spec.name: getattr(self, spec.name) for spec in fields(self)}

    def check_vocabulary(self, vocab_size: int) -> None:
        """Check token ids and numbers of tokens against the model's vocabulary.

        Raises:
            SettingError: a setting exceeds the vocabulary.
        """
        for name, ids in (
            ("logit_bias", [token for token, _ in self.logit_bias or ()]),
            ("eos_ids", self.eos_ids or ()),
            *((name, _given(getattr(self, name))) for name in ("forced_bos_id", "forced_eos_id")),
        ):
            for token in ids:
                if token >= vocab_size:
                    raise SettingError(f"token {token} is not in the model's vocabulary of {vocab_size}.", where=name)
        if self.logprobs is not None and self.logprobs > vocab_size:
            raise SettingError(
                f"{self.logprobs} is more than the model's vocabulary of {vocab_size}.", where="logprobs"
            )

    @classmethod
    def settings(cls) -> tuple[Setting, ...]:
        """Every setting with its type, default and help, in order, for the options of the command line."""
        return tuple(
            Setting(name, rule.values.type, rule.values.many, rule.default, rule.help, rule.values.allowed)
            for name, rule in generation_rules().items()
        )


def parse_logit_bias(items: Iterable[str]) -> dict[int, float]:
    """Parse the command line's `["15=-100", "3=2.5"]` into `{15: -100.0, 3: 2.5}`.

    Raises:
        SettingError: an item is not ID=BIAS.
    """
    parsed = {}
    for item in items:
        token, _, bias = item.partition("=")
        try:
            parsed[int(token)] = float(bias)
        except ValueError:
            raise SettingError(f"'{item}' is not ID=BIAS.", where="logit_bias", hint="For example 198=-100.") from None
    return parsed


def generation_rules() -> dict[str, Rule]:
    """The rule of each setting by name, in order."""
    return {spec.name: spec.metadata["rule"] for spec in fields(GenerationConfig)}


def _rule(name: str) -> Rule:
    rules = generation_rules()
    if name not in rules:
        raise SettingError(f"there is no generation setting '{name}'.", where=name, hint=nearest(name, list(rules)))
    return rules[name]


def _names_that_apply(when: When) -> tuple[str, ...]:
    return tuple(name for name, rule in generation_rules().items() if rule.applies == when)


def _without_effect(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the settings that have no effect in combination with the others."""
    greedy, searches = settings.get("temperature", 0) == 0, settings.get("num_beams", 1) != 1
    sampling = _names_that_apply("sampling") if greedy else ()
    return (*sampling, *(() if searches else _names_that_apply("beam search")))


_NEEDED = {
    "sampling": (
        "at temperature 0, which always takes the likeliest token",
        "Set temperature above 0 to sample, or leave {name} out.",
    ),
    "beam search": ("without beam search", "Set num_beams above 1 to search, or leave {name} out."),
}


def _refuse_without_effect(config: GenerationConfig) -> None:
    for name in _without_effect(config.to_dict()):
        value, rule = getattr(config, name), _rule(name)
        if value != rule.default:
            why, hint = _NEEDED[rule.applies]
            raise SettingError(f"{name}={value} has no effect {why}.", where=name, hint=hint.format(name=name))
    for text in config.stop:
        if config.stop.count(text) > 1:
            raise SettingError(f"{text!r} is given twice.", where="stop")
        for other in config.stop:
            if other != text and other in text:
                raise SettingError(
                    f"{text!r} has no effect: it contains {other!r}, which ends the answer first.", where="stop"
                )


def _refuse_unsupported_search(config: GenerationConfig) -> None:
    if config.num_beams == 1:
        return
    for name, off in (("temperature", 0), ("logprobs", None)):
        value = getattr(config, name)
        if value != off:
            raise UnsupportedError(
                f"{name}={value} and beam search (num_beams={config.num_beams}) together are not supported.",
                where="num_beams",
                hint=f"Leave num_beams at 1, or leave {name} out.",
            )


def _given(value: int | None) -> tuple[int, ...]:
    return () if value is None else (value,)


def _of_tokens(ids: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(id for id in ids if not (is_number(id) and id < 0))


def _useful_stops(stop: tuple[str, ...]) -> tuple[str, ...]:
    unique = tuple(dict.fromkeys(stop))
    return tuple(text for text in unique if not any(other != text and other in text for other in unique))
