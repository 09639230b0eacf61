"""A plain caller of the service for its own tests: one user, one session."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Any

import requests
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from .pki import Pair, sign_proxy
from .run import Double

END_STATES = ("FINISHED", "FINISHEDDIRTY", "FAILED", "CANCELED")


class Caller:
    """Requests of one user: by certificate, by proxy file, by token, or of nobody."""

    def __init__(
        self, double: Double, user: str | None = "alice", *, proxy: Path | None = None, token: str = ""
    ) -> None:
        self.double = double
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = str(double.ca)
        self._session.headers["Accept"] = "application/json"
        self.pair: Pair | None = None
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"
        elif proxy is not None or user is not None:
            self.pair = Pair(proxy, proxy) if proxy is not None else double.user(user or "")
            self._session.cert = (str(self.pair.cert), str(self.pair.key))

    def __enter__(self) -> Caller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """One request; a body goes as `json=` or `data=`. The path may begin with two slashes."""
        return self._session.request(method, self.double.url + path, timeout=60, **options)

    def get(self, path: str, **options: Any) -> Any:
        """The JSON of a good answer."""
        answer = self.ask("GET", path, **options)
        assert answer.ok, (answer.status_code, answer.text)
        return answer.json()

    def delegate(self, seconds: float = 7 * 3600) -> str:
        """Delegate a proxy of this user; returns the delegation id."""
        assert self.pair is not None
        name = self.get("/whoami")["delegation_id"]
        request = x509.load_pem_x509_csr(self.ask("GET", f"/delegation/{name}/request").content)
        proxy = sign_proxy(self.pair, request.public_key(), seconds)
        pem = serialization.Encoding.PEM
        chain = b"".join(c.public_bytes(pem) for c in [proxy, *self.pair.certificates()])
        answer = self.ask("PUT", f"/delegation/{name}/credential", data=chain)
        assert answer.status_code == 201, answer.text
        return str(name)

    def submit(self, *files: dict[str, Any], **params: Any) -> str:
        answer = self.ask("POST", "/jobs", json={"files": list(files), "params": params})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["job_id"])

    def job(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/jobs/{job_id}")
        return found

    def files(self, job_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(f"/jobs/{job_id}/files")
        return found

    def ended(self, job_id: str, *, seconds: float = 30.0) -> dict[str, Any]:
        """The job once it has ended, with its files."""
        deadline = time.monotonic() + seconds
        while True:
            job = self.job(job_id)
            if job["job_state"] in END_STATES:
                return {**job, "files": self.files(job_id)}
            assert time.monotonic() < deadline, (job, self.files(job_id)[:3])
            time.sleep(0.01)


def pair_of(source: str, destination: str, **more: Any) -> dict[str, Any]:
    """An entry of a submission."""
    return {"sources": [source], "destinations": [destination], **more}
