"""Specs become a desired state, or errors with their place."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from agent.model.spec import (
    DEFAULT_LANES,
    IMPLICIT_SERVER,
    Auth,
    EngineKind,
    Key,
    Kind,
    Lane,
    OnRemove,
    Overwrite,
    PathMapping,
    Ready,
    SecretRef,
    SecretSource,
    ServerSpec,
    Symlinks,
)
from agent.specs.load import Loaded, load
from agent.specs.policy import Policy

DESTINATION = """\
apiVersion: lanesync/v1
kind: Destination
metadata: {name: archive}
spec: {address: archive.example.org}
"""
MAPPING = """\
apiVersion: lanesync/v1
kind: Mapping
metadata: {name: dailies}
spec:
  destination: archive
  paths:
    /dailies: /mnt/raid/dailies
"""
LANES = """\
apiVersion: lanesync/v1
kind: PriorityLanes
metadata: {name: studio-lanes}
spec: {lanes: [{name: Fast, share: 70%}, {name: Slow, share: 30%}]}
"""


def read(tmp_path: Path, *documents: str) -> Loaded:
    (tmp_path / "specs.yaml").write_text("---\n".join(documents))
    return load([str(tmp_path)])


def messages(loaded: Loaded) -> list[str]:
    return [str(error) for error in loaded.errors]


def only(loaded: Loaded) -> str:
    """The message of the only error."""
    assert len(loaded.errors) == 1, messages(loaded)
    return str(loaded.errors[0])


def server(spec: str, name: str = "studio") -> str:
    return f"apiVersion: lanesync/v1\nkind: Server\nmetadata: {{name: {name}}}\nspec: {spec}\n"


def destination(spec: str, name: str = "archive") -> str:
    return f"apiVersion: lanesync/v1\nkind: Destination\nmetadata: {{name: {name}}}\nspec: {spec}\n"


def mapping(spec: str, name: str = "dailies") -> str:
    return f"apiVersion: lanesync/v1\nkind: Mapping\nmetadata: {{name: {name}}}\nspec: {spec}\n"


def test_smallest_set_gets_safe_defaults(tmp_path: Path) -> None:
    """One destination and one mapping are enough; all else has its documented default."""
    desired = read(tmp_path, DESTINATION, MAPPING).desired
    assert desired is not None
    assert desired.servers == {IMPLICIT_SERVER: ServerSpec(IMPLICIT_SERVER)}
    archive = desired.destinations["archive"]
    assert (archive.port, archive.server, archive.lanes) == (8886, IMPLICIT_SERVER, None)
    assert desired.lanes_of(archive) == DEFAULT_LANES
    dailies = desired.mappings["dailies"]
    assert dailies.destinations == ("archive",)
    assert dailies.paths == (PathMapping("/dailies", "/mnt/raid/dailies"),)
    assert (dailies.prune, dailies.on_remove, dailies.destination_path) == (False, OnRemove.ORPHAN, "/")


def test_every_field_reaches_the_model(tmp_path: Path) -> None:
    """What a spec says is what the agent works with, in kbit/s, seconds and fractions."""
    loaded = read(
        tmp_path,
        LANES,
        server("{engine: jetstream, address: h, port: 9, auth: {userName: u, password: {file: /s}}}"),
        destination(
            "{server: studio, address: a, port: 7, lanes: studio-lanes, sendRateMax: 2Gbit/s, suspend: true, "
            "onRemove: delete, transferDefaults: {priority: 5, lane: Slow, checkpointInterval: 1m, "
            "overwrite: never, modificationTimeTolerance: 2s, timeout: 1h}}"
        ),
        mapping(
            "{destinations: [archive], destinationPath: //paris/./x/, lane: Fast, priority: 0, "
            "sendRateMax: 1kbit/s, symlinks: ignore, overwrite: backup, "
            "preserve: {mtime: false, executable: false}, prune: true, "
            "trigger: {watch: false, ready: quiet, settle: 2s, maxWait: 3m, interval: 4h}, "
            "deletions: {maxCount: 7, maxPercent: 50%}, retry: {interval: 1s, maxInterval: 2s}, "
            "publish: file, receipt: none, suspend: true, onRemove: cancel, "
            "paths: {/a: {source: /b, include: ['*.x'], exclude: [y]}}}"
        ),
    )
    desired = loaded.desired
    assert desired is not None, messages(loaded)
    studio = desired.servers["studio"]
    assert (studio.engine, studio.address, studio.port) == (EngineKind.JETSTREAM, "h", 9)
    assert studio.auth == Auth("u", SecretRef(SecretSource.FILE, "/s"))
    assert desired.lanes["studio-lanes"].lanes == (Lane("Fast", 0.7), Lane("Slow", 0.3))
    archive = desired.destinations["archive"]
    assert (archive.address, archive.port, archive.send_rate_max) == ("a", 7, 2e6)
    assert (archive.suspend, archive.on_remove) == (True, OnRemove.DELETE)
    defaults = archive.transfer_defaults
    assert (defaults.priority, defaults.lane, defaults.checkpoint_interval) == (5, "Slow", 60)
    assert (defaults.overwrite, defaults.modification_time_tolerance, defaults.timeout) == (
        Overwrite.NEVER,
        2,
        3600,
    )
    it = desired.mappings["dailies"]
    assert (it.destination_path, it.lane, it.priority, it.send_rate_max) == ("/paris/x", "Fast", 0, 1)
    assert (it.symlinks, it.overwrite) == (Symlinks.IGNORE, Overwrite.BACKUP)
    assert (it.preserve_mtime, it.preserve_executable, it.prune, it.suspend) == (False, False, True, True)
    assert (it.trigger.watch, it.trigger.ready, it.trigger.settle) == (False, Ready.QUIET, 2)
    assert (it.trigger.max_wait, it.trigger.interval) == (180, 14400)
    assert (it.deletions.max_count, it.deletions.max_percent) == (7, 0.5)
    assert (it.retry.interval, it.retry.max_interval, it.on_remove) == (1, 2, OnRemove.CANCEL)
    assert it.paths == (PathMapping("/a", "/b", ("*.x",), ("y",)),)


def test_relative_sources_are_below_the_file(tmp_path: Path) -> None:
    """A relative source is relative to the folder of its spec, not to where the command runs."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.yaml").write_text(
        DESTINATION + "---\n" + mapping("{destination: archive, paths: {/a: ../data}}")
    )
    desired = load([str(tmp_path)]).desired
    assert desired is not None
    assert desired.mappings["dailies"].paths[0].source == str(tmp_path / "data")


