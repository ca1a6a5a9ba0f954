"""Numbers that somebody could have in mind: who takes away, takes from more than that.

With numbers that have nothing to do with each other, only words tell which of two is divided by the other. People's
numbers tell it, too: 36 partitions for 8 consumers, 8 pupils and 36 sweets.
"""

import ast
import math
import re
from collections.abc import Callable, Mapping
from functools import cache

from arithmetic import BINARY, FUNCTIONS, ExpressionError

SLOTTED = re.compile("<([a-z])>")
LARGEST = 1e8
UNEQUAL = 1000.0
"""How many times larger one of two numbers that are added may be."""
ALIKE = 10.0
"""How many times larger the largest of those is whose average is asked."""
GROWN = 3.0
"""How large a change may be, as a multiple of what it was before."""
MANY = 10_000.0


def oddities(form: str, numbers: Mapping[str, str]) -> float:
    """How much about the numbers of a form (`<a>` and so on) is not as in life; zero for most that people ask, and
    infinite where the form has no value. Of forms that go on with a result nothing is said: zero."""
    tree = _tree(form)
    if tree is None:
        return 0
    odd: list[bool] = [float(number) == 0 for number in numbers.values()]
    try:
        value = _walk(tree, {slot: float(number) for slot, number in numbers.items()}, odd, of_hundred=False)
    except (ZeroDivisionError, OverflowError, ValueError, TypeError, KeyError):
        return math.inf
    return sum(odd) + (abs(value) > LARGEST)


@cache
def _tree(form: str) -> ast.expr | None:
    """None for what is no expression, as a form that goes on with a result."""
    if "<r>" in form:
        return None
    try:
        return ast.parse(SLOTTED.sub(r"\1", form), mode="eval").body
    except SyntaxError:
        return None


def _walk(node: ast.AST, numbers: Mapping[str, float], odd: list[bool], of_hundred: bool) -> float:
    """The value; adds to `odd` what was looked at. `of_hundred`: whether it is about to be a percentage."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.Name(id=slot):
            return numbers[slot]
        case ast.BinOp(left=left, op=op, right=right):
            a = _walk(left, numbers, odd, isinstance(op, ast.Mult) and _is(right, 100))
            b = _walk(right, numbers, odd, isinstance(op, ast.Mult) and _is(left, 100))
            if isinstance(op, ast.Div):
                odd.append(_oddly_divided(left, right, a, b, of_hundred))
            elif look := ODD.get(type(op)):
                odd.append(look(a, b))
            return BINARY[type(op)](a, b)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_walk(operand, numbers, odd, of_hundred=False)
        case ast.Call(func=ast.Name(id=name), args=args):
            values = [_walk(arg, numbers, odd, of_hundred=False) for arg in args]
            if name == "avg":
                odd.append(max(values) > ALIKE * min(values))
            return FUNCTIONS[name](*values)
    raise ExpressionError("not arithmetic")


def _oddly_divided(left: ast.AST, right: ast.AST, a: float, b: float, of_hundred: bool) -> bool:
    if _is(right, 100) and isinstance(left, ast.Name):
        return a > 100
    if of_hundred:
        return a > b * (GROWN if isinstance(left, ast.BinOp) else 1)
    return not b <= a <= MANY * b


def _is(node: ast.AST, value: int) -> bool:
    return isinstance(node, ast.Constant) and node.value == value


ODD: dict[type, Callable[[float, float], bool]] = {
    ast.Sub: lambda a, b: a <= b,
    ast.Mod: lambda a, b: a <= b,
    ast.FloorDiv: lambda a, b: a < b,
    ast.Mult: lambda a, b: abs(a * b) > LARGEST,
    ast.Add: lambda a, b: max(abs(a), abs(b)) > UNEQUAL * min(abs(a), abs(b)),
}
"""What is odd about two numbers."""
