"""The value of an arithmetic expression: a parser by precedence climbing (Richards 1979), over exact fractions.

    expression = a  op  b               + - * / // % and ** (also ^), with × · ÷ − √ as people write them
    power binds tighter than a sign before it, and to the right: -2**2 is -4, 2**3**2 is 512
    10 % 3 is a remainder, 15% a percentage: it is one where nothing that could be divided by follows
    5! is a factorial; pi, e and tau are numbers; functions are those of `FUNCTIONS`

Fractions stay exact as long as they can: 0.1 + 0.2 is 0.3. Everything is bounded before it is computed: the length of
the expression, its depth, and the size of every number, so that 9**9**9 is refused and not attempted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction

MAX_CHARS = 1_000
MAX_DEPTH = 50
MAX_BITS = 3_400
"""Of a numerator or denominator: about a thousand decimal digits."""
MAX_FACTORIAL = 400
DIGITS = 12
"""Significant digits of a result that is not exact."""

Number = Fraction | float
"""A float is a value that no fraction is."""


class ArithmeticProblem(Exception):
    """Why an expression has no value, as a phrase."""


DIVISION_BY_ZERO = "division by zero"
NOT_A_NUMBER = "not a number"
TOO_LARGE = "result too large"


def value_of(expression: str) -> Number:
    """Raises ArithmeticProblem if it has none."""
    if len(expression) > MAX_CHARS:
        raise ArithmeticProblem(f"the expression is longer than {MAX_CHARS} characters")
    parser = _Parser(_tokens(expression))
    value = parser.sum()
    if parser.here != "":
        raise ArithmeticProblem(f"{parser.here!r} stands where an operator or the end should")
    return value


def written(value: Number) -> str:
    """The value in decimal digits: exactly if it has few enough, else to 12 significant ones."""
    if isinstance(value, float):
        if value.is_integer() and abs(value) < 1e15:
            return str(int(value))
        return _rounded(value)
    if value.denominator == 1:
        return str(value.numerator)
    exact = _exact_decimal(value)
    return exact if exact is not None else _rounded(_as_float(value))


def _exact_decimal(value: Fraction) -> str | None:
    """None if the decimal digits do not end, or are more than 15 after the point."""
    for places in range(1, 16):
        scaled = value * 10**places
        if scaled.denominator == 1:
            digits = str(abs(scaled.numerator)).rjust(places + 1, "0")
            return ("-" if value < 0 else "") + f"{digits[:-places]}.{digits[-places:]}"
    return None


def _rounded(value: float) -> str:
    text = f"{value:.{DIGITS}g}"
    return text.replace("e+", "e") if "e" in text else text


# --- tokens --------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?)|(?P<name>[A-Za-z_]\w*)|(?P<sign>\*\*|//|[-+*/%^!(),]))"
)
_SPELLINGS = {
    **dict.fromkeys("×·⋅", "*"),
    **dict.fromkeys("÷∶", "/"),
    **dict.fromkeys("−–", "-"),
    "√": " sqrt ",
    "π": " pi ",
    "²": "**2",
    "³": "**3",
}


def _tokens(expression: str) -> list[str]:
    text = "".join(_SPELLINGS.get(character, character) for character in expression)
    text = text.strip().rstrip("=?").strip()
    if not text:
        raise ArithmeticProblem("the expression is empty")
    if not text.isascii():
        odd = next(character for character in text if not character.isascii())
        raise ArithmeticProblem(f"{odd!r} is not part of arithmetic")
    if "(" not in text or not re.search(r"[A-Za-z]\s*\(", text):
        # Without a function there are no lists, so a comma groups thousands.
        text = re.sub(r"(?<![\d.])(\d{1,3}(?:,\d{3})+)(?![\d,])", lambda found: found[0].replace(",", ""), text)
    tokens = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ArithmeticProblem(f"{text[at:].split()[0][:20]!r} is not part of arithmetic")
        tokens.append(found[0].strip())
        at = found.end()
    return tokens


class _Parser:
    """One method for each level of precedence, lowest first."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = [*tokens, ""]
        self._at = 0
        self._depth = 0

    @property
    def here(self) -> str:
        """The next token; empty at the end."""
        return self._tokens[self._at]

    def sum(self) -> Number:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ArithmeticProblem(f"the expression is nested more than {MAX_DEPTH} levels deep")
        value = self._product()
        while self.here in ("+", "-"):
            operator = _OPERATORS[self._take()]
            value = operator(value, self._product())
        self._depth -= 1
        return value

    def _product(self) -> Number:
        value = self._signed()
        while self.here in ("*", "/", "//", "%"):
            value = _OPERATORS[self._take()](value, self._signed())
        return value

    def _signed(self) -> Number:
        minus = False
        while self.here in ("+", "-"):
            minus ^= self._take() == "-"
        value = self._power()
        return -value if minus else value

    def _power(self) -> Number:
        base = self._postfix()
        if self.here not in ("**", "^"):
            return base
        self._take()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ArithmeticProblem(f"the expression is nested more than {MAX_DEPTH} levels deep")
        exponent = self._signed()
        self._depth -= 1
        return _power(base, exponent)

    def _postfix(self) -> Number:
        value = self._operand()
        while self.here == "!" or (self.here == "%" and not self._operand_follows()):
            value = _factorial(value) if self._take() == "!" else _computed(lambda a, b: a / b, value, Fraction(100))
        return value

    def _operand_follows(self) -> bool:
        after = self._tokens[self._at + 1]
        return after[:1].isalnum() or after[:1] in ("(", ".")

    def _operand(self) -> Number:
        token = self._take()
        if token == "(":
            value = self.sum()
            self._expect(")")
            return value
        if token[:1].isdigit() or token[:1] == ".":
            return _checked(Fraction(token))
        name = token.lower()
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name in FUNCTIONS:
            return self._call(name)
        if token[:1].isalpha():
            raise ArithmeticProblem(f"there is no number or function {token[:20]!r}")
        raise ArithmeticProblem(f"a number is missing before {token!r}" if token else "the expression ends too early")

    def _call(self, name: str) -> Number:
        function, fewest, most = FUNCTIONS[name]
        if self.here != "(":
            if name != "sqrt":
                raise ArithmeticProblem(f"{name} needs its arguments in parentheses")
            arguments = [self._postfix()]  # √2, as people write it
        else:
            self._take()
            arguments = [self.sum()]
            while self.here == ",":
                self._take()
                arguments.append(self.sum())
            self._expect(")")
        if not fewest <= len(arguments) <= most:
            wanted = str(fewest) if fewest == most else f"at least {fewest}"
            raise ArithmeticProblem(f"{name} takes {wanted} argument{'s' if wanted != '1' else ''}")
        return _computed(function, *arguments)

    def _take(self) -> str:
        token = self.here
        self._at += token != ""
        return token

    def _expect(self, token: str) -> None:
        if self._take() != token:
            raise ArithmeticProblem("a closing parenthesis is missing")


