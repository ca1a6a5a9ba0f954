"""The switches: requested, effective and why; live changes through the engine, others at its restart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from textual.widgets import DataTable, Input

from app.chat.screen import ChatScreen
from app.panels.switches import SwitchesScreen, parse
from inference.errors import ConfigError
from inference.protocol import EngineConfig, KernelState

Launch = Callable[..., Any]
NAMES = [f.name for f in fields(EngineConfig)]


async def go_to(rig: Any, name: str) -> None:
    """Open the switches with the cursor on one option."""
    await rig.press("f8")
    rig.app.screen.query_one(DataTable).move_cursor(row=NAMES.index(name))
    await rig.settle()


def configures(rig: Any) -> list[dict[str, Any]]:
    return [c[1] for c in rig.engine.commands if isinstance(c, tuple) and c[0] == "configure"]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("max_num_seqs", "4", 4),
        ("enable_chunked_prefill", "off", False),
        ("kernels", "mlx,linear=reference", "mlx,linear=reference"),
    ],
)
def test_values_are_read(name: str, text: str, value: object) -> None:
    assert parse(name, text) == value


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("max_num_seqs", "many", "must be a whole number"),
        ("max_num_seqs", "0", "at least 1"),
        ("enable_chunked_prefill", "perhaps", "must be on or off"),
        ("dtype", "int3", "must be one of auto, float32"),
    ],
)
def test_wrong_values_are_refused_with_a_sentence(name: str, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse(name, text)


async def test_every_option_stands_there_with_what_is_in_force_and_why(launch: Launch) -> None:
    async with launch() as rig:
        await go_to(rig, "kernels")
        text = rig.screen_text()
        assert all(name in text for name in NAMES)
        assert "fused operations agree with the reference" in text
        assert "a quarter of the free memory" in text


async def test_a_yes_or_no_option_is_toggled_with_enter(launch: Launch) -> None:
    async with launch() as rig:
        await go_to(rig, "enable_chunked_prefill")
        await rig.press("enter")
        assert configures(rig) == [{"enable_chunked_prefill": False}]
        row = next(line for line in rig.screen_text().splitlines() if "enable_chunked_prefill " in line)
        assert row.split("enable_chunked_prefill")[1].split()[:3] == ["off", "off", "live"]


async def test_the_step_from_which_a_value_is_in_force_is_told(launch: Launch) -> None:
    async with launch() as rig:
        await rig.send("hello")
        await rig.run(4)
        await go_to(rig, "enable_chunked_prefill")
        assert "In force since" not in rig.screen_text()
        await rig.press("enter")
        assert "In force since step 5." in rig.screen_text()
        await rig.press("down")
        assert "In force since" not in rig.screen_text()


async def test_a_number_is_typed_and_a_wrong_one_explained(launch: Launch) -> None:
    async with launch() as rig:
        await go_to(rig, "max_num_seqs")
        await rig.press("enter")
        rig.app.screen.query_one(Input).value = "0"
        await rig.press("enter")
        assert "must be a whole number of at least 1" in rig.screen_text()
        assert configures(rig) == []
        rig.app.screen.query_one(Input).value = "4"
        await rig.press("enter")
        assert configures(rig) == [{"max_num_seqs": 4}]
        assert rig.app.screen.query_one(DataTable).has_focus


async def test_what_the_engine_refuses_is_taken_back(launch: Launch) -> None:
    async with launch() as rig:
        await go_to(rig, "kernels")
        await rig.press("enter")
        rig.app.screen.query_one(Input).value = "nonsense"
        await rig.press("enter")
        assert "there are no kernels called" in rig.screen_text()
        assert rig.workspace.watch.config.kernels == "auto"


async def test_an_option_that_is_not_live_waits_for_a_restart(launch: Launch) -> None:
    async with launch() as rig:
        await rig.send("go")
        await rig.run(5)
        await go_to(rig, "block_size")
        assert "Changes when the engine restarts" in rig.screen_text()
        await rig.press("enter")
        rig.app.screen.query_one(Input).value = "32"
        await rig.press("enter", "f5")
        for _ in range(50):
            if rig.engine.starts == 2:
                break
            await rig.settle()
        await rig.settle()
        assert rig.engine.config.block_size == 32
        await rig.press("escape")
        await rig.run(5)
        assert isinstance(rig.app.screen, ChatScreen)
        assert "version 2 of 2" in rig.screen_text(), "the answer under way was asked again"


async def test_the_effect_of_a_change_stands_beside_it(launch: Launch) -> None:
    async with launch(script=lambda _: "word " * 2000) as rig:
        await rig.send("go")
        for _ in range(6):
            await rig.run(40)
        await go_to(rig, "max_num_batched_tokens")
        await rig.press("enter")
        rig.app.screen.query_one(Input).value = "64"
        await rig.press("enter")
        for _ in range(6):
            await rig.run(40)
        assert isinstance(rig.app.screen, SwitchesScreen)
        rig.app.screen.refresh_options()
        await rig.settle()
        assert "max_num_batched_tokens = 64: decode" in rig.screen_text()
        assert "s before" in rig.screen_text()


async def test_up_and_down_go_through_the_choices(launch: Launch) -> None:
    async with launch(draft="draft") as rig:
        await go_to(rig, "speculation")
        await rig.press("enter")
        field = rig.app.screen.query_one(Input)
        seen = []
        for _ in range(4):
            await rig.press("down")
            seen.append(field.value)
        assert seen == ["off", "draft", "ngram", "auto"]
        await rig.press("up", "enter")
        assert configures(rig) == [{"speculation": "ngram"}]
        assert rig.app.screen.query_one(DataTable).has_focus


async def test_another_draft_model_waits_for_a_restart(launch: Launch) -> None:
    async with launch() as rig:
        await go_to(rig, "draft")
        text = " ".join(rig.screen_text().split())
        assert "Changes when the engine restarts." in text
        assert "this model has none that comes with it" in text


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_every_option_can_be_looked_at(launch: Launch, size: tuple[int, int]) -> None:
    async with launch(size=size) as rig:
        for name in NAMES:
            await go_to(rig, name)
            text = rig.screen_text()
            assert f"{name}: " in text, "what the row of the cursor is about stands below the table"
            await rig.press("escape")


KERNELS = (
    KernelState("linear", "native", "agrees with the reference, and no slower than MLX's own", 1.25, 3e-7),
    KernelState("rope", "mlx", "our own kernel differs from the reference by 2e-01 in float32", 0.0, 0.2),
    KernelState("largest", "mlx", "our own kernel agrees, but is slower than MLX's own here", 0.17, 0.0),
    KernelState("embedding", "mlx", "our own kernel of embedding is for the CPU alone"),
)


async def test_each_operation_of_kernels_is_listed(launch: Launch) -> None:
    """With how fast and how exact ours is, also where it is refused or too slow."""
    async with launch(kernels=KERNELS) as rig:
        await go_to(rig, "kernels")
        assert "O shows each operation" in rig.screen_text()
        await rig.press("o")
        table = rig.app.screen.query_one(DataTable)
        rows = [[str(cell).strip() for cell in table.get_row_at(i)[:4]] for i in range(table.row_count)]
        assert rows == [
            ["linear", "native", "1.2", "3e-07"],
            ["rope", "mlx", "-", "2e-01"],
            ["largest", "mlx", "0.2", "exact"],
            ["embedding", "mlx", "-", "-"],
        ]
        assert f"linear: native. {KERNELS[0].reason}" in rig.screen_text()
        await rig.press("down")
        assert f"rope: mlx. {KERNELS[1].reason}" in rig.screen_text()
        await rig.press("escape")
        assert isinstance(rig.app.screen, SwitchesScreen)


async def test_what_changes_while_the_list_is_open_is_shown(launch: Launch) -> None:
    async with launch(kernels=KERNELS) as rig:
        await go_to(rig, "kernels")
        await rig.press("o", "down")
        rig.engine.kernels = (KERNELS[0], replace(KERNELS[1], implementation="reference"))
        rig.engine.configure({})
        await rig.settle()
        rig.app.screen.refresh_kernels()
        assert "rope: reference." in rig.screen_text()


async def test_other_options_have_no_such_list(launch: Launch) -> None:
    async with launch(kernels=KERNELS) as rig:
        await go_to(rig, "attention")
        assert "O shows each operation" not in rig.screen_text()
        await rig.press("o")
        assert isinstance(rig.app.screen, SwitchesScreen)
