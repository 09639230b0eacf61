"""What specs may name is bounded by the policy, in every way in which a spec can name something."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli.main import run
from agent.model.outcome import PolicyError
from agent.specs.load import Loaded, load
from agent.specs.policy import Policy, load_policy
from agent.specs.policy_rules import PathRule, parse_address
from agent.specs.reference import field_reference, fields
from agent.specs.schemas import policy_schema, schemas

ROOT = Path(__file__).parents[2]

JETSTREAM = "engine: jetstream, address: ctl.good.example, "
FTS3 = "engine: fts3, endpoint: 'https://fts.good.example:8446', "
TOKEN = "auth: {token: {env: OK_TOKEN}}, "
STORAGE = "storage: [{path: /data, url: 'davs://se.good.example/data'}]"
SECRETS = {
    "env": "{env: OTHER}",
    "file": "{file: /etc/shadow}",
    "credential": "{credential: other}",
    "command": "{command: [/bin/cat, /etc/shadow]}",
}


def secret_cases(kind: str, path: str, before: str, after: str) -> dict[tuple[str, str], str]:
    return {(kind, f"{path}.{source}"): before + text + after for source, text in SECRETS.items()}


CROSSINGS: dict[tuple[str, str], str] = {
    ("Server", "spec.listen"): "{listen: '0.0.0.0:8886', authorizedClients: [KEY]}",
    ("Server", "spec.receiveRoot"): "{receiveRoot: /etc}",
    ("Server", "spec.accounts"): "{accounts: /etc/passwd}",
    ("Server", "spec.address"): "{engine: jetstream, address: ctl.evil.example}",
    ("Server", "spec.port"): "{" + JETSTREAM + "port: 22}",
    ("Server", "spec.tls.ca"): "{" + JETSTREAM + "tls: {ca: /etc/shadow}}",
    ("Server", "spec.endpoint"): "{engine: fts3, endpoint: 'https://evil.example', " + TOKEN + STORAGE + "}",
    ("Server", "spec.ca"): "{" + FTS3 + "ca: /etc/shadow, " + TOKEN + STORAGE + "}",
    ("Server", "spec.auth.certificate.cert"): (
        "{" + FTS3 + "auth: {certificate: {cert: /root/c.pem, key: /ok/files/k}}, " + STORAGE + "}"
    ),
    ("Server", "spec.auth.certificate.key"): (
        "{" + FTS3 + "auth: {certificate: {cert: /ok/files/c, key: /root/k.pem}}, " + STORAGE + "}"
    ),
    ("Server", "spec.storage[].url"): (
        "{" + FTS3 + TOKEN + "storage: [{path: /data, url: 'davs://se.good.example/private'}]}"
    ),
    **secret_cases("Server", "spec.auth.password", "{" + JETSTREAM + "auth: {userName: u, password: ", "}}"),
    **secret_cases("Server", "spec.auth.token", "{" + JETSTREAM + "auth: {token: ", "}}"),
    ("Destination", "spec.address"): "{address: evil.example}",
    ("Destination", "spec.port"): "{address: a.good.example, port: 25}",
    ("Destination", "spec.url"): "{server: grid, url: 'davs://evil.example/data'}",
    ("Destination", "spec.relay.address"): "{address: a.good.example, relay: {address: evil.example}}",
    (
        "Destination",
        "spec.relay.port",
    ): "{address: a.good.example, relay: {address: a.good.example, port: 25}}",
    **secret_cases(
        "Destination",
        "spec.credentials.password",
        "{address: a.good.example, credentials: {userName: u, password: ",
        "}}",
    ),
    **secret_cases("Alert", "spec.webhook.url", "{on: [Stalled], webhook: {url: ", "}}"),
    **secret_cases(
        "Alert", "spec.webhook.secret", "{on: [Stalled], webhook: {url: {env: OK_URL}, secret: ", "}}"
    ),
    **secret_cases(
        "Alert",
        "spec.heartbeat.url",
        "{on: [Stalled], webhook: {url: {env: OK_URL}}, heartbeat: {url: ",
        "}}",
    ),
    ("Alert", "spec.webhook.ca"): "{on: [Stalled], webhook: {url: {env: OK_URL}, ca: /etc/shadow}}",
    **secret_cases("Share", "spec.password", "{mapping: m, password: ", "}"),
    ("Mapping", "spec.hooks.onDelivered.command"): (
        "{destination: d, paths: {/a: OK}, hooks: {onDelivered: {command: other}}}"
    ),
    ("Mapping", "spec.hooks.onStalled.command"): (
        "{destination: d, paths: {/a: OK}, hooks: {onStalled: {command: other}}}"
    ),
    ("Mapping", "spec.release"): "{destination: d, paths: {/a: OK}, release: deleteSource}",
    ("Mapping", "spec.paths.*"): "{destination: d, paths: {/a: /etc}}",
    ("Mapping", "spec.paths.*.source"): "{destination: d, paths: {/a: {source: /etc}}}",
}
"""By field: a spec that names there what the policy does not allow, and nothing else of that kind."""

HARMLESS = {
    "Server": """
        engine authorizedClients[] client tls.publicKey auth.userName delegation.lifetime verifyChecksum
        storage[].path reserve""",
    "PriorityLanes": "lanes[].name lanes[].share",
    "Destination": """
        server controlServer lanes sendRateMax identity.publicKey credentials.userName onRemove
        windows[].days[] windows[].days
        windows[].from windows[].to windows[].timezone windows[].sendRateMax windows[].overrun
        transferDefaults.lane transferDefaults.checkpointInterval transferDefaults.overwrite
        transferDefaults.minCipher transferDefaults.durability transferDefaults.modificationTimeTolerance
        transferDefaults.timeout""",
    "Mapping": """
        destination destinations[] destinationPath paths.*.include[] paths.*.exclude[] symlinks lane
        sendRateMax overwrite trigger.ready trigger.ready.sentinel trigger.settle trigger.maxWait
        trigger.interval trigger.schedule trigger.timezone deletions.maxPercent deletions.grace drift.policy
        drift.interval verify.interval verify.mode retry.interval retry.maxInterval publish marker receipt
        dependsOn[] onRemove""",
    "Share": "mapping expiresIn description",
    "Alert": "on[] for groupWait repeat select webhook.format heartbeat.interval",
}
"""Fields of text that name nothing on the machine or the network: names of objects, rates, patterns, public
keys. `storage[].path` only says which of the sources, which have their rule, a URL stands for."""


def write(path: Path, spec: dict[str, Any]) -> str:
    path.write_text(json.dumps({"apiVersion": "lanesync/v1", "kind": "Policy", "spec": spec}))
    return str(path)


def tight(tmp_path: Path) -> Policy:
    """Allows something of everything."""
    return load_policy(
        write(
            tmp_path / "policy.yaml",
            {
                "sources": [str(tmp_path / "data")],
                "addresses": [
                    {"host": "*.good.example", "ports": [8886, 8887]},
                    {"url": "https://fts.good.example:8446"},
                    {"url": "davs://se.good.example/data"},
                ],
                "listen": [{"host": "127.0.0.1", "ports": ["9000-9010"]}],
                "receiveRoots": [str(tmp_path / "received"), "in"],
                "files": ["/ok/files", str(tmp_path / "files")],
                "secrets": {
                    "env": ["OK_*"],
                    "credentials": ["archive"],
                    "commands": [{"argv": ["/bin/echo", "secret"], "timeout": "5s"}],
                },
                "hooks": {"notify": {"argv": ["/bin/true"]}},
                "release": [str(tmp_path / "data" / "cards")],
                "webhooks": ["https://hooks.good.example/*"],
            },
        )
    )


GOOD = """\
apiVersion: lanesync/v1
kind: Server
metadata: {name: grid}
spec: {%s}
---
apiVersion: lanesync/v1
kind: Destination
metadata: {name: d}
spec: {address: a.good.example}
""" % (FTS3 + TOKEN + STORAGE)


def read(tmp_path: Path, text: str, policy: Policy | None) -> Loaded:
    specs = tmp_path / "specs"
    specs.mkdir(exist_ok=True)
    (specs / "a.yaml").write_text(text)
    return load([str(specs)], policy)


def document(kind: str, spec: str, name: str = "x") -> str:
    key = "A" * 43 + "="
    head = f"---\napiVersion: lanesync/v1\nkind: {kind}\nmetadata: {{name: {name}}}\n"
    return f"{head}spec: {spec.replace('KEY', key)}\n"


@pytest.mark.parametrize(("kind", "path"), CROSSINGS, ids=lambda value: str(value))
def test_no_field_names_what_the_policy_does_not_allow(kind: str, path: str, tmp_path: Path) -> None:
    """The error has its place, its field and the rule, and the object is not in force."""
    crossing = CROSSINGS[kind, path].replace("OK}", f"{tmp_path}/data}}")
    loaded = read(tmp_path, GOOD + document(kind, crossing), tight(tmp_path))
    found = [error for error in loaded.errors if "policy" in error.message]
    assert len(found) == 1, [str(error) for error in loaded.errors]
    assert re.search(r"policy\.yaml: `spec\.[a-zA-Z.]+` allows ", found[0].message)
    assert found[0].line > 8
    field = re.sub(r'\["[^"]*"\]', ".*", re.sub(r"\[\d+\]", "[]", found[0].path))
    close = {path, path.removesuffix(".source"), path.removesuffix("[].url"), path.replace("port", "address")}
    assert field in close
    assert loaded.valid.get(next(iter(loaded.invalid))) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", sorted(set(HARMLESS)))
def test_every_field_of_text_is_bounded_or_known_to_be_harmless(kind: str) -> None:
    """A new field that could name something has to come with a rule."""
    named = set()
    for field in fields(schemas()[kind]["properties"]["spec"]):
        schema = field["schema"]
        types = schema.get("type", "string")
        if "string" in types or ("integer" in types and field["path"].endswith("port")):
            named.add(field["path"])
        if schema.get("type") == "array" and "properties" not in schema["items"]:
            named.add(field["path"] if field["path"].endswith(".command") else field["path"] + "[]")
    known = {path.removeprefix("spec.") for of, path in CROSSINGS if of == kind} | set(HARMLESS[kind].split())
    assert named - known == set()


def test_every_kind_is_looked_at() -> None:
    """A new kind has to come with its rules."""
    assert {kind for kind in schemas() if kind not in HARMLESS} == set()


def test_what_the_policy_allows_is_in_force(tmp_path: Path) -> None:
    """A set of specs within its bounds has no error."""
    (tmp_path / "data").mkdir()
    text = GOOD + "".join(
        [
            document("Server", f"{{listen: '127.0.0.1:9005', receiveRoot: {tmp_path}/received/x}}", "in"),
            document("Server", "{listen: '127.0.0.1:0', receiveRoot: in/y}", "any"),
            document("Server", "{" + JETSTREAM + "auth: {token: {command: [/bin/echo, secret]}}}", "js"),
            document(
                "Destination",
                "{address: b.good.example, credentials: {userName: u, password: {credential: archive}}}",
                "e",
            ),
            document("Destination", "{server: grid, url: 'davs://se.good.example/data/x'}", "f"),
            document(
                "Mapping",
                f"{{destination: d, paths: {{/a: {tmp_path}/data/raw}}, "
                "hooks: {onDelivered: {command: notify}, onStalled: {command: notify}}}",
            ),
            document(
                "Mapping",
                f"{{destination: e, paths: {{/a: {tmp_path}/data/cards/1}}, release: deleteSource}}",
                "released",
            ),
        ]
    )
    loaded = read(tmp_path, text, tight(tmp_path))
    assert [str(error) for error in loaded.errors] == []
    assert loaded.desired is not None


def test_without_a_policy_commands_are_refused_and_the_rest_is_allowed(tmp_path: Path) -> None:
    """The refusal says what to do."""
    text = "".join(
        [
            document("Destination", "{address: any.example}"),
            document("Mapping", "{destination: x, paths: {/a: /etc}}"),
        ]
    )
    assert read(tmp_path, text, None).errors == ()
    command = document("Server", "{" + JETSTREAM + "auth: {token: {command: [/bin/echo, x]}}}")
    errors = read(tmp_path, text + command, None).errors
    assert len(errors) == 1
    assert errors[0].path == "spec.auth.token.command"
    assert "--policy" in errors[0].message
    hook = document(
        "Mapping", "{destination: x, paths: {/b: /b}, hooks: {onStalled: {command: notify}}}", "y"
    )
    [error] = read(tmp_path, text + hook, None).errors
    assert error.path == "spec.hooks.onStalled.command"
    assert "--policy" in error.message
    release = document("Mapping", "{destination: x, paths: {/c: /c}, release: deleteSource}", "z")
    [error] = read(tmp_path, text + release, None).errors
    assert error.path == "spec.release"
    assert "--policy" in error.message


@pytest.mark.parametrize("turn", ["source", "above"])
def test_a_source_that_a_link_leads_out_is_refused(turn: str, tmp_path: Path) -> None:
    """The path counts as text and as what is behind it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "private" / "deep").mkdir(parents=True)
    link = tmp_path / "data" / "link"
    link.symlink_to(tmp_path / "private")
    source = link if turn == "source" else link / "deep"
    text = GOOD + document("Mapping", f"{{destination: d, paths: {{/a: {source}}}}}")
    [error] = read(tmp_path, text, tight(tmp_path)).errors
    assert f"{source}, which leads to {os.path.realpath(source)}, is not allowed" in error.message
    link.unlink()
    (tmp_path / "data" / "inside").mkdir()
    link.symlink_to(tmp_path / "data" / "inside")
    assert read(tmp_path, text, tight(tmp_path)).errors == ()


