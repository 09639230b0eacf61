"""A destination whose files the server's user may not write: said where and what helps, nothing is lost, and
all goes on when the permission is given."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from agents import World, fill, world
from servers import eventually

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        os.geteuid() == 0 and shutil.which("setpriv") is None,
        reason="root is refused nothing, and setpriv, which takes that from it, is not installed",
    ),
]
HELPS = "let the user that the receiving server runs as write there"


class Unprivileged(World):
    """Its agent and servers are refused what permissions refuse, root or not."""

    def command(self, *arguments: str) -> list[str]:
        taken = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []
        return [*taken, *super().command(*arguments)]


def told(w: World) -> str:
    """What the mapping says of itself."""
    return " ".join(one["message"] for one in w.object("Mapping", "dailies").get("conditions", []))


@pytest.mark.parametrize("where", ["root", "directory"])
def test_what_may_not_be_written_is_told_and_goes_on_with_the_permission(tmp_path: Path, where: str) -> None:
    """The whole receive root, or one directory of it, in which nothing can be made or replaced."""
    with world(tmp_path, Unprivileged) as w:
        fill(w.source, 60)
        (w.source / "d001" / "large").write_bytes(os.urandom(3 << 20))
        closed = w.received if where == "root" else w.target() / "d001"
        closed.mkdir(parents=True)
        if where == "directory":
            (closed / "kept").write_text("somebody else's")
        w.write(w.mapping())
        w.start()
        closed.chmod(0o555)
        try:
            eventually(lambda: HELPS in told(w) and "Permission denied" in told(w), what="it says what helps")
            assert ("/paris/d001/" if where == "directory" else "transfer: /: ") in told(w)
            if where == "directory":
                others = w.source / "d000"
                eventually(
                    lambda: {p.name for p in (w.target() / "d000").glob("*")} == set(os.listdir(others)),
                    what="others are delivered meanwhile",
                )
                assert os.listdir(closed) == ["kept"]
        finally:
            closed.chmod(0o755)
        assert w.call("retry", "mapping/dailies").returncode == 0
        w.in_sync()
        (closed / "kept").unlink(missing_ok=True)
        w.eventually_same()
        assert w.leftovers() == []
