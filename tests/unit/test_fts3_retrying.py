"""When a request to the FTS3 service is repeated, and after which pause."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.fts3_service import Naps

from agent.fts3.errors import (
    BadEndpoint,
    ClientError,
    Conflict,
    FTS3ClientException,
    Kind,
    NeedDelegation,
    NoAnswer,
    ServerError,
    TryAgain,
    Unauthorized,
)
from agent.fts3.retrying import Retries, pause, with_retries, worth_repeating

draws = st.floats(0, 1, exclude_max=True)
policies = st.builds(
    Retries, st.integers(1, 9), st.floats(0.001, 5, allow_nan=False), st.floats(5, 60, allow_nan=False)
)


@given(st.integers(1, 10_000), policies, draws)
def test_a_pause_lies_between_nothing_and_the_doubled_interval(
    failures: int, policy: Retries, draw: float
) -> None:
    found = pause(failures, policy, draw)
    assert 0 <= found <= policy.max_interval
    assert found <= policy.interval * 2.0 ** min(failures - 1, 40)


@given(st.integers(1, 100), policies)
def test_chance_uses_the_whole_range(failures: int, policy: Retries) -> None:
    assert pause(failures, policy, 0.0) == 0.0
    highest = min(policy.max_interval, policy.interval * 2.0 ** min(failures - 1, 30))
    assert pause(failures, policy, 0.999999) == pytest.approx(highest, rel=1e-4)


@given(st.integers(1, 100), policies, draws, st.floats(0, 1e6))
def test_the_servers_wish_is_a_lower_bound_up_to_our_longest_pause(
    failures: int, policy: Retries, draw: float, wish: float
) -> None:
    found = pause(failures, policy, draw, wish)
    assert min(wish, policy.max_interval) <= found <= policy.max_interval


@pytest.mark.parametrize(
    ("error", "safe", "repeated"),
    [
        (BadEndpoint("nothing listens"), False, True),  # it never left
        (BadEndpoint("no such authority", kind=Kind.PERMANENT), True, False),
        (NoAnswer("lost"), True, True),
        (NoAnswer("lost"), False, False),  # it may have been carried out
        (TryAgain("busy", status=503), True, True),
        (TryAgain("busy", status=503), False, False),
        (ServerError("gateway", status=502), True, True),
        (ServerError("bug", status=500), True, False),  # bad input is answered so, too
        (ClientError("slowly", status=429, kind=Kind.RETRYABLE), True, True),
        (Unauthorized("no", status=403), True, False),
        (NeedDelegation("", status=419), True, False),
        (Conflict("", status=409), True, False),
    ],
)
def test_only_what_may_pass_and_does_no_harm_is_repeated(
    error: FTS3ClientException, safe: bool, repeated: bool
) -> None:
    assert worth_repeating(error, safe=safe) is repeated


class Scripted:
    def __init__(self, *outcomes: FTS3ClientException | str) -> None:
        self.outcomes = list(outcomes)

    def __call__(self) -> str:
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, str):
            return outcome
        raise outcome


def test_it_is_tried_until_it_works() -> None:
    naps = Naps(draw=0.5)
    once = Scripted(NoAnswer("a"), TryAgain("b", status=503, retry_after=3.0), "done")
    assert with_retries(once, safe=True, policy=Retries(), runtime=naps.runtime) == "done"
    assert naps.slept == [0.25, 3.0]


def test_it_gives_up_after_so_many_attempts() -> None:
    naps = Naps()
    once = Scripted(*[NoAnswer(str(n)) for n in range(9)])
    with pytest.raises(NoAnswer, match="2"):
        with_retries(once, safe=True, policy=Retries(attempts=3), runtime=naps.runtime)
    assert len(naps.slept) == 2


def test_no_attempt_begins_when_the_budget_is_spent() -> None:
    naps = Naps()
    once = Scripted(*[TryAgain(str(n), status=503, retry_after=4.0) for n in range(9)])
    with pytest.raises(TryAgain, match="2"):
        with_retries(once, safe=True, policy=Retries(attempts=9, budget=10.0), runtime=naps.runtime)
    assert naps.slept == [4.0, 4.0]


def test_an_error_tells_whether_an_earlier_try_may_have_worked() -> None:
    naps = Naps()
    with pytest.raises(Conflict) as caught:
        with_retries(Scripted(NoAnswer(""), Conflict("")), safe=True, policy=Retries(), runtime=naps.runtime)
    assert caught.value.sent_before
    with pytest.raises(Conflict) as caught:
        with_retries(
            Scripted(BadEndpoint(""), Conflict("")), safe=True, policy=Retries(), runtime=naps.runtime
        )
    assert not caught.value.sent_before