def test_dots_do_not_lead_out(tmp_path: Path) -> None:
    text = GOOD + document("Mapping", f"{{destination: d, paths: {{/a: {tmp_path}/data/../private}}}}")
    assert "is not allowed" in read(tmp_path, text, tight(tmp_path)).errors[0].message


@pytest.mark.parametrize(
    ("rule", "host", "port", "covered"),
    [
        ({"host": "*.good.example"}, "a.b.good.example", 1, True),
        ({"host": "*.good.example"}, "A.Good.Example.", 1, True),
        ({"host": "*.good.example"}, "good.example", 1, False),
        ({"host": "*.good.example"}, "evilgood.example", 1, False),
        ({"host": "good.example"}, "good.example.evil.example", 1, False),
        ({"host": "*"}, "anything", 1, True),
        ({"host": "*"}, "10.0.0.1", 1, False),
        ({"host": "*"}, "127.1", 1, False),
        ({"host": "*"}, "0x7f000001", 1, False),
        ({"host": "*"}, "2130706433", 1, False),
        ({"host": "*"}, "１２７.1", 1, False),
        ({"host": "*"}, "[::1]", 1, False),
        ({"host": "10.0.0.1"}, "10.0.0.1", 1, True),
        ({"host": "localhost"}, "127.0.0.1", 1, True),
        ({"network": "10.0.0.0/8"}, "10.9.8.7", 1, True),
        ({"network": "10.0.0.0/8"}, "::ffff:10.9.8.7", 1, True),
        ({"network": "10.0.0.0/8"}, "11.0.0.1", 1, False),
        ({"network": "10.0.0.0/8"}, "a.example", 1, False),
        ({"network": "fd00::/8"}, "[fd00::5]", 1, True),
        ({"host": "a.example", "ports": [8886, "9000-9100"]}, "a.example", 9050, True),
        ({"host": "a.example", "ports": [8886, "9000-9100"]}, "a.example", 9101, False),
        ({"url": "davs://a.example/x"}, "a.example", 443, False),
    ],
)
def test_addresses(rule: dict[str, Any], host: str, port: int, covered: bool) -> None:
    """Names by rules for names, numbers by rules for numbers, odd spellings by none."""
    assert parse_address(rule).covers(host, port) is covered