def test_errors_say_file_line_column_path_and_message(tmp_path: Path) -> None:
    """An error line can be clicked in an editor and says what to do."""
    loaded = read(
        tmp_path, DESTINATION, MAPPING.replace("destination: archive", "destination: archive\n  prioritty: 3")
    )
    expected = (
        f"{tmp_path}/specs.yaml:11:3: spec.prioritty: unknown key `prioritty`; did you mean `priority`?"
    )
    assert only(loaded) == expected


def test_every_error_of_every_file_is_reported_at_once(tmp_path: Path) -> None:
    """Nobody fixes one mistake to be told of the next."""
    (tmp_path / "a.yaml").write_text(destination("{address: x, port: 99999, lnaes: y, sendRateMax: 5}"))
    (tmp_path / "b.yaml").write_text(
        mapping("{destination: nowhere, paths: {/a: ~/x}, priority: -1, suspend: maybe}")
    )
    (tmp_path / "c.yml").write_text("a: ]")
    text = "\n".join(messages(load([str(tmp_path)])))
    places = ("spec.port", "spec.lnaes", "spec.sendRateMax", "spec.priority", "spec.suspend", "c.yml:1")
    for expected in (*places, "no Destination `nowhere`", "`~` is not expanded"):
        assert expected in text


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("{address: x, sendRateMax: 800MB/s}", "spec.sendRateMax: '800MB/s' is not a rate"),
        (
            "{address: x, sendRateMax: 800}",
            "must be a rate with its unit, for example 800Mbit/s; found the number 800",
        ),
        ("{address: x, sendRateMax: 0kbit/s}", "spec.sendRateMax: must be more than 0"),
        ("{address: x, sendRateMax: 99999999999Gbit/s}", "spec.sendRateMax: this rate is too large"),
        ("{address: x, port: 0}", "spec.port: must be from 1 to 65535"),
        ("{address: x, port: '8886'}", "spec.port: must be a whole number, for example 8887; found text"),
        ("{address: 'http://x'}", "spec.address: must be a host name or an IP address"),
        ("{address: x, transferDefaults: {overwrite: allways}}", "did you mean `always`?"),
        ("{address: x, transferDefaults: {priority: 4294967296}}", "must be from 0 to 4294967295"),
        ("{address: x, lanes: Studio}", "spec.lanes: must be lower-case letters"),
        ("{address: x, lanes: no}", 'unquoted no means false in YAML: write "no" with quotes'),
        ("{}", "spec: needs exactly one of `address`, `url`"),
        ("{address: x, url: 'davs://y/z'}", "spec: needs exactly one of `address`, `url`"),
        ("{address: x, identity: {publicKey: abc}}", "spec.identity.publicKey: must be a public key"),
        ("{address: x, windows: [{from: '8:00', to: '09:00', pause: true}]}", "must be a time of the day"),
        ("{address: x, windows: [{from: '08:00', to: '09:00'}]}", "exactly one of `sendRateMax`, `pause`"),
        (
            "{address: x, windows: [{from: '08:00', to: '09:00', pause: true, timezone: Mars/X}]}",
            "spec.windows[0].timezone: `Mars/X` is not a time zone",
        ),
        (
            "{address: x, windows: [{from: '08:00', to: '09:00', pause: true, days: mon-fry}]}",
            "spec.windows[0].days: must be days such as",
        ),
        ("3", "spec: must be a mapping of keys and values; found the number 3"),
    ],
)
def test_wrong_values_are_named(tmp_path: Path, spec: str, expected: str) -> None:
    """The message says what the field takes."""
    assert expected in only(read(tmp_path, destination(spec)))


