"""Following a ref: what is fetched, what of it is exported, whose signature counts."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from gitserver import Repo

from agent.model.outcome import PermanentError
from agent.specs.git import repository
from agent.specs.git.checkout import Checkout
from agent.specs.git.export import CommitRefusedError, export
from agent.specs.git.follow import Follower
from agent.specs.git.options import GitOptions
from agent.specs.git.program import Git, GitError
from agent.specs.git.repository import AccessError, RefNotFoundError
from agent.specs.git.signatures import UnsignedError, is_ssh
from agent.specs.load import load

# -- following


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "repo")
    made.write("site/a.yaml", "a: 1\n")
    made.commit("first")
    return made


def follower(repo: Repo, tmp_path: Path, **options: object) -> Follower:
    wanted = GitOptions(str(repo.directory), "main", "site")
    return Follower(replace(wanted, **options), str(tmp_path / "state"))  # type: ignore[arg-type]


def specs(found: Follower) -> dict[str, bytes]:
    assert found.checkout is not None
    root = Path(found.checkout.specs)
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_a_lock_that_a_killed_git_left_is_overcome_at_the_next_look(repo: Repo, tmp_path: Path) -> None:
    """What we keep of the repository can always be fetched again."""
    f = follower(repo, tmp_path)
    assert f.look()
    assert not f.look()
    repo.write("site/a.yaml", "a: 2\n")
    repo.commit("second")
    (tmp_path / "state/repository.git/shallow.lock").touch()
    with pytest.raises(GitError):
        f.look()
    assert specs(f) == {"a.yaml": b"a: 1\n"}, "the last good one stays"
    assert f.look()
    assert specs(f) == {"a.yaml": b"a: 2\n"}


def test_the_last_commit_is_found_at_the_next_start_unless_something_else_is_asked(
    repo: Repo, tmp_path: Path
) -> None:
    """Another ref, another directory or a keyring make it another thing; so does damage."""
    follower(repo, tmp_path).look()
    assert specs(follower(repo, tmp_path)) == {"a.yaml": b"a: 1\n"}
    keyring = tmp_path / "keyring"
    keyring.write_text("a@example.org ssh-ed25519 AAAA\n")
    for options in ({"ref": "other"}, {"subdir": ""}, {"keyring": str(keyring)}):
        assert follower(repo, tmp_path, **options).checkout is None, options
    record = tmp_path / "state/current.json"
    for damage in (b"", b"[]", b"{", b'{"format": 1, "commit": {}}', b"\xff"):
        record.write_bytes(damage)
        assert follower(repo, tmp_path).checkout is None


def test_a_tree_made_to_write_elsewhere_writes_nothing_there(repo: Repo, tmp_path: Path) -> None:
    """Names that git itself never makes, and a link with the name of a directory."""
    blob = repo.git("hash-object", "-w", "--stdin", stdin="evil: 1\n")
    target = tmp_path / "outside"
    target.mkdir()
    link = repo.git("hash-object", "-w", "--stdin", stdin=str(target))

    def tree(*entries: tuple[bytes, bytes, str]) -> str:
        data = b"".join(mode + b" " + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in entries)
        command = ["git", "hash-object", "-t", "tree", "--literally", "-w", "--stdin"]
        done = subprocess.run(command, cwd=repo.directory, input=data, capture_output=True, check=True)
        return done.stdout.decode().strip()

    inner = tree((b"100644", b"x.yaml", blob))
    trees = [
        tree((b"40000", b"..", inner), (b"100644", b"ok.yaml", blob)),
        tree((b"100644", b"../../x.yaml", blob)),
        tree((b"120000", b"d", link), (b"40000", b"d", inner)),
        tree((b"120000", b"d", link), (b"100644", b"d/x.yaml", blob)),
    ]
    git = Git(str(repo.directory / ".git"), GitOptions(str(repo.directory)))
    for number, root in enumerate(trees):
        commit = repo.git("commit-tree", root, "-m", "x")
        try:
            export(git, commit, "", str(tmp_path / "exports" / str(number)))
        except (OSError, CommitRefusedError):
            pass
        assert list(target.iterdir()) == []
    outside = [p for p in tmp_path.rglob("x.yaml") if "exports" not in p.parts]
    assert outside == []
    assert len(list(tmp_path.glob("*.yaml"))) == 0


def test_only_spec_files_are_exported_and_a_huge_one_costs_no_space(repo: Repo, tmp_path: Path) -> None:
    """The reader of specs says what is wrong with it."""
    repo.write("site/huge.yaml", "x" * (2 << 20))
    repo.write("site/film.bin", "x" * 1000)
    repo.write("site/.hidden.yaml", "a: 1\n")
    repo.write("site/run.yml", "b: 1\n")
    (repo.directory / "site/run.yml").chmod(0o755)
    repo.commit("more")
    f = follower(repo, tmp_path)
    f.look()
    assert f.checkout is not None
    assert set(specs(f)) == {"a.yaml", "huge.yaml", "run.yml"}
    huge = os.stat(Path(f.checkout.specs) / "huge.yaml")
    assert huge.st_size == 2 << 20 and huge.st_blocks == 0
    assert not os.stat(Path(f.checkout.specs) / "run.yml").st_mode & stat.S_IXUSR
    loaded = load([f.checkout.specs], checkout=f.checkout)
    assert loaded.revision == f"git:{f.checkout.commit.id}"
    assert any(str(error).startswith("site/huge.yaml: is larger than") for error in loaded.errors)


@pytest.mark.parametrize("path", ["x" * 300 + ".yaml", "/".join(["y" * 200] * 25) + "/a.yaml"])
def test_a_name_that_no_file_system_takes_refuses_its_commit(repo: Repo, tmp_path: Path, path: str) -> None:
    """By name, and until another commit comes; the one before stays in force."""
    f = follower(repo, tmp_path)
    assert f.look()
    before = specs(f)
    blob = repo.git("hash-object", "-w", "--stdin", stdin="a: 1\n")
    repo.git("update-index", "--add", "--cacheinfo", f"100644,{blob},site/{path}")
    repo.git("commit", "-qm", "long")
    for _ in range(2):
        with pytest.raises(CommitRefusedError, match=f"{path[:20]}.*longer than"):
            f.look()
        assert specs(f) == before
    repo.git("rm", "-q", "--cached", f"site/{path}")
    repo.write("site/b.yaml", "b: 1\n")
    repo.git("add", "site/b.yaml")
    repo.git("commit", "-qm", "short")
    assert f.look()
    assert set(specs(f)) == {"a.yaml", "b.yaml"}


def test_ssh_asks_nobody_and_uses_the_key_that_was_named(repo: Repo, tmp_path: Path) -> None:
    """Git's own ssh transport, with a program in the place of ssh that serves the repository."""
    programs = tmp_path / "bin"
    programs.mkdir()
    ssh = programs / "ssh"
    ssh.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/argv\nfor last; do :; done\neval "exec $last"\n')
    ssh.chmod(0o755)
    before = os.environ["PATH"]
    options = GitOptions(f"git@localhost:{repo.directory}", "main", "site", ssh_key="/keys/of the agent")
    try:
        os.environ["PATH"] = f"{programs}:{before}"
        f = Follower(options, str(tmp_path / "state"))
    finally:
        os.environ["PATH"] = before
    assert f.look()
    assert specs(f) == {"a.yaml": b"a: 1\n"}
    argv = (tmp_path / "argv").read_text()
    assert "-oBatchMode=yes" in argv and "-i /keys/of the agent" in argv
    ssh.write_text("#!/bin/sh\necho 'git@localhost: Permission denied (publickey).' >&2\nexit 255\n")
    with pytest.raises(AccessError, match=r"Permission denied.*--git-ssh-key"):
        f.look()