@pytest.mark.parametrize(
    ("url", "covered"),
    [
        ("davs://se.example/data", True),
        ("davs://SE.example./data/x/y", True),
        ("davs://se.example/data2", False),
        ("davs://se.example/data/../etc", False),
        ("davs://se.example/data/%2e%2e/etc", False),
        ("davs://se.example/data/%252e%252e/etc", False),
        ("davs://user@se.example/data", False),
        ("davs://se.example/data?x=1", False),
        ("davs://se.example:444/data", False),
        ("http://se.example/data", False),
        ("davs://se.example\\@evil.example/data", False),
        ("davs://evil.example/data", False),
        ("davs:///data", False),
    ],
)
def test_urls(url: str, covered: bool) -> None:
    """A URL rule covers the same scheme, host and port, and what lies below its path."""
    assert parse_address({"url": "davs://se.example/data"}).covers_url(url) is covered


def test_a_host_rule_covers_urls_by_their_port() -> None:
    rule = parse_address({"host": "se.example", "ports": [443]})
    assert rule.covers_url("davs://se.example/anything")
    assert not rule.covers_url("davs://se.example:8443/anything")
    assert not rule.covers_url("srm://se.example/anything")  # no port is known of it


@given(st.text("ab./", max_size=12))
def test_a_path_is_covered_only_by_what_it_is_below(text: str) -> None:
    """Whatever dots and slashes there are, the path that is meant lies below the rule's."""
    path = "/nowhere/" + text
    meant = os.path.normpath(path)
    assert PathRule("/nowhere/a").covers(path) is (meant == "/nowhere/a" or meant.startswith("/nowhere/a/"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{apiVersion: lanesync/v1, kind: Policy, spec: {source: [/a]}}", "did you mean `sources`"),
        ("{apiVersion: lanesync/v1, kind: Policy, spec: {sources: [a]}}", "must be an absolute path"),
        ("{apiVersion: lanesync/v1, kind: Policy, spec: {sources: [/a/../b]}}", "without `..`"),
        (
            "{apiVersion: lanesync/v1, kind: Policy, spec: {addresses: [{host: a, url: 'x://y'}]}}",
            "exactly one of",
        ),
        ("{apiVersion: lanesync/v1, kind: Policy, spec: {addresses: [{network: 10.0.0.1/8}]}}", "host bits"),
        (
            "{apiVersion: lanesync/v1, kind: Policy, spec: {addresses: [{host: a, ports: [9-1]}]}}",
            "range of ports",
        ),
        (
            "{apiVersion: lanesync/v1, kind: Policy, spec: {secrets: {commands: [{argv: [cat]}]}}}",
            "absolute path",
        ),
        ("{apiVersion: lanesync/v1, kind: Policy, spec: {hooks: {a: {argv: [a]}}}}", "absolute path"),
        ("{apiVersion: lanesync/v1, kind: Policy, spec: {hooks: {../a: {argv: [/a]}}}}", "lower-case"),
        ("{apiVersion: lanesync/v1, kind: Mapping, spec: {}}", "Policy"),
        ("", "one document"),
        ("{apiVersion: lanesync/v1, kind: Policy, spec: {}}\n---\n{kind: Policy}", "one document"),
        ("spec: [", "not valid YAML"),
    ],
)
def test_a_wrong_policy_is_refused_as_a_whole(text: str, expected: str, tmp_path: Path) -> None:
    """Each mistake has its place."""
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(PolicyError, match=re.escape(expected)):
        load_policy(str(tmp_path / "p.yaml"))