# --- arithmetic ------------------------------------------------------------------------------------------------------


def _checked(value: Number) -> Number:
    """The value, if it is a number of a size that can be handled."""
    if isinstance(value, float) and math.isnan(value):
        raise ArithmeticProblem(NOT_A_NUMBER)
    if isinstance(value, float):
        if math.isinf(value):
            raise ArithmeticProblem(TOO_LARGE)
        return value
    value = Fraction(value)
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise ArithmeticProblem(TOO_LARGE)
    return value


def _computed(function: Callable[..., Number], *arguments: Number) -> Number:
    """Exactly where that is possible; a float among the arguments makes floats of all."""
    if any(isinstance(argument, float) for argument in arguments):
        arguments = tuple(_as_float(argument) for argument in arguments)
    try:
        return _checked(function(*arguments))
    except ZeroDivisionError:
        raise ArithmeticProblem(DIVISION_BY_ZERO) from None
    except OverflowError:
        raise ArithmeticProblem(TOO_LARGE) from None
    except (ValueError, TypeError):  # outside of what the function is defined for
        raise ArithmeticProblem(NOT_A_NUMBER) from None


def _as_float(value: Number) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ArithmeticProblem(TOO_LARGE) from None


def _power(base: Number, exponent: Number) -> Number:
    if base == 0 and exponent < 0:
        raise ArithmeticProblem(DIVISION_BY_ZERO)
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        if exponent.denominator == 1:
            bits = max(base.numerator.bit_length(), base.denominator.bit_length())
            # One bit less is what the power has at least; 1 and -1 never grow.
            if (bits - 1) * abs(exponent) > MAX_BITS:
                raise ArithmeticProblem(TOO_LARGE)
            if abs(base) == 1 or base == 0:
                return Fraction(base ** (2 - exponent.numerator % 2)) if exponent else Fraction(1)
            return _computed(lambda: Fraction(base**exponent.numerator))
        if exponent == Fraction(1, 2):
            return _computed(_sqrt, base)
    if base < 0 and exponent != int(exponent):
        raise ArithmeticProblem(NOT_A_NUMBER)
    return _computed(lambda: math.pow(_as_float(base), _as_float(exponent)))


