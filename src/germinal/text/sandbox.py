"""The environment in which templates of others are rendered: jinja's immutable sandbox, with a bound on work.

A template can reach nothing outside it, and can't keep the process busy or fill its memory: `template_work` says what
is paid for. For that, the parsed template is rewritten before it is compiled. Loops and macros pay for each round and
call, printed values, comparisons and slices for their size; operators, calls, filters and tests pay here as they run.
Nothing is worked out while compiling, as jinja would do with constants.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
import jinja2.exceptions
import jinja2.ext
import jinja2.filters
import jinja2.sandbox
import jinja2.tests
import jinja2.utils
from jinja2 import nodes, parser
from jinja2.runtime import Context, LoopContext
from jinja2.visitor import NodeTransformer

from germinal.text import template_work as work

MAX_SOURCE = 1 << 16
"""Characters of the longest template; published ones have up to 30,000."""

_DROPPED_FILTERS = ("pprint", "striptags", "urlize", "wordwrap", "xmlattr")
"""Filters whose time can't be told from the size of what they are given; no chat template has use for them."""

_SMALL = {"abs", "attr", "count", "d", "default", "first", "items", "last", "length", "random"}
_LAZY = {"batch", "list", "map", "reject", "rejectattr", "reverse", "select", "selectattr", "slice"}
_SLOW = {"groupby": 5, "sort": 5, "title": 10, "tojson": 5, "unique": 5, "urlencode": 20, "wordcount": 10}
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
    "in": lambda left, right: left in right,
    "notin": lambda left, right: left not in right,
}
_COMPARING_TESTS = {name: name for name in ("eq", "ne", "lt", "gt", "in")}
_COMPARING_TESTS |= {"equalto": "eq", "lessthan": "lt", "greaterthan": "gt", "le": "lteq", "ge": "gteq"}
_COMPARING_TESTS |= {"==": "eq", "!=": "ne", "<": "lt", ">": "gt", "<=": "lteq", ">=": "gteq"}
_MANY = (nodes.For, nodes.Macro, nodes.CallBlock, nodes.Block)


def compiled(source: str) -> jinja2.Template:
    """The template of a source; compiled once.

    Raises:
        TooMuchWorkError: the source is too long.
        jinja2.TemplateSyntaxError, SyntaxError, RecursionError, MemoryError, ValueError: it can't be compiled.
    """
    if len(source) > MAX_SOURCE:
        raise work.TooMuchWorkError(f"it has {len(source):,} characters; {MAX_SOURCE:,} are allowed")
    return _compiled(source)


@lru_cache(maxsize=16)
def _compiled(source: str) -> jinja2.Template:
    return _environment().from_string(source)


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = Sandbox(
        trim_blocks=True, lstrip_blocks=True, optimized=False, extensions=[GenerationTag, jinja2.ext.loopcontrols]
    )
    filters = {**jinja2.filters.FILTERS, "tojson": _to_json}
    environment.filters = {name: _paying(name, filters[name]) for name in filters if name not in _DROPPED_FILTERS}
    environment.filters |= _OF_REWRITING
    environment.tests |= {name: _comparing(operator) for name, operator in _COMPARING_TESTS.items()}
    tests: dict[str, Any] = jinja2.tests.TESTS
    environment.tests |= {name: _paying(name, tests[name]) for name in ("lower", "upper")}
    del environment.globals["lipsum"]
    environment.globals.update(
        raise_exception=_raise, strftime_now=_strftime_now, dict=_DictMaker(), namespace=PublicNamespace
    )
    return environment


class Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """jinja's sandbox. Access to a forbidden attribute is an error and does not print nothing; work is paid for."""

    intercepted_binops = frozenset(jinja2.sandbox.SandboxedEnvironment.default_binop_table)

    def unsafe_undefined(self, obj: Any, attribute: str) -> jinja2.Undefined:
        raise jinja2.exceptions.SecurityError(f"attribute {attribute!r} of a {type(obj).__name__} is forbidden")

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        work.pay_for_binary(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(argument, tuple):
            work.pay_for(argument)
        return super().getitem(obj, argument)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        work.pay(work.CALL)
        if isinstance(obj, LoopContext):  # the next level of a recursive loop
            args = tuple(map(work.paid, args))
        owner = getattr(obj, "__self__", None)
        if owner is not None and not isinstance(owner, LoopContext):
            args = _pay_for_method(obj.__name__, owner, args, kwargs)
        return work.pay_for_result(super().call(context, obj, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None

        def paid(*args: Any, **kwargs: Any) -> str:
            work.pay_for_filling(value.__self__, (args, kwargs))
            return wrapped(*args, **kwargs)

        return paid

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        return _Rewriting().visit(tree)  # type: ignore[no-any-return]


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

    def __repr__(self) -> str:
        return "<Namespace>"  # its values may hold each other without end


class _DictMaker:
    """`dict(...)` in a template, without access to the class and its attributes."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        work.pay_for(args)
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Rewriting(NodeTransformer):
    """Puts what pays into a parsed template."""

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        units = _units(node.body) if isinstance(node, _MANY) else 0  # before the body is rewritten
        super().generic_visit(node, *args, **kwargs)
        if isinstance(node, nodes.For):
            node.iter = _call("rounds!", node.iter, nodes.Const(units))
        elif isinstance(node, _MANY):
            node.body.insert(0, nodes.ExprStmt(_call("pay!", nodes.Const(units))).set_lineno(node.lineno))
        elif isinstance(node, nodes.Output | nodes.Concat):
            node.nodes = [_weighed(each) for each in node.nodes]
        elif isinstance(node, nodes.Compare):
            return _compared(node)
        elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
            node.node = _call("sliced!", node.node)
        elif isinstance(node, nodes.Pair):
            node.key = _weighed(node.key)
        return node


def _compared(node: nodes.Compare) -> nodes.Expr:
    if len(node.ops) == 1:
        (operand,) = node.ops
        return _call("compared!", node.expr, nodes.Const(operand.op), operand.expr)
    node.expr = _weighed(node.expr)
    for operand in node.ops:
        operand.expr = _weighed(operand.expr)
    return node


def _weighed(node: nodes.Expr) -> nodes.Expr:
    return node if isinstance(node, nodes.TemplateData | nodes.Const) else _call("weighed!", node)


def _call(name: str, node: Any, *args: nodes.Expr) -> nodes.Filter:
    """A call of one of `_OF_REWRITING`: no template can name such a filter, as it has no name in jinja's grammar."""
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)


def _units(body: list[nodes.Node]) -> int:
    """What one round of a loop or one call of a macro costs, beside what pays for itself."""
    count, characters, waiting = 0, 0, list(body)
    while waiting:
        node = waiting.pop()
        count += 1
        if isinstance(node, nodes.TemplateData):
            characters += len(node.data)
        waiting += [] if isinstance(node, _MANY) else node.iter_child_nodes()
    return 1 + count // 4 + characters // 10


@jinja2.pass_context
def _weigh(context: Context, value: Any) -> Any:
    if isinstance(value, str):
        work.pay_for_text(len(value))
    else:
        work.pay_for(value)
    return value


@jinja2.pass_context
def _pay_for_rounds(context: Context, values: Any, units: int) -> Iterator[Any]:
    return work.paid(values, units)


@jinja2.pass_context
def _pay(context: Context, units: int) -> None:
    work.pay(units)


@jinja2.pass_context
def _compare(context: Context, left: Any, operator: str, right: Any) -> Any:
    work.pay_for_comparison(operator, left, right)
    return _COMPARE[operator](left, right)


@jinja2.pass_context
def _pay_for_slice(context: Context, value: Any) -> Any:
    work.pay(1 + len(value) // 10 if isinstance(value, str | list | tuple) else 1)
    return value


_OF_REWRITING: dict[str, Callable[..., Any]] = {
    "weighed!": _weigh,
    "rounds!": _pay_for_rounds,
    "pay!": _pay,
    "compared!": _compare,
    "sliced!": _pay_for_slice,
}


def _comparing(operator: str) -> Callable[..., Any]:
    """A test of jinja, such as `is eq`, that pays."""

    @jinja2.pass_context
    def compare(context: Context, left: Any, right: Any) -> Any:
        work.pay(work.CALL)
        return _compare(context, left, operator, right)

    return compare


def _paying(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that pays for its arguments and its result."""
    passed = _PASSED[jinja2.utils._PassArg.from_obj(function)]
    grow = work.GROWTH_BY_FILTER.get(name)

    @jinja2.pass_context  # so that jinja doesn't apply it while compiling
    def paying(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        work.pay(work.CALL)
        if isinstance(value, Iterator) and name not in _LAZY:
            value = list(value)  # its items are paid for as they are taken
        if name in _LAZY:
            work.pay(len(value) if hasattr(value, "__len__") else 0)
        elif name not in _SMALL:
            work.pay_for((value, args, kwargs), _SLOW.get(name, 1))
        if grow is not None:
            grow(value, *args, **kwargs)
        return work.pay_for_result(function(*passed(context), value, *args, **kwargs))

    return paying


_PASSED: dict[Any, Callable[[Context], tuple[Any, ...]]] = {
    None: lambda context: (),
    jinja2.utils._PassArg.context: lambda context: (context,),
    jinja2.utils._PassArg.eval_context: lambda context: (context.eval_ctx,),
    jinja2.utils._PassArg.environment: lambda context: (context.environment,),
}


def _pay_for_method(name: str, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """Pay for a method of a text, number, list or mapping; returns its arguments, with iterators as lists."""
    if name == "striptags":
        raise jinja2.exceptions.SecurityError("striptags is forbidden, as it may take very long")
    args = tuple(list(arg) if isinstance(arg, Iterator) else arg for arg in args)
    given = {key: value for key, value in kwargs.items() if key not in ("_loop_vars", "_block_vars")}  # jinja's own
    work.pay_for((args, given))
    if not isinstance(owner, dict):
        work.pay_for(owner)
    if grow := work.GROWTH_BY_METHOD.get(name):
        grow(owner, *args, **given)
    return args


def _refuse_private(name: object) -> None:
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
    raise jinja2.TemplateError(message)


def _strftime_now(format: str) -> str:
    work.pay_for_text(256 * len(format))  # as much as strftime may try
    return datetime.now().strftime(format)
