"""Files that no tool reads or writes, for what they hold: keys, passwords, tokens. A table to be read and extended.

Names are compared without case and without characters that file systems ignore or fold, so that ".ENV" or a name with
an invisible character in it is the same file here as it is there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from fnmatch import fnmatchcase

SECRET_DIRECTORIES = {
    ".ssh": "SSH keys",
    ".gnupg": "GnuPG keys",
    ".git": "Git's own files, among them credentials and hooks that run",
    ".hg": "Mercurial's own files, among them credentials and hooks that run",
    ".svn": "Subversion's own files, among them credentials",
    ".aws": "AWS credentials",
    ".azure": "Azure credentials",
    ".gcloud": "Google Cloud credentials",
    ".kube": "Kubernetes credentials",
    ".docker": "Docker credentials",
    ".oci": "Oracle Cloud credentials",
    ".password-store": "passwords",
}

SECRET_PATHS = {
    "gh/hosts.yml": "GitHub tokens",
    "glab-cli/config.yml": "GitLab tokens",
    ".config/hub": "GitHub tokens",
    ".config/gcloud": "Google Cloud credentials",
    ".config/op": "1Password's files",
    ".config/git/credentials": "Git credentials",
    ".m2/settings.xml": "Maven passwords",
    ".gradle/gradle.properties": "registry passwords",
    ".bundle/config": "registry passwords",
    ".local/share/keyrings": "a key ring",
    "library/keychains": "a key chain",
}
"""Components that stand next to each other somewhere in a path."""

SECRET_FILES = {
    ".env": "environment secrets",
    ".env.*": "environment secrets",
    ".env[-_]*": "environment secrets",
    "*.env": "environment secrets",
    "*.env.local": "environment secrets",
    ".envrc": "environment secrets",
    "*.pem": "a key or certificate",
    "*.key": "a key",
    "*.p8": "a key",
    "*.p12": "a key store",
    "*.pkcs12": "a key store",
    "*.pfx": "a key store",
    "*.jks": "a key store",
    "*.keystore": "a key store",
    "*.kdb": "a password database",
    "*.kdbx": "a password database",
    "*.keychain": "a key chain",
    "*.keychain-db": "a key chain",
    "key[34].db": "a browser's keys",
    "logins.json": "a browser's passwords",
    "login data": "a browser's passwords",
    "cookies.sqlite": "a browser's cookies",
    "wallet.dat": "a wallet's keys",
    "*.ovpn": "a VPN's settings, which may hold keys",
    "*.ppk": "an SSH key",
    "*.gpg": "encrypted data or a key",
    "id_rsa*": "an SSH key",
    "id_dsa*": "an SSH key",
    "id_ecdsa*": "an SSH key",
    "id_ed25519*": "an SSH key",
    ".netrc": "passwords",
    "_netrc": "passwords",
    ".authinfo": "passwords",
    ".pgpass": "passwords",
    "pgpass.conf": "passwords",
    ".my.cnf": "passwords",
    ".mylogin.cnf": "passwords",
    ".htpasswd": "passwords",
    ".passwd-s3fs": "passwords",
    ".smbcredentials": "passwords",
    ".vault-token": "a Vault token",
    "kubeconfig": "Kubernetes credentials",
    "*.kubeconfig": "Kubernetes credentials",
    "kubeconfig.*": "Kubernetes credentials",
    ".boto": "credentials of a cloud",
    ".s3cfg": "credentials of a cloud",
    ".databrickscfg": "credentials of a cloud",
    "rclone.conf": "credentials of clouds",
    ".rclone.conf": "credentials of clouds",
    ".dockercfg": "registry tokens",
    ".npmrc": "registry tokens",
    ".pypirc": "registry tokens",
    ".git-credentials": "Git credentials",
    ".gitconfig": "Git settings, which may hold credentials and commands",
    ".gitmodules": "Git settings, which may hold credentials",
    "credentials": "credentials",
    "credentials.json": "credentials",
    "credentials.toml": "credentials",
    "credentials.db": "credentials",
    "credentials.tfrc.json": "Terraform's credentials",
    ".terraformrc": "Terraform's settings, which may hold credentials",
    "terraform.rc": "Terraform's settings, which may hold credentials",
    "application_default_credentials.json": "Google Cloud credentials",
    "access_tokens.db": "Google Cloud credentials",
    "client_secret*.json": "credentials",
    "*service?account*.json": "credentials",
    "*serviceaccount*.json": "credentials",
    "secrets.json": "secrets",
    "secrets.toml": "secrets",
    "secrets.yaml": "secrets",
    "secrets.yml": "secrets",
    "*.tfstate": "Terraform's state, which holds secrets",
    "*.tfstate.*": "Terraform's state, which holds secrets",
    "*.tfvars": "Terraform's variables, which hold secrets",
    ".*_history": "a shell's history",
}

HARMLESS = ("*[-_.]example", "*[-_.]sample", "*[-_.]template", "*.dist", "*.pub")
"""Patterns of names that are meant to be shown though one above fits them."""

_BACKUP = re.compile(r"(?:[._-](?:bak|backup|old|orig|save|saved|copy|tmp|swp|swo|rpmsave|dpkg-old|\d{1,14})|~|#)+$")
"""What editors and people put behind the name of a file that they keep."""
_KEY_BEGINS = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|PuTTY-User-Key-File-\d|AGE-SECRET-KEY-1")
_KEY_SIGNS = (b"PRIVATE KEY", b"PuTTY-User-Key-File-", b"AGE-SECRET-KEY-1")
"""One of these is in every key; looked for first, since nearly all files have none."""
_KEY = re.compile(rb"(?:" + _KEY_BEGINS.pattern + rb").{0,400}?[A-Za-z0-9+/]{40}", re.DOTALL)
_BEGINNING = 4096
"""Bytes of a file in which the first line of a key is enough to take it for one."""


def why_secret(parts: Sequence[str]) -> str | None:
    """What a file with these path components (the last is its name) holds that nobody may read; None if nothing."""
    folded = [_folded(part) for part in parts]
    for part in folded:
        if (what := SECRET_DIRECTORIES.get(part)) is not None:
            return what
    name = folded[-1] if folded else ""
    plain = _BACKUP.sub("", name.lstrip("#"))
    path = f"/{'/'.join([*folded[:-1], plain])}/"
    if (what := next((what for known, what in SECRET_PATHS.items() if f"/{known}/" in path), None)) is not None:
        return what
    if any(fnmatchcase(each, pattern) for pattern in HARMLESS for each in (name, plain)):
        return None
    names = (name, plain, plain.lstrip("."))  # a swap file of Vim has a dot before the name
    return next((what for pattern, what in SECRET_FILES.items() if any(fnmatchcase(n, pattern) for n in names)), None)


def holds_private_key(content: bytes) -> bool:
    """Whether a file's content is, or has in it, a private key, whatever its name.

    At the beginning the line that a key begins with is enough. Further down there must be something of the key itself:
    texts that only speak of keys can be read.
    """
    plain = content.replace(b"\0", b"")  # as UTF-16 has them between the letters
    if not any(sign in plain for sign in _KEY_SIGNS):
        return False
    return bool(_KEY_BEGINS.search(plain[:_BEGINNING]) or _KEY.search(plain))


def _folded(name: str) -> str:
    compatible = unicodedata.normalize("NFKC", name).casefold()
    kept = "".join(c for c in compatible if unicodedata.category(c) not in ("Cf", "Cc", "Mn"))
    return kept.rstrip(". ")
