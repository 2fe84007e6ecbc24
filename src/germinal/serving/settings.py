"""The generation settings of a request: what a model makes of them, and what a project's winner refuses.

Which settings there are, their ranges and when they have an effect are read off `GenerationConfig`, so that a setting
that is added there and to `ChatRequest` needs nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from germinal.generation.config import GenerationConfig
from germinal.serving.errors import APIError
from germinal.serving.requests import ChatRequest

_DEFAULTS = GenerationConfig()

_SUPPORTED = ("max_new_tokens",)
"""What a client of a project may choose: a text may be shorter than the project allows."""

_HABITS = ("top_p", "seed")
"""What OpenAI's clients send by habit. A project that draws nothing at random accepts it: it changes nothing."""

_SEARCHES: tuple[Mapping[str, Any], ...] = ({"temperature": 1.0}, {"num_beams": 2})
"""Sampling and beam search: every setting has an effect under at least one of them."""


def settings_of(request: ChatRequest) -> dict[str, Any]:
    """The settings that a request gives, by their names in `GenerationConfig`; their ranges are not checked.

    A field that has the name of a setting is that setting. Three settings have another name or form over HTTP.

    Raises:
        APIError: `logit_bias` names something that is not a token id.
    """
    longest = request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens
    given = {spec.name: getattr(request, spec.name, None) for spec in fields(GenerationConfig)} | {
        "max_new_tokens": longest,
        "logit_bias": None if request.logit_bias is None else _bias_by_id(request.logit_bias),
        "logprobs": (request.top_logprobs or 0) if request.logprobs else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def generation_config(request: ChatRequest, defaults: GenerationConfig, room: int) -> GenerationConfig:
    """The settings with which a model answers a request, for one answer of the `n`.

    Where the client names no temperature, the model's own defaults hold; if it asks for what only sampling gives
    (several answers, a seed, `top_p`, ...), OpenAI's default of 1 does.

    Args:
        defaults: The model's own settings.
        room: Tokens that the context window leaves for the answer.

    Raises:
        SettingError: a value is out of range.
        APIError: as of `settings_of`.
    """
    given = settings_of(request)
    settings = defaults.to_dict() | given
    if "temperature" not in given and defaults.greedy and any(_needs_sampling(*each) for each in given.items()):
        settings["temperature"] = 1.0
    if settings["temperature"] or settings["logprobs"] is not None or request.n > 1:
        settings["num_beams"] = 1  # a model's own beam search yields to a client who samples or asks for more
    wanted = given.get("max_new_tokens")
    settings["max_new_tokens"] = min(room, defaults.max_new_tokens) if wanted is None else wanted
    config = GenerationConfig.lenient(**{**settings, "n": 1})
    return config if wanted is None or wanted <= room else config.override(max_new_tokens=room)


def refuse_settings(given: Mapping[str, Any], *, sampled: bool) -> None:
    """Refuse the settings that a project's winner would have to ignore.

    Args:
        given: From `settings_of`.
        sampled: Whether the winner draws tokens at random.

    Raises:
        SettingError: a value is out of range.
        APIError: a setting would have an effect, and the project has its own.
    """
    for name, value in given.items():
        effect = any(_has_effect(name, value, **search) for search in _SEARCHES)
        if effect and name not in _SUPPORTED and (sampled or name not in _HABITS):
            message = f"'{name}' is not supported here: the served project answers by its own settings. Leave it out."
            raise APIError(message, param=name, code="unsupported_parameter")


def _needs_sampling(name: str, value: Any) -> bool:
    return _has_effect(name, value, temperature=1.0) and not _has_effect(name, value, temperature=0.0)


def _has_effect(name: str, value: Any, **others: Any) -> bool:
    """Whether a setting changes anything beside others; a value that switches it off does not.

    Raises:
        SettingError: the value is out of range.
    """
    config = GenerationConfig.lenient(**{**others, name: value})
    return bool(getattr(config, name) != getattr(_DEFAULTS, name))


def _bias_by_id(biases: Mapping[str, float]) -> dict[int, float]:
    try:
        return {int(token): bias for token, bias in biases.items()}
    except ValueError:
        raise APIError(
            "'logit_bias' must map token ids to numbers.", param="logit_bias", code="invalid_value"
        ) from None
