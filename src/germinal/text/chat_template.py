"""A checkpoint's chat template, rendered in a sandbox to the same text as transformers' `apply_chat_template`.

A template is untrusted code: it sees plain JSON values only, its work has a bound (`germinal.text.sandbox`), and what
it does wrong is a `TemplateError`. A missing template is an error too: the chat format is never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from germinal.errors import TemplateError

Sources = str | Mapping[str, str]
"""The jinja source of a checkpoint's template; of several templates, name -> source."""


class Message(TypedDict):
    """One turn of a chat. Further keys (`name`, `tool_calls`, ...) are passed to the template unchanged."""

    role: str
    content: str
    name: NotRequired[str]
    tool_calls: NotRequired[list[dict[str, Any]]]
    tool_call_id: NotRequired[str]


class ChatTemplate:
    """The template of one checkpoint.

    Args:
        sources: Its jinja source, or None if the checkpoint has no template (rendering then raises). Of several, that
            named "tool_use" is taken where tools are given, else that named "default".
        special_tokens: The variables `bos_token`, `eos_token`, ... of the template.
        model: The checkpoint's name, for error messages.
    """

    def __init__(
        self, sources: Sources | None, special_tokens: Mapping[str, str] | None = None, model: str = ""
    ) -> None:
        self.sources = sources
        self.special_tokens = dict(special_tokens or {})
        self.model = model

    @property
    def source(self) -> str | None:
        """The source of the template for plain chats, or None."""
        sources = self.sources
        return sources if isinstance(sources, str | None) else sources.get("default")

    def render(
        self,
        messages: Sequence[Message] | Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        **variables: Any,
    ) -> str:
        """Render a chat as text.

        Args:
            add_generation_prompt: Append the tokens that start the assistant's answer.

        Raises:
            TemplateError: there is no template, or it is malformed, rejects these messages, or tries to leave the
                sandbox.
        """
        from jinja2.exceptions import SecurityError, TemplateSyntaxError
        from jinja2.exceptions import TemplateError as JinjaError

        from germinal.text import sandbox, template_work

        source = self._source(with_tools=tools is not None)
        if not messages:
            raise TemplateError("a chat needs at least one message.", where=self.model or None)
        try:
            values = {
                **self.special_tokens,
                **_plain(variables),
                "messages": [_without_none(message) for message in _plain(messages)],
                "tools": _plain(tools),
                "documents": _plain(documents),
                "add_generation_prompt": add_generation_prompt,
            }
            template_work.begin(template_work.Work(values))
            return sandbox.compiled(source).render(values)
        except TemplateSyntaxError as error:
            raise self._error(f"is malformed at line {error.lineno}: {error.message}.") from error
        except SecurityError as error:
            raise self._error(f"tried to reach outside its sandbox: {error}.") from error
        except template_work.TooMuchWorkError as error:
            raise self._error(f"was stopped: {error}.") from error
        except JinjaError as error:
            raise self._error(f"rejected this chat: {error.message or error}") from error
        except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise self._error(f"failed: {error}.") from error
        except (MemoryError, SyntaxError) as error:  # what Python's compiler makes of templates nested too deeply
            raise self._error("is nested too deeply.") from error

    def _source(self, with_tools: bool) -> str:
        if isinstance(self.sources, str):
            return self.sources
        named = self.sources or {}
        for name in ("tool_use", "default") if with_tools else ("default",):
            if name in named:
                return named[name]
        if named:
            names = ", ".join(map(repr, sorted(named)))
            raise TemplateError(
                f"the checkpoint has chat templates named {names}, but none is the default.",
                where=self.model or None,
                hint="Name one of them 'default' in tokenizer_config.json.",
            )
        raise TemplateError(
            "the checkpoint has no chat template, and germinal does not guess one.",
            where=self.model or None,
            hint="Use a plain prompt, or a checkpoint tuned for chat.",
        )

    def _error(self, what: str) -> TemplateError:
        return TemplateError(f"the chat template {what}", where=self.model or None)


def _plain(value: Any) -> Any:
    """Rebuild a value from plain JSON types, so that a template cannot reach the methods of other objects."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_plain(item) for item in value]
        return items if isinstance(value, list) else tuple(items)
    for kind in (str, int, float):  # subclasses (enums, numpy scalars) may have further methods
        if isinstance(value, kind):
            return kind.__str__(value) if kind is str else kind(value)
    raise TemplateError(f"a chat may contain text, numbers, lists and mappings, not {type(value).__name__}.")


def _without_none(message: dict[str, Any]) -> dict[str, Any]:
    # Clients send `content: null`, which templates would print as "None".
    return {key: value for key, value in message.items() if value is not None}
