"""LaneSync: declarative file delivery over priority lanes."""

__version__ = "0.1.0"
