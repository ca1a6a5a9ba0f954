"""One call's JSON: what is taken, and what is refused with a sentence."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.tools.calls import MAX_DEPTH, arguments_digest, call_id, read_call

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(st.text(max_size=300))
def test_any_text_becomes_a_call_or_a_sentence(body: str) -> None:
    call = read_call(body, 0)
    assert bool(call.error) != bool(call.name)
    assert "\n" not in call.error


@given(json_values)
def test_any_json_becomes_a_call_or_a_sentence(value: object) -> None:
    call = read_call(json.dumps(value), 0)
    assert bool(call.error) != bool(call.name)


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=4))
def test_arguments_come_through_as_they_are(arguments: dict[str, object]) -> None:
    for body in (
        {"name": "t", "arguments": arguments},
        {"name": " t ", "parameters": arguments},
        {"name": "t", "arguments": json.dumps(arguments)},
    ):
        call = read_call(json.dumps(body), 3)
        assert (call.index, call.name, call.arguments, call.error) == (3, "t", arguments, "")


@given(st.dictionaries(st.text(max_size=5), json_values, min_size=1, max_size=4))
def test_the_digest_knows_the_arguments_and_not_their_order(arguments: dict[str, object]) -> None:
    turned = dict(reversed(arguments.items()))
    assert arguments_digest("t", arguments) == arguments_digest("t", turned)
    assert arguments_digest("t", arguments) != arguments_digest("t", {**arguments, "further": 1})
    assert arguments_digest("t", arguments) != arguments_digest("u", arguments)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"name": "t", "arguments": {"a": 1, "a": 2}}', "twice"),
        ('{"name": "t", "arguments": {"a": NaN}}', "NaN"),
        ('{"name": "t", "arguments": {"a": ' + "9" * 5000 + "}}", "number"),
        ('{"name": "t", "arguments": {"a": "\\ud800"}}', "surrogate"),
        ('{"name": "t", "arguments": ' + '{"a":' * 40 + "1" + "}" * 40 + "}", f"{MAX_DEPTH} levels"),
        ("[" * 100_000, "levels"),
        ("{'name': 't'}", "double quotes"),
        ('{"name": "t", "arguments": {}, "parameters": {}}', "both"),
    ],
)
def test_what_could_mean_two_things_or_break_something_is_refused(body: str, said: str) -> None:
    assert said in read_call(body, 0).error


def test_ids_are_short_and_differ() -> None:
    ids = {call_id(answer, index) for answer in ("a", "b", "a:1") for index in range(30)}
    assert len(ids) == 90
    assert all(len(i) == 10 for i in ids)
    assert call_id("a", 1) == call_id("a", 1)
