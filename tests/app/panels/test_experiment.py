"""The before-and-after card: measured on the engine as it is, put back afterwards, and kept if one likes it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from textual.widgets import DataTable, Input

from app.panels.experiment import ExperimentScreen
from inference import live_experiment
from inference.protocol import ChatPrompt, Submit
from tests.app.panels.test_switches import NAMES, configures

Launch = Callable[..., Any]


async def measure(rig: Any, name: str, value: str = "", key: str = "m") -> None:
    """From the switches: another value of an option."""
    await rig.press("f8")
    rig.app.screen.query_one(DataTable).move_cursor(row=NAMES.index(name))
    await rig.settle()
    await rig.press(key)
    if value:
        rig.app.screen.query_one(Input).value = value
        await rig.press("enter")


async def until_it_ends(rig: Any) -> None:
    for _ in range(40):
        if rig.workspace.measurement is None:
            break
        rig.engine.finish_all()
        await rig.settle()
    await rig.settle()
    rig.app.screen.refresh_card()
    await rig.settle()


async def test_a_slower_value_is_found_and_the_option_put_back(launch: Launch) -> None:
    async with launch(slower={"kernels=reference": 1.5}) as rig:
        await measure(rig, "kernels", "reference")
        assert isinstance(rig.app.screen, ExperimentScreen)
        assert "0 of 22 windows" in rig.screen_text()
        await until_it_ends(rig)
        text = rig.screen_text()
        assert "50% slower" in text
        assert "A  auto" in text
        assert "B  reference" in text
        assert configures(rig)[-1] == {"kernels": "auto"}
        assert rig.engine.config.kernels == "auto"
        await rig.press("escape")
        assert "Measured here: auto → reference: 50% slower" in rig.screen_text()


async def test_a_value_without_an_effect_is_said_to_have_none(launch: Launch) -> None:
    async with launch() as rig:
        await measure(rig, "enable_prefix_caching")
        await until_it_ends(rig)
        assert "no significant change" in rig.screen_text()
        values = [change["enable_prefix_caching"] for change in configures(rig)]
        assert values[:4] == [False, True, False, True]  # A was in force at the start
        assert rig.engine.config.enable_prefix_caching


async def test_the_new_value_can_be_kept(launch: Launch) -> None:
    async with launch(slower={"max_num_seqs=2": 0.5}) as rig:
        await measure(rig, "max_num_seqs", "2")
        await until_it_ends(rig)
        await rig.press("k")
        assert configures(rig)[-1] == {"max_num_seqs": 2}
        assert rig.workspace.watch.config.max_num_seqs == 2


async def test_leaving_it_ends_its_requests_and_puts_the_option_back(launch: Launch) -> None:
    async with launch() as rig:
        await measure(rig, "kernels", "mlx")
        rig.engine.finish_all()
        await rig.settle()
        assert rig.engine.config.kernels == "mlx"
        assert rig.engine.running
        await rig.press("escape")
        assert not rig.engine.running
        assert rig.engine.config.kernels == "auto"
        assert "Measured here" not in rig.screen_text()


async def test_chats_go_on_beside_it(launch: Launch) -> None:
    async with launch() as rig:
        await rig.send("what is a block?")
        await measure(rig, "max_num_seqs", "8")
        await rig.run(3)
        mine = [c for c in rig.engine.commands if isinstance(c, Submit) and not c.session.startswith("measure")]
        assert len(mine) == 1
        assert rig.session.path()[-1].text


async def test_what_can_not_be_measured_is_told(launch: Launch) -> None:
    async with launch() as rig:
        await measure(rig, "block_size", "32")
        assert "changes when the engine restarts" in rig.screen_text()
        await rig.press("escape", "escape")
        await measure(rig, "max_num_seqs", "16")
        assert "is 16 already" in rig.screen_text()
        await rig.press("escape", "escape")
        await measure(rig, "kernels", "nonsense")
        rig.engine.finish_all()
        await rig.settle()
        rig.app.screen.refresh_card()
        await rig.settle()
        assert "there are no kernels called 'nonsense'" in rig.screen_text()
        assert rig.engine.config.kernels == "auto"


async def test_an_engine_that_dies_ends_it_with_its_sentence(launch: Launch) -> None:
    async with launch() as rig:
        await measure(rig, "max_num_seqs", "4")
        rig.engine.die()
        await rig.settle()
        rig.app.screen.refresh_card()
        await rig.settle()
        assert "killed by SIGKILL" in rig.screen_text()
        assert rig.workspace.measurement is None


async def test_drafts_are_measured_on_text_by_the_tokens_that_come_out(launch: Launch) -> None:
    async with launch(draft="draft") as rig:
        await measure(rig, "speculation", "off")
        first = [command for command in rig.engine.commands if isinstance(command, Submit)][:3]
        assert all(isinstance(command.prompt, ChatPrompt) and not command.params.ignore_eos for command in first)
        await until_it_ends(rig)
        text = " ".join(rig.screen_text().split())
        assert "slower" in text
        assert "the same questions each time" in text
        experiment = rig.app.screen._measurement.experiment
        assert len(set(experiment.tokens.values())) == 1, "drafts change how long it takes, not what is written"
        assert experiment.tokens[0] == 3 * 64
        speeds = {
            after: experiment.speed([w for w in experiment.windows if w.after is after]) for after in (False, True)
        }
        assert speeds[False] > 2 * speeds[True]
        assert rig.engine.config.speculation == "auto"


# --- with the steps of the chats ---


async def test_a_change_is_measured_with_the_chats_steps_while_one_chats_on(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Coins decide which steps fall to which value, and so the figure's last digits.
    coins = live_experiment.coins
    monkeypatch.setattr(live_experiment, "coins", lambda pairs, rng: coins(pairs, random.Random(1)))
    async with launch(slower={"kernels=reference": 1.5}) as rig:
        await measure(rig, "kernels", "reference", key="l")
        text = " ".join(rig.screen_text().split())
        assert "0 of 40 windows" in text
        assert "it takes the steps of your answers" in text
        await rig.press("escape", "escape")
        rig.chat.show_panels()
        await rig.settle()
        assert "measuring kernels 0/40" in rig.screen_text()
        assert not [c for c in rig.engine.commands if isinstance(c, Submit)], "it brings no work of its own"
        for _ in range(60):
            if rig.workspace.measurement is None:
                break
            await rig.send("what is a block?")
            while rig.engine.running:
                await rig.run(8)
        assert rig.workspace.measurement is None
        assert any("kernels auto → reference: 50% slower, with your chats' steps" in n for n in rig.notices())
        assert rig.engine.config.kernels == "auto"
        await rig.press("f8")
        rig.app.screen.query_one(DataTable).move_cursor(row=NAMES.index("kernels"))
        await rig.settle()
        assert "Measured here: auto → reference: 50% slower, with your chats' steps" in rig.screen_text()


async def test_it_can_be_looked_at_again_and_stopped(launch: Launch) -> None:
    async with launch() as rig:
        await measure(rig, "attention", "plain", key="l")
        await rig.press("escape", "escape")
        await measure(rig, "max_num_seqs", "4")
        assert "attention is being measured: wait for its end, or stop it" in " ".join(rig.screen_text().split())
        await rig.press("escape")
        await rig.press("l")
        assert isinstance(rig.app.screen, ExperimentScreen)
        await rig.press("x")
        await rig.settle()
        assert "0 windows, stopped" in rig.screen_text()
        assert rig.engine.config.attention == "auto"
        await rig.press("escape", "escape")
        rig.chat.show_panels()
        await rig.settle()
        assert "measuring" not in rig.screen_text()


async def test_changing_the_option_by_hand_ends_its_measurement(launch: Launch) -> None:
    async with launch() as rig:
        await measure(rig, "attention", "plain", key="l")
        await rig.press("escape", "escape")
        rig.chat._change_option("attention", "flash")
        await rig.send("what is a block?")
        await rig.run(30)
        assert rig.workspace.measurement is None
        assert rig.engine.config.attention == "flash"


async def test_an_option_that_changes_what_steps_are_made_of_says_so(launch: Launch) -> None:
    async with launch() as rig:
        await measure(rig, "max_num_seqs", key="l")
        text = " ".join(rig.screen_text().split())
        assert "max_num_seqs changes what steps are made of" in text
        assert rig.workspace.measurement is None
