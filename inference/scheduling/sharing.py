"""How prefills share the tokens of a step, so that a long prompt does not keep short ones out.

Half goes to those that run, half to those that wait, if both are there: whoever comes is let in at once. Of the
running ones' share, half goes in the policy's order and half to who has least left: a short prompt is soon done, and
the first in order is never without. What one side leaves goes to the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def running_share(total: int, *, others_wait: bool) -> int:
    """Of the tokens that there are for prefill, those for requests that run already."""
    return -(-total // 2) if others_wait else total


def ordered_share(share: int, competitors: int) -> int:
    """Of the running ones' share, what goes in the policy's order."""
    return -(-share // 2) if competitors > 1 else share


def least_first(wants: Sequence[int]) -> list[int]:
    """Places by what is wanted there, the least first; of equal ones the earlier goes first."""
    return sorted(range(len(wants)), key=lambda place: wants[place])


def shared_out(total: int, running: Sequence[int], waiting: Sequence[int]) -> list[int]:
    """What everyone gets who wants so much: those that run, then those that wait, each in the policy's order.

    As long as there are blocks for everybody, this is what a step does.
    """
    got = [0] * len(running)
    share = running_share(total, others_wait=bool(waiting))
    first = _in_order(ordered_share(share, len(running)), running)
    for place, tokens in enumerate(first):
        got[place] = tokens
    left = share - sum(got)
    for place in least_first(running):
        more = min(left, running[place] - got[place])
        got[place], left = got[place] + more, left - more
    admitted = list(_in_order(total - sum(got), waiting))
    left = total - sum(got) - sum(admitted)
    for place, more in enumerate(_in_order(left, [want - has for want, has in zip(running, got, strict=True)])):
        got[place] += more
    return got + admitted


def _in_order(tokens: int, wants: Sequence[int]) -> Iterator[int]:
    for want in wants:
        given = min(tokens, want)
        tokens -= given
        yield given


def total_for(total: int, running: Sequence[int], waiting: Sequence[int], place: int, tokens: int) -> int:
    """The least that there must be, above `total`, for the one at this place to get so many tokens.

    More takes from nobody, and so it can be searched for by halves.
    """
    low, high = total, max(total + 1, sum(running) + sum(waiting))
    while high - low > 1:
        middle = (low + high) // 2
        if shared_out(middle, running, waiting)[place] >= tokens:
            high = middle
        else:
            low = middle
    return high


def total_for_whole(total: int, running: Sequence[int], admitted: Sequence[int], tokens: int) -> int:
    """The least that there must be, from `total` on, for a prefill of so many tokens that is computed whole or not.

    Before it come those that run, of which the first is let through whatever it wants and another that does not fit is
    passed over, and those that are admitted, whom nobody overtakes. More may go to one that was passed over, and then
    it takes more again; but less than what is missing never does.
    """
    while (left := _left_by(running, total) - sum(admitted)) < tokens:
        total += tokens - left
    return total


def _left_by(running: Sequence[int], total: int) -> int:
    left = total
    for place, want in enumerate(running):
        if place == 0 or want <= left:
            left -= want
    return left
