"""A home directory that nobody has is said in one sentence, wherever a path is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.sessions.store import data_folder
from inference.errors import ConfigError
from inference.machine import cache_directory
from inference.model import hub
from inference.paths import expanded
from inference.tools.toolbox import tools_of_file
from inference.tools.workspace import Workspace

NOBODYS = "~there-is-no-such-user/x"


def test_a_home_directory_stands_for_its_sign() -> None:
    assert expanded("~/x") == Path.home() / "x"
    assert expanded("x/~") == Path("x/~")


def test_nobodys_home_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("GLASSCHAT_DATA", "GLASSCHAT_CACHE"):
        monkeypatch.setenv(variable, NOBODYS)
    for find in (
        cache_directory,
        data_folder,
        lambda: hub.resolve(NOBODYS),
        lambda: tools_of_file(Path(NOBODYS)),
        lambda: Workspace(NOBODYS),
    ):
        with pytest.raises(ConfigError, match="~there-is-no-such-user is nobody's home directory"):
            find()


def test_a_workspace_of_links_that_lead_to_each_other_is_none(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(ConfigError, match=r"the workspace .* (can't be found|is not a directory)"):
        Workspace(tmp_path / "a")