def test_a_ref_is_looked_up_in_full(repo: Repo, tmp_path: Path) -> None:
    """The default branch, full names, and no guess between a branch and a tag of one name."""
    first = repo.git("rev-parse", "HEAD")
    repo.git("tag", "-a", "-m", "x", "release")
    repo.write("site/a.yaml", "a: 2\n")
    second = repo.commit("second")
    repo.git("branch", "release")
    wanted = {"HEAD": second, "refs/tags/release": first, "refs/heads/release": second, first: first}
    for ref, commit in wanted.items():
        f = follower(repo, tmp_path, ref=ref)
        f.look()
        assert f.checkout is not None and f.checkout.commit.id == commit, ref
    with pytest.raises(RefNotFoundError, match="refs/heads/release and refs/tags/release"):
        follower(repo, tmp_path, ref="release").look()
    kept = tmp_path / "state/repository.git/HEAD"
    for missing in ("elease", first[:12], "0123456789" * 4):
        with pytest.raises(RefNotFoundError):
            follower(repo, tmp_path, ref=missing).look()
        assert kept.exists(), "what was fetched is still good"


def test_objects_of_earlier_commits_are_dropped_when_there_are_many(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept does not grow with the number of commits, and following goes on."""
    monkeypatch.setattr(repository, "MAX_PACKS", 5)
    f = follower(repo, tmp_path)
    packs = tmp_path / "state/repository.git/objects/pack"
    for number in range(8):
        repo.write("site/a.yaml", f"a: {number}\n")
        repo.commit(f"number {number}")
        assert f.look()
    assert len(list(packs.glob("*.pack"))) > 5
    f.tidy()
    assert len(list(packs.glob("*.pack"))) == 1
    listed = ["git", "-C", str(packs.parent.parent), "cat-file", "--batch-check", "--batch-all-objects"]
    found = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.splitlines()
    assert sum(" commit " in line for line in found) == 1, "the one that is in force"
    repo.write("site/a.yaml", "a: last\n")
    repo.commit("last")
    assert f.look()
    assert specs(f) == {"a.yaml": b"a: last\n"}
    f.remove_others()
    assert len(list((tmp_path / "state/checkouts").iterdir())) == 1


# -- signatures


class Signers:
    """Keys of one kind, and the keyring of those that are known."""

    def __init__(self, kind: str, repo: Repo, directory: Path) -> None:
        self.kind, self.repo, self.directory = kind, repo, directory
        self.keyring = directory / "keyring"
        repo.git("config", "gpg.format", "ssh" if kind == "ssh" else "openpgp")
        repo.environ["GNUPGHOME"] = str(directory)

    def make(self, name: str) -> str:
        """What git calls the new key."""
        if self.kind == "ssh":
            path = str(self.directory / name)
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
            return path
        self._gpg("--quick-generate-key", f"{name}@example.org", "ed25519", "sign", "never")
        return f"{name}@example.org"

    def know(self, *keys: str) -> None:
        if self.kind == "ssh":
            lines = [f"a@example.org {Path(key + '.pub').read_text()}" for key in keys]
            self.keyring.write_text("".join(lines))
        else:
            armour = ["--armor"] if self.kind == "gpg" else []
            self.keyring.write_bytes(b"".join(self._gpg(*armour, "--export", key) for key in keys))

    def _gpg(self, *arguments: str) -> bytes:
        unattended = ["--batch", "--pinentry-mode", "loopback", "--passphrase", ""]
        command = ["gpg", "--homedir", str(self.directory), *unattended, *arguments]
        return subprocess.run(command, capture_output=True, timeout=60, check=True).stdout

    def end(self) -> None:
        subprocess.run(["gpgconf", "--homedir", str(self.directory), "--kill", "all"], check=False)


@pytest.fixture(params=["ssh", "gpg", "gpg-binary"])
def signers(request: pytest.FixtureRequest, repo: Repo) -> Iterator[Signers]:
    with tempfile.TemporaryDirectory(prefix="k", dir="/tmp") as short:  # gpg's agent listens there
        made = Signers(request.param, repo, Path(short))
        yield made
        made.end()


def test_the_tip_must_be_signed_by_a_key_of_the_keyring(signers: Signers, tmp_path: Path) -> None:
    """No signature, a stranger's, another kind's: refused each time; a key that is added counts at once."""
    repo, known, stranger = signers.repo, signers.make("known"), signers.make("stranger")
    signers.know(known)
    f = follower(repo, tmp_path, keyring=str(signers.keyring))
    for _ in range(2):
        with pytest.raises(UnsignedError):
            f.look()
    assert f.checkout is None
    good = repo.commit("good", f"-S{known}")
    assert f.look()
    strange = repo.commit("strange", f"-S{stranger}")
    with pytest.raises(UnsignedError, match=strange[:12]):
        f.look()
    assert f.checkout is not None and f.checkout.commit.id == good
    signers.know(known, stranger)
    assert f.look()
    assert f.checkout.commit.id == strange
    other = tmp_path / "other-kind"
    pgp = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEAA==\n-----END PGP PUBLIC KEY BLOCK-----\n"
    other.write_bytes(pgp if signers.kind == "ssh" else b"a@example.org ssh-ed25519 AAAA\n")
    wrong = follower(repo, tmp_path, keyring=str(other))
    assert wrong.checkout is None, "what another keyring vouched for is not taken over"
    with pytest.raises(UnsignedError):
        wrong.look()


def test_a_signed_tag_vouches_for_its_commit_under_its_own_name(signers: Signers, tmp_path: Path) -> None:
    """Pushed under another name it says nothing; a tag that nobody signed neither."""
    repo, known = signers.repo, signers.make("known")
    signers.know(known)
    repo.git("tag", "-u", known, "-m", "release", "v1")
    repo.git("tag", "-a", "-m", "unsigned", "v0")
    repo.git("update-ref", "refs/tags/v2", "refs/tags/v1")
    assert follower(repo, tmp_path, ref="v1", keyring=str(signers.keyring)).look()
    for ref in ("v0", "v2"):
        with pytest.raises(UnsignedError):
            follower(repo, tmp_path, ref=ref, keyring=str(signers.keyring)).look()


def test_the_keyring_says_what_kind_it_is() -> None:
    """Neither kind is an error, never «no signature asked for»."""
    assert is_ssh(b'# c\na@b.c namespaces="git" ssh-ed25519 AAAAC3 x\n')
    assert is_ssh(b"* sk-ssh-ed25519@openssh.com AAAA\n")
    assert not is_ssh(b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n")
    assert not is_ssh(b"\x98\x33\x04")
    for neither in (b"", b"root:x:0:0:root:/root:/bin/sh\n", b"# only a comment ssh-ed25519 AAAA\n"):
        with pytest.raises(PermanentError):
            is_ssh(neither)


def test_relative_sources_of_a_commit_are_refused(repo: Repo, tmp_path: Path) -> None:
    """They would lie in the agent's own state, and move with each commit."""
    repo.write(
        "site/a.yaml",
        "apiVersion: lanesync/v1\nkind: Mapping\nmetadata: {name: m}\n"
        "spec: {destination: d, paths: {/: data}}\n---\n"
        "apiVersion: lanesync/v1\nkind: Destination\nmetadata: {name: d}\nspec: {address: h.example.org}\n",
    )
    repo.commit("relative")
    f = follower(repo, tmp_path)
    f.look()
    checkout = f.checkout
    assert isinstance(checkout, Checkout)
    (error,) = load([checkout.specs], checkout=checkout).errors
    assert str(error).startswith("site/a.yaml:4:") and "absolute path" in error.message
    assert load([checkout.specs]).errors == ()
