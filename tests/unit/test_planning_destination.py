"""What the planner decides about destinations."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from unit.planning_model import AGENT, ARCHIVE, FOREIGN, World, observed_defaults

from agent.model.observed import ObservedDestination, ObservedTransfer, Tag, TransferState
from agent.model.plan import (
    CancelTransfer,
    CreateDestination,
    DeleteDestination,
    Plan,
    RetagDestination,
    SetDefaults,
    SetLanes,
    SetSendRate,
)
from agent.model.spec import (
    DEFAULT_LANES,
    DestinationSpec,
    Lane,
    MinCipher,
    OnRemove,
    Overwrite,
    TransferDefaults,
)
from agent.planning.destination import destination_digest, plan_destination, plan_destination_removal

laws = settings(deadline=None, max_examples=60)

lane_sets = st.sampled_from(
    [DEFAULT_LANES, (Lane("Only", 1.0),), (Lane("High", 0.6), Lane("Normal", 0.4)), (Lane("High", 1.0),)]
)
destinations = st.builds(
    DestinationSpec,
    name=st.just("archive"),
    address=st.sampled_from(["192.0.2.1", "192.0.2.2"]),
    port=st.sampled_from([8886, 9000]),
    send_rate_max=st.sampled_from([None, 1_000.0, 800_000.0]),
    transfer_defaults=st.builds(
        TransferDefaults,
        priority=st.integers(0, 3),
        checkpoint_interval=st.sampled_from([1.0, 30.0]),
        overwrite=st.sampled_from(list(Overwrite)),
        timeout=st.sampled_from([0.0, 5.0]),
    ),
    on_remove=st.sampled_from(list(OnRemove)),
)


def observed(desired: DestinationSpec = ARCHIVE, agent: str = AGENT) -> ObservedDestination:
    """The destination as it is when everything was applied."""
    given = desired.transfer_defaults
    cipher = given.min_cipher or MinCipher.ENCRYPTED_256
    defaults = replace(given, lane=given.lane or "Normal", min_cipher=cipher)
    return ObservedDestination(
        "7",
        desired.address,
        desired.port,
        Tag(agent, f"Destination/{desired.name}", "rev", destination_digest(desired, DEFAULT_LANES)),
        DEFAULT_LANES,
        desired.send_rate_max,
        observed_defaults(defaults),
    )


def plan(desired: DestinationSpec, now: ObservedDestination | None, lanes=DEFAULT_LANES, **rest) -> Plan:
    tag = Tag(AGENT, f"Destination/{desired.name}", "rev2", destination_digest(desired, lanes))
    return plan_destination(desired, lanes, now, tag, **rest)


def transfer(
    name: str, mapping: str = "dailies", agent: str = AGENT, state: TransferState = TransferState.SENDING
) -> ObservedTransfer:
    return ObservedTransfer(name, "7", f"m{name}", Tag(agent, f"Mapping/{mapping}"), state)


@laws
@given(steps=st.lists(st.tuples(destinations, lane_sets), min_size=1, max_size=4), reports=st.booleans())
def test_plan_after_apply_is_empty(
    steps: list[tuple[DestinationSpec, tuple[Lane, ...]]], reports: bool
) -> None:
    """Whatever the spec becomes, carrying out its plan leaves nothing to do, and others' objects alone."""
    world = World(reports=reports)
    other = replace(observed(agent="agent-2"), id="other")
    untagged = replace(other, id="untagged", tag=None)
    world.destinations |= {other.id: other, untagged.id: untagged}
    for desired, lanes in steps:
        world.apply(world.plan_destination(desired, lanes), world.tag(desired, lanes))
        assert world.plan_destination(desired, lanes).empty
        ours = [d for d in world.destinations.values() if d.tag and d.tag.agent == AGENT]
        assert [(d.address, d.port, d.lanes, d.send_rate_max) for d in ours] == [
            (desired.address, desired.port, lanes, desired.send_rate_max)
        ]
    assert world.destinations["other"] is other
    assert world.destinations["untagged"] is untagged
    assert not world.touched & {"other", "untagged"}


@laws
@given(desired=destinations, order=st.permutations(DEFAULT_LANES))
def test_order_of_lanes_is_irrelevant(desired: DestinationSpec, order: list[Lane]) -> None:
    """Lanes in another order are the same lanes."""
    now = replace(observed(desired), lanes=tuple(order))
    assert plan(desired, now).empty


