"""Starting the double and its storages from tests: real processes on free ports, stopped by process id."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

from .pki import Authority, Issuer, Pair, make_proxy, user_dn
from .settings import REAL_PACE

__all__ = ["REAL_PACE", "Double", "WebDav", "start_double", "start_webdav"]

START_SECONDS = 30.0
STOP_SECONDS = 15.0
TESTS = Path(__file__).resolve().parents[1]
IDENTITIES = {
    "gridmap": {user_dn(name): "farm" for name in ("alice", "carol", "banme", "admin")}
    | {user_dn(name): "other" for name in ("bob", "otheradmin")},
    "authz": {user_dn("admin"): ["config"], user_dn("otheradmin"): ["config"]},
}


class _Process:
    """A process that tells its ports on a pipe. Also a context manager that stops it."""

    def __init__(self, folder: Path, module: str, arguments: list[str]) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._module, self._arguments = module, arguments
        self._log = self.folder.with_name(self.folder.name + ".log")
        self._process: subprocess.Popen[bytes] | None = None
        self.port = self.admin_port = 0
        self.start()

    def start(self) -> None:
        """Start, on the same ports as before, and return when it listens."""
        assert self._process is None or self._process.poll() is not None, "it runs already"
        ready, told = os.pipe()
        command = [sys.executable, "-m", self._module, *self._arguments, "--ready-fd", str(told)]
        command += ["--port", str(self.port), "--admin-port", str(self.admin_port)]
        try:
            with open(self._log, "ab") as log:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(told,), cwd=TESTS
                )
        finally:
            os.close(told)
        try:
            readable, _, _ = select.select([ready], [], [], START_SECONDS)
            line = os.read(ready, 65536) if readable else b""
        finally:
            os.close(ready)
        if not line:
            self.kill()
            raise AssertionError(f"{self._module} did not start:\n{self.log()}")
        ports = json.loads(line)
        self.port, self.admin_port = ports["port"], ports["admin"]

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait(STOP_SECONDS)

    def stop(self) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"{self._module} did not stop on SIGTERM:\n{self.log()}") from None

    def restart(self) -> None:
        self.stop()
        self.start()

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """A call to the admin port; AssertionError tells what it did not like."""
        with requests.Session() as session:
            session.trust_env = False
            url = f"http://127.0.0.1:{self.admin_port}{path}"
            answer = session.request(method, url, json=body, timeout=30)
        assert answer.ok, answer.text
        return answer.json()

    def fault(self, action: str, **rule: Any) -> None:
        """Put a fault in force; its fields are those of `faults.Rule`."""
        self.admin("POST", "/faults", {"action": action, **rule})

    def clear_faults(self) -> None:
        self.admin("DELETE", "/faults")

    def requests(self) -> list[dict[str, Any]]:
        """The requests answered so far: method, path, target, user, status, seconds, at."""
        found: list[dict[str, Any]] = self.admin("GET", "/requests")
        return found

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(f"log of {self._module} in {self.folder}:\n{self.log()[-8000:]}")
        self.kill() if error is not None else self.stop()


class WebDav(_Process):
    """A storage that serves `root`."""

    def __init__(
        self, folder: Path, pki: Path | None, *, token: str = "", require_certificate: bool = False
    ) -> None:
        self.root = Path(folder) / "root"
        self._tls = pki is not None
        arguments = ["--root", str(self.root)]
        arguments += ["--pki", str(pki)] if pki is not None else []
        arguments += ["--token", token] if token else []
        arguments += ["--require-certificate"] if require_certificate else []
        super().__init__(folder, "fts3_double.webdav", arguments)

    def clear(self) -> None:
        """Remove all files and faults, and forget the requests."""
        self.clear_faults()
        self.admin("DELETE", "/requests")
        for entry in self.root.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def url(self, path: str = "", scheme: str = "") -> str:
        """A URL of this storage, `davs` or `dav` unless a scheme is given."""
        scheme = scheme or ("davs" if self._tls else "dav")
        return f"{scheme}://localhost:{self.port}/{path.lstrip('/')}"


class Double(_Process):
    """The service. Users alice, carol, banme and admin are of VO `farm`, bob and otheradmin of `other`.

    admin and otheradmin may configure; `root` is the host itself.
    """

    def __init__(self, folder: Path, pki: Path | None, options: dict[str, Any]) -> None:
        self.pki = Path(pki or Path(folder) / "pki")
        self.authority = Authority(self.pki)
        self.issuer = Issuer(self.pki)
        self._write_identities(options.pop("identities", {}))
        arguments = ["--folder", str(folder), "--pki", str(self.pki)]
        for name, value in options.items():
            arguments += ["--" + name.replace("_", "-"), str(value)]
        super().__init__(Path(folder), "fts3_double", arguments)

    def _write_identities(self, more: dict[str, Any]) -> None:
        known: dict[str, Any] = {
            **IDENTITIES,
            "issuers": {self.issuer.url: self.issuer.public_file.read_text()},
            "audiences": ["https://localhost"],
        }
        for name, value in more.items():
            known[name] = {**known.get(name, {}), **value} if isinstance(value, dict) else value
        (self.pki / "identities.json").write_text(json.dumps(known))

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def ca(self) -> Path:
        return self.authority.ca

    @property
    def user_cert(self) -> Path:
        return self.user().cert

    @property
    def user_key(self) -> Path:
        return self.user().key

    def user(self, name: str = "alice", **options: Any) -> Pair:
        """Certificate and key of a user, made at the first call; `root` is the host's own."""
        return self.authority.host() if name == "root" else self.authority.user(name, **options)

    def proxy(self, name: str = "alice", *, seconds: float = 12 * 3600) -> Path:
        """An RFC 3820 proxy of a user: certificate, key and chain in one file."""
        return make_proxy(self.user(name), self.pki / f"{name}.proxy.pem", seconds=seconds).cert

    def token(self, subject: str = "alice", **claims: Any) -> str:
        return self.issuer.token(subject, **claims)

    def settings(self, **values: Any) -> dict[str, Any]:
        """Change options while it runs; returns all of them."""
        found: dict[str, Any] = self.admin("POST", "/settings", values)
        return found

    def pause(self) -> None:
        """From now on requests hang until `resume()`."""
        self.admin("POST", "/pause", {"paused": True})

    def resume(self) -> None:
        self.admin("POST", "/pause", {"paused": False})

    def reset(self) -> None:
        """As after the start, delegations and file ids apart; for tests that share one service."""
        self.admin("POST", "/reset", {})

    def forget(self, *job_ids: str) -> int:
        """Have it forget jobs (404 from now on), all without ids; returns how many."""
        return int(self.admin("POST", "/forget", {"job_ids": list(job_ids)}))

    def set_rows(
        self,
        job_id: str,
        *,
        job: dict[str, Any] | None = None,
        files: dict[str, Any] | None = None,
        file_index: int | None = None,
    ) -> int:
        """Write columns of a job and its files as they are given, for states that are hard to come by."""
        body: dict[str, Any] = {"job_id": job_id, "jobs": job or {}, "files": files or {}}
        if file_index is not None:
            body["file_index"] = file_index
        return int(self.admin("POST", "/rows", body))

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.admin("GET", "/state")
        return found


def start_double(folder: Path | str, *, pki: Path | None = None, **options: Any) -> Double:
    """Start the service; `options` are those of `settings.Settings`, and `identities` to add users' VOs."""
    return Double(Path(folder), pki, options)


def start_webdav(folder: Path | str, *, pki: Path | None = None, **options: Any) -> WebDav:
    """Start a storage on `folder`/root; with the pki folder of a double it speaks TLS."""
    return WebDav(Path(folder), pki, **options)
