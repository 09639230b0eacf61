"""YAML text becomes data with positions; traps and attacks become errors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.specs.load import load
from agent.specs.yamltext import Node, documents


def parse(text: str | bytes) -> tuple[list[Node], list[str]]:
    data = text.encode() if isinstance(text, str) else text
    errors: list[str] = []
    found = [
        root for root, _ in documents(data, lambda line, column, m: errors.append(f"{line}:{column}: {m}"))
    ]
    return found, errors


def test_positions_of_keys_and_values() -> None:
    """Every key and value knows its line and column, counted from 1."""
    (root,), errors = parse("a:\n  b: [1, two]\n")
    assert errors == []
    assert isinstance(root.children, dict)
    inner = root.children["a"]
    assert (inner.line, inner.column, inner.keys["b"]) == (2, 3, (2, 3))
    assert isinstance(inner.children, dict)
    items = inner.children["b"].children
    assert isinstance(items, list)
    assert [(n.data, n.line, n.column) for n in items] == [(1, 2, 7), ("two", 2, 10)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8886", 8886), ("-1", -1), ("1.5", 1.5), ("0123", "0123"), ("1_000", "1_000"), ("0x10", "0x10"),
        ("19:00", "19:00"), ("2026-01-02", "2026-01-02"), ("yes", True), ("Off", False), ("~", None),
        ("'yes'", "yes"), ("!!str 5", "5"), ('"5"', "5"), ("y", "y"), ("10%", "10%"),
        (".inf", float("inf")), ("1.", 1.0),
    ],
)  # fmt: skip
def test_plain_scalars(text: str, value: object) -> None:
    """Numbers are decimal, dates and times are text, and YAML 1.1's words for true and false hold."""
    (root,), errors = parse(f"x: {text}")
    assert errors == []
    assert root.data == {"x": value}
    assert type(root.data["x"]) is type(value)


def test_keys_are_always_text() -> None:
    """A key is what is written, whatever YAML takes the word for."""
    (root,), _ = parse("{on: 1, 5: 2, null: 3}")
    assert root.data == {"on": 1, "5": 2, "null": 3}


def test_several_documents_and_empty_ones() -> None:
    """Empty documents are skipped."""
    found, errors = parse("---\n---\na: 1\n---\n# nothing\n---\nb: 2\n")
    assert ([root.data for root in found], errors) == ([{"a": 1}, {"b": 2}], [])


def test_byte_order_mark_is_skipped() -> None:
    """Files of editors that write a UTF-8 mark are read."""
    assert parse(b"\xef\xbb\xbfa: 1")[0][0].data == {"a": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"a: \xe9", "1:4: byte 0xe9 is not valid UTF-8"),
        ("a: 1".encode("utf-16"), "UTF-16"),
        (b"a: x\nb: \0", "2:4: control character 0x00"),
        (b'a: "\\0"', "1:4: a NUL character"),
        (b"a:\n\tb: 1", "2:1: not valid YAML: a tab in the indentation"),
        (b"a: 1\nb: 2\na: 3", "3:1: the key `a` is there twice; the first is in line 1"),
        (b"a: {<<: 1}", "1:5: merge keys (`<<`) are not supported"),
        (b"a: !thing x", "1:4: custom tags"),
        (b"a: !!python/object/apply:os.system [x]", "1:4: custom tags"),
        (b"a: *nowhere", "1:4: the alias has no anchor before it"),
        (b"a: &x [*x]", "1:8: the alias refers to a value that it is itself part of"),
        (b"a: {{ template }}", "1:5: a key must be text; is a `{{"),
        (b"[a, b]: 1", "1:1: a key must be text"),
        (b"a: [1, 2", "not valid YAML"),
        (b"a: 'x", "the text ends in the middle of a quoted value"),
        (b"a: b: c", "1:5: not valid YAML: a colon where none can stand"),
        (b"a: @x", "1:4: not valid YAML: a character that cannot begin a value"),
        (b"a: " + b"9" * 5000, "1:4: the number is too long"),
        (b"[" * 100_000, "1:51: nested more than 50 deep"),
        (b"{a: " * 100_000, "nested more than 50 deep"),
    ],
)
def test_mistakes_are_named_with_their_place(text: bytes, expected: str) -> None:
    """A person finds the place and reads what to do."""
    _, errors = parse(text)
    assert any(expected in error for error in errors), errors


def test_documents_before_a_syntax_error_are_read() -> None:
    """What is readable is checked, whatever comes after it."""
    found, errors = parse("a: 1\n---\nb: [\n")
    assert [root.data for root in found] == [{"a": 1}]
    assert len(errors) == 1


