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
    ".password-store": "passwords",
}

SECRET_FILES = {
    ".env": "environment secrets",
    ".env.*": "environment secrets",
    "*.env": "environment secrets",
    ".envrc": "environment secrets",
    "*.pem": "a key or certificate",
    "*.key": "a key",
    "*.p8": "a key",
    "*.p12": "a key store",
    "*.pfx": "a key store",
    "*.jks": "a key store",
    "*.keystore": "a key store",
    "*.kdb": "a password database",
    "*.kdbx": "a password database",
    "*.ppk": "an SSH key",
    "*.gpg": "encrypted data or a key",
    "id_rsa*": "an SSH key",
    "id_dsa*": "an SSH key",
    "id_ecdsa*": "an SSH key",
    "id_ed25519*": "an SSH key",
    ".netrc": "passwords",
    "_netrc": "passwords",
    ".pgpass": "passwords",
    ".my.cnf": "passwords",
    ".htpasswd": "passwords",
    ".npmrc": "registry tokens",
    ".pypirc": "registry tokens",
    ".git-credentials": "Git credentials",
    ".gitconfig": "Git settings, which may hold credentials and commands",
    ".gitmodules": "Git settings, which may hold credentials",
    "credentials": "credentials",
    "credentials.json": "credentials",
    "credentials.toml": "credentials",
    "client_secret*.json": "credentials",
    "service_account*.json": "credentials",
    "secrets.json": "secrets",
    "secrets.toml": "secrets",
    "secrets.yaml": "secrets",
    "secrets.yml": "secrets",
    "*.tfstate": "Terraform's state, which holds secrets",
    "*.tfvars": "Terraform's variables, which hold secrets",
    ".*_history": "a shell's history",
}

HARMLESS = ("*.example", "*.sample", "*.template", "*.pub")
"""Patterns of names that are meant to be shown though one above fits them."""

PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
"""What the beginning of a file is searched for, whatever its name."""


def why_secret(parts: Sequence[str]) -> str | None:
    """What a file with these path components (the last is its name) holds that nobody may read; None if nothing."""
    for part in parts:
        if (what := SECRET_DIRECTORIES.get(_folded(part))) is not None:
            return what
    name = _folded(parts[-1]) if parts else ""
    if any(fnmatchcase(name, pattern) for pattern in HARMLESS):
        return None
    return next((what for pattern, what in SECRET_FILES.items() if fnmatchcase(name, pattern)), None)


def _folded(name: str) -> str:
    compatible = unicodedata.normalize("NFKC", name).casefold()
    kept = "".join(c for c in compatible if unicodedata.category(c) not in ("Cf", "Cc", "Mn"))
    return kept.rstrip(". ")
