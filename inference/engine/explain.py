"""The prefix cache's hits and misses in sentences."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from inference.scheduling.prefix import most_alike
from inference.scheduling.request import Request

REMEMBERED = 64
"""Requests that a miss is compared with."""
AROUND = 6
"""Tokens shown on each side of a difference."""

Decode = Callable[[Sequence[int]], str]


class PrefixHistory:
    """The latest requests, live and ended, and how the newest of a session compares with them."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._requests: deque[Request] = deque(maxlen=REMEMBERED)

    def add(self, request: Request) -> None:
        self._requests.append(request)

    def explain(self, session: str, block_size: int, enabled: bool) -> str:
        """What the session's latest request had of its beginning, and why not more."""
        request = next((r for r in reversed(self._requests) if r.session == session), None)
        if request is None:
            return f"{session} has sent nothing yet"
        if not enabled:
            return "the prefix cache is off: enable_prefix_caching turns it on"
        found = f"{request.cached_tokens} of {request.num_prompt_tokens} prompt tokens were cached"
        earlier = [r for r in self._requests if r is not request and r.arrival < request.arrival]
        alike = most_alike(request, earlier)
        if alike.other is None:
            return f"{found}. No earlier request begins with the same token."
        other, common = alike.other, alike.common
        whole = common // block_size * block_size
        best = min(whole, (request.num_prompt_tokens - 1) // block_size * block_size)
        like = f"The first {common} tokens are those of {other.session}"
        if request.cached_tokens < best:
            return (
                f"{found}. {like}, but of these only {request.cached_tokens} were still there: the other blocks had "
                "been handed out again, were not computed yet, or were computed under other options."
            )
        if common >= request.num_prompt_tokens - 1:
            return f"{found}. {like}: all whole blocks were found, and the last token is always computed."
        here, there = (self._shown(each, common) for each in (request, other))
        rest = f" Blocks of {block_size} tokens are reused whole." if request.cached_tokens < common else ""
        return f"{found}. {like}, then {here} stands where {there} stood.{rest}"

    def _shown(self, request: Request, place: int) -> str:
        """The text around a token, with the token itself in brackets."""
        before = self._decode(request.token_ids(max(0, place - AROUND), place))
        token = self._decode(request.token_ids(place, min(place + 1, request.num_tokens)))
        after = self._decode(request.token_ids(place + 1, min(place + 1 + AROUND, request.num_tokens)))
        shown = f"{before}[{token}]{after}" if place < request.num_tokens else f"{before}[the end]"
        return f"“{' '.join(shown.split())}”"
