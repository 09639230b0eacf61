"""A plan over mappings with nothing to do: the short look, which must not overlook anything."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from unit.reconcile_bench import Bench

from agent.model.change import ChangeSet
from agent.model.plan import StartTransfer
from agent.model.spec import DesiredState, Key, Kind, PathMapping
from agent.reconcile import preview as previews
from agent.reconcile import resting as rest
from agent.reconcile.preview import preview
from agent.reconcile.queue import WHOLE
from agent.reconcile.resting import resting
from agent.reconcile.survey import survey
from agent.specs.policy import Policy
from agent.state import small

M = frozenset({"m"})


def put(place: Path, content: str = "content") -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(content)


@pytest.fixture
def b(tmp_path: Path) -> Bench:
    """One mapping that is in sync: two directories with a file each, and one that is empty."""
    b = Bench(tmp_path)
    put(b.source / "a")
    put(b.source / "sub" / "b")
    (b.source / "empty").mkdir()
    b.converge()
    return b


def at_rest(b: Bench, desired: DesiredState | None = None) -> frozenset[str]:
    return resting(b.agent.context, desired or b.desired())


def same_size_and_time(b: Bench) -> None:
    file = b.source / "a"
    before = file.stat()
    file.write_text("CONTENT")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(b: Bench) -> None:
    put(b.source / "new")
    (b.source / "new").replace(b.source / "sub" / "b")


def moved(b: Bench) -> None:
    (b.source / "sub").rename(b.source / "other")


def turned_into_a_file(b: Bench) -> None:
    (b.source / "empty").rmdir()
    put(b.source / "empty")


def emptied(b: Bench) -> None:
    for file in (b.source / "a", b.source / "sub" / "b"):
        file.unlink()
    (b.source / "sub").rmdir()
    (b.source / "empty").rmdir()


def unmounted(b: Bench) -> None:
    b.source.rename(b.directory / "elsewhere")


def on_another_device(b: Bench) -> None:
    b.agent.context.state.roots.remember("m", str(b.source), 4711, 1)


EDITS: dict[str, Callable[[Bench], object]] = {
    "a new file": lambda b: put(b.source / "sub" / "c"),
    "a new directory": lambda b: put(b.source / "more" / "deep" / "c"),
    "an empty directory": lambda b: (b.source / "sub" / "hollow").mkdir(),
    "a longer file": lambda b: put(b.source / "a", "more content"),
    "a file of the same size and time": same_size_and_time,
    "a file that can be run now": lambda b: (b.source / "a").chmod(0o755),
    "a file in the place of another": replaced,
    "a file in the place of a directory": turned_into_a_file,
    "a file that is gone": lambda b: (b.source / "a").unlink(),
    "a directory that is gone": lambda b: (b.source / "empty").rmdir(),
    "a directory with another name": moved,
    "a link": lambda b: (b.source / "link").symlink_to("a"),
    "a link that leads nowhere": lambda b: (b.source / "link").symlink_to("nothing"),
    "a pipe": lambda b: os.mkfifo(b.source / "pipe"),
    "a name that differs in case": lambda b: put(b.source / "A"),
    "an emptied root": emptied,
    "a root that is not there": unmounted,
    "a root on another device": on_another_device,
}


@pytest.mark.parametrize("looked", [False, True], ids=["as delivered", "looked at since"])
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_an_edit_is_never_overlooked(b: Bench, edit: Callable[[Bench], object], looked: bool) -> None:
    """Whether a directory is known by its rows or, once it has been looked at whole, by its digest."""
    if looked:
        b.look()
    assert at_rest(b) == M
    assert preview(b.agent.context, b.desired()).empty
    edit(b)
    assert at_rest(b) == frozenset()
    assert preview(b.agent.context, b.desired()) == preview(b.agent.context, b.desired(), still=frozenset())


def test_names_that_differ_in_case_are_told_by_every_plan(b: Bench) -> None:
    put(b.source / "A")
    b.converge()
    assert at_rest(b) == frozenset()
    assert preview(b.agent.context, b.desired()).names


def test_a_mapping_of_which_something_is_on_its_way_is_surveyed(b: Bench) -> None:
    put(b.source / "c")
    b.touch("c")
    assert b.agent.context.state.attempts.pending()
    (b.source / "c").unlink()
    assert at_rest(b) == frozenset()


def test_a_destination_that_has_nothing_yet_is_not_overlooked(b: Bench) -> None:
    desired = b.desired()
    desired.destinations["e"] = replace(b.destination, name="e")
    desired.mappings["m"] = replace(b.mapping, destinations=("d", "e"))
    assert at_rest(b, desired) == frozenset()
    starts = [a for a in preview(b.agent.context, desired).actions if isinstance(a, StartTransfer)]
    assert [(start.destination, start.paths) for start in starts] == [("e", 3)]


def test_what_left_the_specs_or_is_filtered_out_now_is_not_overlooked(b: Bench) -> None:
    (entry,) = b.mapping.paths
    other = replace(entry, destination="/elsewhere")
    without = replace(entry, exclude=("sub/",))
    below = PathMapping("/", str(b.source / "sub"))
    for paths in ((other,), (without,), (below,), (replace(entry, include=("a",)),)):
        desired = b.desired()
        desired.mappings["m"] = replace(b.mapping, paths=paths)
        assert at_rest(b, desired) == frozenset(), paths


def test_a_file_as_a_root_is_surveyed(b: Bench) -> None:
    b.change(paths=(PathMapping("/one", str(b.source / "a")),))
    b.converge()
    assert at_rest(b) == frozenset()
    assert preview(b.agent.context, b.desired()).empty


def test_no_source_is_looked_at_that_the_policy_refuses(b: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    b.agent.context.policy = Policy("/etc/lanesync/policy.yaml")
    looked: list[str] = []
    monkeypatch.setattr(rest, "scan_tree", lambda source, *_: looked.append(source) or iter(()))
    assert b.agent.context.refusal(b.mapping)
    assert at_rest(b) == frozenset()
    assert looked == []


def test_large_deliveries_are_surveyed(b: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small, "MOST_DIRECTORIES", 1)
    assert at_rest(b) == frozenset()
    monkeypatch.setattr(small, "MOST_DIRECTORIES", 2)
    assert at_rest(b) == M
    monkeypatch.setattr(small, "MOST_FILES", 1)  # two entries in the root, whose rows are not read then
    assert at_rest(b) == frozenset()
    b.look()
    assert at_rest(b) == M, "a digest says the same without rows"


def test_many_mappings_are_asked_of_together_and_only_what_changed_is_surveyed(
    b: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"n{number}" for number in range(12)]
    desired = b.desired()
    for name in names:
        put(b.directory / name / "file", name)
        entry = PathMapping("/" + name, str(b.directory / name))
        desired.mappings[name] = replace(b.mapping, name=name, paths=(entry,))
    monkeypatch.setattr(b, "desired", lambda: desired)
    b.take()
    for _ in range(10):
        b.pass_time(0.5)
    put(b.directory / "n7" / "file", "changed")
    monkeypatch.setattr(rest, "TOGETHER", 5)
    asked: list[int] = []
    reads = b.agent.context.state.small.at_rest
    monkeypatch.setattr(
        type(b.agent.context.state.small),
        "at_rest",
        lambda _self, some: asked.append(len(some)) or reads(some),
    )
    surveyed: list[str] = []
    begins = previews.begin
    monkeypatch.setattr(
        previews, "begin", lambda c, spec, *a, **k: surveyed.append(spec.name) or begins(c, spec, *a, **k)
    )
    plan = preview(b.agent.context, desired)
    assert [a.mapping for a in plan.actions if isinstance(a, StartTransfer)] == ["n7"]
    assert (asked, surveyed) == ([5, 5, 3], ["n7"])


def test_what_is_at_rest_has_no_changes(b: Bench) -> None:
    (found,) = survey(b.agent.context, b.mapping, ["d"], WHOLE, keep=False).values()
    assert at_rest(b) == M and found.changes == ChangeSet()


def test_what_was_applied_is_read_together_in_the_order_asked_for(b: Bench) -> None:
    specs = b.agent.context.state.specs
    keys = [Key(Kind.MAPPING, "m"), Key(Kind.MAPPING, "none"), Key(Kind.DESTINATION, "d")]
    assert specs.of(keys) == [specs.get(keys[0]), specs.get(keys[2])]
    assert specs.of([]) == []
