"""One delivery, a mapping at one of its destinations, on its way through a reconcile."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.model.outcome import NotFoundError
from agent.model.spec import DestinationSpec
from agent.reconcile.act import Scene
from agent.reconcile.collect import Collected
from agent.reconcile.delivery import Findings, Memory
from agent.reconcile.survey_gathered import Survey


@dataclass(slots=True)
class Delivery:
    destination: DestinationSpec
    memory: Memory
    found: Findings
    scene: Scene | None = None
    collected: Collected = field(default_factory=Collected)
    surveyed: Survey | None = None
    looked: bool = False  # whole, or a part of that

    @property
    def surveys(self) -> bool:
        """Nothing stands in the way of looking for what there is to send."""
        found = self.found
        waits = found.suspended or found.error or found.blocked_by or found.adopting
        return self.scene is not None and not waits

    @property
    def live_scene(self) -> Scene:
        if self.scene is None:
            raise NotFoundError(f"Destination/{self.destination.name} is not reached")
        return self.scene
