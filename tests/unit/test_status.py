"""The plain answer: in sync, on its way, or in need of a person, and the reason that helps."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agent.cli.text import status_lines
from agent.model.condition import Condition, ConditionType, Reason
from agent.model.spec import DesiredState, Key, Kind, MappingSpec
from agent.reconcile.status import Board, ObjectStatus, State, overall


def status(kind: Kind, name: str, *conditions: tuple[ConditionType, bool, Reason, str]) -> ObjectStatus:
    return ObjectStatus(Key(kind, name), tuple(Condition(*c) for c in conditions))


READY = (ConditionType.READY, True, Reason.IN_SYNC, "fine")


def waiting(reason: Reason, text: str = "") -> tuple[ConditionType, bool, Reason, str]:
    return (ConditionType.READY, False, reason, text)


def stalled(reason: Reason, text: str) -> tuple[ConditionType, bool, Reason, str]:
    return (ConditionType.STALLED, True, reason, text)


def test_everything_ready_is_in_sync() -> None:
    """Yes means every object."""
    assert overall([status(Kind.MAPPING, "m", READY)]).state is State.IN_SYNC


def test_what_somebody_changed_at_a_destination_is_said_beside_in_sync() -> None:
    """Everything was delivered, which is what the agent answers for; but that is not the whole truth."""
    drifted = (ConditionType.DRIFTED, True, Reason.CHANGED_AT_DESTINATION, "2 files missing at archive")
    found = overall([status(Kind.MAPPING, "m", READY, drifted), status(Kind.MAPPING, "n", READY)])
    assert found.state is State.IN_SYNC
    assert found.message == "everything is delivered, but Mapping/m: 2 files missing at archive"


def test_the_status_shows_what_was_changed_at_a_destination() -> None:
    """In the first line, and with its text below the object."""
    changed = {"type": "Drifted", "status": True, "message": "2 files missing at archive"}
    ready = {"type": "Ready", "status": True, "message": "fine"}
    lines = status_lines(
        {
            "state": "inSync",
            "inSync": True,
            "message": "",
            "objects": [{"kind": "Mapping", "name": "m", "ready": True, "conditions": [ready, changed]}],
            "revision": {"applied": "r", "attempted": "r"},
            "agent": {"running": True},
        }
    )
    assert lines[0] == "in sync (1 changed at a destination)"
    assert "    !  2 files missing at archive" in lines


def test_what_moves_makes_it_converging_and_what_is_stalled_is_the_reason_given() -> None:
    """As long as something moves it is on its way; but the message names what a person can mend."""
    found = overall(
        [
            status(Kind.MAPPING, "a", waiting(Reason.TRANSFERRING, "moving")),
            status(
                Kind.SERVER,
                "s",
                waiting(Reason.SERVER_FAILED),
                stalled(Reason.SERVER_FAILED, "port in use"),
            ),
        ]
    )
    assert found.state is State.CONVERGING
    assert found.message.startswith("Server/s: port in use")
    assert "1 more" in found.message


def test_what_waits_for_a_stalled_object_is_blocked_with_it() -> None:
    """A mapping that waits for a broken destination is not on its way."""
    found = overall(
        [
            status(Kind.MAPPING, "m", waiting(Reason.DEPENDENCY_NOT_READY, "waits for Destination/d")),
            status(Kind.DESTINATION, "d", waiting(Reason.INVALID_SPEC), stalled(Reason.INVALID_SPEC, "bad")),
        ]
    )
    assert found.state is State.BLOCKED
    assert found.message.startswith("Destination/d: bad")


def test_suspended_objects_are_not_asked_to_be_in_sync() -> None:
    """What a person has suspended does not make the answer no."""
    suspended = (ConditionType.SUSPENDED, True, Reason.SUSPENDED_IN_SPEC, "by intent")
    found = overall([status(Kind.MAPPING, "m", waiting(Reason.SUSPENDED_IN_SPEC), suspended)])
    assert found.state is State.IN_SYNC


def test_invalid_specs_block_once_nothing_moves() -> None:
    """Problems beside the objects are the answer when all else is well."""
    ready = [status(Kind.MAPPING, "m", READY)]
    assert overall(ready, ("a.yaml:1:1: wrong",)).state is State.BLOCKED


def test_since_is_kept_while_type_status_and_reason_stay() -> None:
    """A message that changes with progress is no new condition."""
    board = Board()
    key = Key(Kind.MAPPING, "m")
    first = Condition(ConditionType.READY, False, Reason.TRANSFERRING, "10 %", 1.0)
    second = Condition(ConditionType.READY, False, Reason.TRANSFERRING, "20 %", 2.0)
    board.write(ObjectStatus(key, (first,)))
    _, now = board.write(ObjectStatus(key, (second,)))
    assert (now.conditions[0].message, now.conditions[0].since) == ("20 %", 1.0)


_REASONS = [
    Reason.IN_SYNC,
    Reason.TRANSFERRING,
    Reason.DEPENDENCY_NOT_READY,
    Reason.AWAITING_SENTINEL,
    Reason.INVALID_SPEC,
]
_MORE = st.lists(
    st.tuples(
        st.sampled_from([t for t in ConditionType if t is not ConditionType.READY]),
        st.booleans(),
        st.sampled_from(_REASONS),
        st.just("text"),
    ),
    max_size=2,
)
_READY = st.tuples(st.just(ConditionType.READY), st.booleans(), st.sampled_from(_REASONS), st.just("text"))
_STATUSES = st.dictionaries(st.sampled_from("abcdef"), st.tuples(_READY, _MORE), max_size=6).map(
    lambda found: [status(Kind.MAPPING, name, ready, *more) for name, (ready, more) in found.items()]
)


@given(_STATUSES, _STATUSES, st.sets(st.sampled_from("abcdef")))
def test_the_answer_hangs_on_what_is_notable_alone(
    before: list[ObjectStatus], now: list[ObjectStatus], removed: set[str]
) -> None:
    """Whatever was said earlier, of ten thousand objects that are well none has to be asked."""
    board = Board()
    for each in (*before, *now):
        board.write(each)
    for name in removed:
        board.remove(Key(Kind.MAPPING, name))
    assert overall(board.notable()) == overall(board.all())


def test_what_nothing_is_said_of_under_this_revision_is_unseen() -> None:
    """The first one, in the order in which objects depend on each other."""

    def said(name: str, revision: str) -> ObjectStatus:
        return replace(status(Kind.MAPPING, name, READY), revision=revision)

    board = Board()
    board.write(said("a", "r"))
    desired = DesiredState("r", mappings={name: MappingSpec(name, (), ()) for name in "cab"})
    assert board.first_unseen(desired) == Key(Kind.MAPPING, "b")
    for name in "bc":
        board.write(said(name, "r"))
    assert board.first_unseen(desired) is None
    more = replace(desired, mappings={**desired.mappings, "0": MappingSpec("0", (), ())})
    assert board.first_unseen(more) == Key(Kind.MAPPING, "0")
    assert board.first_unseen(replace(desired, revision="later")) == Key(Kind.MAPPING, "a")
    board.remove(Key(Kind.MAPPING, "b"))
    assert board.first_unseen(desired) == Key(Kind.MAPPING, "b")
    board.write(said("b", "r"))
    assert board.first_unseen(desired) is None
    board.write(said("c", "earlier"))
    assert board.first_unseen(desired) == Key(Kind.MAPPING, "c")


def test_what_is_to_be_removed_is_seen_when_that_has_begun() -> None:
    """Until then it looks as if all were well."""
    board, key = Board(), Key(Kind.SHARE, "s")
    nothing = DesiredState("r")
    assert board.first_unseen(nothing, [key]) == key
    board.write(status(*key, READY))
    assert board.first_unseen(nothing, [key]) == key
    board.write(status(*key, waiting(Reason.PROGRESSING)))
    assert board.first_unseen(nothing, [key]) is None


def test_text_fits_its_width_and_tells_trouble_to_the_end() -> None:
    """Good news is one line; a reason is never cut off."""
    text = "the transfer server did not start: " + "because " * 20 + "of the end"
    document = {
        "inSync": False,
        "state": "blocked",
        "message": f"Server/s: {text}",
        "objects": [
            {
                "kind": "Server",
                "name": "s",
                "conditions": [{"type": "Stalled", "status": True, "reason": "X", "message": text}],
            }
        ],
        "revision": {"applied": "r", "attempted": "r"},
        "agent": {"running": True},
    }
    lines = status_lines(document, 60)
    assert all(len(line) <= 60 for line in lines)
    assert lines[-3].endswith("of the end")
    assert lines[lines.index("") - 1].endswith("the end")
