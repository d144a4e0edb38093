"""Metric math, the part that alarms on rates need: ``100 * SUM([m4xx, m5xx]) / invocations``.

Numbers, ids, + - * / and comparisons, and the functions of ``FUNCTIONS``; everything else is refused when the
expression is read, not when it would count. A period in which an operand has no data has no result, unless FILL gave
it one.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

Values = dict[float, float]  # period → value
Operand = float | Values | list[Any]

_BINARY: dict[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda one, two: one / two if two else math.nan,
    ast.Gt: lambda one, two: float(one > two),
    ast.GtE: lambda one, two: float(one >= two),
    ast.Lt: lambda one, two: float(one < two),
    ast.LtE: lambda one, two: float(one <= two),
    ast.Eq: lambda one, two: float(one == two),
    ast.NotEq: lambda one, two: float(one != two),
}
FUNCTIONS = ("SUM", "AVG", "MIN", "MAX", "ABS", "FILL", "IF", "METRICS")


class BadExpression(ValueError):
    """An expression that cannot be read here; the message says what."""


class Expression:
    """A parsed expression. `ids` are the results of other queries that it needs."""

    def __init__(self, text: str) -> None:
        self._text = text
        try:
            self._tree: ast.expr = ast.parse(text.strip(), mode="eval").body
        except SyntaxError:
            raise BadExpression(f"The expression {text!r} cannot be read.") from None
        self.ids: set[str] = set()
        self.all_metrics = False
        self._check(self._tree)

    def value(self, known: Mapping[str, Values], periods: list[float]) -> Values:
        """The result by period. `known` holds the results of the other queries, `periods` all periods asked about."""
        found = self._value(self._tree, known, periods)
        if isinstance(found, list):
            raise BadExpression(f"The expression {self._text!r} gives several results, not one.")
        spread = _spread(found, periods)
        return {at: one for at, one in spread.items() if math.isfinite(one)}

    def _check(self, node: ast.expr) -> None:
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            parts = [node.left, node.right]
        elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _BINARY:
            parts = [node.left, node.comparators[0]]
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            parts = [node.operand]
        elif isinstance(node, ast.List) and not any(isinstance(part, ast.Constant) for part in node.elts):
            parts = node.elts
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            parts = self._check_call(node.func.id, node.args)
        elif isinstance(node, ast.Name):
            self.ids.add(node.id)
            parts = []
        elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            parts = []
        else:
            raise BadExpression(f"The local CloudWatch does not know {ast.unparse(node)!r} in {self._text!r}.")
        for part in parts:
            self._check(part)

    def _check_call(self, name: str, arguments: list[ast.expr]) -> list[ast.expr]:
        count = {"FILL": 2, "IF": 3, "METRICS": 0}.get(name, 1)
        if name not in FUNCTIONS or len(arguments) != count:
            known = ", ".join(FUNCTIONS)
            raise BadExpression(f"The local CloudWatch does not know {name} as used in {self._text!r}; it has {known}.")
        self.all_metrics = self.all_metrics or name == "METRICS"
        # FILL's REPEAT and LINEAR look at neighbouring periods; only numbers are known here.
        if name == "FILL" and not isinstance(arguments[1], ast.Constant):
            raise BadExpression(f"The local CloudWatch fills with a number only; got {self._text!r}.")
        return arguments

    def _value(self, node: ast.expr, known: Mapping[str, Values], periods: list[float]) -> Operand:
        def of(part: ast.expr) -> Operand:
            return self._value(part, known, periods)

        if isinstance(node, ast.Constant):
            return float(node.value)  # type: ignore[arg-type]
        if isinstance(node, ast.Name):
            return known[node.id]
        if isinstance(node, ast.List):
            return [of(part) for part in node.elts]
        if isinstance(node, ast.UnaryOp):
            return _map(operator.neg, of(node.operand))
        if isinstance(node, ast.BinOp):
            return _join(_BINARY[type(node.op)], of(node.left), of(node.right))
        if isinstance(node, ast.Compare):
            return _join(_BINARY[type(node.ops[0])], of(node.left), of(node.comparators[0]))
        assert isinstance(node, ast.Call)
        assert isinstance(node.func, ast.Name)
        if node.func.id == "METRICS":
            return list(known.values())
        return _call(node.func.id, [of(part) for part in node.args], periods)


def _call(name: str, arguments: list[Operand], periods: list[float]) -> Operand:
    first = arguments[0]
    if name == "FILL":
        filling = float(arguments[1])  # type: ignore[arg-type]
        return {at: _spread(first, periods).get(at, filling) for at in periods}
    if name == "IF":
        tested, yes, no = (_spread(one, periods) for one in arguments)
        chosen = ((at, (yes if flag else no).get(at)) for at, flag in tested.items())
        return {at: one for at, one in chosen if one is not None}
    if name == "ABS":
        return _map(abs, first)
    fold: dict[str, Callable[[list[float]], float]] = {
        "SUM": sum,
        "AVG": lambda some: sum(some) / len(some),
        "MIN": min,
        "MAX": max,
    }
    if not isinstance(first, list):
        # Of one series: a single number over all its periods.
        values = list(_spread(first, periods).values())
        return fold[name](values) if values else {}
    # Of several: period by period, over those that have data.
    series = [_spread(one, periods) for one in first]
    ats = sorted({at for one in series for at in one})
    return {at: fold[name]([one[at] for one in series if at in one]) for at in ats}


def _map(function: Callable[[float], float], operand: Operand) -> Operand:
    if isinstance(operand, list):
        return [_map(function, one) for one in operand]
    if isinstance(operand, dict):
        return {at: function(one) for at, one in operand.items()}
    return function(operand)


def _join(function: Callable[[float, float], float], left: Operand, right: Operand) -> Operand:
    if isinstance(left, list) or isinstance(right, list):
        raise BadExpression("A list of metrics has to go through SUM, AVG, MIN or MAX first.")
    if not isinstance(left, dict) and not isinstance(right, dict):
        return function(left, right)
    if not isinstance(left, dict):
        assert isinstance(right, dict)
        return {at: function(left, one) for at, one in right.items()}
    if not isinstance(right, dict):
        return {at: function(one, right) for at, one in left.items()}
    return {at: function(one, right[at]) for at, one in left.items() if at in right}


def _spread(operand: Operand, periods: list[float]) -> Values:
    if isinstance(operand, list):
        raise BadExpression("A list of metrics has to go through SUM, AVG, MIN or MAX first.")
    return operand if isinstance(operand, dict) else dict.fromkeys(periods, operand)
