"""What goes wrong in every state machine of the reconciler: calls, agents, servers, receivers, transfers."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from unit.reconcile_trial import PLACES, Trial


class Troubles(RuleBasedStateMachine):
    t: Trial

    @rule(after=st.integers(1, 30), kind=st.sampled_from(["kill", "lost"]), done=st.booleans())
    def a_call_goes_wrong(self, after: int, kind: str, done: bool) -> None:
        self.t.engine.fault(after, kind, done=done)

    @rule()
    def the_agent_is_killed(self) -> None:
        self.t.restart()

    @rule(reachable=st.booleans())
    def the_server_comes_or_goes(self, reachable: bool) -> None:
        self.t.engine.reachable = reachable

    @rule(place=st.sampled_from(sorted(PLACES)))
    def a_receiver_goes_or_comes(self, place: str) -> None:
        self.t.engine.absent ^= {PLACES[place]}

    @rule(number=st.integers(0, 5))
    def a_transfer_is_forgotten(self, number: int) -> None:
        known = sorted(self.t.engine._transfers)
        if known:
            self.t.engine.lose(known[number % len(known)])
