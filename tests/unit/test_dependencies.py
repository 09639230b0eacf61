"""A mapping with `dependsOn` goes on when those that it names are in sync, and not before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from unit.reconcile_bench import Bench

from agent.model.condition import Reason
from agent.model.spec import DesiredState, Key, Kind, MappingSpec, PathMapping
from agent.reconcile.queue import WHOLE
from agent.reconcile.status import State, overall
from agent.specs.load import Loaded, load
from agent.specs.select import EVERYTHING, parse

LIBRARY, USER = Key(Kind.MAPPING, "library"), Key(Kind.MAPPING, "m")


class TwoMappings(Bench):
    """`m` depends on `library`."""

    def __init__(self, directory: Path) -> None:
        self.shelf = directory / "shelf"
        self.shelf.mkdir()
        self.revision = "r1"
        self.library = MappingSpec("library", ("d",), (PathMapping("/luts", str(self.shelf)),))
        super().__init__(directory)
        self.mapping = replace(
            self.mapping, paths=(PathMapping("/m", str(self.source)),), depends_on=("library",)
        )
        self.take()

    def desired(self) -> DesiredState:
        found = super().desired()
        return replace(found, revision=self.revision, mappings={**found.mappings, "library": self.library})

    def sent(self) -> set[str]:
        """Mappings with something in flight."""
        return {attempt.mapping for attempt in self.agent.context.state.attempts.pending()}

    def look_at(self, *keys: Key) -> None:
        for key in keys:
            self.agent.context.queue.add(key, hints=WHOLE)
        self.settle()


@pytest.fixture
def bench(tmp_path: Path) -> TwoMappings:
    return TwoMappings(tmp_path)


def test_nothing_is_sent_before_the_dependency_is_in_sync(bench: TwoMappings) -> None:
    """The condition names it, and why it is not; when it is, its end brings the other on at once."""
    (bench.shelf / "lut").write_text("1")
    (bench.source / "f").write_text("1")
    bench.settle()
    assert bench.sent() == {"library"}
    waiting = bench.status().why_not_ready()
    assert waiting is not None
    assert waiting.reason is Reason.DEPENDENCY_NOT_READY
    assert waiting.message.startswith("waits for Mapping/library")
    bench.converge()
    assert bench.status(LIBRARY).ready
    assert bench.agent.context.state.ledger.count("m", "d") == 1


def test_a_change_of_the_dependency_goes_first_later_too(bench: TwoMappings) -> None:
    """Both change: the library is sent, then what depends on it."""
    bench.converge()
    (bench.source / "f").write_text("1")
    (bench.shelf / "lut").write_text("1")
    bench.look_at(USER, LIBRARY)
    assert bench.sent() == {"library"}
    bench.converge()
    assert bench.agent.context.state.ledger.count("m", "d") == 1


def test_what_runs_already_goes_on(bench: TwoMappings) -> None:
    """A dependency that changes holds back what is new, not what is on its way."""
    bench.converge()
    (bench.source / "f").write_text("1")
    bench.look_at(USER)
    (bench.shelf / "lut").write_text("1")
    bench.look_at(LIBRARY)
    (bench.source / "g").write_text("1")
    bench.look_at(USER)
    assert bench.sent() == {"library", "m"}
    assert bench.agent.context.state.attempts.in_flight_count("m", "d") == 1
    bench.converge()
    assert bench.agent.context.state.ledger.count("m", "d") == 2


def test_a_new_revision_asks_again(bench: TwoMappings) -> None:
    """In sync with an earlier revision is not in sync."""
    bench.converge()
    bench.revision = "r2"
    (bench.source / "f").write_text("1")
    bench.library = replace(bench.library, paths=(PathMapping("/luts", str(bench.directory / "missing")),))
    bench.take()
    bench.settle()
    assert bench.sent() == set()
    assert "Mapping/library" in (bench.status().why_not_ready() or pytest.fail()).message


def test_a_suspended_dependency_blocks_and_a_person_is_told(bench: TwoMappings) -> None:
    """`run --once` must not wait for ever for what only a person can end."""
    bench.library = replace(bench.library, suspend=True)
    bench.take()
    (bench.source / "f").write_text("1")
    bench.settle()
    bench.pass_time(700)
    found = overall(bench.agent.statuses())
    assert found.state is State.BLOCKED
    assert "Mapping/library is suspended" in found.message
    assert bench.sent() == set()


# -- specs --


def read(tmp_path: Path, text: str, select: str = "") -> Loaded:
    head = "apiVersion: lanesync/v1\nkind: Destination\nmetadata: {name: d}\nspec: {address: a.example}\n"
    (tmp_path / "a.yaml").write_text(head + text)
    return load([str(tmp_path)], select=parse(select) if select else EVERYTHING)


def mapping(name: str, needs: str, labels: str = "{}") -> str:
    return (
        f"---\napiVersion: lanesync/v1\nkind: Mapping\nmetadata: {{name: {name}, labels: {labels}}}\n"
        f"spec: {{destination: d, dependsOn: [{needs}], paths: {{/{name}: /mnt/{name}}}}}\n"
    )


def test_dependencies_reach_the_model(tmp_path: Path) -> None:
    desired = read(tmp_path, mapping("a", "") + mapping("b", "a") + mapping("c", "a, b")).desired
    assert desired is not None
    assert desired.mappings["c"].depends_on == ("a", "b")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (mapping("a", "lut-library") + mapping("lut-libary", ""), ["did you mean `lut-libary`"]),
        (mapping("a", "a"), ["waits for itself: a → a"]),
        (mapping("a", "b") + mapping("b", "a"), ["itself: a → b → a", "itself: b → a → b"]),
        (
            mapping("a", "b") + mapping("b", "c") + mapping("c", "b") + mapping("x", "a"),
            ["itself: b → c → b", "itself: c → b → c"],
        ),
        (mapping("a", "b, b") + mapping("b", ""), ["there twice"]),
    ],
)
def test_what_cannot_be_waited_for_is_an_error_at_its_place(
    text: str, expected: list[str], tmp_path: Path
) -> None:
    """Unknown names and circles are told when specs are read, not by waiting for ever."""
    errors = [str(error) for error in read(tmp_path, text).errors]
    assert len(errors) == len(expected), errors
    assert all(
        part in error and "spec.dependsOn" in error for part, error in zip(expected, errors, strict=True)
    )


def test_roads_that_meet_are_no_circle(tmp_path: Path) -> None:
    text = mapping("a", "b, c") + mapping("b", "d1") + mapping("c", "d1") + mapping("d1", "")
    assert read(tmp_path, text).errors == ()


def test_a_dependency_of_another_agent_is_an_error(tmp_path: Path) -> None:
    """This agent cannot know when it is in sync."""
    text = mapping("a", "b", "{site: paris}") + mapping("b", "", "{site: rome}")
    assert read(tmp_path, text).errors == ()
    [error] = read(tmp_path, text, "site=paris").errors
    assert "Mapping/b is not selected here" in error.message