@pytest.mark.parametrize("extra", ["oops: 1\n", "apiVersion: lanesync/v2\n"])
def test_what_is_right_in_a_faulty_document_is_checked_too(tmp_path: Path, extra: str) -> None:
    """A mistake in one place of a document hides none in another."""
    text = MAPPING.replace("apiVersion: lanesync/v1\n", "") + extra
    assert any("no Destination `archive`" in m for m in messages(read(tmp_path, text)))


@pytest.mark.parametrize(
    "spec", ["", "spec: 3\n", "spec: {paths: {/a: /b}}\n", "spec: {destination: 3, paths: {}}\n"]
)
def test_what_is_missing_is_not_made_up(tmp_path: Path, spec: str) -> None:
    """Nothing is said of references that nobody wrote."""
    text = f"apiVersion: lanesync/v1\nkind: Mapping\nmetadata: {{name: x}}\n{spec}"
    found = messages(read(tmp_path, text))
    assert found
    assert not [m for m in found if "there is no" in m]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            "{engine: fts3, auth: {token: {env: T}}, storage: [{path: /d, url: 'davs://x/d'}]}",
            "spec: `endpoint` is missing",
        ),
        (
            "{engine: fts3, endpoint: 'https://x', storage: [{path: /d, url: 'davs://x/d'}],"
            " auth: {userName: u, password: {env: P}}}",
            "takes a `certificate` or a `token`",
        ),
        ("{engine: jetstream}", "spec: `address` is missing"),
        (
            "{listen: '0.0.0.0:8886'}",
            "a server that other hosts reach needs `accounts` or `authorizedClients`",
        ),
        ("{listen: '8886'}", "must be HOST:PORT"),
        ("{listen: '127.0.0.1:70000'}", "must be HOST:PORT"),
        ("{receiveRoot: ../x}", "must not contain `..`"),
        ("{address: x}", "`address` is only for engine jetstream; this server's is embedded"),
        ("{engine: jetstream, address: x, listen: '127.0.0.1:1'}", "`listen` is only for engine embedded"),
        ("{engine: jetstream, address: x, client: vendor, tls: {insecure: true}}", "settings of its own"),
        ("{engine: jetstream, address: x, tls: {}}", "spec.tls: must not be empty"),
        ("{engine: jetstream, address: x, endpoint: 'https://y'}", "`endpoint` is only for engine fts3"),
        ("{engine: jetstream, address: x, auth: {userName: u}}", "`userName` needs `password` beside it"),
    ],
)
def test_servers_are_checked(tmp_path: Path, spec: str, expected: str) -> None:
    """A server's fields fit its engine, and it listens where this version may."""
    assert expected in only(read(tmp_path, server(spec)))


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:9000", "'[::1]:9000'", "127.0.0.2:9000"])
def test_loopback_addresses_are_listened_on(tmp_path: Path, listen: str) -> None:
    """Any loopback address will do."""
    assert read(tmp_path, server(f"{{listen: {listen}}}")).errors == ()


