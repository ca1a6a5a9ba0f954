"""The one directory that tools may look at and change, and the walk that can't leave it.

Paths are never joined and handed to the system. They are walked: each component is opened below the descriptor of the
one before, and never through a symbolic link (POSIX.1-2008 openat, O_NOFOLLOW). So a component that is swapped for a
link between a check and its use leads nowhere, and there is no check that could be late. `..`, absolute paths, links,
other file systems (a mounted /proc), devices, pipes and sockets are refused, and so is what `secrets` lists.

A hard link is no way out but a second name of a file that is in the workspace, made by somebody who may read it; build
tools and package managers make thousands. So it is read like any other; it is never written through, see `replace`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets as random_names
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from inference.errors import ConfigError
from inference.paths import expanded
from inference.tools.definition import ToolError, visible
from inference.tools.secrets import holds_private_key, why_secret

MAX_FILE_BYTES = 2_000_000
"""Larger files are neither read nor written."""
MAX_PATH_CHARS = 1_000
MAX_DEPTH = 40
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_TEMPORARY = ".glasschat-"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in a directory."""

    path: str
    """Relative to the workspace, with / between components."""
    kind: str
    """"file", "directory", "link" or "special"."""
    size: int
    secret: bool


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file's text, and what it takes to write it back as it was."""

    path: str
    text: str
    encoding: str
    bom: bytes
    digest: str
    """SHA-256 of its bytes."""

    def encode(self, text: str) -> bytes:
        """Other text as this file would hold it. Raises ToolError if its encoding can't."""
        try:
            return self.bom + text.encode(self.encoding)
        except UnicodeEncodeError as error:
            character = visible(text[error.start])
            raise ToolError(f"{self.path} is written in {self.encoding}, which has no {character!r}") from None


