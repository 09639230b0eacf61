"""ls, du, mkdir, mv, rm and what manifests read, on a real server: each user below their own roots."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from servers import Server, start_server

from agent.jetstream import APIInterface, CommandError, NotFoundError, constants
from agent.server import accounts

pytestmark = pytest.mark.e2e

PASSWORDS = {"anna": "anna's words", "bert": "bert's words", "chief": "chief's words"}


class Place(NamedTuple):
    server: Server
    homes: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("files")
    for user, password in PASSWORDS.items():
        accounts.add(folder / "accounts.json", user, password, superuser=user == "chief")
    options: dict[str, Any] = {"accounts": folder / "accounts.json", "sandbox_dir": f"{folder}/homes/%u"}
    (folder / "homes").mkdir()
    with start_server(folder / "s", **options) as server:
        yield Place(server, folder / "homes")


Login = Callable[[str], APIInterface]


@pytest.fixture
def login(place: Place) -> Iterator[Login]:
    opened: list[APIInterface] = []

    def connect(user: str) -> APIInterface:
        api = place.server.api()
        opened.append(api)
        api.server.auth(user, PASSWORDS[user])
        if user == "chief":
            api.server.superuser()
        return api

    yield connect
    for api in opened:
        api.disconnect()


def test_files_are_listed_made_moved_measured_and_removed(login: Login, place: Place) -> None:
    """The round that a user makes, seen on the disk."""
    api, home = login("anna").server, place.homes / "anna"
    assert api.lsRoots() == [{"path": "/", "type": "file"}]
    api.mkdir("/in/2026/11")
    (home / "in" / "report.txt").write_bytes(b"12345")
    (home / "in" / "run.sh").write_bytes(b"#!")
    (home / "in" / "run.sh").chmod(0o755)
    found = api.ls("/in")
    assert (found["path"], found["next"]) == ("/in", None)
    assert [(item["name"], item["type"], item["size"], item["executable"]) for item in found["entries"]] == [
        ("2026", "directory", 0, False),
        ("report.txt", "file", 5, False),
        ("run.sh", "file", 2, True),
    ]
    usage = api.du("/")
    assert (usage["totalSize"], usage["totalFiles"], usage["complete"]) == (7, 2, True)
    api.mv("/in", "/done")
    assert (home / "done" / "report.txt").exists() and not (home / "in").exists()
    with pytest.raises(CommandError, match="recursive=True"):
        api.rm("/done")
    assert api.rm("/done/report.txt") == {"files": 1, "directories": 0}
    assert api.rm("/done", recursive=True) == {"files": 1, "directories": 3}
    assert list(home.iterdir()) == []


def test_each_method_has_an_async_twin_with_the_same_result(login: Login, place: Place) -> None:
    api = login("bert").server
    home = place.homes / "bert"

    def result(request: Any) -> Any:
        return api.getRequestResult(request)

    assert result(api.lsRootsAsync()) == api.lsRoots()
    result(api.mkdirAsync("/a/b"))
    (home / "a" / "f").write_bytes(b"1")
    assert result(api.lsAsync("/a", limit=1)) == api.ls("/a", limit=1)
    assert result(api.duAsync("/")) == api.du("/")
    result(api.mvAsync("/a/f", "/a/g"))
    assert (home / "a" / "g").exists()
    assert result(api.rmAsync("/a", recursive=True)) == {"files": 1, "directories": 2}


def test_a_long_listing_comes_in_pages_with_names_that_are_no_text(login: Login, place: Place) -> None:
    api, home = login("bert").server, place.homes / "bert"
    api.mkdir("/many")
    names = sorted([b"%04d" % number for number in range(250)] + [b"\xff\xfe.bin", "ü".encode()])
    for name in names:
        open(os.fsencode(home / "many") + b"/" + name, "wb").close()
    told: list[bytes] = []
    after = None
    while True:
        page = api.ls("/many", limit=100, after=after)
        assert len(page["entries"]) <= 100
        told += [os.fsencode(item["name"]) for item in page["entries"]]
        after = page["next"]
        if after is None:
            break
    assert told == names
    api.mv(os.fsdecode(b"/many/\xff\xfe.bin"), os.fsdecode(b"/many/\xfd.bin"))
    assert b"\xfd.bin" in os.listdir(os.fsencode(home / "many"))
    for limit in (0, 5001):
        with pytest.raises(CommandError, match="limit is 1 to 5000"):
            api.ls("/many", limit=limit)
    api.rm("/many", recursive=True)


@pytest.mark.parametrize("path", ["/../bert", "/a/../../bert", "/way-out", "/way-out/secret", "/.lanesync"])
def test_nobody_gets_out_of_their_sandbox(login: Login, place: Place, path: str) -> None:
    """`..`, a link and the directory of unfinished files lead nowhere, whatever is asked."""
    api, home = login("anna").server, place.homes / "anna"
    api.ls("/")
    login("bert").server.mkdir("/x")
    secret = place.homes / "bert" / "secret"
    secret.write_bytes(b"bert's own")
    (home / ".lanesync").mkdir(exist_ok=True)
    if not (home / "way-out").is_symlink():
        (home / "way-out").symlink_to(place.homes / "bert")
    below = f"{path}/new"
    for attempt in (
        lambda: api.ls(f"{path}/."),
        lambda: api.du(below),
        lambda: api.mkdir(below),
        lambda: api.mv("/nothing", below),
        lambda: api.mv(f"{path}/secret", "/stolen"),
        lambda: api.rm(f"{path}/secret", recursive=True),
    ):
        with pytest.raises(CommandError):
            attempt()
    assert secret.read_bytes() == b"bert's own"
    assert ".lanesync" not in [item["name"] for item in api.ls("/")["entries"]]
    assert sorted(entry.name for entry in (place.homes / "bert").iterdir()) == ["secret", "x"]


def test_what_is_missing_is_not_found(login: Login) -> None:
    api = login("anna").server
    for attempt in (lambda: api.ls("/no"), lambda: api.rm("/no"), lambda: api.mv("/no", "/yes")):
        with pytest.raises(NotFoundError, match="/no: No such file"):
            attempt()


def test_a_mapping_gives_several_roots(login: Login, tmp_path: Path) -> None:
    """For one user, at once; lsRoots names them, and a file moves from one to the other."""
    chief, anna = login("chief").server, login("anna").server
    media, papers = tmp_path / "media", tmp_path / "papers"
    media.mkdir()
    papers.mkdir()
    (media / "film").write_bytes(b"film")
    mapping = {"media": str(media), "/papers": {"type": "File", "path": str(papers)}}
    with pytest.raises(CommandError, match="for superusers"):
        anna.setSandboxMapping("anna", mapping)
    chief.setSandboxMapping("anna", mapping)
    assert chief.getSandboxMappings("anna") == {
        "anna": {
            "/media": {"type": "file", "path": str(media)},
            "/papers": {"type": "file", "path": str(papers)},
        }
    }
    assert [root["path"] for root in anna.lsRoots()] == ["/media", "/papers"]
    assert [item["name"] for item in anna.ls("/")["entries"]] == ["media", "papers"]
    assert anna.du("/")["totalSize"] == 4
    anna.mv("/media/film", "/papers/film")
    assert (papers / "film").read_bytes() == b"film"
    for path in ("/", "/media", "/other/x"):
        with pytest.raises(CommandError):
            anna.rm(path, recursive=True)
    with pytest.raises(CommandError, match="roots are set by the administrator"):
        anna.mkdir("/")
    with pytest.raises(CommandError, match="'s3' are not available; mount"):
        chief.setSandboxMapping("anna", {"cloud": {"type": "s3", "bucketName": "b"}})
    chief.deleteSandboxMapping("anna")
    assert [root["path"] for root in anna.lsRoots()] == ["/"]
    with pytest.raises(NotFoundError, match="has no sandbox mapping"):
        chief.deleteSandboxMapping("anna")


def test_a_mapping_for_everybody_survives_a_restart(place: Place, login: Login, tmp_path: Path) -> None:
    (tmp_path / "bert").mkdir()
    chief = login("chief").server
    chief.setSandboxMapping("", {"/": f"{tmp_path}/%u"})
    place.server.restart()
    bert = login("bert").server
    bert.mkdir("/here")
    assert (tmp_path / "bert" / "here").is_dir()
    with pytest.raises(CommandError, match="administrator"):
        login("anna").server.ls("/")
    login("chief").server.deleteSandboxMapping("")


def test_a_manifest_reads_only_what_its_maker_may(place: Place, login: Login, tmp_path: Path) -> None:
    """Sources are paths of the sandbox; a link that leads outside is left out, or fails when it is sent."""
    api, home = login("anna"), place.homes / "anna"
    api.server.ls("/")
    (home / "src").mkdir(exist_ok=True)
    (home / "src" / "good").write_bytes(b"good")
    (home / "src" / "inside").symlink_to("good")
    (home / "src" / "out").symlink_to("/etc/passwd")

    def made(**mappings: Any) -> Any:
        return api.send.waitForManifest(api.send.createManifest(mappings=mappings))

    found = made(**{"/d": "/src"})
    assert found["status"] == "complete" and found["totalFiles"] == 2
    assert "leads outside" in found["errorMessage"]
    files = api.send.getManifestFiles(found)["fileMappings"]
    assert sorted(entry["srcPath"] for entry in files) == ["/src/good", "/src/inside"]
    for source in ("/etc/passwd", "/src/../../bert/secret", "/src/out", str(tmp_path)):
        with pytest.raises(CommandError):
            made(**{"/x": source})
    target = api.send.createDestination("localhost", destinationPort=place.server.port)

    def sent(manifest: Any, path: str) -> Any:
        return api.send.waitForTransfer(api.send.createTransfer(target, manifest, destinationPath=path))

    assert sent(found, "/sent")["status"] == "complete"
    assert (home / "sent" / "d" / "inside").read_bytes() == b"good"
    unseen = made(**{"/a": {"src": "/etc/passwd", "size": 100}, "/b": {"src": "/src/out", "size": 100}})
    failed = sent(unseen, "/stolen")
    assert failed["status"] == "error"
    assert not list(home.glob("stolen/*"))


def test_a_source_that_becomes_a_way_out_is_not_sent(place: Place, login: Login, tmp_path: Path) -> None:
    """What was a file when the manifest was made is a link to a secret when it is sent."""
    api, home = login("bert"), place.homes / "bert"
    api.server.ls("/")
    secret = tmp_path / "secret"
    secret.write_bytes(b"TOP SECRET")
    (home / "swapped").write_bytes(b"harmless!!")
    made = api.send.waitForManifest(api.send.createManifest(mappings={"/taken": "/swapped"}))
    (home / "swapped").unlink()
    (home / "swapped").symlink_to(secret)
    target = api.send.createDestination("localhost", destinationPort=place.server.port)
    found = api.send.waitForTransfer(api.send.createTransfer(target, made))
    assert found["status"] == "error" and "/swapped" in found["errorMessage"]
    assert not (home / "taken").exists()


def test_a_token_is_held_to_its_path_and_permissions(place: Place, login: Login) -> None:
    bert, home = login("bert").server, place.homes / "bert"
    bert.mkdir("/shared/in")
    (home / "private").write_bytes(b"private")
    look = bert.createAPIToken(path="/shared", permissions=constants.PERMISSION_DOWNLOAD)["token"]
    work = bert.createAPIToken(
        path="/shared", permissions=constants.PERMISSION_DOWNLOAD | constants.PERMISSION_MODIFY
    )["token"]
    with place.server.api() as api:
        api.server.authToken(look)
        assert [item["name"] for item in api.server.ls("/")["entries"]] == ["in"]
        for path in ("/private", "/../private"):
            with pytest.raises(CommandError):
                api.server.ls(path)
        with pytest.raises(CommandError, match="PERMISSION_MODIFY"):
            api.server.mkdir("/new")
        with pytest.raises(CommandError):
            api.send.createManifest(mappings={"/p": "/private"})
    with place.server.api() as api:
        api.server.authToken(work)
        api.server.mkdir("/new")
        assert (home / "shared" / "new").is_dir()
        with pytest.raises(CommandError):
            api.server.rm("/../private")


def test_without_accounts_the_receive_root_is_the_one_root(tmp_path: Path) -> None:
    """And manifests read the whole file system, as the one who runs the server could."""
    source = tmp_path / "anywhere"
    source.write_bytes(b"x")
    with start_server(tmp_path / "s", tmp_path / "root") as server, server.api() as api:
        api.server.mkdir("/a")
        assert (tmp_path / "root" / "a").is_dir()
        assert [item["name"] for item in api.server.ls()["entries"]] == ["a"]
        made = api.send.waitForManifest(api.send.createManifest(mappings={"/f": str(source)}))
        assert made["totalFiles"] == 1


@pytest.mark.parametrize(
    ("template", "says"),
    [("relative/%u", "must be absolute"), ("/srv/%d", "%d stands for nothing"), ("/srv/../x", "'..'")],
)
def test_a_sandbox_dir_that_makes_no_sense_is_refused_at_start(
    tmp_path: Path, template: str, says: str
) -> None:
    with pytest.raises(AssertionError, match="did not start") as refused:
        start_server(tmp_path / "s", sandbox_dir=template)
    assert says in str(refused.value)
