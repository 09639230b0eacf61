"""`python -m bench`: measure, and write docs/benchmarks.md."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench import delta, fts3, large, machine, many, nochange, reaction, report, small
from bench.measure import Result, say
from bench.workload import FULL, QUICK, Scale

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
MEMORY = Path("/dev/shm")

Workload = Callable[[Path], Result]


def main(arguments: Sequence[str]) -> int:
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what was started ends
    scale = QUICK if options.quick else FULL if options.full else Scale()
    if options.unchanged:
        scale = replace(scale, unchanged_files=tuple(options.unchanged))
    folder = Path(tempfile.mkdtemp(prefix="lanesync-bench-", dir=options.directory))
    folder.chmod(0o755)  # some peers are not who we are
    shape = machine.shape(folder.parent, MEMORY)
    results: list[Result] = []
    failed: list[str] = []
    try:
        for name, (base, workload) in _workloads(scale, folder).items():
            if options.only and not any(name.startswith(wanted) for wanted in options.only):
                continue
            try:
                results.append(_one(name, base, workload))
            except Exception as error:
                traceback.print_exc()
                failed.append(f"{name} ({type(error).__name__})")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not results and not failed:
        say(
            f"no workload is named {', '.join(options.only)}; "
            f"there are {', '.join(_workloads(scale, folder))}"
        )
        return 2
    command = " ".join(["python -m bench", *arguments])
    remark = (
        "A `--quick` run: smaller sizes, fewer rounds. Not the figures of record." if options.quick else ""
    )
    if failed:
        remark = f"{remark} Failed, and so not measured: {', '.join(failed)}.".strip()
    text = report.page(shape, command, results, remark)
    print(text)
    target = options.output or (None if options.only else PAGE)
    if target is not None:
        report.write(target, text, results)
        say(f"written: {target}")
    return 1 if failed else 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--quick", action="store_true", help="smaller sizes, three rounds")
    sizes.add_argument("--full", action="store_true", help="the largest sizes, every peer; takes hours")
    parser.add_argument(
        "--unchanged",
        action="append",
        type=int,
        metavar="FILES",
        help="size of the no-change pass instead of the usual ones, for example 1000000 (repeatable)",
    )
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a workload (repeatable)")
    parser.add_argument("--output", type=Path, help="page to write; with --only none is written unless named")
    parser.add_argument("--directory", help="where to measure on disk [default: the temporary folder]")
    return parser.parse_args(arguments)


def _workloads(scale: Scale, disk: Path) -> dict[str, tuple[Path, Workload]]:
    """Name -> where its files go, and what measures it."""
    found: dict[str, tuple[Path, Workload]] = {
        "large": (disk, partial(large.run, scale=scale)),
        "delta": (disk, partial(delta.run, scale=scale)),
        "small-disk": (disk, partial(small.run, scale=scale, name="small-disk")),
        "small-memory": (MEMORY, partial(small.run, scale=scale, name="small-memory")),
    }
    for files in scale.unchanged_files:
        found[f"nochange-{files}"] = (disk, partial(nochange.run, scale=scale, files=files))
    found["fts3"] = (MEMORY, partial(fts3.run, scale=scale))
    found["many"] = (disk, partial(many.run, scale=scale))
    found["reaction"] = (disk, partial(reaction.run, scale=scale))
    return found


def _one(name: str, base: Path, workload: Workload) -> Result:
    """Measure below a folder of its own. What is in memory is gone afterwards; what is on disk stays to the
    end of the run, see `Target`."""
    say(f"{name} …")
    work = Path(tempfile.mkdtemp(prefix=f"lanesync-bench-{name}-", dir=base))
    work.chmod(0o755)
    try:
        return workload(work)
    finally:
        if base == MEMORY:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
