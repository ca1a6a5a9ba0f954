"""Numbers that somebody could have in mind: who takes away, takes from more than that.

With numbers that have nothing to do with each other, only words tell which of two is divided by the other. People's
numbers tell it, too: 36 partitions for 8 consumers, 8 pupils and 36 sweets.
"""

import ast
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from arithmetic import CONSTANTS, value_of_tree

SLOTTED = re.compile("<([a-f])>")
LARGEST = 1e8
UNEQUAL = 1000.0
"""How many times larger one of two numbers that are added may be."""
ALIKE = 10.0
"""How many times larger the largest of those is whose average is asked."""
GROWN = 3.0
"""How large a change may be, as a multiple of what it was before."""
MANY = 10_000.0
"""How many times larger what is divided may be."""


def oddities(form: str, numbers: Mapping[str, str]) -> float:
    """How much about the numbers of a form (`<a>` and so on) is not as in life; zero for most that people ask, and
    infinite where the form has no value. Of forms that go on with a result nothing is said: zero."""
    tree = _tree(form)
    if tree is None:
        return 0
    of_hundred = _percentages(tree)
    values = {slot: float(number) for slot, number in numbers.items()}
    odd = sum(value == 0 for value in values.values())

    def look(node: ast.AST, operands: Sequence[float]) -> None:
        nonlocal odd
        odd += _is_odd(node, operands, node in of_hundred)

    try:
        value = value_of_tree(tree, CONSTANTS | values, look)
    except (ZeroDivisionError, OverflowError, ValueError, TypeError):
        return math.inf
    return odd + (abs(value) > LARGEST)


@cache
def _tree(form: str) -> ast.expr | None:
    """None for what is no expression, as a form that goes on with a result."""
    try:
        return ast.parse(SLOTTED.sub(r"\1", form), mode="eval").body
    except SyntaxError:
        return None


@cache
def _percentages(tree: ast.expr) -> frozenset[ast.expr]:
    """The divisions that give a share, as they are multiplied by 100."""
    products = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult)]
    return frozenset(
        share
        for product in products
        for share, factor in ((product.left, product.right), (product.right, product.left))
        if _is(factor, 100)
    )


def _is_odd(node: ast.AST, operands: Sequence[float], of_hundred: bool) -> bool:
    match node:
        case ast.Call(func=ast.Name(id="avg")):
            return max(operands) > ALIKE * min(operands)
        case ast.BinOp(left=ast.Name(), op=ast.Div(), right=right) if _is(right, 100):
            return operands[0] > 100
        case ast.BinOp(left=left, op=ast.Div()) if of_hundred:
            return operands[0] > operands[1] * (GROWN if isinstance(left, ast.BinOp) else 1)
        case ast.BinOp(op=op) if type(op) in ODD:
            return ODD[type(op)](*operands)
    return False


def _is(node: ast.AST, value: int) -> bool:
    return isinstance(node, ast.Constant) and node.value == value


ODD: dict[type, Callable[[float, float], bool]] = {
    ast.Sub: lambda a, b: a <= b,
    ast.Div: lambda a, b: not b <= a <= MANY * b,
    ast.Mod: lambda a, b: a <= b,
    ast.FloorDiv: lambda a, b: a < b,
    ast.Mult: lambda a, b: abs(a * b) > LARGEST,
    ast.Add: lambda a, b: max(abs(a), abs(b)) > UNEQUAL * min(abs(a), abs(b)),
}
"""What is odd about two numbers."""
