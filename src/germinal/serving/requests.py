"""What a client may ask for: OpenAI's chat completion request, checked field by field.

A field that is not supported is refused by name, unless its value asks for nothing (`tools: []`, `n: null`). Beside
OpenAI's fields, `top_k`, `min_p` and `repetition_penalty` are accepted, as by other servers of open models.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from germinal.errors import nearest
from germinal.serving.errors import APIError

MAX_BODY_BYTES = 4 << 20


def _text(content: Any) -> Any:
    """The text of a content that is given in parts; parts of another kind than text are refused by name."""
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text" or not isinstance(part.get("text"), str):
            raise PydanticCustomError("part", "parts must be text; '{kind}' is not supported", {"kind": str(kind)})
        texts.append(part["text"])
    return "".join(texts)


def _texts(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop


class _Wire(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", frozen=True)


class ChatMessage(_Wire):
    """One turn of the chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_text)]
    name: str | None = None

    def for_template(self) -> dict[str, str]:
        """The turn in the form that chat templates expect."""
        role = "system" if self.role == "developer" else self.role
        turn = {"role": role, "content": self.content}
        return turn if self.name is None else {**turn, "name": self.name}


class StreamOptions(_Wire):
    """What a stream holds beside the answer."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class ChatRequest(_Wire):
    """A chat completion request. The ranges of generation settings are checked by `GenerationConfig`."""

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=128)] = 1
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: Annotated[list[str], BeforeValidator(_texts)] | None = None
    seed: int | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[str, float] | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether the last chunk of a stream holds the usage."""
        return self.stream_options is not None and self.stream_options.include_usage


# Fields that do not bear on the answer; and fields that are not supported, each with a test for values that ask for
# nothing.
_IGNORED = ("user", "metadata", "safety_identifier", "prompt_cache_key", "parallel_tool_calls")
_UNSUPPORTED: dict[str, Callable[[Any], bool]] = {
    "tools": lambda value: value == [],
    "tool_choice": lambda value: value in ("none", "auto"),
    "functions": lambda value: value == [],
    "function_call": lambda value: value in ("none", "auto"),
    "response_format": lambda value: value == {"type": "text"},
    "modalities": lambda value: value == ["text"],
    "service_tier": lambda value: value in ("auto", "default"),
    "store": lambda value: value is False,
    "audio": lambda value: False,
    "prediction": lambda value: False,
    "reasoning_effort": lambda value: False,
    "verbosity": lambda value: False,
    "web_search_options": lambda value: False,
    "tool_calls": lambda value: value == [],
    "refusal": lambda value: False,
    "annotations": lambda value: value == [],
}


async def read_chat_request(request: Request) -> ChatRequest:
    """Read and check a request's body.

    Raises:
        APIError: it is too large or not JSON, or a field of it is unknown, not supported or of the wrong kind.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        # This keeps web pages from posting here: for this type a browser needs the server's consent first.
        raise APIError("The Content-Type must be application/json.", status=415, code="unsupported_media_type")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            message = f"The request is larger than {MAX_BODY_BYTES >> 20} MB."
            raise APIError(message, status=413, code="request_too_large", headers={"Connection": "close"})
    try:
        fields = json.loads(bytes(body))
        json.dumps(fields, ensure_ascii=False).encode()  # half a surrogate pair is valid JSON, but not text
    except (ValueError, RecursionError) as error:
        raise APIError(f"The body is not valid JSON: {error}.", code="invalid_json") from None
    if not isinstance(fields, dict):
        raise APIError("The body must be a JSON object.", code="invalid_json")
    return parse_chat_request(fields)


def parse_chat_request(fields: Mapping[str, Any]) -> ChatRequest:
    """The checked request. A field that is null counts as absent, since clients send null for what they leave out.

    Raises:
        APIError: names the field that is wrong.
    """
    cleaned = _without_extras(fields, ChatRequest, "")
    if isinstance(options := cleaned.get("stream_options"), dict):
        cleaned["stream_options"] = _without_extras(options, StreamOptions, "stream_options.")
    if isinstance(messages := cleaned.get("messages"), list):
        cleaned["messages"] = [
            _without_extras(message, ChatMessage, f"messages[{place}].") if isinstance(message, dict) else message
            for place, message in enumerate(messages)
        ]
    try:
        parsed = ChatRequest.model_validate(cleaned)
    except ValidationError as error:
        raise _first_problem(error) from None
    if parsed.top_logprobs is not None and not parsed.logprobs:
        raise APIError("'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs", code="invalid_value")
    if parsed.stream_options is not None and not parsed.stream:
        raise APIError("'stream_options' needs 'stream' to be true.", param="stream_options", code="invalid_value")
    if parsed.max_tokens is not None and parsed.max_completion_tokens is not None:
        message = "Give 'max_tokens' or 'max_completion_tokens', not both."
        raise APIError(message, param="max_tokens", code="invalid_value")
    return parsed


def _without_extras(fields: Mapping[str, Any], kind: type[_Wire], prefix: str) -> dict[str, Any]:
    """The fields of `kind`. Others are dropped if they ask for nothing, and else refused by name."""
    kept = {}
    for name, value in fields.items():
        param = prefix + name
        if value is None or name in _IGNORED:
            continue
        if name in kind.model_fields:
            kept[name] = value
        elif name not in _UNSUPPORTED:
            known = [*kind.model_fields, *_IGNORED]
            message = f"Unrecognized request argument supplied: {param}. {nearest(name, known)}"
            raise APIError(message, param=param, code="unknown_parameter")
        elif not _UNSUPPORTED[name](value):
            raise APIError(f"'{param}' is not supported here.", param=param, code="unsupported_parameter")
    return kept


def _first_problem(error: ValidationError) -> APIError:
    problem = error.errors(include_url=False)[0]
    param = ""
    for part in problem["loc"]:
        param += f"[{part}]" if isinstance(part, int) else f".{part}" if param else str(part)
    if problem["type"] == "missing":
        return APIError(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
    message = problem["msg"][0].lower() + problem["msg"][1:]
    return APIError(f"Invalid value for '{param}': {message}.", param=param, code="invalid_value")
