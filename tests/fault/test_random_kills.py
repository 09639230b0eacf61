"""kill -9 of the data workers, one or both, at random instants of many transfers."""

from __future__ import annotations

import random
import shutil
import threading
from pathlib import Path

import pytest
from data_world import World, contents, wait_for, world
from hops import Hop
from rounds import limit, rounds

pytestmark = [pytest.mark.fault, limit(300)]
MIB = 1 << 20
RATE = 100_000  # kbit/s
EVERY = 0.25  # seconds between checkpoints
ON_THE_WAY = 6 * MIB  # what buffers, sockets and open chunks hold
KILLS = 4


def fill(w: World, chance: random.Random) -> int:
    shutil.rmtree(w.source)
    total = 0
    for number in range(200):
        place = w.source / f"d{number % 5}"
        place.mkdir(parents=True, exist_ok=True)
        total += (place / f"f{number}").write_bytes(chance.randbytes(chance.randrange(1, 30_000)))
    for number in range(2):
        total += (w.source / f"large{number}").write_bytes(chance.randbytes(12 * MIB))
    return total


def kill(w: World, victims: str) -> None:
    assert w.sender is not None and w.receiver is not None
    if "s" in victims:
        w.sender.kill()
    if "r" in victims:
        w.receiver.kill()
        w.start_receiver()
    if "s" in victims:
        w.start_sender()


class Observer:
    """Looks at a destination all the time: whatever has a final name must be whole."""

    def __init__(self, wanted: dict[bytes, tuple[object, ...]], place: Path) -> None:
        self.torn: list[bytes] = []
        self._wanted, self._place = wanted, place
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Observer:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.02):
            there = contents(self._place) if self._place.exists() else {}
            self.torn += [path for path, what in there.items() if self._wanted.get(path) != what]


def test_workers_killed_at_random_instants_tear_nothing_and_send_little_again(tmp_path: Path) -> None:
    with world(tmp_path, rate=RATE) as w:
        hop = Hop(w.port)
        w._destination["port"] = hop.port
        assert w.sender is not None
        w.sender.send(w._destination)
        for number, chance in enumerate(rounds(5), 1):
            ident, place = str(number), w.root / f"in{number}"
            size, before = fill(w, chance), hop.carried
            with Observer(contents(w.source), place) as observer:
                w.start(ident, checkpointSeconds=EVERY, destinationPath=f"/{place.name}")
                for at in sorted(chance.randrange(size) for _ in range(KILLS)):
                    reached(hop, before + at, w, ident)
                    kill(w, chance.choice(["s", "r", "sr"]))
                assert w.finish(ident)["status"] == "complete", w.finished
            assert observer.torn == []
            assert contents(place) == contents(w.source)
            assert not (w.root / ".lanesync").exists()
            print(f"{hop.carried - before - size} bytes sent again in {KILLS} kills")
            again = KILLS * (RATE * 125 * EVERY + ON_THE_WAY)
            assert hop.carried - before < size + again, "more than a checkpoint interval was sent again"
        hop.close()


def reached(hop: Hop, carried: int, w: World, ident: str) -> None:
    wait_for(lambda: hop.carried >= carried or ident in w.finished, "bytes on the line")
