"""How we come to the service, and what keeps us from being a burden to it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fts3_double.pki import Authority
from servers import eventually

from agent.engines.fts3.loop import Crew, Loop
from agent.engines.fts3.service import Access, Pace, Service, translated
from agent.engines.fts3.settings import Settings
from agent.fts3 import (
    BadEndpoint,
    ClientError,
    FTS3ClientException,
    Kind,
    NeedDelegation,
    NotFound,
    ServerError,
    TryAgain,
    Unauthorized,
)
from agent.model.condition import Reason
from agent.model.outcome import (
    AuthenticationError,
    LaneSyncError,
    NotFoundError,
    PermanentError,
    RetryableError,
    UnreachableError,
)


def _service(folder: Path, seconds: float) -> Service:
    pair = Authority(folder).user("alice", seconds=seconds)
    return Service(Access("https://localhost:1", "grid", str(pair.cert), str(pair.key)), Settings())


@pytest.mark.parametrize(
    ("life", "left", "told"),
    [
        (365 * 24, 100, False),
        (365 * 24, 71, True),
        (12, 4, False),
        (12, 3, True),  # a proxy's last quarter
        (3, 2.5, False),
        (3, 1.9, True),  # FTS3 stops taking jobs an hour before the end
    ],
)
def test_a_credential_is_told_of_while_there_is_time(
    tmp_path: Path, life: float, left: float, told: bool
) -> None:
    """Hours of its life, and hours left. (Test certificates begin an hour ago.)"""
    service = _service(tmp_path, (life - 1) * 3600)
    now = datetime.now(UTC) + timedelta(hours=life - 1 - left)
    notice = service.expiry_notice(now)
    assert (notice is not None) is told
    if notice is not None:
        assert notice.reason is Reason.CREDENTIAL_EXPIRES_SOON
        assert "alice.pem" in notice.message


def test_a_missing_certificate_is_a_matter_of_credentials(tmp_path: Path) -> None:
    service = Service(Access("https://localhost:1", "grid", str(tmp_path / "none.pem")), Settings())
    with pytest.raises(AuthenticationError, match=r"none\.pem"):
        service.login()


def test_a_token_is_in_no_text() -> None:
    access = Access("https://localhost:1", "grid", token=lambda: "secret-token")
    assert "secret" not in repr(access)
    assert "secret" not in str(Service(access, Settings()).access)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (BadEndpoint("nobody"), UnreachableError),
        (TryAgain("later", status=503), UnreachableError),
        (ServerError("oops", status=500), RetryableError),
        (BadEndpoint("not trusted", kind=Kind.PERMANENT), PermanentError),
        (ClientError("wrong"), PermanentError),
        (NeedDelegation("please"), AuthenticationError),
        (Unauthorized("no"), AuthenticationError),
        (Unauthorized("banned", kind=Kind.BANNED), AuthenticationError),
        (NotFound("gone", kind=Kind.LOST), NotFoundError),
    ],
)
def test_errors_of_the_service_mean_what_the_port_says(
    error: FTS3ClientException, expected: type[LaneSyncError]
) -> None:
    found = translated(error)
    assert type(found) is expected
    assert str(error) in str(found)


def test_requests_are_spread_and_a_second_is_saved_up_at_most() -> None:
    clock = [100.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds

    pace = Pace(10.0, lambda: clock[0], sleep)
    for _ in range(10):
        pace.take()
    assert slept == []
    for _ in range(20):
        pace.take()
    assert sum(slept) == pytest.approx(2.0, abs=0.11)
    clock[0] += 1000.0
    slept.clear()
    for _ in range(12):
        pace.take()
    assert sum(slept) == pytest.approx(0.2, abs=0.11)


def test_a_worker_survives_errors_and_tells_of_the_first_and_the_last() -> None:
    told: list[str | None] = []
    steps = [RetryableError("first"), ValueError("a mistake of ours"), RetryableError("second")]

    def step() -> float:
        if steps:
            raise steps.pop(0)
        return 60.0

    loop = Loop("test", step, lambda error: told.append(None if error is None else str(error)))
    loop.start()
    eventually(lambda: told[-1:] == [None], what="it goes on")
    assert told == ["first", "second", None]
    loop.stop()
    loop.join(60)


def test_a_worker_that_is_woken_comes_at_once() -> None:
    steps: list[int] = []

    def step() -> float:
        steps.append(1)
        return 3600.0

    loop = Loop("test", step, lambda _: None)
    loop.start()
    eventually(lambda: len(steps) == 1)
    loop.wake()
    eventually(lambda: len(steps) == 2)
    loop.stop()
    loop.join(60)


def test_a_crew_keeps_the_order_of_results_and_raises_the_first_error() -> None:
    crew = Crew("test", 3)
    assert crew.each(lambda n: n * n, range(20)) == [n * n for n in range(20)]

    def work(number: int) -> int:
        if number >= 3:
            raise ValueError(str(number))
        return number

    with pytest.raises(ValueError, match="3"):
        crew.each(work, range(6))
    crew.close()
    names = "fts3 test"
    eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith(names)], what="they end")
