"""The lane and rate scheduler on virtual time: pure, no I/O, no clock."""

from agent.lanes.rules import validate_lanes
from agent.lanes.scheduler import UNCHANGED, Grant, Idle, LaneScheduler

__all__ = ["UNCHANGED", "Grant", "Idle", "LaneScheduler", "validate_lanes"]