def _factorial(value: Number) -> Number:
    if value < 0 or value != int(value):
        raise ArithmeticProblem(NOT_A_NUMBER)
    if value > MAX_FACTORIAL:
        raise ArithmeticProblem(TOO_LARGE)
    return Fraction(math.factorial(int(value)))


def _sqrt(value: Number) -> Number:
    """Exact for squares."""
    if isinstance(value, Fraction) and value >= 0:
        root = Fraction(math.isqrt(value.numerator), math.isqrt(value.denominator))
        if root * root == value:
            return root
    return math.sqrt(_as_float(value))


def _round(value: Number, places: Number = Fraction(0)) -> Number:
    """Halves go away from zero, as in school."""
    count = int(places)
    if count != places or not -100 <= count <= 100:
        raise ValueError
    scale = Fraction(10) ** count
    rounded = Fraction(math.floor(abs(Fraction(value)) * scale + Fraction(1, 2))) / scale
    return -rounded if value < 0 else rounded


def _log(value: Number, base: Number | None = None) -> Number:
    if base is None:
        return math.log(value)
    return math.log(value) / math.log(base)


def _total(*values: Number) -> Number:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def _integers(function: Callable[..., int]) -> Callable[..., Number]:
    def of_integers(*values: Number) -> Number:
        if any(value != int(value) for value in values):
            raise ValueError
        return Fraction(function(*(int(value) for value in values)))

    return of_integers


_OPERATORS: dict[str, Callable[[Number, Number], Number]] = {
    "+": lambda a, b: _computed(lambda x, y: x + y, a, b),
    "-": lambda a, b: _computed(lambda x, y: x - y, a, b),
    "*": lambda a, b: _computed(lambda x, y: x * y, a, b),
    "/": lambda a, b: _computed(lambda x, y: x / y, a, b),
    "//": lambda a, b: _computed(lambda x, y: Fraction(math.floor(x / y)), a, b),
    "%": lambda a, b: _computed(lambda x, y: x % y, a, b),
}

CONSTANTS: dict[str, float] = {"pi": math.pi, "e": math.e, "tau": math.tau}

_MANY = 50
FUNCTIONS: dict[str, tuple[Callable[..., Number], int, int]] = {
    "sqrt": (_sqrt, 1, 1),
    "cbrt": (lambda x: math.cbrt(x), 1, 1),
    "abs": (abs, 1, 1),
    "round": (_round, 1, 2),
    "floor": (lambda x: Fraction(math.floor(x)), 1, 1),
    "ceil": (lambda x: Fraction(math.ceil(x)), 1, 1),
    "exp": (lambda x: math.exp(x), 1, 1),
    "ln": (_log, 1, 1),
    "log": (_log, 1, 2),
    "log2": (lambda x: math.log2(x), 1, 1),
    "log10": (lambda x: math.log10(x), 1, 1),
    "sin": (lambda x: math.sin(x), 1, 1),
    "cos": (lambda x: math.cos(x), 1, 1),
    "tan": (lambda x: math.tan(x), 1, 1),
    "asin": (lambda x: math.asin(x), 1, 1),
    "acos": (lambda x: math.acos(x), 1, 1),
    "atan": (lambda x: math.atan(x), 1, 1),
    "pow": (_power, 2, 2),
    "mod": (lambda x, y: x % y, 2, 2),
    "factorial": (_factorial, 1, 1),
    "gcd": (_integers(math.gcd), 2, _MANY),
    "lcm": (_integers(math.lcm), 2, _MANY),
    "min": (lambda *xs: min(xs), 1, _MANY),
    "max": (lambda *xs: max(xs), 1, _MANY),
    "sum": (_total, 1, _MANY),
    "avg": (lambda *xs: _total(*xs) / len(xs), 1, _MANY),
}
"""Each with the fewest and the most arguments. Angles are in radians; log without a base is the natural one."""