class Workspace:
    """A directory, held by identity: if its path comes to mean another directory, nothing is found there."""

    def __init__(self, root: str | Path) -> None:
        """Raises ConfigError if `root` is no directory, or is one that holds a whole system."""
        try:
            self.root = expanded(root).resolve()
        except (OSError, RuntimeError) as error:  # the latter for links that lead to each other
            raise ConfigError(f"the workspace {root} can't be found: {error}") from None
        if not self.root.is_dir():
            raise ConfigError(f"the workspace {root} is not a directory: create it, or name another")
        if self.root.parent == self.root or self.root.parts[1] in ("proc", "sys", "dev"):
            raise ConfigError(f"{self.root} can't be a workspace: name a directory that holds only what tools may see")
        found = os.stat(self.root)
        self._identity = (found.st_dev, found.st_ino)

    # --- reading -----------------------------------------------------------------------------------------------------

    def read_bytes(self, path: str) -> bytes:
        """A file's content. Raises ToolError for what is no file, is secret or too large."""
        parts = self._parts(path)
        with self._directory(parts[:-1]) as directory:
            return self._read(directory, parts)

    def read_text(self, path: str) -> TextFile:
        """A file's text. Raises ToolError as `read_bytes` does, and for files that are no text."""
        return decode(self.shown(path), self.read_bytes(path))

    def digest_of(self, path: str) -> str:
        """SHA-256 of a file's bytes, or "" if there is none of this name."""
        parts = self._parts(path)
        try:
            with self._directory(parts[:-1]) as directory:
                return _digest(self._read(directory, parts))
        except _NotThere:
            return ""

    def entries(self, path: str = ".") -> list[Entry]:
        """What a directory holds, by name: directories first. Raises ToolError if it is none."""
        parts = self._parts(path, of_directory=True)
        with self._directory(parts) as directory:
            return self._entries(directory, parts)

    def walk(self, path: str = ".", skipped: Collection[str] = ()) -> Iterator[Entry]:
        """All files and directories below, depth first. Directories that hold secrets, and those of the names in
        `skipped`, are named but not entered."""
        for entry in self.entries(path):
            yield entry
            name = entry.path.rpartition("/")[2]
            if entry.kind == "directory" and not entry.secret and name not in skipped:
                with suppress(ToolError):  # it went away, or may not be read
                    yield from self.walk(entry.path, skipped)

    def shown(self, path: str) -> str:
        """The path as results name it: relative, with / between components."""
        return "/".join(self._parts(path, of_directory=True)) or "."

    # --- writing -----------------------------------------------------------------------------------------------------

    def replace(self, path: str, content: bytes, expected: str) -> None:
        """Put new content in a file's place at once: a reader sees the old or the new, and so does whoever comes after
        a crash. Links to the old file elsewhere keep the old content.

        `expected` is the digest of the content that is there; raises ToolError if it isn't. Between that look and the
        change there are some microseconds: what another program saves in them is lost. Mode, group and extended
        attributes (on Linux) are kept as far as the system lets us; the owner is whoever runs this, and set-id bits go.
        """
        parts = self._parts(path)
        _check_size(path, len(content))
        with self._directory(parts[:-1]) as directory, _explained(self.shown(path)):
            old = os.stat(parts[-1], dir_fd=directory, follow_symlinks=False)
            temporary = _write_temporary(directory, content, stat.S_IMODE(old.st_mode), like=parts[-1])
            try:
                if _digest(self._read(directory, parts)) != expected:
                    raise ToolError(f"{self.shown(path)} has changed meanwhile: read it again, then edit it")
                os.rename(temporary, parts[-1], src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=directory)
                raise
            os.fsync(directory)

    def names_of(self, path: str) -> int:
        """How many hard links a file has: 1 if this is its only name. Raises ToolError if it is not there."""
        parts = self._parts(path)
        with self._directory(parts[:-1]) as directory, _explained(self.shown(path)):
            return os.stat(parts[-1], dir_fd=directory, follow_symlinks=False).st_nlink

    def create(self, path: str, content: bytes) -> None:
        """Write a file that is not there yet, with the directories above it. Raises ToolError if it is there."""
        parts = self._parts(path)
        _check_size(path, len(content))
        with self._directory(parts[:-1], make=True) as directory, _explained(self.shown(path)):
            temporary = _write_temporary(directory, content, 0o644)
            try:
                _name_new(directory, temporary, parts[-1])
            except FileExistsError:
                raise ToolError(f"{self.shown(path)} is there already: edit it instead") from None
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=directory)
            os.fsync(directory)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _parts(self, path: str, *, of_directory: bool = False) -> tuple[str, ...]:
        """A path's components. Raises ToolError for one that could lead out, or to secrets."""
        name = visible(path[:200])
        if len(path) > MAX_PATH_CHARS:
            raise ToolError(f"the path is longer than {MAX_PATH_CHARS} characters")
        if "\0" in path or any("\ud800" <= c <= "\udfff" for c in path):
            raise ToolError(f"the path {name} holds a character that no file name has")
        if path.startswith(("/", "~")) or "\\" in path or (len(path) > 1 and path[1] == ":"):
            raise ToolError(f"{name} is not relative: give the path below the workspace, such as notes/today.md")
        parts = tuple(part for part in path.split("/") if part not in ("", "."))
        if ".." in parts:
            raise ToolError(f"{name} leads out with ..: give the path below the workspace")
        if not parts and not of_directory:
            raise ToolError("the path names no file")
        if len(parts) > MAX_DEPTH:
            raise ToolError(f"the path has more than {MAX_DEPTH} components")
        if (what := why_secret(parts)) is not None:
            raise ToolError(f"{name} is refused: files of this name hold secrets ({what})")
        return parts

    @contextmanager
    def _directory(self, parts: tuple[str, ...], *, make: bool = False) -> Iterator[int]:
        """A descriptor of the directory, reached without following any link."""
        with _explained("/".join(parts) or "the workspace"):
            at = os.open(self.root, _DIRECTORY)
        try:
            found = os.fstat(at)
            if (found.st_dev, found.st_ino) != self._identity:
                raise ToolError("the workspace is no longer the directory that it was: start again with the right one")
            for depth, part in enumerate(parts, 1):
                name = visible("/".join(parts[:depth]))
                with _explained(name):
                    below = _open_directory(at, part, make=make)
                os.close(at)
                at = below
                if os.fstat(at).st_dev != self._identity[0]:
                    raise ToolError(f"{name} is on another file system: only the workspace's own is used")
            yield at
        finally:
            os.close(at)

    def _read(self, directory: int, parts: tuple[str, ...]) -> bytes:
        name = visible("/".join(parts))
        with _explained(name):
            # Looked at before it is opened: opening some devices does something.
            _check_regular(os.stat(parts[-1], dir_fd=directory, follow_symlinks=False), name)
            file = os.open(parts[-1], _FILE, dir_fd=directory)
        with os.fdopen(file, "rb") as opened:
            found = os.fstat(opened.fileno())
            _check_regular(found, name)
            if found.st_dev != self._identity[0]:
                raise ToolError(f"{name} is on another file system: only the workspace's own is used")
            _check_size(name, found.st_size)
            with _explained(name):
                content = opened.read(MAX_FILE_BYTES + 1)
        _check_size(name, len(content))
        if holds_private_key(content):
            raise ToolError(f"{name} is refused: it holds a private key")
        return content

    def _entries(self, directory: int, parts: tuple[str, ...]) -> list[Entry]:
        found = []
        for name in os.listdir(directory):
            if name.startswith(_TEMPORARY):
                continue
            try:
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            except OSError:
                continue  # gone meanwhile
            path = (*parts, name)
            found.append(Entry("/".join(path), _kind(status.st_mode), status.st_size, why_secret(path) is not None))
        return sorted(found, key=lambda entry: (entry.kind != "directory", entry.path))


