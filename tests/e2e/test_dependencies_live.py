"""`dependsOn` with a running agent."""

from __future__ import annotations

from pathlib import Path

from agents import world
from servers import eventually


def test_a_mapping_waits_for_its_library_and_goes_on_at_once(tmp_path: Path) -> None:
    """While the library's source is missing nothing of the other is sent; the status says why."""
    with world(tmp_path) as w:
        shelf = tmp_path / "shelf"
        (w.source / "grade").write_text("g")
        w.write(
            w.mapping("luts", "/luts", source=str(shelf)),
            w.mapping("grades", "/grades", "dependsOn: [luts]"),
        )
        w.start()

        def message() -> str:
            conditions = w.object("Mapping", "grades").get("conditions", [])
            return " ".join(c["message"] for c in conditions if c["reason"] == "DependencyNotReady")

        why = eventually(
            lambda: found if "missing" in (found := message()) else "",
            what="the mapping waits for its library",
        )
        assert why.startswith("waits for Mapping/luts")
        assert not (w.received / "grades").exists()
        shelf.mkdir()
        (shelf / "lut").write_text("l")
        assert w.call("reconcile", "Mapping/luts").returncode == 0
        w.in_sync()
        lut, grade = w.received / "luts/lut", w.received / "grades/grade"
        assert lut.stat().st_ctime_ns < grade.stat().st_ctime_ns
