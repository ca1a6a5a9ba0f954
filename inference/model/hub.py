"""Where models are: the demo in the source tree, synthetic ones in the cache, directories, the Hugging Face hub."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.errors import ModelError
from inference.model import synthetic, widened
from inference.paths import expanded

ASSETS = Path(__file__).parents[2] / "assets"
BUNDLED = {"demo": ASSETS / "model", "draft": ASSETS / "draft"}
"""The models that come with the source, by the name that asks for them."""

WANTED = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "*.safetensors",
    "model.safetensors.index.json",
]
"""The files of a hub repository that are downloaded; others (PyTorch weights, ONNX, pictures) are of no use here."""

Progress = Callable[[str], None]


def resolve(ref: str, progress: Progress = lambda stage: None) -> Path:
    """The directory of a model, made or downloaded first if need be. `ref` is one of

    - demo, draft: the models that come with the source;
    - demo:0.5b and its like, see `widened`;
    - synthetic:0.5b and its like, see `synthetic`;
    - a directory;
    - a repository on the hub, such as Qwen/Qwen2.5-0.5B-Instruct, perhaps with @revision; not asked of the network if
      it was downloaded before.

    Raises ModelError.
    """
    if ref in BUNDLED:
        if not (BUNDLED[ref] / "config.json").exists():
            raise ModelError(f"the {ref} model is not in {BUNDLED[ref]}: run glasschat from its source checkout")
        return BUNDLED[ref]
    if ref.startswith(synthetic.PREFIX):
        return synthetic.ensure(ref, progress, tokenizer_from=BUNDLED["demo"])
    if ref.startswith(widened.PREFIX):
        return widened.ensure(ref, progress, source=resolve("demo"))
    directory = expanded(ref)
    if directory.is_dir():
        return directory
    if directory.exists():
        raise ModelError(f"{ref} is a file, but a model is a directory with config.json in it")
    if _is_path(ref):
        raise ModelError(f"there is no directory {ref}: give a model directory, a hub repository, or demo")
    return _downloaded(ref) or download(ref, progress)


def download(ref: str, progress: Progress = lambda stage: None) -> Path:
    """Fetch a repository from the hub, or what has changed of it, into the hub's cache; the directory it is in.

    HF_ENDPOINT, HF_HOME and HF_TOKEN are honoured as everywhere. Raises ModelError.
    """
    from huggingface_hub import errors, snapshot_download
    from huggingface_hub.constants import ENDPOINT

    repo, revision = _split(ref)
    progress(f"downloading {ref}")
    try:
        path = snapshot_download(
            repo, revision=revision, allow_patterns=WANTED, tqdm_class=_progress_bar(ref, progress)
        )
    except errors.GatedRepoError:
        raise ModelError(
            f"{repo} asks for its licence to be accepted: do so at {ENDPOINT}/{repo}, then set HF_TOKEN to your token"
        ) from None
    except errors.RevisionNotFoundError:
        raise ModelError(f"{repo} has no revision {revision}: see {ENDPOINT}/{repo}") from None
    except errors.RepositoryNotFoundError:
        raise ModelError(f"there is no model {repo} at {ENDPOINT}, or it is private: check the name") from None
    except errors.HFValidationError:
        raise ModelError(
            f"{ref!r} is no model: give demo, a directory, a hub repository such as Qwen/Qwen2.5-0.5B-Instruct, "
            f"or {synthetic.PREFIX}0.5b"
        ) from None
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"{repo} can't be downloaded from {ENDPOINT} ({_first_line(error)}): check the network, or use demo"
        ) from None
    directory = Path(path)
    missing = _missing_file(directory)
    if missing is not None:
        raise ModelError(f"{ref} is not a model in safetensors format: it has no {missing}")
    return directory


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model that can be used without a network."""

    ref: str
    """What to ask for it by."""
    path: Path
    nbytes: int
    """Of the files on disk."""


def local_models() -> tuple[LocalModel, ...]:
    """All Qwen2 models on this machine that need no path: bundled, synthetic, downloaded."""
    candidates = [*BUNDLED.items(), *widened.existing(BUNDLED["demo"]), *synthetic.existing(), *_hub_snapshots()]
    return tuple(LocalModel(ref, path, disk_bytes(path)) for ref, path in candidates if _is_qwen2(path))


def _is_path(ref: str) -> bool:
    """Whether `ref` can only be meant as a path: a hub repository has at most one slash, inside."""
    return ref.startswith((".", "/", "~")) or ref.count("/") > 1


def _split(ref: str) -> tuple[str, str | None]:
    repo, _, revision = ref.partition("@")
    return repo, revision or None


def _downloaded(ref: str) -> Path | None:
    """The snapshot of a repository in the hub's cache, if all of it is there."""
    from huggingface_hub import errors, snapshot_download

    repo, revision = _split(ref)
    try:
        directory = Path(snapshot_download(repo, revision=revision, allow_patterns=WANTED, local_files_only=True))
    except (errors.LocalEntryNotFoundError, errors.HFValidationError, OSError):
        return None
    return directory if _missing_file(directory) is None else None


def _hub_snapshots() -> Iterator[tuple[str, Path]]:
    from huggingface_hub import errors, scan_cache_dir

    try:
        repos = scan_cache_dir().repos
    except errors.CacheNotFound:
        return
    for repo in sorted(repos, key=lambda repo: repo.repo_id):
        path = _downloaded(repo.repo_id) if repo.repo_type == "model" else None
        if path is not None:
            yield repo.repo_id, path


def _missing_file(directory: Path) -> str | None:
    """The first file that a model can't do without and `directory` lacks."""
    if not (directory / "config.json").exists():
        return "config.json"
    index = directory / "model.safetensors.index.json"
    if not index.exists():
        return None if (directory / "model.safetensors").exists() else "model.safetensors"
    try:
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError):
        return None  # a broken index is for the loader to explain
    return next((file for file in sorted(files) if not (directory / file).exists()), None)


def _is_qwen2(directory: Path) -> bool:
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") == "qwen2"


def disk_bytes(directory: Path) -> int:
    """Of all files of a model."""
    return sum(file.stat().st_size for file in directory.iterdir() if file.is_file())


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")


def _progress_bar(ref: str, progress: Progress) -> Any:
    """A bar for huggingface_hub that, instead of drawing, tells `progress` how much of the bytes is there.

    There are two such bars to a download (bytes received, bytes written), updated from several threads; `progress` is
    told of each whole percent once.
    """
    from huggingface_hub.utils.tqdm import tqdm

    lock = threading.Lock()
    told = -1

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            self._counts_bytes = options.get("unit") == "B"
            super().__init__(*args, **options | {"disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            nonlocal told
            self.n += n or 0  # a disabled bar doesn't count by itself
            if not self._counts_bytes or not self.total:
                return
            with lock:
                percent = int(100 * self.n / self.total)
                if percent > told:
                    told = percent
                    progress(f"downloading {ref}: {percent} % of {self.total / 1e6:.1f} MB")

    return Bar
