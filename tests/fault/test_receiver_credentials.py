"""The receiver while credentials are judged: who waits, who does not, and what a break leaves behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from data_world import WAIT, World, wait_for, world


def _file(w: World, name: str, size: int = 1000) -> list[tuple[Any, ...]]:
    path = w.source / name
    path.write_bytes(os.urandom(size))
    return [(f"/{name}", str(path), 0, size, False)]


def _holding(w: World, user: str) -> list[dict[str, Any]]:
    """From now on the credentials of `user` are judged when the test does it."""
    held: list[dict[str, Any]] = []

    def judge(message: dict[str, Any]) -> bool:
        if message["user"] == user:
            held.append(message)
        return bool(message["user"] != user)

    w.judge = judge
    return held


def test_other_transfers_of_the_session_go_on_while_credentials_are_judged(tmp_path: Path) -> None:
    """Though they come over the same streams, and were opened later."""
    with world(tmp_path) as w:
        held = _holding(w, "slow")
        w.start("1", _file(w, "slow"), user="slow", password="x")
        wait_for(lambda: held, "the credentials are asked about")
        w.start("2", _file(w, "small"), user="quick", password="y")
        w.start("3", _file(w, "large", 5 << 20), user="quick", password="y")
        for ident in ("2", "3"):
            assert w.finish(ident)["status"] == "complete"
        assert w.ask("ping")["results"] == []
        assert "1" not in w.finished and not (w.root / "in" / "slow").exists()
        w.grant(held[0])
        assert w.finish("1")["status"] == "complete"


def test_a_break_while_credentials_are_judged_only_asks_again(tmp_path: Path) -> None:
    """The answer to the session that is gone opens nothing that the next one would have to wait for."""
    with world(tmp_path) as w:
        held = _holding(w, "slow")
        w.start("1", _file(w, "slow"), user="slow", password="x")
        wait_for(lambda: held, "the credentials are asked about")
        assert w.sender is not None
        w.sender.kill()
        w.start_sender()
        wait_for(lambda: len(held) == 2, "they are asked about again")
        w.grant(held[0])
        w.grant(held[1])
        assert w.finish("1", WAIT)["status"] == "complete"
        wait_for(lambda: not (w.root / ".lanesync").exists(), "nothing unfinished is left")


def test_one_uid_of_two_users_is_two_transfers(tmp_path: Path) -> None:
    """Who guesses or learns the uid of another's transfer gets one of their own."""
    with world(tmp_path, rate=40_000) as w:

        def judge(message: dict[str, Any]) -> bool:
            w.grant(message, user=message["user"])
            return False  # done

        w.judge = judge
        uid = "ab" * 16
        w.start("1", _file(w, "anna", 4 << 20), user="anna", uid=uid, destinationPath="/anna")
        wait_for(lambda: w.bytes_sent.get("1", 0), "the first is on its way")
        w.start("2", _file(w, "bert"), user="bert", uid=uid, destinationPath="/bert")
        assert w.finish("2")["status"] == w.finish("1")["status"] == "complete"
        told = [message for message in w.received if message["op"] == "recvTransfer"]
        assert {message["uid"] for message in told} == {uid}
        assert len({message["ident"] for message in told}) == 2
        assert (w.root / "anna" / "anna").stat().st_size == 4 << 20
        assert sorted(path.name for path in (w.root / "bert").iterdir()) == ["bert"]
