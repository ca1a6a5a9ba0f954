"""Calculations: random numbers, expressions in signs and in words, and their values.

Expressions are computed by walking the syntax tree; nothing is ever handed to eval.
"""

import ast
import math
import operator
import random
import re
from collections.abc import Callable, Mapping, Sequence

BINARY: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}

FUNCTIONS: dict[str, Callable[..., float]] = {
    "sqrt": math.sqrt,
    "cbrt": math.cbrt,
    "abs": abs,
    "avg": lambda *numbers: sum(numbers) / len(numbers),
}
"""Some of those that the app's calculator has."""
CONSTANTS = {"pi": math.pi}

NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
).split()
TENS = {20: "twenty", 30: "thirty", 40: "forty", 50: "fifty", 60: "sixty", 70: "seventy", 80: "eighty", 90: "ninety"}


class ExpressionError(ValueError):
    """Not an arithmetic expression, or one without a value."""


def value_of(expression: str) -> float:
    """The value of an expression of numbers, + - * / ** % //, parentheses and `FUNCTIONS`."""
    text = expression.replace("^", "**").replace("×", "*").replace("÷", "/").replace("\N{MINUS SIGN}", "-")
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    try:
        return float(value_of_tree(ast.parse(text.strip(), mode="eval").body))
    except (SyntaxError, ZeroDivisionError, OverflowError, ValueError, TypeError, RecursionError) as error:
        raise ExpressionError(f"{expression!r}: {error}") from None


Look = Callable[[ast.AST, Sequence[float]], None]
"""What is told of every operation: its node, and the values that it is done with."""


def value_of_tree(tree: ast.AST, numbers: Mapping[str, float] = CONSTANTS, look: Look | None = None) -> float:
    """The value of a syntax tree, in which `numbers` may have names. Raises what Python's operators and functions do,
    and ValueError for what is not arithmetic."""

    def walk(node: ast.AST) -> float:
        match node:
            case ast.Constant(value=int() | float() as value):
                return value
            case ast.Name(id=name) if name in numbers:
                return numbers[name]
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
                return -walk(operand) if isinstance(sign, ast.USub) else walk(operand)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in BINARY:
                operands, compute = [walk(left), walk(right)], BINARY[type(op)]
                if isinstance(op, ast.Pow) and (abs(operands[1]) > 64 or abs(operands[0]) > 1e9):
                    raise ValueError("the power is too large")
            case ast.Call(func=ast.Name(id=name), args=args) if name in FUNCTIONS:
                operands, compute = [walk(arg) for arg in args], FUNCTIONS[name]
            case _:
                raise ValueError("not arithmetic")
        if look:
            look(node, operands)
        return compute(*operands)

    return walk(tree)


def same_value(left: str, right: str) -> bool:
    """True when both are expressions with the same value (or the same text)."""
    try:
        return math.isclose(value_of(left), value_of(right), rel_tol=1e-6, abs_tol=1e-9)
    except ExpressionError:
        return re.sub(r"\s", "", left) == re.sub(r"\s", "", right)


def random_number(rng: random.Random) -> str:
    """A number as people write them: mostly short, sometimes long or with decimals."""
    if rng.random() < 0.12:
        decimals = rng.choice([1, 1, 2, 2, 3])
        return f"{rng.randint(0, 10 ** rng.choice([1, 2, 3]))}.{rng.randint(0, 10**decimals - 1):0{decimals}d}"
    if rng.random() < 0.12:
        round_number = rng.randint(1, 99) * 10 ** rng.choice([1, 2, 3])
        return str(round_number)
    return str(rng.randint(0, 10 ** rng.choice([1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 4, 5, 6, 7]) - 1))


def spoken_number(rng: random.Random) -> tuple[str, str]:
    """A number in words and in digits: mostly a small one, now and then up to some hundreds or thousands."""
    kind = rng.random()
    if kind < 0.6:
        value = rng.randint(0, 20)
    elif kind < 0.72:
        value = rng.choice(list(TENS))
    elif kind < 0.84:
        value = rng.randint(21, 99)
    elif kind < 0.94:
        value = rng.choice([rng.randint(1, 9) * 100, rng.randint(101, 999)])
    else:
        value = rng.randint(1, 99) * 1000
    return in_words(value, rng), str(value)


def in_words(value: int, rng: random.Random) -> str:
    """A number below a million as somebody would write it out."""
    if value >= 1000:
        thousands = f"{in_words(value // 1000, rng)} thousand"
        return f"{thousands} {in_words(value % 1000, rng)}" if value % 1000 else thousands
    if value >= 100:
        hundreds = f"{NUMBER_WORDS[value // 100]} hundred"
        return f"{hundreds}{rng.choice([' and ', ' '])}{in_words(value % 100, rng)}" if value % 100 else hundreds
    if value <= 20:
        return NUMBER_WORDS[value]
    ones = value % 10
    return f"{TENS[value - ones]}{rng.choice([' ', '-'])}{NUMBER_WORDS[ones]}" if ones else TENS[value]


def random_expression(rng: random.Random, depth: int = 2) -> str:
    """A random nested expression in the spelling of the tool call."""
    if depth == 0 or rng.random() < 0.2:
        number = random_number(rng)
        return f"-{number}" if rng.random() < 0.06 else number
    kind = rng.random()
    if kind < 0.07:
        return f"sqrt({random_expression(rng, depth - 1)})"
    if kind < 0.13:
        return f"{random_number(rng)} ** {rng.randint(2, 9)}"
    left, right = random_expression(rng, depth - 1), random_expression(rng, depth - 1)
    return f"{_bracket(left, rng)} {rng.choice('++--**/')} {_bracket(right, rng)}"


def _bracket(expression: str, rng: random.Random) -> str:
    return f"({expression})" if " " in expression and rng.random() < 0.85 else expression


def loosely_written(expression: str, rng: random.Random) -> str:
    """The same expression as somebody would type it: without blanks, with x for times, ^ for powers."""
    text = expression
    if rng.random() < 0.5:
        text = text.replace(" ", "")
    if rng.random() < 0.12:
        text = re.sub(r"(?<!\*)\*(?!\*)", rng.choice(["x", "×"]), text)
    if rng.random() < 0.5:
        text = text.replace("**", "^")
    if rng.random() < 0.1:
        text = text.replace("/", "÷")
    return text
