"""The workspace can't be left, whatever the path, the tree and whoever changes it meanwhile."""

import errno
import hashlib
import os
import shutil
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.errors import ConfigError
from inference.tools.definition import ToolError
from inference.tools.secrets import holds_private_key, why_secret
from inference.tools.workspace import MAX_FILE_BYTES, Workspace, decode

SECRET = b"nobody may see this"


@pytest.fixture
def around(tmp_path: Path) -> Path:
    """A directory with a workspace in it, and things beside the workspace that nobody may reach."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_bytes(SECRET)
    (tmp_path / "outside" / "only here").touch()
    root = tmp_path / "workspace"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "notes.md").write_text("hello\n")
    (root / "sub" / "deep" / "file.txt").write_text("deep\n")
    (root / "link_to_file").symlink_to(tmp_path / "outside" / "secret.txt")
    (root / "link_to_dir").symlink_to(tmp_path / "outside")
    (root / "link_inside").symlink_to("notes.md")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "pipe")
    return tmp_path


@pytest.fixture
def workspace(around: Path) -> Workspace:
    return Workspace(around / "workspace")


components = st.sampled_from(
    ["..", ".", "", "~", "sub", "deep", "link_to_dir", "link_to_file", "secret.txt", "outside", "workspace", "notes.md"]
) | st.text(max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(components, max_size=6), absolute=st.booleans())
def test_no_path_reads_or_writes_outside(around: Path, parts: list[str], absolute: bool) -> None:
    workspace = Workspace(around / "workspace")
    path = ("/" if absolute else "") + "/".join(parts)
    before = {p: p.stat().st_mtime_ns for p in (around / "outside").rglob("*")}
    with suppress(ToolError):
        assert workspace.read_bytes(path) != SECRET
    with suppress(ToolError):
        assert all("only here" not in entry.path for entry in workspace.entries(path))
    with suppress(ToolError):
        workspace.create(path, b"new")
        made = around / "workspace" / Path(*[p for p in path.split("/") if p not in ("", ".")])
        assert made.read_bytes() == b"new"
        made.unlink()
    assert {p: p.stat().st_mtime_ns for p in (around / "outside").rglob("*")} == before
    assert sorted(p.name for p in around.iterdir()) == ["outside", "workspace"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("link_to_file", "symbolic link"),
        ("link_to_dir/secret.txt", "symbolic link"),
        ("link_inside", "symbolic link"),
        ("loop", "symbolic link"),
        ("pipe", "pipe"),
        ("sub", "directory"),
        ("missing", "not there"),
        ("notes.md/x", "no directory"),
        ("../outside/secret.txt", ".."),
        ("/etc/passwd", "relative"),
        ("~/x", "relative"),
        ("C:\\x", "relative"),
        ("a\0b", "no file name"),
        ("", "no file"),
        (".env", "secret"),
        (".ENV", "secret"),
        ("sub/.ssh/id_rsa", "secret"),
        (".git/config", "secret"),
        (".g\u200cit/config", "secret"),
        ("x" * 300, "longer"),
        ("x/" * 60 + "y", "components"),
        ("x" * 2000, "longer"),
    ],
)
def test_refusals_say_why(workspace: Workspace, path: str, said: str) -> None:
    with pytest.raises(ToolError) as refusal:
        workspace.read_bytes(path)
    assert said in str(refusal.value)


def test_devices_and_sockets_are_refused_without_being_opened(workspace: Workspace) -> None:
    place = os.getcwd()
    os.chdir(workspace.root)  # the path of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("sock")
    finally:
        os.chdir(place)
    with pytest.raises(ToolError, match="device, pipe or socket"):
        workspace.read_bytes("sock")
    try:
        os.mknod(workspace.root / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except OSError:
        return  # only root makes devices
    with pytest.raises(ToolError, match="device, pipe or socket"):
        workspace.read_bytes("zero")


def test_a_directory_that_becomes_a_link_leads_nowhere(around: Path, workspace: Workspace) -> None:
    """A component is swapped for a link to the outside, over and over, while it is read and written through."""
    good, bad, name = around / "workspace" / "swap_a", around / "workspace" / "swap_b", around / "workspace" / "swap"
    good.mkdir()
    (good / "secret.txt").write_bytes(b"harmless")
    bad.symlink_to(around / "outside")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            try:
                good.rename(name)
                name.rename(good)
                bad.rename(name)
                name.rename(bad)
            except OSError:  # `create` has made a directory where there was none
                shutil.rmtree(name, ignore_errors=True)

    swapping = threading.Thread(target=swap)
    swapping.start()
    reached = 0
    try:
        for number in range(100_000):
            if number >= 1500 and reached:
                break
            try:
                assert workspace.read_bytes("swap/secret.txt") == b"harmless"
                reached += 1
                digest = workspace.digest_of("swap/secret.txt")
                if digest:
                    workspace.replace("swap/secret.txt", b"harmless", digest)
                workspace.create(f"swap/new{number}", b"x")
            except ToolError:
                pass
    finally:
        stop.set()
        swapping.join()
    assert reached, "the swap was never where the read could see it"
    assert (around / "outside" / "secret.txt").read_bytes() == SECRET
    assert sorted(p.name for p in (around / "outside").iterdir()) == ["only here", "secret.txt"]


def test_a_workspace_that_is_replaced_is_noticed(around: Path, workspace: Workspace) -> None:
    (around / "workspace").rename(around / "away")
    (around / "workspace").symlink_to(around / "outside")
    with pytest.raises(ToolError):
        workspace.read_bytes("secret.txt")
    (around / "workspace").unlink()
    (around / "workspace").mkdir()
    (around / "workspace" / "secret.txt").write_text("x")
    with pytest.raises(ToolError, match="no longer the directory"):
        workspace.read_bytes("secret.txt")


@pytest.mark.parametrize("root", ["/", "/proc", "/proc/self", "/dev", "/no/such/directory", __file__])
def test_roots_that_hold_a_system_are_refused(root: str) -> None:
    with pytest.raises(ConfigError):
        Workspace(root)


def test_a_walk_does_not_enter_links_and_secrets(workspace: Workspace) -> None:
    (workspace.root / ".ssh").mkdir()
    (workspace.root / ".ssh" / "id_rsa").write_text("key")
    found = {entry.path: (entry.kind, entry.secret) for entry in workspace.walk()}
    assert found["sub/deep/file.txt"] == ("file", False)
    assert found["link_to_dir"] == ("link", False)
    assert found["pipe"] == ("special", False)
    assert found[".ssh"] == ("directory", True)
    assert not any(path.startswith((".ssh/", "link_to_dir/")) for path in found)


def test_replacing_keeps_mode_and_other_links_and_needs_the_content_it_expects(workspace: Workspace) -> None:
    file = workspace.root / "notes.md"
    file.chmod(0o640)
    os.link(file, workspace.root / "other name")
    with pytest.raises(ToolError, match="changed meanwhile"):
        workspace.replace("notes.md", b"new", hashlib.sha256(b"something else").hexdigest())
    assert file.read_bytes() == b"hello\n"
    workspace.replace("notes.md", b"new", workspace.digest_of("notes.md"))
    assert file.read_bytes() == b"new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert (workspace.root / "other name").read_bytes() == b"hello\n"
    assert not [p for p in workspace.root.iterdir() if p.name.startswith(".glasschat")]


def test_replacing_keeps_group_and_attributes_where_it_may(workspace: Workspace) -> None:
    file = workspace.root / "notes.md"
    groups = [group for group in (os.getgroups() if os.geteuid() else [os.getgid(), 4242]) if group != os.getgid()]
    if groups:
        os.chown(file, -1, groups[0])
    attributes = set_attribute(file)
    group = file.stat().st_gid
    workspace.replace("notes.md", b"new", workspace.digest_of("notes.md"))
    assert file.stat().st_gid == group
    assert attributes == ({name: os.getxattr(file, name) for name in attributes} if attributes else {})


def set_attribute(file: Path) -> dict[str, bytes]:
    """An extended attribute, where system and file system have such a thing."""
    try:
        os.setxattr(file, "user.origin", b"here")
    except (AttributeError, OSError):
        return {}
    return {"user.origin": b"here"}


def test_a_file_s_other_names_are_counted(workspace: Workspace) -> None:
    assert workspace.names_of("notes.md") == 1
    os.link(workspace.root / "notes.md", workspace.root / "other name")
    assert workspace.names_of("notes.md") == 2
    with pytest.raises(ToolError, match="not there"):
        workspace.names_of("missing")


def test_creating_makes_directories_and_never_replaces(workspace: Workspace) -> None:
    workspace.create("a/b/c.txt", b"1")
    assert (workspace.root / "a" / "b" / "c.txt").read_bytes() == b"1"
    for path in ("a/b/c.txt", "link_to_file", "sub", "pipe"):
        with pytest.raises(ToolError):
            workspace.create(path, b"2")
    assert (workspace.root / "a" / "b" / "c.txt").read_bytes() == b"1"


def test_creating_where_no_links_can_be_made(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    test_creating_makes_directories_and_never_replaces(workspace)
    assert not [p for p in (workspace.root / "a" / "b").iterdir() if p.name.startswith(".glasschat")]


def test_sizes(workspace: Workspace) -> None:
    (workspace.root / "big").write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    with pytest.raises(ToolError, match="most"):
        workspace.read_bytes("big")
    with pytest.raises(ToolError, match="most"):
        workspace.create("bigger", b"x" * (MAX_FILE_BYTES + 1))
    assert not (workspace.root / "bigger").exists()


def test_a_private_key_is_refused_under_any_name(workspace: Workspace) -> None:
    (workspace.root / "readme.txt").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n")
    with pytest.raises(ToolError, match="private key"):
        workspace.read_bytes("readme.txt")


KEYS = [
    b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n",
    b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n",
    b'{"private_key": "-----BEGIN PRIVATE KEY-----\\n',
    b"PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nPublic-Lines: 2\n",
    b"AGE-SECRET-KEY-1",
]


@given(st.integers(0, 20_000), st.sampled_from(KEYS), st.booleans())
def test_a_private_key_is_found_wherever_it_stands(before: int, key: bytes, wide: bool) -> None:
    content = b"text " * (before // 5) + key + b"Ab0+" * 16 + b"\nmore text"
    assert holds_private_key(content.decode().encode("utf-16") if wide else content)


@given(st.binary(max_size=200), st.integers(0, 300))
def test_a_text_that_speaks_of_keys_is_no_key(noise: bytes, words: int) -> None:
    assert not holds_private_key(noise.replace(b"-", b""))
    text = b"A file of many words. " * 300 + b"It begins with -----BEGIN RSA PRIVATE KEY-----, " + b"and so on " * words
    assert not holds_private_key(text)


@pytest.mark.parametrize(
    "path",
    [
        ".config/gh/hosts.yml",
        "gh/hosts.yml",
        ".vault-token",
        "kubeconfig",
        "prod.kubeconfig",
        ".netrc.bak",
        ".netrc~",
        ".netrc.swp",
        "prod.env.bak",
        "prod.env.bak.2",
        ".env-prod",
        ".env_prod",
        ".prod.env.swp",
        "service-account.json",
        "my-service-account-key.json",
        ".terraform.d/credentials.tfrc.json",
        "terraform.tfstate.backup",
        ".boto",
        "wallet.dat",
        "key4.db",
        "server.key.old",
        "#id_rsa#",
        "id_ed25519.bak",
        ".config/gcloud/anything",
        ".local/share/keyrings/login.keyring",
        ".Config/GH/Hosts.yml.bak",
    ],
)
def test_paths_of_secrets_and_of_their_copies(path: str) -> None:
    assert why_secret(path.split("/")) is not None


@pytest.mark.parametrize(
    "path",
    [
        "hosts.yml",
        "ansible/hosts.yml",
        "config.yml",
        "keys.py",
        "src/auth.json",
        "src/cookies",
        "key.db",
        "environment.bak",
        ".env.example",
        ".env-example",
        ".env.example.bak",
        ".env.dist",
        "id_rsa.pub~",
        "notes.2024",
        "accounts/service.json",
        "terraform.tf",
    ],
)
def test_paths_that_look_like_secrets_and_are_none(path: str) -> None:
    assert why_secret(path.split("/")) is None


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("notes.md", False),
        (".env", True),
        (".env.local", True),
        (".env.example", False),
        ("Prod.ENV", True),
        ("server.pem", True),
        ("ｓｅｒｖｅｒ.ｐｅｍ", True),
        ("id_rsa", True),
        ("id_rsa.pub", False),
        (".env. ", True),
        ("monkey.py", False),
        ("environment.md", False),
        (".git", True),
        (".gitignore", False),
    ],
)
def test_the_table_of_secrets(name: str, secret: bool) -> None:
    assert (why_secret([name]) is not None) is secret
    assert (why_secret(["a", name, "b"]) is not None) is (name == ".git")


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)


@given(texts.filter(lambda t: "\0" not in t), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_text_comes_back_in_its_encoding(text: str, encoding: str) -> None:
    content = text.encode(encoding)
    if encoding == "utf-8" and content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return
    file = decode("f", content)
    if not text.startswith("\ufeff"):
        assert file.text == text
    assert file.encode(file.text) == content
    assert file.digest == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\x00\x00", b"\x7fELF\x02\x01\x00", bytes(range(128, 256)) * 4])
def test_binary_is_said_to_be_so(content: bytes) -> None:
    with pytest.raises(ToolError, match="binary"):
        decode("f", content)


def test_latin_1_is_read_and_refuses_what_it_cannot_hold() -> None:
    file = decode("f", "Grüße aus Köln".encode("latin-1"))
    assert (file.text, file.encoding) == ("Grüße aus Köln", "latin-1")
    with pytest.raises(ToolError, match="latin-1"):
        file.encode("日本")


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    """Every descriptor that a walk opens is closed again."""
    if not os.path.isdir("/proc/self/fd"):
        yield
        return
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) <= before
