"""Whether a commit, or the annotated tag that names it, is signed by a key of the keyring.

The keyring's file decides what kind of keys are meant: OpenPGP public keys, as `gpg --export` writes them, or
lines of ssh's allowed signers. Signatures of the other kind are refused.
"""

from __future__ import annotations

import binascii
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from agent.model.outcome import PermanentError
from agent.model.printable import printable
from agent.specs.git.export import CommitRefusedError
from agent.specs.git.program import Git, GitError, StoppedError
from agent.specs.git.repository import Commit, Ref

MAX_KEYRING = 16 << 20
_SSH_LINE = re.compile(rb"^[^#\s]\S*\s+(?:\S+\s+)*?(?:sk-)?(?:ssh|ecdsa)-\S+\s+\S+", re.MULTILINE)
_ARMOUR = re.compile(
    rb"^-----BEGIN PGP PUBLIC KEY BLOCK-----\s*\n(?:[A-Za-z]+: .*\n)*\s*\n"
    rb"([A-Za-z0-9+/\s]+=*\s*)(?:^=|-----END)",
    re.MULTILINE,
)
_NO_OTHER = ("gpg.x509.program=false",)


class UnsignedError(CommitRefusedError):
    """Not signed, or not by a key of the keyring."""


def keyring_digest(path: str) -> str:
    """Changes when the keyring does. PermanentError when it cannot be read."""
    return hashlib.sha256(_read(path)).hexdigest()


def is_ssh(keyring: bytes) -> bool:
    """Allowed signers of ssh; else OpenPGP keys. PermanentError when it is neither."""
    if keyring.startswith(b"-----BEGIN PGP PUBLIC KEY") or keyring[:1] >= b"\x80":
        return False
    if _SSH_LINE.search(keyring):
        return True
    raise PermanentError(
        "the keyring holds neither OpenPGP public keys (`gpg --export`) nor ssh's allowed signers "
        "(`NAME ssh-ed25519 AAAA…`)"
    )


def verify(git: Git, commit: Commit, ref: Ref, keyring: str, scratch: str) -> None:
    """Return when it is signed. UnsignedError; PermanentError, when the keyring is no use; GitError."""
    ssh = is_ssh(_read(keyring))
    with _trusting(keyring, ssh, scratch) as (settings, environ):
        problems = []
        for verb, name in _signed(git, commit, ref):
            try:
                git.run(verb, "--raw", name, settings=settings, environ=environ)
            except StoppedError:
                raise
            except GitError as error:
                problems.append(str(error))
            else:
                return
    kind = "ssh" if ssh else "OpenPGP"
    raise UnsignedError(
        f"commit {commit.id[:12]} is not signed by any {kind} key of {printable(keyring)}; it is not taken. "
        "Sign it, or add its author's key"
    )


def _signed(git: Git, commit: Commit, ref: Ref) -> Iterator[tuple[str, str]]:
    """What may carry the signature. A tag counts only under its own name: a signed one that is pushed under
    another name says nothing about that name."""
    if commit.object != commit.id:
        text = git.run("cat-file", "tag", commit.object)
        name = re.search(rb"^tag (.+)$", text.partition(b"\n\n")[0], re.MULTILINE)
        if name is not None and ref.name == "refs/tags/" + name[1].decode("utf-8", "replace"):
            yield "verify-tag", commit.object
    yield "verify-commit", commit.id


@contextmanager
def _trusting(keyring: str, ssh: bool, scratch: str) -> Iterator[tuple[tuple[str, ...], dict[str, str]]]:
    """(settings, environment) under which git trusts the keyring and nothing else."""
    os.makedirs(scratch, mode=0o700, exist_ok=True)
    home = tempfile.mkdtemp(prefix="keys-", dir=scratch)
    try:
        if ssh:
            allowed = f"gpg.ssh.allowedSignersFile={keyring}"
            yield (*_NO_OTHER, "gpg.openpgp.program=false", "gpg.program=false", allowed), {"GNUPGHOME": home}
        else:
            _place(keyring, home)
            openpgp = ("gpg.openpgp.program=gpg", "gpg.program=gpg", "gpg.ssh.program=false")
            yield (*_NO_OTHER, *openpgp, "gpg.minTrustLevel=undefined"), {"GNUPGHOME": home}
    finally:
        shutil.rmtree(home, ignore_errors=True)


def openpgp_keys(keyring: bytes) -> bytes:
    """The binary form of one or more armoured blocks. (It is what gpg takes for a keyring as it is; `gpg
    --import` wants a socket, for which a state directory's path may be too long.) PermanentError."""
    if not keyring.startswith(b"-----BEGIN"):
        return keyring
    try:
        return b"".join(binascii.a2b_base64(body) for body in _ARMOUR.findall(keyring))
    except binascii.Error as error:
        raise PermanentError("the keyring is damaged: its armour cannot be decoded") from error


def _place(keyring: str, home: str) -> None:
    if shutil.which("gpg") is None:
        raise PermanentError("gpg is not installed, which checks OpenPGP signatures; install gnupg")
    with open(os.path.join(home, "pubring.gpg"), "xb") as file:
        file.write(openpgp_keys(_read(keyring)))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_KEYRING + 1)
    except OSError as error:
        raise PermanentError(f"cannot read the keyring {printable(path)}: {error.strerror}") from error
    if len(data) > MAX_KEYRING:
        raise PermanentError(f"the keyring {printable(path)} is larger than {MAX_KEYRING >> 20} MiB")
    return data