def test_a_policy_that_others_can_change_is_refused(tmp_path: Path) -> None:
    """Among the specs, by a link among them, or writable for everybody."""
    specs = tmp_path / "specs"
    specs.mkdir()
    inside = write(specs / "policy.yaml", {})
    (tmp_path / "link.yaml").symlink_to(inside)
    for name in (inside, str(tmp_path / "link.yaml")):
        with pytest.raises(PolicyError, match="among the specs"):
            load_policy(name, [str(specs)])
    outside = write(tmp_path / "policy.yaml", {})
    assert load_policy(outside, [str(specs)]).sources == ()
    os.chmod(outside, 0o666)
    with pytest.raises(PolicyError, match="written by everybody"):
        load_policy(outside)
    with pytest.raises(PolicyError, match="No such file"):
        load_policy(str(tmp_path / "none.yaml"))


def test_validate_shows_refusals_and_bad_policies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The checks of a repository find what the agent would refuse: exit code 5."""
    read(tmp_path, GOOD + document("Mapping", "{destination: d, paths: {/a: /etc}}"), None)
    specs, policy = str(tmp_path / "specs"), tight(tmp_path).file
    assert run(["validate", specs]) == 0
    assert run(["validate", specs, "--policy", policy]) == 5
    assert "`spec.sources` allows" in capsys.readouterr().out
    assert run(["validate", specs, "--policy", write(tmp_path / "b.yaml", {"x": 1})]) == 5
    assert "unknown key" in capsys.readouterr().err


# -- the page --


def test_the_page_has_the_fields_of_the_schema() -> None:
    """`lanesync schema policy --output markdown` renews it."""
    page = (ROOT / "docs" / "policy.md").read_text()
    assert field_reference(policy_schema(), "Writing a policy") in page


def test_the_example_of_the_page_is_valid(tmp_path: Path) -> None:
    example = re.search(r"```yaml\n(.*?)```", (ROOT / "docs" / "policy.md").read_text(), re.S)
    assert example is not None
    (tmp_path / "p.yaml").write_text(example[1])
    assert load_policy(str(tmp_path / "p.yaml")).commands[0].timeout == 10
