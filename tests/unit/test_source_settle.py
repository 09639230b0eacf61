"""The settle rule, on a clock of the test's own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.model.spec import Ready, Symlinks, Trigger
from agent.source.filters import EVERYTHING
from agent.source.settle import Settle, Touch
from agent.source.subscription import Dirty, Subscription


def test_a_close_is_ready_at_once() -> None:
    """With `ready: closed` also when it was written a moment ago."""
    rule = Settle(Ready.CLOSED, 10, 60)
    rule.on_event("a", Touch.WRITTEN, 0)
    rule.on_event("a", Touch.CLOSED, 1)
    assert rule.next_due() == float("-inf")
    assert rule.due(1) == ("a",)
    assert rule.due(100) == ()
    assert rule.next_due() is None


def test_writing_waits_until_unchanged_for_settle() -> None:
    """Every further change starts the wait anew."""
    rule = Settle(Ready.CLOSED, 10, 60)
    rule.on_event("a", Touch.WRITTEN, 0)
    rule.on_event("a", Touch.WRITTEN, 9)
    assert rule.due(18.9) == ()
    assert rule.due(19) == ("a",)


def test_quiet_settles_everything() -> None:
    """A close, a rename-in and a removal are one more change."""
    rule = Settle(Ready.QUIET, 10, 60)
    for number, touch in enumerate(Touch):
        rule.on_event(str(number), touch, 0)
    assert rule.due(9) == ()
    assert len(rule.due(10)) == len(Touch)


def test_a_file_that_never_rests_is_overdue_and_still_waits() -> None:
    """After max_wait it is named; it becomes ready when it rests."""
    rule = Settle(Ready.CLOSED, 10, 60)
    for now in range(0, 70, 5):
        rule.on_event("a", Touch.WRITTEN, now)
    assert rule.overdue(60) == ()
    assert rule.overdue(60.1) == ("a",)
    assert rule.due(66) == ()
    assert rule.waiting() == ("a",)
    assert rule.due(75) == ("a",)
    assert rule.overdue(1000) == ()


def test_settle_zero_never_waits() -> None:
    """Whoever asks for no settling gets none."""
    rule = Settle(Ready.QUIET, 0, 60)
    rule.on_event("a", Touch.WRITTEN, 5)
    assert rule.due(5) == ("a",)


_EVENTS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(list(Touch)), st.integers(0, 8)), max_size=40
)


@given(st.sampled_from(list(Ready)), _EVENTS)
def test_every_touch_is_told_once_and_never_early(ready: Ready, events: list[tuple[str, Touch, int]]) -> None:
    """After the last change of each path it is handed out exactly once, at `next_due`, not before."""
    rule = Settle(ready, 5, 60)
    now = 0.0
    quiet_since: dict[str, float] = {}
    for path, touch, step in events:
        now += step
        for told in rule.due(now):
            assert now >= quiet_since.pop(told)
        rule.on_event(path, touch, now)
        at_once = ready is not Ready.QUIET and touch not in (Touch.WRITTEN, Touch.EMPTY)
        quiet_since[path] = now if at_once else max(quiet_since.get(path, 0), now + 5)
        if at_once:
            assert path in rule.due(now)
            del quiet_since[path]
    while (due := rule.next_due()) is not None:
        now = max(now, due)
        for told in rule.due(now):
            assert quiet_since.pop(told) == now
    assert quiet_since == {}


def test_what_is_written_for_long_is_announced_once() -> None:
    """After a second the consumer hears that something waits, with nothing to look at; then what is ready."""
    slow = Trigger(settle=60.0)
    found = Subscription("/src", lambda _root, _dirty: None, EVERYTHING, Symlinks.IGNORE, slow)
    found.touch("a", Touch.WRITTEN, 10.0)
    assert found.next_due() == 11.0
    assert found.take(10.5) is None
    assert found.take(11.0) == Dirty()
    found.touch("a", Touch.WRITTEN, 12.0)
    assert found.take(13.0) is None, "it was said"
    found.touch("a", Touch.CLOSED, 14.0)
    assert found.take(14.0) == Dirty(("a",))
    found.touch("b", Touch.WRITTEN, 20.0)
    assert found.take(21.0) == Dirty()
