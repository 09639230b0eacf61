"""What of a destination its mappings have to hear of."""

from __future__ import annotations

from agent.reconcile.destination import heard


def test_a_session_that_comes_and_goes_wakes_no_mapping() -> None:
    """Each look at a destination opens one that ends for want of work."""
    assert heard({"connected": True}) == heard({"connected": False, "lastError": ""})
    assert heard({"connected": True, "lastError": "old"}) == heard({"connected": True})


def test_trouble_and_its_end_are_heard() -> None:
    trouble = {"connected": False, "lastError": "refused"}
    assert heard(trouble) != heard({"connected": True})
    assert heard(trouble) != heard({**trouble, "lastError": "full", "full": True})
    assert heard({"connected": True, "controlled": True}) != heard({"connected": True, "controlled": False})
