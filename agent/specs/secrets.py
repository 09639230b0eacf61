"""Secret references -> secrets. An error names the reference and what was tried, never the value."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from agent.model.outcome import PermanentError
from agent.model.spec import SecretRef, SecretSource
from agent.specs.commands import CommandError, run
from agent.specs.policy import Policy

MAX_SECRET = 64 * 2**10


def resolve(
    ref: SecretRef, environ: Mapping[str, str], credentials_dir: str | None, policy: Policy | None = None
) -> str:
    """The secret, without one newline at its end. `credentials_dir` is systemd's $CREDENTIALS_DIRECTORY.

    Raises PermanentError: it is missing, empty, too large or not text. A command that the policy lists is
    run; one that fails is a RetryableError.
    """
    name = f"secret {{{ref.source}: {ref.name}}}"
    match ref.source:
        case SecretSource.ENV:
            value = environ.get(ref.name)
            if value is None:
                raise PermanentError(
                    f"{name}: the environment of the agent has no variable {ref.name}; set it"
                )
        case SecretSource.FILE:
            value = _read(name, ref.name)
        case SecretSource.CREDENTIAL:
            if not credentials_dir:
                raise PermanentError(
                    f"{name}: the agent was started without credentials; "
                    f"add LoadCredential={ref.name}:/PATH to its unit, or set CREDENTIALS_DIRECTORY"
                )
            if "/" in ref.name or ref.name in (".", ".."):
                raise PermanentError(f"{name}: not the name of a credential")
            value = _read(name, os.path.join(credentials_dir, ref.name))
        case SecretSource.COMMAND:
            value = _run(name, ref, environ, policy)
    value = value.removesuffix("\n").removesuffix("\r")
    if not value:
        raise PermanentError(f"{name}: is empty")
    return value


def _read(name: str, path: str) -> str:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise PermanentError(f"{name}: {path} is not a regular file")
            data = file.read(MAX_SECRET + 1)
    except OSError as error:
        raise PermanentError(f"{name}: cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise PermanentError(f"{name}: not a valid file name") from None
    if len(data) > MAX_SECRET:
        raise PermanentError(f"{name}: {path} is larger than {MAX_SECRET // 1024} KiB; is it the right file?")
    return _text(f"{name}: {path}", data)


def _text(what: str, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        # the decoding error would carry the bytes
        raise PermanentError(f"{what} is not UTF-8 text") from None


def _run(name: str, ref: SecretRef, environ: Mapping[str, str], policy: Policy | None) -> str:
    """What the command prints. Of what it says when it fails nothing is repeated: it may hold the secret."""
    command = policy.command(ref.argv) if policy is not None else None
    if command is None:
        raise PermanentError(f"{name}: no policy allows this command; list it in `spec.secrets.commands`")
    try:
        ended = run(command, b"", environ, limit=MAX_SECRET)
    except CommandError as error:
        raise CommandError(f"{name}: {error}") from None
    if ended.returncode:
        raise CommandError(f"{name}: ended with {ended.returncode}; run it by hand as the agent's user")
    if ended.dropped:
        raise PermanentError(f"{name}: it printed more than {MAX_SECRET // 1024} KiB")
    return _text(f"{name}: what it printed", ended.output)