class _NotThere(ToolError):
    """There is nothing of this name."""


_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))


def decode(path: str, content: bytes) -> TextFile:
    """The text of a file's bytes: UTF-8, UTF-16 with its mark, else Latin-1. Raises ToolError for what is no text."""
    bom, encoding = next((pair for pair in _MARKS if content.startswith(pair[0])), (b"", "utf-8"))
    body = content[len(bom) :]
    binary = ToolError(f"{path} is not text ({len(content):,} bytes of binary data)")
    if encoding == "utf-8" and b"\0" in body:
        raise binary
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError:
        if encoding != "utf-8" or _mostly_control(body):
            raise binary from None
        encoding = "latin-1"
        text = body.decode(encoding)
    return TextFile(path, text, encoding, bom, _digest(content))


def _mostly_control(content: bytes) -> bool:
    """Whether bytes that are not UTF-8 look like no text in any one-byte encoding."""
    sample = content[:4096]
    odd = sum((byte < 32 and byte not in b"\t\n\r\f\x1b") or 0x7F <= byte < 0xA0 for byte in sample)
    return odd > len(sample) * 0.05


def _open_directory(at: int, name: str, *, make: bool) -> int:
    if make:
        with suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=at)
    return os.open(name, _DIRECTORY, dir_fd=at)


def _write_temporary(directory: int, content: bytes, mode: int, like: str = "") -> str:
    """A new file with this content, and with the group and extended attributes of another one; its name."""
    name = f"{_TEMPORARY}{random_names.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with _explained("the new file"):
        file = os.open(name, flags, 0o600, dir_fd=directory)
    try:
        with os.fdopen(file, "wb") as opened:
            opened.write(content)
            opened.flush()
            if like:
                _take_after(opened.fileno(), directory, like)
            os.fchmod(opened.fileno(), mode & 0o777)
            os.fsync(opened.fileno())
    except OSError as error:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)
        raise ToolError(f"the new content can't be written: {error.strerror}") from None
    return name


def _take_after(new: int, directory: int, name: str) -> None:
    """Give an open file the group and the extended attributes of one in the directory, as far as the system lets us."""
    with suppress(OSError):
        old = os.open(name, _FILE, dir_fd=directory)
        try:
            with suppress(OSError):
                os.fchown(new, -1, os.fstat(old).st_gid)
            for attribute in os.listxattr(old) if hasattr(os, "listxattr") else ():
                with suppress(OSError):
                    os.setxattr(new, attribute, os.getxattr(old, attribute))
        finally:
            os.close(old)


def _name_new(directory: int, temporary: str, name: str) -> None:
    """Give a new file its name. Raises FileExistsError if that is taken, where renaming alone would replace it."""
    try:
        os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:
        # A file system without links: take the name with an empty file, which the new one then replaces.
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=directory))
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """The system's refusals as sentences."""
    try:
        yield
    except FileNotFoundError:
        raise _NotThere(f"{name} is not there: list the directory to see what is") from None
    except PermissionError:
        raise ToolError(f"{name} may not be opened: the system refuses it") from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENOTDIR):
            raise ToolError(f"{name} is refused: it is a symbolic link, or no directory") from None
        if error.errno == errno.ENAMETOOLONG:
            raise ToolError("a name in the path is longer than the file system allows") from None
        raise ToolError(f"{name} can't be opened: {error.strerror}") from None


def _check_regular(found: os.stat_result, name: str) -> None:
    match _kind(found.st_mode):
        case "file":
            return
        case "directory":
            raise ToolError(f"{name} is a directory: list it instead")
        case "link":
            raise ToolError(f"{name} is refused: it is a symbolic link")
    raise ToolError(f"{name} is refused: it is a device, pipe or socket, no file")


def _check_size(name: str, size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise ToolError(f"{visible(name)} has {size:,} bytes, and {MAX_FILE_BYTES:,} are the most")


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "link" if stat.S_ISLNK(mode) else "special"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