def test_missing_destination_is_created_with_everything() -> None:
    """A destination that is not there is created with lanes, rate and defaults; its lane is made explicit."""
    desired = replace(ARCHIVE, send_rate_max=800_000.0)
    (action,) = plan(desired, None).actions
    assert isinstance(action, CreateDestination)
    assert (action.address, action.port, action.send_rate_max) == ("192.0.2.1", 8886, 800_000.0)
    assert action.lanes == DEFAULT_LANES
    assert action.defaults.lane == "Normal"


def test_a_destination_of_others_is_not_there_for_us() -> None:
    """One that is untagged, another agent's or another spec's is not changed; ours is created beside it."""
    desired = replace(ARCHIVE, send_rate_max=5.0)
    for tag in (None, Tag("agent-2", "Destination/archive"), Tag(AGENT, "Destination/other")):
        (action,) = plan(desired, replace(observed(), tag=tag)).actions
        assert isinstance(action, CreateDestination)


def test_what_differs_is_set_and_the_tag_comes_last() -> None:
    """Each difference is one action; the tag that says so is written after all of them."""
    desired = replace(ARCHIVE, send_rate_max=5_000.0, transfer_defaults=TransferDefaults(priority=7))
    lanes = (Lane("High", 0.5), Lane("Normal", 0.5))
    kinds = [type(action) for action in plan(desired, observed(), lanes).actions]
    assert kinds == [SetSendRate, SetLanes, SetDefaults, RetagDestination]


def test_change_on_the_server_is_corrected_without_a_new_spec() -> None:
    """A rate that somebody changed on the server is put back, although the spec digest is the same."""
    (action,) = plan(ARCHIVE, replace(observed(), send_rate_max=1_000.0)).actions
    assert action == SetSendRate("archive", "7", 1_000.0, None)


def test_servers_that_round_rates_cause_no_changes() -> None:
    """A server keeps whole kbit/s; the fraction that it drops is no difference."""
    desired = replace(ARCHIVE, send_rate_max=1_000.6)
    assert plan(desired, replace(observed(desired), send_rate_max=1_001.0)).empty


def test_spec_change_without_other_effect_only_retags() -> None:
    """`onRemove` lives in the agent alone; the tag still says which version of the spec is applied."""
    desired = replace(ARCHIVE, on_remove=OnRemove.DELETE)
    assert plan(desired, observed()).actions == (RetagDestination("archive", "7"),)


def test_changed_address_is_another_destination() -> None:
    """The old one goes, with our transfers that are under way to it, and the new one is created."""
    transfers = (
        transfer("1"),
        transfer("2", state=TransferState.SUSPENDED),
        transfer("3", state=TransferState.COMPLETE),
        transfer("4", agent="agent-2"),
        replace(transfer("5"), destination_id="8"),
        replace(transfer("6"), tag=None),
    )
    actions = plan(replace(ARCHIVE, port=9000), observed(), transfers=transfers).actions
    assert [type(a) for a in actions] == [
        CancelTransfer,
        CancelTransfer,
        DeleteDestination,
        CreateDestination,
    ]
    assert [a.transfer_id for a in actions if isinstance(a, CancelTransfer)] == ["1", "2"]


def test_suspended_destination_is_left_as_it_is() -> None:
    """While a destination is suspended nothing is created or changed."""
    assert plan(replace(ARCHIVE, suspend=True, send_rate_max=1.0), None) == Plan()
    assert plan(replace(ARCHIVE, suspend=True, send_rate_max=1.0), observed()) == Plan()


def test_removed_destination_follows_on_remove() -> None:
    """Orphan leaves everything; cancel and delete end our transfers and delete what carries our tag."""
    transfers = (transfer("1"), transfer("2", agent="agent-2"), transfer("3", state=TransferState.COMPLETE))
    assert plan_destination_removal("archive", OnRemove.ORPHAN, observed(), transfers) == Plan()
    for on_remove in (OnRemove.CANCEL, OnRemove.DELETE):
        assert plan_destination_removal("archive", on_remove, None, transfers) == Plan()
        for tag in (None, FOREIGN, Tag(AGENT, "Destination/other")):
            foreign = replace(observed(), tag=tag)
            assert plan_destination_removal("archive", on_remove, foreign, transfers) == Plan()
        actions = plan_destination_removal("archive", on_remove, observed(), transfers).actions
        assert [type(a) for a in actions] == [CancelTransfer, DeleteDestination]
