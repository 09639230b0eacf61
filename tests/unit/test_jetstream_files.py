"""A destination seen through the documented file operations of its server: in order, in pages, no guesses."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.engines.jetstream_control import Control
from agent.engines.jetstream_files import Files
from agent.jetstream import CommandError, constants
from agent.model.change import FileKind
from agent.model.observed import FileOutcome
from agent.model.outcome import NotFoundError, PermanentError
from agent.server import fileops
from agent.server.confine import FileError
from agent.server.sandboxes import Root, Roots


class FileServer:
    """The bundled server's file operations on a real directory, as its API shows them. `answers` may change
    what a listing says."""

    def __init__(self, top: Path, limit: int = 1000, answers: Callable[[Any], Any] = lambda a: a) -> None:
        self.server = self
        self._roots = Roots((Root(b"/", os.fsencode(top)),))
        self._limit = limit
        self._answers = answers
        self.calls: list[str] = []

    def lsAsync(self, path: str, after: str | None = None) -> Callable[[], Any]:
        def work() -> Any:
            start = None if after is None else os.fsencode(after)
            items, more = fileops.ls(self._place(path), self._limit, start)
            entries = [
                {
                    "name": os.fsdecode(item.name),
                    "type": item.kind,
                    "size": item.size,
                    "modificationTime": item.mtime_us,
                    "executable": item.executable,
                }
                for item in items
            ]
            return self._answers({"entries": entries, "next": entries[-1]["name"] if more else None})

        return self._asked("ls", work)

    def mvAsync(self, old: str, new: str) -> Callable[[], Any]:
        return self._asked("mv", lambda: fileops.mv(self._place(old), self._place(new)))

    def mkdirAsync(self, path: str) -> Callable[[], Any]:
        return self._asked("mkdir", lambda: fileops.mkdir(self._place(path)))

    def rmAsync(self, path: str) -> Callable[[], Any]:
        raise AssertionError("removing is asked for in tests with a real server")

    def getRequestResult(self, request: Callable[[], Any]) -> Any:
        try:
            return request()
        except FileError as error:
            raise CommandError(str(error), constants.ERROR_COMMAND) from None
        except OSError as error:
            raise CommandError(f"it: {os.strerror(error.errno or 0)}", constants.ERROR_COMMAND) from None

    def _place(self, path: str) -> Any:
        return self._roots.resolve(os.fsencode(path))

    def _asked(self, method: str, work: Callable[[], Any]) -> Callable[[], Any]:
        self.calls.append(method)
        return work


class LoggedIn:
    def __init__(self, server: FileServer) -> None:
        self._server = server

    def api(self) -> FileServer:
        return self._server


def files(top: Path, limit: int = 1000, answers: Callable[[Any], Any] = lambda a: a) -> Files:
    return Files(LoggedIn(FileServer(top, limit, answers)))  # type: ignore[arg-type]


def below(found: Files, directory: str = "/", after: str = "") -> list[str]:
    return [file.path for file in found.below(directory, os.fsencode(after))]


def leaves(top: Path) -> list[str]:
    found = []
    for folder, folders, names in os.walk(top):
        inside = folder.removeprefix(str(top))
        found += [f"{inside}/{name}" for name in names]
        if not folders and not names and inside:
            found.append(inside)
    return sorted(found, key=os.fsencode)


_PART = st.text("ab.-0 ", min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))
_NAMES = st.lists(st.lists(_PART, min_size=1, max_size=4).map("/".join), max_size=15)


@settings(max_examples=100, deadline=None)
@given(names=_NAMES, limit=st.integers(1, 5), after=st.text("ab./-0 ", max_size=6))
def test_a_tree_is_told_in_the_order_of_its_paths_from_any_path_on(
    names: list[str], limit: int, after: str
) -> None:
    """Whatever the tree and however many names the server tells at a time."""
    top = Path(tempfile.mkdtemp())
    try:
        for name in names:
            try:
                (top / name).parent.mkdir(parents=True, exist_ok=True)
                (top / name).touch() if len(name) % 3 else (top / name).mkdir()
            except OSError:
                continue
        found = files(top, limit)
        assert below(found) == leaves(top)
        start = os.fsencode("/" + after)
        assert below(found, "/", "/" + after) == [p for p in leaves(top) if os.fsencode(p) > start]
        for folder in {os.path.dirname(path) for path in leaves(top)} - {"/"}:
            inside = [path for path in leaves(top) if path.startswith(folder + "/")]
            assert below(found, folder, "/" + after) == [p for p in inside if os.fsencode(p) > start]
    finally:
        shutil.rmtree(top)


def test_one_name_is_found_without_reading_all_of_a_large_directory(tmp_path: Path) -> None:
    """The server tells names from any one on."""
    for number in range(500):
        (tmp_path / f"n{number:04}").write_text("x" * number)
    server = FileServer(tmp_path, 10)
    found = Files(LoggedIn(server)).find("/n0400")  # type: ignore[arg-type]
    assert found is not None and (found.name, found.size) == (b"n0400", 400)
    assert len(server.calls) <= 3
    assert Files(LoggedIn(server)).find("/n0400x") is None  # type: ignore[arg-type]


def test_kinds_are_told_and_what_is_set_aside_is_not(tmp_path: Path) -> None:
    """Links as links, pipes not at all."""
    for name in (".lanesync/x", ".lanesync-trash/y", "a/.lanesync-trash/z"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / "l").symlink_to("a")
    (tmp_path / "e").mkdir()
    os.mkfifo(tmp_path / "p")
    told = [(file.path, file.kind) for file in files(tmp_path).below("/", b"")]
    assert told == [
        ("/a/.lanesync-trash/z", FileKind.FILE),
        ("/e", FileKind.EMPTY_DIRECTORY),
        ("/l", FileKind.SYMLINK),
    ]


def test_a_directory_of_the_server_that_is_missing_is_not_empty(tmp_path: Path) -> None:
    """What is not mounted has not been emptied; a directory below it may well be absent."""
    with pytest.raises(PermanentError, match="missing"):
        below(files(tmp_path / "unmounted"))
    with pytest.raises(PermanentError, match="missing"):
        below(files(tmp_path / "unmounted"), "/a/b")
    assert below(files(tmp_path), "/a/b") == []


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {"files": []},
        {"entries": [{"name": "a"}]},
        {"entries": [{"name": "a", "type": "door"}]},
        {"entries": [{"name": "../a", "type": "file"}]},
        {"entries": [{"name": "..", "type": "file"}]},
        {"entries": [{"name": "", "type": "file"}]},
        {"entries": [{"name": "a", "type": "file", "size": "large"}]},
        {"entries": [{"name": "b", "type": "file"}, {"name": "a", "type": "file"}], "next": "a"},
        {"entries": [{"name": "a", "type": "file"}, {"name": "a", "type": "file"}]},
        {"entries": [], "next": "z"},
        {"entries": [{"name": "b", "type": "file"}], "next": "a"},
    ],
    ids=repr,
)
def test_a_listing_of_another_form_is_told_and_not_guessed_at(tmp_path: Path, answer: Any) -> None:
    """The documents do not say what a listing looks like."""
    with pytest.raises(PermanentError, match="control server lists /"):
        below(files(tmp_path, answers=lambda _real: answer))


def test_a_whole_listing_may_be_in_any_order(tmp_path: Path) -> None:
    """One page that is all there is, is sorted here."""
    for name in ("a", "b", "c"):
        (tmp_path / name).touch()
    turned = files(tmp_path, answers=lambda real: {"entries": real["entries"][::-1]})
    assert below(turned) == ["/a", "/b", "/c"]


def answer(control: Control, ident: str) -> Any:
    from servers import eventually

    return eventually(lambda: (found := control.answer(ident)).done and found)


def test_renames_look_before_they_move(tmp_path: Path) -> None:
    """Absent, taken, a directory: told without a move; an answer is fetched once, and another adapter's never
    was asked for."""
    for name in ("a", "b", "d/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    server = FileServer(tmp_path)
    control = Control(LoggedIn(server))  # type: ignore[arg-type]
    told: list[tuple[str, str]] = []
    control.changed = lambda kind, ident: told.append((kind, ident))
    ident = control.rename((("/a", "/n/a"), ("/never", "/x"), ("/b", "/d/x"), ("/d", "/e")))
    found = answer(control, ident)
    assert [result.outcome for result in found.results] == [
        *(FileOutcome.DELIVERED, FileOutcome.VANISHED, FileOutcome.SKIPPED, FileOutcome.FAILED)
    ]
    assert server.calls.count("mv") == 1
    assert (tmp_path / "n/a").read_text() == "a"
    assert ("deletion", ident) in told
    for unknown in (ident, "other/control-1"):
        with pytest.raises(NotFoundError):
            control.answer(unknown)
    control.close()
