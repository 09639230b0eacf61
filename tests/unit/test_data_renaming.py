"""Renaming at the destination: what is told of each pair, and what is never touched."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.jetstream.constants import PERMISSION_DOWNLOAD, PERMISSION_MODIFY, PERMISSION_UPLOAD
from agent.server.data import remote, syncer
from agent.server.data.granting import Grant, RefusedError
from agent.server.data.options import WorkerOptions
from agent.server.data.receiver import Receiver
from agent.server.data.wire import WireError
from agent.server.ipc import Channel
from agent.server.sandboxes import Root, Roots


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    ours, theirs = socket.socketpair()
    made = Receiver(WorkerOptions("receiver", -1, tmp_path, 2, 2, "server", "uid"), Channel(theirs))
    yield made
    for one in (ours, theirs):
        one.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def rename(receiver: Receiver, roots: Path | Roots, *pairs: tuple[str, str]) -> list[tuple[str, str]]:
    if isinstance(roots, Path):
        roots = Roots((Root(b"/", os.fsencode(roots)),))
    arguments = {"renames": [path for pair in pairs for path in pair]}
    value = {"verb": "rename", "args": arguments}
    answer = remote.carry_out(value, Grant("", 15, roots), receiver, lambda: False)
    assert [path for path, _, _ in answer["results"]] == [new for _, new in pairs]
    return [(state, message) for _, state, message in answer["results"]]


def test_each_pair_has_an_outcome_of_its_own(receiver: Receiver, root: Path) -> None:
    """Renamed, absent, taken, failed; nothing is replaced, and for what is absent nothing is made."""
    (root / "d").mkdir()
    for name in ("a", "b", "d/x"):
        (root / name).write_text(name)
    (root / "link").symlink_to("nowhere")
    (root / "out").symlink_to("/nowhere")
    told = rename(
        receiver,
        root,
        ("/a", "/new/deep/a"),
        ("/never", "/made/never"),
        ("/b", "/d/x"),
        ("/link", "/new/link"),
        ("/d", "/e"),
        ("/b", "/b"),
        ("/b", "/d/x/below"),
        ("/b", "/"),
        ("/out", "/new/out"),
    )
    assert [state for state, _ in told] == [
        *("renamed", "absent", "taken", "renamed", "failed", "taken", "failed", "failed", "failed")
    ]
    assert "is a directory" in told[4][1]
    assert (root / "new/deep/a").read_text() == "a"
    assert os.readlink(root / "new/link") == "nowhere"
    assert (root / "d/x").read_text() == "d/x"
    assert not (root / "made").exists()
    assert (root / "d").is_dir(), "directories stay, also where they are empty"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/../secret", "/taken"),
        ("/a", "/../escaped"),
        ("/out/secret", "/taken"),
        ("/a", "/out/escaped"),
        ("/a", "/.lanesync/x"),
        ("/.lanesync/half", "/taken"),
        ("/.lanesync-trash/old", "/taken"),
        ("//.lanesync-trash//old", "/taken"),
        ("/.lanesync-trash/old", "/.lanesync-trash/older"),
        ("/a", "/" + "n" * 256),
        ("/a\0", "/b"),
        ("/a", "/\ud800"),
    ],
)
def test_nothing_outside_the_root_and_nothing_reserved_is_touched(
    receiver: Receiver, root: Path, tmp_path: Path, old: str, new: str
) -> None:
    """Whichever end of the pair it is."""
    for path in ("a", ".lanesync/half", ".lanesync-trash/old"):
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(path)
    (tmp_path / "secret").write_text("secret")
    (root / "out").symlink_to(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert [state for state, _ in rename(receiver, root, (old, new))] == ["failed"]
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_to_go_can_be_put_aside(receiver: Receiver, root: Path) -> None:
    """Into the reserved directory, with the directories above; under a name that is taken it is not."""
    (root / "a").write_text("a")
    (root / "b").write_text("b")
    aside = "/.lanesync-trash/2026-11-22/a"
    assert [state for state, _ in rename(receiver, root, ("/a", aside), ("/b", aside))] == [
        "renamed",
        "taken",
    ]
    assert (root / aside[1:]).read_text() == "a"


def test_a_file_moves_between_named_roots_of_one_file_system(receiver: Receiver, tmp_path: Path) -> None:
    """Each end below the root that its path names."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one/a").write_text("a")
    roots = Roots(tuple(Root(f"/{n}".encode(), os.fsencode(tmp_path / n)) for n in ("one", "two")))
    told = rename(receiver, roots, ("/one/a", "/two/b"), ("/two/b", "/three/b"), ("/one", "/two/x"))
    assert [state for state, _ in told] == ["renamed", "failed", "failed"]
    assert (tmp_path / "two/b").read_text() == "a"


def test_what_is_not_on_storage_is_not_told_as_renamed(
    receiver: Receiver, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller looks again."""
    (root / "a").touch()

    def broken(*_args: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(syncer.Syncer, "_sync", broken)
    assert rename(receiver, root, ("/a", "/b"), ("/never", "/c")) == [
        ("failed", "the destination cannot sync its storage: Input/output error"),
        ("absent", ""),
    ]


@pytest.mark.parametrize(
    ("verb", "needed"),
    [
        ("rename", PERMISSION_MODIFY | PERMISSION_UPLOAD),
        ("list", PERMISSION_DOWNLOAD),
        ("delete", PERMISSION_MODIFY),
    ],
)
def test_a_token_does_only_what_it_permits(receiver: Receiver, root: Path, verb: str, needed: int) -> None:
    """The refusal names what is missing."""
    (root / "a").touch()
    args = {"renames": ["/a", "/b"], "directory": "/", "files": ["/a"]}
    for missing in (bit for bit in (1, 2, 4) if bit & needed):
        grant = Grant("anna", 15 & ~missing, Roots((Root(b"/", os.fsencode(root)),)))
        with pytest.raises(RefusedError, match="asks for a token with PERMISSION_"):
            remote.carry_out({"verb": verb, "args": args}, grant, receiver, lambda: False)
    assert (root / "a").exists()


@pytest.mark.parametrize(
    "value",
    [
        {"verb": "rename", "args": {"renames": ["/a"]}},
        {"verb": "rename", "args": {"renames": [["/a", "/b"]]}},
        {"verb": "rename", "args": {"renames": "ab"}},
        {"verb": "rename", "args": {"renames": ["/a"] * 50_002}},
        {"verb": "rename", "args": ["/a"]},
        {"verb": "list", "args": {}},
        {"verb": "list", "args": {"directory": 7}},
        {"verb": "list", "args": {"directory": "/", "after": None}},
        {"verb": "list", "args": {"directory": "/", "checksum": 1}},
        {"verb": "list", "args": {"directory": "/", "rows": 0}},
        {"verb": "list", "args": {"directory": "/", "rows": True}},
    ],
)
def test_a_malformed_frame_ends_the_session(receiver: Receiver, root: Path, value: dict[str, object]) -> None:
    """No sound sender makes it."""
    grant = Grant("", 15, Roots((Root(b"/", os.fsencode(root)),)))
    with pytest.raises(WireError):
        remote.carry_out(value, grant, receiver, lambda: False)


def test_a_name_that_the_file_system_cannot_carry_is_an_answer(receiver: Receiver, root: Path) -> None:
    """Not the end of the session."""
    grant = Grant("", 15, Roots((Root(b"/", os.fsencode(root)),)))
    value = {"verb": "list", "args": {"directory": "/\ud800"}}
    assert "cannot carry" in remote.carry_out(value, grant, receiver, lambda: False)["error"]