def test_aliases_share_their_anchors_value() -> None:
    """Anchors and aliases are fine as long as they stay small."""
    (root,), errors = parse("a: &x {k: [1, 2]}\nb: *x\n")
    assert (root.data["b"], errors) == ({"k": [1, 2]}, [])


def test_exploding_aliases_are_refused_by_name() -> None:
    """A file of a few hundred bytes cannot become a billion values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    _, errors = parse("\n".join(lines))
    assert len(errors) == 1
    assert "alias *a" in errors[0]
    assert "more than 10,000 values" in errors[0]


def test_many_documents_cannot_add_up_aliases() -> None:
    """The bound on aliases is the file's, not the document's."""
    document = "---\na: &a [x, x, x, x, x, x, x, x, x, x]\nb: &b [" + ", ".join(["*a"] * 90) + "]\n"
    _, errors = parse(document * 50)
    assert any("more than 10,000 values" in error for error in errors)


def errors_of(path: Path) -> list[str]:
    return [str(error) for error in load([str(path)]).errors]


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    """100 MB by mistake in the specs' folder is an error line, not minutes of work."""
    with open(tmp_path / "big.yaml", "wb") as file:
        file.truncate(100 * 2**20)
    assert errors_of(tmp_path) == [
        f"{tmp_path}/big.yaml: is larger than 1 MiB, the most a spec file may have; split it"
    ]


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """A named pipe in the folder does not hold up the agent."""
    os.mkfifo(tmp_path / "pipe.yaml")
    assert errors_of(tmp_path) == [f"{tmp_path}/pipe.yaml: is not a regular file"]


def test_missing_paths_are_errors_and_remove_nothing(tmp_path: Path) -> None:
    """A mistyped path is not an empty set of specs."""
    loaded = load([str(tmp_path / "nowhere")])
    assert [e.message for e in loaded.errors] == ["no such file or directory"]
    assert not loaded.complete


def test_links_do_not_lead_out(tmp_path: Path) -> None:
    """A repository cannot make the agent read files elsewhere; links within it work."""
    specs = tmp_path / "specs"
    (specs / ".hidden").mkdir(parents=True)
    (specs / ".hidden" / "real.yaml").write_text("a: 1")
    (tmp_path / "outside.yaml").write_text("b: 1")
    os.symlink(".hidden/real.yaml", specs / "inside.yaml")
    os.symlink("../outside.yaml", specs / "out.yaml")
    os.symlink(tmp_path, specs / "up")
    os.symlink(".", specs / "loop")
    loaded = load([str(specs)])
    assert loaded.files == (f"{specs}/inside.yaml",)
    led_out = [e.file for e in loaded.errors if "leads out of" in e.message]
    assert led_out == [f"{specs}/out.yaml", f"{specs}/up"]


def test_hidden_and_other_files_are_skipped(tmp_path: Path) -> None:
    """Only *.yaml and *.yml of a folder are specs; a file that is named itself may have any name."""
    for name in (".git", "sub"):
        (tmp_path / name).mkdir()
    for name in (".git/a.yaml", "b.yaml", "sub/c.yml", "README.md", "d.json"):
        (tmp_path / name).write_text("")
    assert load([str(tmp_path)]).files == (f"{tmp_path}/b.yaml", f"{tmp_path}/sub/c.yml")
    assert load([str(tmp_path / "d.json")]).files == (f"{tmp_path}/d.json",)


def test_a_file_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    """A folder and a file in it are not two copies."""
    (tmp_path / "a.yaml").write_text("")
    assert len(load([str(tmp_path), str(tmp_path / "a.yaml")]).files) == 1


def test_errors_are_bounded_and_the_rest_is_counted(tmp_path: Path) -> None:
    """A thousand lines are enough for a person; nothing is said to be all that is not."""
    (tmp_path / "a.yaml").write_text("---\nkind: Nonsense\n" * 3000)
    loaded = load([str(tmp_path)])
    assert (len(loaded.errors), loaded.omitted) == (1000, 2000)


def test_messages_cannot_control_a_terminal(tmp_path: Path) -> None:
    """Control characters of keys and file names are shown as escapes, on one line."""
    (tmp_path / "a\nb.yaml").write_text('"\\e[31m\\n": 1\nkind: "\\e[2J"\n')
    for line in errors_of(tmp_path):
        assert line.isprintable()


def test_a_pointer_of_lfs_is_named(tmp_path: Path) -> None:
    """Its file is elsewhere, and nobody fetches it."""
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab\nsize 12345\n"
    (tmp_path / "a.yaml").write_text(pointer)
    assert ["git LFS" in error for error in errors_of(tmp_path)] == [True]
