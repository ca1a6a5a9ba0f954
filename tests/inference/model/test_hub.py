"""Finding models: by name, by path, and on a stand-in for the hub."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from inference.errors import ModelError
from inference.model import hub
from tests.inference import tiny
from tests.inference.model.hub_server import COMMIT
from tests.inference.model.hub_server import hub as stand_in

NOWHERE = "http://127.0.0.1:9"
"""An address at which nothing listens."""

# Prints what came of it as JSON. The hub's library reads its environment when it is imported, hence the processes.
PROGRAM = """
import json, sys
from inference.errors import ModelError
from inference.model import hub
stages = []
try:
    print(json.dumps({"path": str(hub.resolve(sys.argv[1], stages.append)), "stages": stages,
                      "local": [[m.ref, str(m.path), m.nbytes] for m in hub.local_models()]}))
except ModelError as error:
    print(json.dumps({"error": str(error)}))
"""


def resolve(ref: str, endpoint: str, home: Path) -> dict[str, object]:
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "GLASSCHAT_CACHE": str(home / "cache")}
    for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE"):
        environment.pop(name, None)
    done = subprocess.run([sys.executable, "-c", PROGRAM, ref], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    shutil.copytree(tiny.checkpoint(folder, shards=2), folder / "files")
    (folder / "files" / "pytorch_model.bin").write_text("of no use")
    (folder / "files" / "README.md").write_text("of no use")
    return folder / "files"


def test_download_then_offline(repository: Path, tmp_path: Path) -> None:
    with stand_in({"org/tiny": repository}) as (endpoint, requests):
        first = resolve("org/tiny", endpoint, tmp_path)
        path = Path(str(first["path"]))
        assert path == tmp_path / "hub" / "models--org--tiny" / "snapshots" / COMMIT
        assert {file.name for file in path.iterdir()} == {
            file.name for file in repository.iterdir() if file.name not in ("pytorch_model.bin", "README.md")
        }
        stages = first["stages"]
        assert isinstance(stages, list)
        assert stages[0] == "downloading org/tiny"
        assert stages[-1].startswith("downloading org/tiny: 100 % of 0.")
        assert stages == list(dict.fromkeys(stages))
        requests.clear()
        again = resolve("org/tiny", endpoint, tmp_path)
        assert again["path"] == str(path)
        assert requests == []
    offline = resolve("org/tiny", NOWHERE, tmp_path)
    assert offline["path"] == str(path)
    size = sum(file.stat().st_size for file in path.iterdir())
    local = offline["local"]
    assert isinstance(local, list)
    assert ["org/tiny", str(path), size] in local


def test_an_interrupted_download_is_taken_up(repository: Path, tmp_path: Path) -> None:
    with stand_in({"org/tiny": repository}) as (endpoint, requests):
        path = Path(str(resolve("org/tiny", endpoint, tmp_path)["path"]))
        shard = path / "model-00002-of-00002.safetensors"
        shard.resolve().unlink()
        shard.unlink()
        requests.clear()
        assert resolve("org/tiny", endpoint, tmp_path)["path"] == str(path)
        assert shard.exists()
        assert [r for r in requests if r.startswith("GET") and r.endswith(".safetensors")] == [
            f"GET /org/tiny/resolve/{COMMIT}/{shard.name}"
        ]


def test_what_the_hub_lacks(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text("{}")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "cat.png").write_text("")
    repositories = {"org/tiny": repository, "org/bare": tmp_path / "bare", "org/pictures": tmp_path / "pictures"}
    with stand_in(repositories, gated=("org/gated",)) as (endpoint, _):
        for ref, message in (
            ("org/none", f"there is no model org/none at {endpoint}, or it is private: check the name"),
            ("org/tiny@v9", f"org/tiny has no revision v9: see {endpoint}/org/tiny"),
            ("org/bare", "org/bare is not a model in safetensors format: it has no model.safetensors"),
            ("org/pictures", "org/pictures is not a model in safetensors format: it has no config.json"),
            ("org/gated", f"org/gated asks for its licence to be accepted: do so at {endpoint}/org/gated"),
        ):
            assert message in str(resolve(ref, endpoint, tmp_path / "home")["error"])


def test_no_network(tmp_path: Path) -> None:
    error = str(resolve("org/tiny", NOWHERE, tmp_path)["error"])
    assert error.startswith(f"org/tiny can't be downloaded from {NOWHERE} (")
    assert error.endswith("): check the network, or use demo")
    assert "\n" not in error


def test_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny.checkpoint(tmp_path)
    assert hub.resolve(str(folder)) == folder
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hub.resolve(f"~/{folder.name}") == folder
    with pytest.raises(ModelError, match="is a file, but a model is a directory"):
        hub.resolve(str(folder / "config.json"))
    for ref in (str(tmp_path / "none"), "./none", "a/b/c"):
        with pytest.raises(ModelError, match=f"there is no directory {ref}"):
            hub.resolve(ref)
    with pytest.raises(ModelError, match="'two words' is no model: give demo, a directory"):
        hub.resolve("two words")


def test_bundled_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny.checkpoint(tmp_path)
    monkeypatch.setattr(hub, "BUNDLED", {"demo": folder, "draft": tmp_path / "none"})
    assert hub.resolve("demo") == folder
    with pytest.raises(ModelError, match="the draft model is not in "):
        hub.resolve("draft")
    assert ("demo", folder) in [(model.ref, model.path) for model in hub.local_models()]
