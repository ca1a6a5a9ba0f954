"""Numbers that are easily taken for one another: who copies 48213 must not write 48597, nor 50000 for 500000.

Numbers drawn apart from each other hardly ever begin alike, so one who learns from them may look at the first digits
alone, and loses count in a row of zeros.
"""

import random

EQUAL, OTHER_DIGITS, REPEATED_DIGIT = 0.12, 0.48, 0.2
"""Shares of the ways to be alike; the others have a last digit more, or one less."""
MOST_OTHER_DIGITS = 3
LONGEST_REPEATED = 7


def alike(number: str, rng: random.Random) -> str:
    """Another number (digits, maybe a point) that begins as this one does, or has a digit of it more than once; at
    times the same."""
    digits = [place for place, sign in enumerate(number) if sign.isdigit()]
    whole, kind = number.isdigit() and number[0] != "0", rng.random()
    if kind < EQUAL:
        return number
    if kind < EQUAL + OTHER_DIGITS or not whole:
        later = digits[len(digits) // 2 :]
        changed = rng.sample(later, min(rng.randint(1, MOST_OTHER_DIGITS), len(later)))
        return "".join(str(rng.randint(0, 9)) if place in changed else sign for place, sign in enumerate(number))
    if kind < EQUAL + OTHER_DIGITS + REPEATED_DIGIT and len(number) <= LONGEST_REPEATED:
        place = rng.choice(digits)
        return number[:place] + number[place] * rng.randint(2, 3) + number[place + 1 :]
    return number[:-1] if len(number) > 1 and rng.random() < 0.5 else number + rng.choice("0005")


def with_a_row(rng: random.Random) -> str:
    """A number that ends in a row of one digit, mostly of zeros."""
    return str(rng.randint(1, 999)) + rng.choice("0009123") * rng.randint(2, 5)
