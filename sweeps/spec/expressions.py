"""Expressions over knobs: `crf_low.alpha * 4 < crf_high.alpha and cam.source == 'cgnet'`.

They have Python's syntax, restricted to numbers, texts, knobs, + - * / // %, comparisons, `in`,
`and`, `or` and `not`. The text is parsed and evaluated here, never run by the interpreter."""

import ast
import operator
from collections.abc import Callable
from functools import cache
from typing import Any

from sweeps.spec.knobs import matching, show

ALLOWED = "allowed are knobs, numbers, texts in quotes, + - * / // %, comparisons, in, and, or, not"
# Evaluation recurses once per nested operator; this bounds the depth far below the stack.
MAX_CHARACTERS = 500
# First character of a value that is computed from other knobs.
DERIVED = "="

ARITHMETIC: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
COMPARISONS: dict[type[ast.AST], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, items: item in items,
    ast.NotIn: lambda item, items: item not in items,
}

ValueOf = Callable[[str], Any]


def is_derived(value: object) -> bool:
    """Tell whether a knob's value is `=` and an expression over other knobs."""
    return isinstance(value, str) and value.startswith(DERIVED)


def knobs_in(text: str) -> tuple[str, ...]:
    """Return the knobs that the expression `text` names, each once.

    Raises:
        ValueError: `text` is not an expression, or names something that is not a knob.
    """
    nodes = [node for node in ast.walk(_parse(text)) if isinstance(node, ast.Attribute)]
    return tuple(dict.fromkeys(map(_knob, nodes)))


def evaluate(text: str, value_of: ValueOf) -> Any:  # noqa: ANN401 - whatever the knobs are
    """Return the value of the expression `text`, given the values of its knobs.

    Raises:
        ValueError: `text` is not an expression, or has no value: it divides by zero, or orders a
            number and a text.
    """
    try:
        return _value(_parse(text), value_of)
    except (TypeError, ArithmeticError) as error:
        values = ", ".join(f"{knob} is {_shown(value_of(knob))}" for knob in knobs_in(text))
        raise ValueError(f"{text!r} has no value where {values}: {error}") from None


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, str) else show(value)


@cache
def _parse(text: str) -> ast.expr:
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"an expression of {len(text)} characters; allowed are {MAX_CHARACTERS}")
    try:
        tree = ast.parse(text.removeprefix(DERIVED).strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"{text!r} is not an expression; {ALLOWED}") from None
    _check(tree, text)
    return tree


def _check(node: ast.expr, text: str) -> None:
    """Refuse every part that `_value` has no rule for, before any value is known."""
    parts: list[ast.expr] = []
    match node:
        case ast.BinOp(left, op, right) if type(op) in ARITHMETIC:
            parts = [left, right]
        case ast.UnaryOp(ast.USub() | ast.Not(), operand):
            parts = [operand]
        case ast.BoolOp(_, values):
            parts = values
        case ast.Compare(left, ops, comparators) if all(type(op) in COMPARISONS for op in ops):
            parts = [left, *comparators]
        case ast.Tuple(elts) | ast.List(elts):
            parts = elts
        case ast.Constant(value) if isinstance(value, int | float | str):
            pass
        case ast.Attribute():
            _knob(node)
        case _:
            raise ValueError(f"{ast.unparse(node)!r} is not allowed in {text!r}; {ALLOWED}")
    for part in parts:
        _check(part, text)


def _knob(node: ast.Attribute) -> str:
    name = ast.unparse(node)
    if matching(name) != (name,):
        raise ValueError(f"{name!r} is not a knob; expected a name such as crf.alpha")
    return name


def _value(node: ast.expr, value_of: ValueOf) -> Any:  # noqa: ANN401
    match node:
        case ast.BinOp(left, op, right):
            first = _number(_value(left, value_of))
            second = _number(_value(right, value_of))
            return ARITHMETIC[type(op)](first, second)
        case ast.UnaryOp(ast.USub(), operand):
            return -_number(_value(operand, value_of))
        case ast.UnaryOp(ast.Not(), operand):
            return not _value(operand, value_of)
        case ast.BoolOp(ast.And(), values):
            return all(_value(value, value_of) for value in values)
        case ast.BoolOp(ast.Or(), values):
            return any(_value(value, value_of) for value in values)
        case ast.Compare(left, ops, comparators):
            values = [_value(part, value_of) for part in (left, *comparators)]
            pairs = zip(ops, values, values[1:], strict=False)
            return all(COMPARISONS[type(op)](first, second) for op, first, second in pairs)
        case ast.Tuple(elts) | ast.List(elts):
            # a tuple, as the knobs of several values are
            return tuple(_value(part, value_of) for part in elts)
        case ast.Attribute():
            return value_of(_knob(node))
        case ast.Constant(value):
            return value
    raise AssertionError(f"_check lets {ast.dump(node)} through")


def _number(value: object) -> int | float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise TypeError(f"{value!r} is not a number")
