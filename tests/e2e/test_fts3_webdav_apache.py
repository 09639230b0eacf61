"""The work at a destination, on Apache's mod_dav: a server of others' making, which deletes directories with
all that is in them. Runs where `apache2` is installed (Debian: apache2-bin)."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from freeports import free_port
from servers import eventually

from agent.engines.fts3.destination import ExistsError, NotEmptyError
from agent.engines.fts3.urls import join
from agent.engines.fts3.webdav import Destination, open_destination, tree
from agent.model.outcome import NotFoundError

APACHE = shutil.which("apache2") or ""

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(not APACHE, reason="apache2 is not installed")]

NAMES = [
    "plain",
    "two words",
    "100%",
    "100%25",
    "a#b?c&d",
    "é",
    "a+b",
    "...",
    ".hidden",
    "<x>",
    os.fsdecode(b"\xff"),
]

CONFIGURATION = """\
ServerRoot {modules}
PidFile {home}/pid
ServerName localhost
Listen 127.0.0.1:{port}
LoadModule mpm_event_module modules/mod_mpm_event.so
LoadModule authz_core_module modules/mod_authz_core.so
LoadModule dav_module modules/mod_dav.so
LoadModule dav_fs_module modules/mod_dav_fs.so
LoadModule dav_lock_module modules/mod_dav_lock.so
LoadModule dir_module modules/mod_dir.so
ErrorLog {home}/error.log
DocumentRoot {home}/root
DavLockDB {home}/lock/db
{user}
<Directory {home}/root>
  Dav On
  Require all granted
</Directory>
"""


@dataclass(frozen=True)
class Apache:
    url: str
    root: Path


@pytest.fixture(scope="module")
def apache() -> Iterator[Apache]:
    """Not below pytest's own folder: as root, Apache serves as another user, who cannot get in there."""
    with tempfile.TemporaryDirectory(prefix="lanesync-apache-") as folder:
        home, port = Path(folder), free_port()
        for name in ("root", "lock"):
            (home / name).mkdir()
        user = ""
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            user = f"User #{nobody.pw_uid}\nGroup #{nobody.pw_gid}"
            for path in (home, home / "root", home / "lock"):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        modules = Path(APACHE).resolve().parents[1] / "lib" / "apache2"
        text = CONFIGURATION.format(modules=modules, home=home, port=port, user=user)
        (home / "httpd.conf").write_text(text)
        with open(home / "out", "wb") as out:
            process = subprocess.Popen(
                [APACHE, "-f", str(home / "httpd.conf"), "-DFOREGROUND"], stdout=out, stderr=out
            )
        try:
            eventually(lambda: process.poll() is not None or answers(port), what="Apache answers")
            assert process.poll() is None, (home / "out").read_text()
            yield Apache(f"dav://127.0.0.1:{port}/top", home / "root" / "top")
        finally:
            process.terminate()
            process.wait(15)


def answers(port: int) -> bool:
    try:
        return requests.options(f"http://127.0.0.1:{port}/", timeout=60).ok
    except requests.ConnectionError:
        return False


@pytest.fixture
def top(apache: Apache) -> Iterator[Destination]:
    """An empty destination."""
    shutil.rmtree(apache.root, ignore_errors=True)
    opened = open_destination(apache.url)
    opened.mkdir(apache.url)
    yield opened
    opened.close()


def put(url: str, content: bytes = b"hello") -> None:
    """As FTS3 would."""
    requests.put(url.replace("dav://", "http://"), data=content, timeout=30).raise_for_status()


def test_files_of_any_name_are_seen_moved_and_deleted(apache: Apache, top: Destination) -> None:
    urls = [join(apache.url, name) for name in NAMES]
    for url in urls:
        put(url)
    assert {one.url: one.size for one in top.listing(apache.url)} == dict.fromkeys(urls, 5)
    for url in urls:
        found = top.stat(url)
        assert found is not None and found.size == 5 and not found.is_directory
        top.move(url, apache.url + "/moved")
        top.move(apache.url + "/moved", url)
        assert top.delete(url) is True
        assert top.delete(url) is False
    assert not list(apache.root.iterdir())


def test_only_empty_directories_are_deleted(apache: Apache, top: Destination) -> None:
    """Asked plainly, this server deletes a directory with the file in it."""
    top.mkdir(apache.url + "/a/b")
    put(apache.url + "/a/b/.kept")
    for act in (lambda: top.rmdir(apache.url + "/a"), lambda: top.rmdir(apache.url + "/a/b")):
        with pytest.raises(NotEmptyError):
            act()
    with pytest.raises(ExistsError):
        top.delete(apache.url + "/a/b")
    assert (apache.root / "a" / "b" / ".kept").exists()
    assert top.delete(apache.url + "/a/b/.kept") is True
    assert top.rmdir(apache.url + "/a/b") is True
    assert top.rmdir(apache.url + "/a/b") is False
    top.mkdir(apache.url + "/whole")
    put(apache.url + "/whole/file")
    assert requests.delete(apache.url.replace("dav", "http", 1) + "/whole", timeout=30).ok
    assert not (apache.root / "whole").exists()


def test_what_is_in_the_way_is_named(apache: Apache, top: Destination) -> None:
    file, other = apache.url + "/file", apache.url + "/other"
    put(file, b"one")
    put(other, b"two")
    for act in (
        lambda: top.mkdir(file),
        lambda: top.mkdir(file + "/below"),
        lambda: top.rmdir(file),
        lambda: top.listing(file),
        lambda: top.move(file, other),
    ):
        with pytest.raises(ExistsError):
            act()
    with pytest.raises(NotFoundError):
        top.move(file, apache.url + "/nowhere/file")
    assert top.stat(file + "/below") is None
    assert (apache.root / "other").read_bytes() == b"two"
    assert [one.url for one in tree(top, apache.url)] == [file, other]
