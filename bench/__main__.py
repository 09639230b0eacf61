"""Measure LaneSync beside its peers: quick sizes, printed; or those of the page, written to it."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from bench import catalogue, machine, processes, record, report
from bench.catalogue import MEMORY, Workload
from bench.measure import Result, say
from bench.record import Record
from bench.workload import QUICK, TINY, Scale

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
_HELP = """\
examples:
  python -m bench                        every workload at quick sizes, printed (make bench)
  python -m bench large wan              two of them
  python -m bench --record               everything at full size, into docs/benchmarks.md
  python -m bench wan-bbr --record       one of them, in place of its section of the page
  python -m bench --page                 the page again from what has been measured
"""


def main(arguments: Sequence[str]) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        workloads = catalogue.chosen(options.names)
    except ValueError as error:
        parser.error(str(error))
    target = options.output or (PAGE if options.record else None)
    if options.page:
        return _write(options.output or PAGE)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what was started ends
    processes.adopt()
    scale = TINY if options.tiny else Scale() if options.record else QUICK
    folder = Path(tempfile.mkdtemp(prefix="lanesync-bench-", dir=options.directory))
    folder.chmod(0o755)  # some peers are not who we are
    try:
        failed = _measure(workloads, scale, folder, " ".join(["python -m bench", *arguments]), target)
    finally:
        say("clearing up …")
        shutil.rmtree(folder, ignore_errors=True)
    for line in failed:
        say(f"failed, and so not measured: {line}")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ", ".join(workload.name for workload in catalogue.WORKLOADS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"workload; all when none is named: {names}")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--record", action="store_true", help="full sizes, written to the page (three quarters of an hour)"
    )
    sizes.add_argument("--page", action="store_true", help="measure nothing: write the page again")
    sizes.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)  # whether everything works
    parser.add_argument(
        "--output", type=Path, metavar="PAGE", help="page to write, images and raw data beside it"
    )
    parser.add_argument("--directory", help="where to measure on disk [default: the temporary folder]")
    return parser


def _measure(
    workloads: Sequence[Workload], scale: Scale, folder: Path, command: str, target: Path | None
) -> list[str]:
    """Each that is through is on the page at once: a run that is cut short keeps what it has. Returns what
    failed."""
    left = sum(workload.seconds[scale.name] for workload in workloads)
    failed: list[str] = []
    for workload in workloads:
        expected = workload.seconds[scale.name]
        say(f"{workload.name}: about {_minutes(expected)} of about {_minutes(left)} …")
        left -= expected
        shape = machine.shape(folder, MEMORY)
        begun = time.monotonic()
        try:
            results = _one(workload, scale, folder)
        except Exception as error:
            traceback.print_exc()
            failed.append(f"{workload.name} ({type(error).__name__})")
            continue
        taken = time.monotonic() - begun
        done = Record(workload.name, scale.name, command, shape, taken, results)
        print("\n".join(report.section(done)), end="\n\n", flush=True)
        say(f"{workload.name}: took {_minutes(taken)}")
        if target is not None:
            record.save(report.data(target), done)
            _write(target)
    return failed


def _one(workload: Workload, scale: Scale, disk: Path) -> list[Result]:
    """Measure below a folder of its own."""
    work = Path(
        tempfile.mkdtemp(prefix=f"lanesync-bench-{workload.name}-", dir=MEMORY if workload.memory else disk)
    )
    work.chmod(0o755)
    try:
        return workload.run(work, scale)
    finally:
        if not workload.leaves:
            shutil.rmtree(work, ignore_errors=True)


def _write(target: Path) -> int:
    report.write(target, record.load(report.data(target)))
    say(f"written: {target}")
    return 0


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
