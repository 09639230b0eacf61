"""The system's `git`, run under a tight rein: bounded time, bounded output, no prompts, one protocol.

The repository that we keep has no configuration of its own beyond what `git init` writes. That of the account
(~/.gitconfig) counts, for proxies, certificate authorities and credential helpers; the machine's does not.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import selectors
import shlex
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO
from urllib.parse import urlsplit

from agent.model.outcome import RetryableError
from agent.model.printable import printable
from agent.specs.git.options import GitOptions

OUTPUT_LIMIT = 1 << 20
ERROR_LIMIT = 16 << 10
MESSAGE_LIMIT = 300
FILE_LIMIT = 4 << 30
"""No file that git writes, a pack above all, grows larger than this."""
LOCAL_SECONDS = 60.0

_PASSED = (
    "PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR",
    "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
)  # fmt: skip
_SETTINGS = (
    "core.hooksPath=/dev/null", "core.fsmonitor=false", "core.alternateRefsCommand=",
    "fetch.recurseSubmodules=false", "submodule.recurse=false",
    "transfer.fsckObjects=true", "fetch.fsckObjects=true", "fetch.writeCommitGraph=false",
    "gc.auto=0", "maintenance.auto=false", "log.showSignature=false", "i18n.logOutputEncoding=UTF-8",
    "http.lowSpeedLimit=100", "http.lowSpeedTime=60", "advice.detachedHead=false",
)  # fmt: skip


_VARYING = re.compile(r" after \d+ ms")
"""What makes two failures of one kind look different: they would be told twice."""


class GitError(RetryableError):
    """git did not do it; the message is what it said last, made safe to show."""


class StoppedError(GitError):
    """The agent ends."""


class Git:
    """Runs git on one bare repository. One call at a time; `stop` may be called from any thread."""

    def __init__(self, directory: str, options: GitOptions, environ: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self._environ = _environment(options, os.environ if environ is None else environ)
        self._settings = (*_SETTINGS, *_credential_settings(options))
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def run(
        self,
        *arguments: str,
        seconds: float = LOCAL_SECONDS,
        limit: int = OUTPUT_LIMIT,
        stdin: bytes = b"",
        settings: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
    ) -> bytes:
        """What git wrote to its standard output. GitError when it fails, takes too long or says too much."""
        command = ["git"]
        for setting in (*self._settings, *settings):
            command += ["-c", setting]
        command += ["--git-dir", self.directory, *arguments]
        with tempfile.TemporaryFile() as given:
            given.write(stdin)
            given.seek(0)
            process = self._start(command, given, {**self._environ, **(environ or {})})
        try:
            output, errors, problem = _read(process, time.monotonic() + seconds, limit)
        finally:
            self._end(process)
        if self._stopped:
            raise StoppedError("the agent ends")
        if problem or process.returncode:
            raise GitError(f"git {arguments[0]}: {problem or _message(errors)}")
        return output

    def stop(self) -> None:
        """End what runs now, and run nothing any more."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                _kill(self._process)

    def _start(
        self, command: list[str], stdin: IO[bytes], environ: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped:
                raise StoppedError("the agent ends")
            try:
                process = subprocess.Popen(
                    command,
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=environ,
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                raise GitError(f"the git program cannot be started: {error.strerror}; install git") from error
            with contextlib.suppress(OSError):  # it may have ended already
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (FILE_LIMIT, FILE_LIMIT))
            self._process = process
            return process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._process = None
            _kill(process)
            process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With its helpers: they are its process group, whose number is ours until it is reaped."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _read(process: subprocess.Popen[bytes], deadline: float, limit: int) -> tuple[bytes, bytes, str]:
    """(output, end of the error text, why it was given up or empty). The process is not reaped."""
    out, errors = (pipe.fileno() for pipe in (process.stdout, process.stderr) if pipe is not None)
    found = {out: bytearray(), errors: bytearray()}
    ended = os.pidfd_open(process.pid)
    try:
        with selectors.DefaultSelector() as selector:
            for descriptor in (out, errors, ended):
                selector.register(descriptor, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select(max(0.0, deadline - time.monotonic()))}
                if not ready:
                    return b"", b"", "it took too long and was ended"
                if ready == {ended}:  # a helper that outlives git is not waited for
                    return bytes(found[out]), bytes(found[errors]), ""
                for descriptor in ready - {ended}:
                    data = os.read(descriptor, 1 << 16)
                    found[descriptor] += data
                    if not data:
                        selector.unregister(descriptor)
                if len(found[out]) > limit:
                    return b"", b"", f"it says more than the {limit:,} bytes that are read"
                del found[errors][:-ERROR_LIMIT]
    finally:
        os.close(ended)


def _environment(options: GitOptions, environ: Mapping[str, str]) -> dict[str, str]:
    found = {name: environ[name] for name in _PASSED if name in environ}
    found.setdefault("PATH", os.defpath)
    ssh = ["ssh", "-oBatchMode=yes", "-oConnectTimeout=20", "-oServerAliveInterval=15"]
    if options.ssh_key is not None:
        ssh += ["-oIdentitiesOnly=yes", "-i", options.ssh_key]
    return found | {
        "LC_ALL": "C",
        "GIT_ALLOW_PROTOCOL": options.scheme,
        "GIT_ASKPASS": "",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_SSH_COMMAND": shlex.join(ssh),
        "GIT_SSH_VARIANT": "ssh",
        "GIT_TERMINAL_PROMPT": "0",
    }


def _credential_settings(options: GitOptions) -> tuple[str, ...]:
    """The file is only ever read (git's own helper would take a refused entry out of it), and only for the
    host of the repository: one that we are sent on to is not shown what is in it."""
    if options.credentials_file is None:
        return ()
    parts = urlsplit(options.url)
    store = f"git credential-store --file={shlex.quote(options.credentials_file)} get"
    helper = f'!f() {{ test "$1" = get && exec {store}; }}; f'
    return ("credential.helper=", f"credential.{parts.scheme}://{parts.netloc}.helper={helper}")


def _message(stderr: bytes) -> str:
    """The line that says why; what the other end said is text of strangers."""
    lines = [line for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    reasons = [n for n, line in enumerate(lines) if line.startswith(("fatal:", "error:", "remote: error:"))]
    at = reasons[0] if reasons else 0
    if at and "Could not read from remote repository" in lines[at]:
        at -= 1  # ssh has said it, in its own words
    text = lines[at] if lines else "it did not say why"
    text = _VARYING.sub("", text.removeprefix("fatal:").removeprefix("error:").strip())
    return printable(text[:MESSAGE_LIMIT])
