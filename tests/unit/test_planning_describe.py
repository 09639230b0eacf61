"""Plans in words and as JSON."""

from __future__ import annotations

import dataclasses
import json
import typing

from unit.planning_model import file_stat

from agent.model.change import Change, ChangeKind, Deletion, FileKind, Rename, Suspect, SuspectReason
from agent.model.plan import (
    Action,
    CancelTransfer,
    CreateDestination,
    DeleteDestination,
    DeletePaths,
    ForgetPaths,
    Held,
    Later,
    Plan,
    RenamePaths,
    ResumeTransfer,
    RetagDestination,
    SetDefaults,
    SetLanes,
    SetSendRate,
    SetTransferPriority,
    SetTransferRate,
    StartTransfer,
    SuspendTransfer,
    TrashPaths,
)
from agent.model.spec import DEFAULT_LANES, Lane, Overwrite, TransferDefaults
from agent.planning.describe import plan_document, plan_lines, printable, summary
from agent.planning.words import describe

PAIR = ("dailies", "archive")


def start(*changes: Change) -> StartTransfer:
    return StartTransfer(*PAIR, changes, "High", 10, 300_000.0, Overwrite.ALWAYS, True, True)


def change(path: str, kind: ChangeKind = ChangeKind.CREATED, size: int = 1024) -> Change:
    return Change(kind, path, "/src" + path, file_stat(1)._replace(size=size), "size differs")


ONE_OF_EACH: tuple[Action, ...] = (
    CreateDestination("archive", "studio", "192.0.2.1", 8886, DEFAULT_LANES, 800e3, TransferDefaults()),
    RetagDestination("archive", "7"),
    SetLanes("archive", "7", DEFAULT_LANES, (Lane("Only", 1.0),)),
    SetSendRate("archive", "7", 800e3, None),
    SetDefaults("archive", "7", TransferDefaults(lane="Low")),
    DeleteDestination("archive", "7", "removed from the specs"),
    start(change("/a"), change("/b", ChangeKind.MODIFIED)),
    ResumeTransfer(*PAIR, "9"),
    SuspendTransfer(*PAIR, "9", "mapping dailies is suspended"),
    CancelTransfer(*PAIR, "9", "removed"),
    SetTransferPriority(*PAIR, "9", "High", 1),
    SetTransferRate(*PAIR, "9", 1_000.0),
    DeletePaths(*PAIR, ("/a",), ("/d",)),
    ForgetPaths(*PAIR, ("/d",)),
    RenamePaths(*PAIR, (Rename("/old/a", change("/new/a")),), ("/old",)),
    TrashPaths(*PAIR, (("/a", "/.lanesync-trash/2026-11-22/a"),), ("/d",)),
)


def test_every_kind_of_action_has_words() -> None:
    """No action is ever printed as a Python object, and none is missing here."""
    assert {type(action) for action in ONE_OF_EACH} == set(typing.get_args(Action))
    lines = [describe(action) for action in ONE_OF_EACH]
    assert all(line[:2] in ("+ ", "~ ", "- ") for line in lines)
    assert all("dailies -> archive" in line or "destination archive" in line for line in lines)


def test_a_plan_reads_like_this() -> None:
    """One line per action, then a few paths; what is held and why; what waits."""
    plan = Plan(
        (start(change("/a"), change("/b", ChangeKind.MODIFIED)), DeletePaths(*PAIR, ("/x",), ("/d",))),
        (Held(*PAIR, (Deletion("/y", FileKind.FILE),), "1 deletions exceed deletions.maxCount 0", "abc"),),
        (Suspect("/in", "/mnt/raid", SuspectReason.EMPTIED, "was 12 files"),),
        ("/w",),
    )
    assert plan_lines(plan) == [
        "+ send    dailies -> archive: 1 new, 1 changed, 2.0 KiB, lane High, priority 10, at most 300Mbit/s",
        "    + /a (1.0 KiB)",
        "    ~ /b (1.0 KiB, size differs)",
        "- delete  dailies -> archive: 1 file, 1 directory if empty",
        "    - /x",
        "    - /d/",
        "! hold    dailies -> archive: 1 deletions exceed deletions.maxCount 0",
        "    - /y",
        "! hold    deletions below /in: source /mnt/raid is emptied (was 12 files)",
        "! wait    1 path in use or in flight",
        "    /w",
    ]
    assert summary(plan) == "2 paths (2.0 KiB) to send, 2 paths to delete, 1 deletion held for approval"
    assert summary(Plan()) == "nothing to do"


def test_what_is_renamed_trashed_or_waits_is_told() -> None:
    """Old and new path; where it goes in the trash; until when a deletion waits."""
    gone = (Deletion("/g", FileKind.FILE), Deletion("/h", FileKind.FILE))
    later = Later(*PAIR, gone, 1_795_350_000.0, 1_795_353_600.0)
    plan = Plan(ONE_OF_EACH[-2:], later=(later,))
    assert plan_lines(plan) == [
        "~ rename  dailies -> archive: 1 file, 1.0 KiB not sent again",
        "    ~ /old/a -> /new/a",
        "- trash   dailies -> archive: 1 file, 1 directory deleted if empty",
        "    - /a -> /.lanesync-trash/2026-11-22/a",
        "    - /d/",
        "! grace   dailies -> archive: 2 deletions wait between"
        " 2026-11-22 12:20 UTC and 2026-11-22 13:20 UTC",
        "    - /g",
        "    - /h",
    ]
    assert summary(plan) == "1 file to rename, 2 paths to delete, 2 deletions in grace"
    assert plan_document(plan)["later"][0]["pathsCount"] == 2


def test_long_lists_are_cut_with_a_count_of_the_rest() -> None:
    """A plan of a million files prints a few of them, in words and as JSON."""
    plan = Plan((start(*(change(f"/{n}") for n in range(1_000))), DeletePaths(*PAIR, ("/a",) * 50, ())))
    lines = plan_lines(plan, examples=2)
    assert len(lines) == 8
    assert lines[3] == "    ... and 998 more"
    assert len(plan_lines(plan, examples=0)) == 2
    document = plan_document(plan, examples=2)
    assert len(document["actions"][0]["changes"]) == 2
    assert document["actions"][0]["changesCount"] == 1_000
    assert document["actions"][1]["filesCount"] == 50
    assert len(json.dumps(document)) < 5_000


def test_the_document_is_json_and_names_every_field() -> None:
    """Everything an action says is in the document, under its name in camelCase."""
    document = json.loads(json.dumps(plan_document(Plan(ONE_OF_EACH))))
    assert document["empty"] is False
    for action, found in zip(ONE_OF_EACH, document["actions"], strict=True):
        assert found["type"] == type(action).__name__
        for field in dataclasses.fields(action):
            if field.name == "outline":  # said as totalBytes and changesCount
                continue
            assert field.name.replace("_", "") in {name.lower() for name in found}


def test_hostile_names_cannot_touch_the_terminal() -> None:
    """Control characters and bytes that are not UTF-8 are shown escaped; other scripts are left alone."""
    assert printable("/a\x1b[2J\n\udcff\u202e日本") == "/a\\x1b[2J\\n\\xff\\u202e日本"
    (_, line) = plan_lines(Plan((start(change("/\r\udc80")),)))
    assert line == "    + /\\r\\x80 (1.0 KiB)"
    line.encode("utf-8")
