"""Free space that receiving leaves alone: how it is written, and what is refused while less is there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.jetstream import marks
from agent.server import options, reserve
from agent.server.data import fullness
from agent.server.data.fullness import Fullness, NoRoomError
from agent.server.data.wire import REPORTED
from agent.server.errors import StartError
from agent.server.reserve import Reserve

GIB = 1 << 30


@pytest.mark.parametrize(
    ("text", "of_100_gib"),
    [
        ("50GiB", 50 * GIB),
        ("5%", 5 * GIB),
        ("2.5 %", 2.5 * GIB),
        ("0%", 0),
        ("0B", 0),
        ("1.5 MiB", 1536 << 10),
    ],
)
def test_a_reserve_is_a_size_or_a_percentage(text: str, of_100_gib: float) -> None:
    assert reserve.parse(text).of(100 * GIB) == int(of_100_gib)


@pytest.mark.parametrize(
    "text", ["", "50", "GiB", "-1GiB", "100%", "5 percent", "1e3B", "50GB", "٣GiB", "9" * 200]
)
def test_what_is_neither_is_refused_with_an_example(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"for example 50GiB|less than 100%"):
        reserve.parse(text)
    with pytest.raises(StartError, match="--reserve "):
        options.check(options.ServeOptions(tmp_path, reserve=text))


def test_without_a_word_it_is_a_hundredth_and_a_gibibyte_at_most() -> None:
    assert Reserve().of(10 * GIB) == 10 * GIB // 100
    assert Reserve().of(100_000 * GIB) == GIB


@given(st.integers(0, 1 << 62), st.integers(0, 1 << 62) | st.integers(0, 10_000))
@example(18_014_398_509_481_983, 18_014_398_509_481_983)
def test_no_reserve_is_more_than_all_there_is(size: int, number: int) -> None:
    for text in (f"{number}B", f"{number % 100}%"):
        assert 0 <= reserve.parse(text).of(size) <= size


def test_room_is_what_is_free_above_the_reserve(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    root = os.fsencode(tmp_path)
    tight = Fullness(Reserve(1.0, free // 2))
    tight.require(root, free // 4)
    with pytest.raises(NoRoomError) as told:
        tight.require(root, free)
    assert marks.is_no_space(REPORTED + str(told.value)) and "have to stay free there" in str(told.value)
    with pytest.raises(NoRoomError, match="have to stay free there"):
        Fullness(Reserve(1.0, 1 << 62)).check(root)
    Fullness(Reserve(1.0, 0)).require(root, free // 4)


def test_a_file_system_that_does_not_tell_its_size_has_no_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(fullness.os, "statvfs", lambda _path: nothing)
    Fullness(Reserve()).require(os.fsencode(tmp_path), GIB)
