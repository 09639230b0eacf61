"""The digest of a file that several threads send in pieces."""

from __future__ import annotations

import random
import threading

import xxhash
from hypothesis import given
from hypothesis import strategies as st

from agent.server.data.digesting import MAX_ZEROS, ContentDigest, worth_it


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=12), st.integers(1, 4), st.randoms())
def test_pieces_of_several_threads_make_the_digest_of_the_whole(
    pieces: list[bytes], count: int, chance: random.Random
) -> None:
    """Pieces are taken in order, each thread offers its own whenever it is scheduled, some twice."""
    digest, at = ContentDigest(), 0
    hands: list[list[tuple[int, bytes]]] = [[] for _ in range(count)]
    for piece in pieces:
        hands[chance.randrange(count)].append((at, piece))
        at += len(piece)

    def send(hand: list[tuple[int, bytes]]) -> None:
        for start, piece in hand:
            if not digest.offer(start, piece):
                digest.add(start, piece)
            assert digest.offer(start, piece), "sent again: counted once"

    threads = [threading.Thread(target=send, args=(hand,)) for hand in hands]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert digest.value(at) == xxhash.xxh3_64_intdigest(b"".join(pieces))
    assert digest.value(at + 1) == 0


def test_a_piece_that_will_not_come_leaves_nobody_waiting() -> None:
    digest = ContentDigest()
    waits = threading.Thread(target=digest.add, args=(5, b"later"))
    waits.start()
    digest.give_up()
    waits.join(60)
    assert not waits.is_alive() and digest.value(10) == 0


def test_holes_count_as_the_zeros_that_they_read_as() -> None:
    digest = ContentDigest()
    digest.offer(0, b"begin")
    digest.add_hole(5, 5 + (3 << 20) + 1)
    assert digest.value(5 + (3 << 20) + 1) == xxhash.xxh3_64_intdigest(b"begin" + bytes((3 << 20) + 1))
    assert worth_it([(0, 10, False), (10, MAX_ZEROS, True)])
    assert not worth_it([(0, 10, False), (10, MAX_ZEROS + 21, True)])
