"""A checkpoint's chat template, rendered in jinja's sandbox to the same text as transformers' `apply_chat_template`.

A template is untrusted code: it runs in an immutable sandbox, sees plain JSON values only, and anything it does wrong
is a `TemplateError`. A missing template is an error too: the chat format is never guessed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from germinal.errors import TemplateError

if TYPE_CHECKING:
    import jinja2


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
        source: The jinja source, or None if the checkpoint has no template (rendering then raises).
        special_tokens: The variables `bos_token`, `eos_token`, ... of the template.
        model: The checkpoint's name, for error messages.
    """

    def __init__(self, source: str | None, special_tokens: Mapping[str, str] | None = None, model: str = "") -> None:
        self.source = source
        self.special_tokens = dict(special_tokens or {})
        self.model = model

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
        import jinja2.exceptions

        if self.source is None:
            raise TemplateError(
                "the checkpoint has no chat template, and germinal does not guess one.",
                where=self.model or None,
                hint="Use a plain prompt, or a checkpoint tuned for chat.",
            )
        if not messages:
            raise TemplateError("a chat needs at least one message.", where=self.model or None)
        shared = {**self.special_tokens, **_plain(variables)}
        try:
            return _compiled(self.source).render(
                messages=[_without_none(message) for message in _plain(messages)],
                tools=_plain(tools),
                documents=_plain(documents),
                add_generation_prompt=add_generation_prompt,
                **shared,
            )
        except jinja2.TemplateSyntaxError as error:
            raise self._error(f"is malformed at line {error.lineno}: {error.message}.") from error
        except jinja2.exceptions.SecurityError as error:
            raise self._error(f"tried to reach outside its sandbox: {error}.") from error
        except jinja2.TemplateError as error:
            raise self._error(f"rejected this chat: {error.message or error}") from error
        except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise self._error(f"failed: {error}.") from error

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


@lru_cache(maxsize=16)
def _compiled(source: str) -> jinja2.Template:
    return _environment().from_string(source)


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    import jinja2
    import jinja2.ext
    import jinja2.sandbox
    from jinja2 import nodes, parser

    class GenerationTag(jinja2.ext.Extension):
        """`{% generation %}` marks the assistant's text; it renders as the text between the tags."""

        tags = {"generation"}  # noqa: RUF012 (jinja's own declaration is a plain set)

        def parse(self, parser: parser.Parser) -> nodes.Node | list[nodes.Node]:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            # A call block rather than the bare body keeps assignments inside it local, as in transformers.
            return nodes.CallBlock(self.call_method("_between"), [], [], body).set_lineno(line)

        def _between(self, caller: Any) -> str:
            return str(caller())

    class PublicNamespace(jinja2.utils.Namespace):
        """`namespace()` without attributes that start with an underscore, which could reach Python's internals."""

        def __init__(*args: Any, **kwargs: Any) -> None:
            self, values = args[0], dict(*args[1:], **kwargs)
            for name in values:
                _refuse_private(name)
            jinja2.utils.Namespace.__init__(self, values)

        def __setitem__(self, name: str, value: Any) -> None:
            _refuse_private(name)
            super().__setitem__(name, value)

    class Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
        """jinja's sandbox, except that access to a forbidden attribute is an error instead of printing nothing."""

        def unsafe_undefined(self, obj: Any, attribute: str) -> jinja2.Undefined:
            raise jinja2.exceptions.SecurityError(f"attribute {attribute!r} of a {type(obj).__name__} is forbidden")

    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals.update(
        raise_exception=_raise, strftime_now=_strftime_now, dict=_DictMaker(), namespace=PublicNamespace
    )
    return environment


class _DictMaker:
    """`dict(...)` in a template, without access to the class and its attributes."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


def _refuse_private(name: object) -> None:
    import jinja2.exceptions

    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace may not have an attribute {name!r}")


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # jinja's own filter escapes HTML, which would alter the prompt.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    import jinja2

    raise jinja2.TemplateError(message)


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)
