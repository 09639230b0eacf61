"""One repository serves many agents: each sees what its selector chooses, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli.problems import FailedError
from agent.cli.status import _selected, _wait
from agent.model.spec import IMPLICIT_SERVER, Key, Kind
from agent.specs.load import Loaded, load
from agent.specs.select import EVERYTHING, Selector, parse


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("site=paris", {"site": "paris"}, True),
        ("site==paris", {"site": "paris"}, True),
        ("site=paris", {"site": "rome"}, False),
        ("site=paris", {}, False),
        ("site!=paris", {"site": "rome"}, True),
        ("site!=paris", {}, True),
        ("site!=paris", {"site": "paris"}, False),
        ("site=paris,kind!=x", {"site": "paris", "kind": "y"}, True),
        (" site = paris , kind != x ", {"site": "paris", "kind": "x"}, False),
        ("site in (paris, rome)", {"site": "rome"}, True),
        ("site in (paris,rome),kind", {"site": "rome"}, False),
        ("site notin (paris,rome)", {"site": "rome"}, False),
        ("site notin (paris,rome)", {}, True),
        ("site", {"site": ""}, True),
        ("!site", {"site": ""}, False),
        ("! site", {}, True),
        ("site=", {"site": ""}, True),
        ("in in (in)", {"in": "in"}, True),
        ("example.org/site=paris", {"example.org/site": "paris"}, True),
    ],
)
def test_conditions_on_labels(text: str, labels: dict[str, str], matches: bool) -> None:
    """The set syntax that people know from Kubernetes."""
    assert parse(text).matches(labels) is matches


@pytest.mark.parametrize(
    "text", ["", " ", ",", "a=b,", ",a=b", "a=b c=d", "a in", "a in (b", "=b", "!", "a>1", "a=b=c"]
)
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"condition"):
        parse(text)


@given(
    st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy")),
    st.sampled_from("ab"),
    st.sampled_from("xy"),
)
def test_a_condition_and_its_opposite_share_the_objects_out(
    labels: dict[str, str], key: str, value: str
) -> None:
    """No object is forgotten between two agents, and none has two owners."""
    assert parse(f"{key}={value}").matches(labels) is not parse(f"{key}!={value}").matches(labels)
    assert parse(key).matches(labels) is not parse(f"!{key}").matches(labels)


def objects(*documents: str) -> str:
    return "".join(f"---\napiVersion: lanesync/v1\n{text}\n" for text in documents)


def destination(name: str, labels: str = "{}", spec: str = "{address: a.example}") -> str:
    return f"kind: Destination\nmetadata: {{name: {name}, labels: {labels}}}\nspec: {spec}"


def mapping(name: str, labels: str, to: str, more: str = "") -> str:
    spec = f"{{destination: {to}, paths: {{/{name}: /mnt/{name}}}{more}}}"
    return f"kind: Mapping\nmetadata: {{name: {name}, labels: {labels}}}\nspec: {spec}"


def read(tmp_path: Path, text: str, select: Selector) -> Loaded:
    (tmp_path / "a.yaml").write_text(text)
    return load([str(tmp_path)], select=select)


TWO_SITES = objects(
    "kind: Server\nmetadata: {name: studio}\nspec: {engine: jetstream, address: ctl.example}",
    "kind: Server\nmetadata: {name: inbox, labels: {site: rome}}\nspec: {engine: embedded}",
    "kind: PriorityLanes\nmetadata: {name: lanes}\nspec: {lanes: [{name: A, share: 100%}]}",
    destination("archive", spec="{address: a.example, server: studio, lanes: lanes}"),
    destination("spare", "{site: rome}", "{address: b.example}"),
    mapping("paris", "{site: paris}", "archive"),
    mapping("rome", "{site: rome}", "archive"),
)


def test_a_chosen_object_brings_what_it_refers_to(tmp_path: Path) -> None:
    """And nothing else is there."""
    paris = read(tmp_path, TWO_SITES, parse("site=paris")).desired
    assert paris is not None
    assert [str(key) for key in paris.all_keys()] == [
        "Server/studio",
        "PriorityLanes/lanes",
        "Destination/archive",
        "Mapping/paris",
    ]
    rome = read(tmp_path, TWO_SITES, parse("site=rome")).desired
    assert rome is not None
    assert set(rome.servers) == {"studio", "inbox", IMPLICIT_SERVER}
    assert set(rome.destinations) == {"archive", "spare"}
    everything = read(tmp_path, TWO_SITES, EVERYTHING)
    assert everything.revision != read(tmp_path, TWO_SITES, parse("site=paris")).revision


def test_errors_of_what_is_not_chosen_do_not_count(tmp_path: Path) -> None:
    """Nor do places that collide with those of another agent."""
    broken = objects(
        mapping("typo", "{site: rome}", "archive", ", prnue: true"),
        mapping("lost", "{site: rome}", "nowhere"),
        "kind: Mapping\nmetadata: {name: twin, labels: {site: rome}}\n"
        "spec: {destination: archive, paths: {/paris: /mnt/b}}",
    )
    assert read(tmp_path, TWO_SITES + broken, parse("site=paris")).errors == ()
    assert len(read(tmp_path, TWO_SITES + broken, EVERYTHING).errors) >= 4


def test_errors_of_what_is_chosen_or_used_count(tmp_path: Path) -> None:
    """A destination that is invalid is an error of those who use it."""
    text = objects(destination("d", spec="{address: a, prot: 1}"), mapping("m", "{site: paris}", "d"))
    loaded = read(tmp_path, text, parse("site=paris"))
    assert [str(key) for key in loaded.invalid] == ["Destination/d"]


def test_a_slip_in_a_label_is_an_error_and_no_removal(tmp_path: Path) -> None:
    """An object whose labels cannot be read keeps its last good version."""
    good = read(tmp_path, TWO_SITES, parse("site=paris")).desired
    slipped = TWO_SITES.replace("labels: {site: paris}", "labels: {site: 75}")
    loaded = read(tmp_path, slipped, parse("site=paris"))
    assert Key(Kind.MAPPING, "paris") in loaded.invalid
    assert set(loaded.effective(good).mappings) == {"paris"}


def test_status_answers_for_what_is_selected() -> None:
    """Another site's trouble is not ours."""
    trouble = {"type": "Stalled", "status": True}

    def shown(name: str, site: str, ready: bool) -> dict[str, object]:
        conditions = [] if ready else [trouble]
        return {
            "kind": "Mapping",
            "name": name,
            "labels": {"site": site},
            "ready": ready,
            "conditions": conditions,
        }

    document = {"objects": [shown("a", "paris", True), shown("b", "rome", False)], "inSync": False}
    paris, rome = _selected(document, parse("site=paris")), _selected(document, parse("site=rome"))
    assert ([o["name"] for o in paris["objects"]], paris["inSync"], paris["state"]) == (["a"], True, "inSync")
    assert (rome["inSync"], rome["state"]) == (False, "blocked")


def test_waiting_for_a_selection_begins_before_its_objects_are_known() -> None:
    """An agent that has just started has not looked at them yet; one that is at rest never will."""
    answers: list[dict[str, object]] = [
        {"objects": [], "state": "converging"},
        {
            "objects": [{"kind": "Mapping", "labels": {"a": "b"}, "ready": True, "conditions": []}],
            "state": "x",
        },
        {"objects": [], "state": "inSync"},
    ]

    class Agent:
        def get(self, _path: str) -> dict[str, object]:
            return answers.pop(0)

    def choose(document: dict[str, object]) -> dict[str, object]:
        return _selected(document, parse("a=b"))

    assert _wait(Agent(), None, choose)["state"] == "inSync"  # type: ignore[arg-type]
    with pytest.raises(FailedError, match="a=b"):
        _wait(Agent(), None, choose)  # type: ignore[arg-type]