@pytest.mark.parametrize(
    ("lanes", "expected"),
    [
        ("[{name: a, share: 70%}, {name: b, share: 20%}]", "90%"),
        ("[{name: a, share: 100%}, {name: b, share: 0%}, {name: c, share: 0%}]", "idle"),
        ("[{name: a, share: 50%}, {name: a, share: 50%}]", "unique"),
        ("[{name: ' ', share: 100%}]", "blank"),
        ("[]", "must not be empty"),
    ],
)
def test_broken_lane_rules_are_named(tmp_path: Path, lanes: str, expected: str) -> None:
    """Lanes that a server would refuse are refused here, at their place."""
    text = f"apiVersion: lanesync/v1\nkind: PriorityLanes\nmetadata: {{name: p}}\nspec: {{lanes: {lanes}}}\n"
    message = only(read(tmp_path, text))
    assert expected in message
    assert "specs.yaml:4:" in message
    assert "spec.lanes" in message


def test_a_wrong_share_is_at_its_own_place(tmp_path: Path) -> None:
    """The path of an error in a list has the entry's number."""
    loaded = read(tmp_path, LANES.replace("30%", "0.3"))
    assert "spec.lanes[1].share: must be a proportion with its unit, for example 70%" in only(loaded)


def test_references_to_nothing_have_a_hint(tmp_path: Path) -> None:
    """A reference that leads nowhere names what is near."""
    loaded = read(
        tmp_path, LANES, destination("{address: x, lanes: studio-lane}"), MAPPING.replace("archive", "archiv")
    )
    text = messages(loaded)
    assert any(
        "spec.lanes: there is no PriorityLanes `studio-lane`; did you mean `studio-lanes`?" in t for t in text
    )
    assert any(
        "spec.destination: there is no Destination `archiv`; did you mean `archive`?" in t for t in text
    )


def test_lane_must_be_one_of_the_destinations(tmp_path: Path) -> None:
    """A mapping and a destination's defaults name lanes that exist there."""
    loaded = read(tmp_path, DESTINATION, MAPPING + "  lane: Hihg\n")
    assert "spec.lane: the default lanes have no lane `Hihg`; did you mean `High`?" in only(loaded)
    loaded = read(
        tmp_path, LANES, destination("{address: x, lanes: studio-lanes, transferDefaults: {lane: Normal}}")
    )
    assert "PriorityLanes/studio-lanes has no lane `Normal`" in only(loaded)


def test_a_name_may_be_there_once_per_kind(tmp_path: Path) -> None:
    """Both places of a doubled name are reported; the same name in another kind is fine."""
    (tmp_path / "a.yaml").write_text(DESTINATION)
    (tmp_path / "b.yaml").write_text(DESTINATION + "---\n" + server("{}", name="archive"))
    found = messages(load([str(tmp_path)]))
    assert [m.split(": ", 1)[1] for m in found] == [
        f"metadata.name: Destination/archive is also in {tmp_path}/b.yaml:3",
        f"metadata.name: Destination/archive is also in {tmp_path}/a.yaml:3",
    ]


@pytest.mark.parametrize(
    ("first", "second", "collide"),
    [
        ("/a", "/a", True),
        ("/a", "/a/b/c", True),
        ("/", "/a", True),
        ("/a", "/ab", False),
        ("/a/b", "/a/c", False),
        ("/a/b", "//a/./b/", True),
    ],
)
def test_one_place_has_one_owner(tmp_path: Path, first: str, second: str, collide: bool) -> None:
    """Mappings that write the same or nested paths at the same address and port are an error for both."""
    loaded = read(
        tmp_path,
        destination("{address: LocalHost}"),
        destination("{address: 127.0.0.1}", name="other"),
        mapping(f"{{destination: archive, destinationPath: {first}, paths: {{/: /x}}}}"),
        mapping(f"{{destination: other, paths: {{{second}: /y}}}}", name="second"),
    )
    assert bool(loaded.errors) is collide
    if collide:
        assert {Key(Kind.MAPPING, "dailies"), Key(Kind.MAPPING, "second")} <= set(loaded.invalid)
        assert any("where Mapping/dailies writes" in m for m in messages(loaded))


def test_other_ports_are_other_places(tmp_path: Path) -> None:
    """The same path at another port of the host is another place."""
    loaded = read(
        tmp_path,
        DESTINATION,
        destination("{address: archive.example.org, port: 8887}", name="other"),
        mapping("{destinations: [archive, other], paths: {/a: /x}}"),
    )
    assert loaded.errors == ()


def test_entries_of_one_mapping_collide_too(tmp_path: Path) -> None:
    """Two entries of a mapping must not write into each other."""
    loaded = read(tmp_path, DESTINATION, mapping("{destination: archive, paths: {/a: /x, /a/b: /y}}"))
    assert all("where this mapping writes" in m for m in messages(loaded))
    assert len(loaded.errors) == 2


def test_two_receivers_need_two_directories(tmp_path: Path) -> None:
    """Two embedded servers with one receive root are an error for both; left out, each has its own."""
    loaded = read(tmp_path, server("{receiveRoot: in}"), server("{receiveRoot: ./in/}", name="b"))
    assert [e.path for e in loaded.errors] == ["spec.receiveRoot", "spec.receiveRoot"]
    assert "Server/b receives below in too" in str(loaded.errors[0])


def test_two_listeners_need_two_ports(tmp_path: Path) -> None:
    """Two embedded servers on one port are an error for both; port 0 is any free one."""
    one = "{listen: '127.0.0.1:9000'}"
    assert len(read(tmp_path, server(one), server("{listen: 'localhost:9000'}", name="b")).errors) == 2
    assert read(tmp_path, server("{}"), server("{}", name="b")).errors == ()


@pytest.mark.parametrize("path", ["a", "/a/../b", "/.lanesync/x", "/" + "x" * 300])
def test_bad_destination_paths_are_refused(tmp_path: Path, path: str) -> None:
    """Destination paths are absolute and stay where they say."""
    assert "spec.paths" in only(
        read(tmp_path, DESTINATION, mapping(f"{{destination: archive, paths: {{{path}: /x}}}}"))
    )


@pytest.mark.parametrize("pattern", ["'#x'", "' '", "''", "'../../etc/*'", "'['", "x" * 1001])
def test_patterns_that_match_nothing_are_refused(tmp_path: Path, pattern: str) -> None:
    """A filter that would silently do nothing is an error."""
    spec = f"{{destination: archive, paths: {{/a: {{source: /x, exclude: [{pattern}]}}}}}}"
    assert 'spec.paths["/a"].exclude[0]' in only(read(tmp_path, DESTINATION, mapping(spec)))


def test_order_of_documents_and_files_is_irrelevant(tmp_path: Path) -> None:
    """The same objects in any order are the same desired state and the same revision."""
    documents = [DESTINATION, MAPPING, LANES, server("{}")]
    seen = set()
    for order in itertools.permutations(documents):
        desired = read(tmp_path, *order).desired
        assert desired is not None
        seen.add(
            (desired.revision, repr(sorted(desired.mappings.items())), repr(sorted(desired.servers.items())))
        )
    assert len(seen) == 1


def test_revision_follows_content(tmp_path: Path) -> None:
    """Comments and layout do not make a revision; a changed field does."""
    before = read(tmp_path, DESTINATION, MAPPING).revision
    assert read(tmp_path, "# a comment\n" + DESTINATION, MAPPING).revision == before
    assert read(tmp_path, DESTINATION, MAPPING + "  prune: true\n").revision != before


def test_a_relative_source_elsewhere_is_another_revision(tmp_path: Path) -> None:
    """The text is the same; what is read is not. Where an absolute one is written has no meaning."""
    relative = MAPPING.replace("/mnt/raid/dailies", "dailies")
    found = {}
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        found[place] = [read(tmp_path / place, DESTINATION, m).revision for m in (relative, MAPPING)]
    assert found["one"][0] != found["two"][0]
    assert found["one"][1] == found["two"][1]


def test_what_is_left_out_is_what_an_empty_block_says(tmp_path: Path) -> None:
    blocks = "".join(
        f"  {name}: {{}}\n" for name in ("trigger", "deletions", "retry", "drift", "verify", "hooks")
    )
    implicit, written = (
        read(tmp_path, DESTINATION, text).valid.mappings["dailies"] for text in (MAPPING, MAPPING + blocks)
    )
    assert implicit == written


def test_an_invalid_object_stalls_alone(tmp_path: Path) -> None:
    """What is valid is usable beside what is not, and dependents of the invalid say why they stall."""
    loaded = read(
        tmp_path,
        DESTINATION,
        MAPPING,
        destination("{address: x, port: -1}", name="broken"),
        mapping("{destination: broken, paths: {/a: /x}}", name="on-broken"),
    )
    assert loaded.desired is None
    assert set(loaded.valid.mappings) == {"dailies"}
    assert set(loaded.valid.destinations) == {"archive"}
    assert set(loaded.invalid) == {Key(Kind.DESTINATION, "broken")}
    why = loaded.stalled(loaded.valid)[Key(Kind.MAPPING, "on-broken")]
    assert "refers to Destination/broken, which is not valid" in str(why[0])
    assert loaded.complete


def test_last_good_version_of_an_invalid_object_stays_in_force(tmp_path: Path) -> None:
    """Editing one object into nonsense changes nothing for it, and the others take effect."""
    good = read(tmp_path, DESTINATION, MAPPING).desired
    loaded = read(tmp_path, destination("{address: new, port: -1}"), MAPPING + "  prune: true\n")
    now = loaded.effective(good)
    assert now.destinations["archive"].address == "archive.example.org"
    assert now.mappings["dailies"].prune
    assert set(loaded.stalled(now)) == {Key(Kind.DESTINATION, "archive")}


def test_what_left_the_specs_leaves_the_desired_state(tmp_path: Path) -> None:
    """An object that is really gone is gone, also beside one that is invalid."""
    good = read(tmp_path, DESTINATION, MAPPING).desired
    now = read(tmp_path, destination("{address: x, port: -1}")).effective(good)
    assert set(now.destinations) == {"archive"}
    assert now.mappings == {}


@pytest.mark.parametrize(
    "text", ["a: [", "kind: Mappng\n", MAPPING.replace("name: dailies", "name: Dailies!")]
)
def test_nothing_is_removed_while_a_document_cannot_be_told(tmp_path: Path, text: str) -> None:
    """A file that cannot be read far enough to know its objects removes none."""
    good = read(tmp_path, DESTINATION, MAPPING).desired
    loaded = read(tmp_path, DESTINATION, text)
    assert not loaded.complete
    assert set(loaded.effective(good).mappings) == {"dailies"}


def test_a_newcomer_does_not_push_out_the_owner_of_a_place(tmp_path: Path) -> None:
    """When a new mapping writes where an old one does, the old one goes on and the new one stalls."""
    good = read(tmp_path, DESTINATION, MAPPING).desired
    loaded = read(
        tmp_path, DESTINATION, MAPPING, mapping("{destination: archive, paths: {/dailies: /x}}", name="new")
    )
    assert set(loaded.effective(good).mappings) == {"dailies"}


def test_sources_are_not_looked_at(tmp_path: Path) -> None:
    """Specs are checked the same on every machine: a source that is missing here is no error."""
    assert read(tmp_path, DESTINATION, MAPPING.replace("/mnt/raid", "/no/such/place")).errors == ()


def test_a_source_among_the_specs_is_warned_of(tmp_path: Path) -> None:
    """YAML files in a source below the specs would be read as specs."""
    loaded = read(tmp_path, DESTINATION, MAPPING.replace("/mnt/raid/dailies", "./data"))
    assert [w.path for w in loaded.warnings] == ['spec.paths["/dailies"]']
    assert loaded.desired is not None


def test_positions_name_each_object(tmp_path: Path) -> None:
    """Status can say where an object is written."""
    loaded = read(tmp_path, DESTINATION, MAPPING)
    assert loaded.positions == {
        Key(Kind.DESTINATION, "archive"): f"{tmp_path}/specs.yaml:1",
        Key(Kind.MAPPING, "dailies"): f"{tmp_path}/specs.yaml:6",
    }


def test_a_broken_namesake_does_not_hide_what_is_wrong_with_another(tmp_path: Path) -> None:
    """Two documents of one name, one without a spec: the other's wrong reference is told at its own place."""
    empty = "apiVersion: lanesync/v1\nkind: Mapping\nmetadata: {name: x}\nspec:\n---\n"
    head = "apiVersion: lanesync/v0\nkind: Mapping\nmetadata: {name: x}\n"
    wrong = head + "spec: {destination: nowhere, paths: {/: /a}}\n"
    found = messages(read(tmp_path, empty + wrong))
    assert any("there is no Destination" in message for message in found)


def test_the_same_files_are_not_taken_apart_twice(tmp_path: Path) -> None:
    """Of ten thousand objects that takes seconds; another content, selection or policy is read anew."""
    (tmp_path / "a.yaml").write_text(DESTINATION)
    first = load([str(tmp_path)])
    assert load([str(tmp_path)]) is first
    assert load([str(tmp_path)], Policy("policy")) is not first
    (tmp_path / "a.yaml").write_text(DESTINATION.replace("archive", "other"))
    other = load([str(tmp_path)])
    assert list(other.valid.destinations) == ["other"]
    (tmp_path / "a.yaml").write_text(DESTINATION)
    assert load([str(tmp_path)]).valid == first.valid
