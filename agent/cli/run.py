"""`lanesync run`: the service. Reconcile, watch, stay; or with --once, until all is in sync."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click
import structlog

from agent.api.hook import check_secret
from agent.api.serve import Face
from agent.cli import logs
from agent.cli.gitoptions import spec_source
from agent.cli.options import Duration, HostPort, kept_history, output, policy, select, state_dir
from agent.cli.problems import BLOCKED, DONE, INTERRUPTED, PENDING
from agent.cli.signals import Wakeup
from agent.cli.text import answer, delivered_lines
from agent.model.outcome import LaneSyncError, PermanentError
from agent.model.spec import SecretRef, SecretSource
from agent.model.units import format_duration
from agent.reconcile.agent import Agent, Options
from agent.reconcile.liveness import STUCK_SECONDS
from agent.reconcile.notify import Notifier
from agent.reconcile.service import AgentService
from agent.reconcile.status import State
from agent.specs.git.options import GitOptions
from agent.specs.secrets import resolve
from agent.specs.select import Selector
from agent.state.audit import Retention

log = structlog.get_logger(__name__)

DEFAULT_LISTEN = ("127.0.0.1", 8890)
TICK = 0.2
PAUSE = 0.05
"""The answer is worked out at most so often: thousands of objects may change in one breath."""
PACE = 10.0
"""And never for longer than a tenth of the time: of ten thousand objects it takes a while."""
SAVE_SECONDS = 60.0
SAVE_PACE, CHANGE_PACE = 1000.0, 100.0
"""What `status` says after a kill is kept so seldom that it takes a thousandth of the time at most; a
hundredth while the answer to "in sync?" keeps changing."""
NAME_HELP = "Name by which browsers reach the HTTP face, beside this machine's own; may be given again."
HOOK_HELP = "Secret that a repository's host signs its push hook with (POST /api/v1/reconcile)."
LEVEL_HELP = "While it runs SIGUSR1 changes it to debug, SIGUSR2 back."
STUCK_HELP = "When a thread hangs for so long the watchdog is not fed and /healthz fails. Default 15m."
STUCK_MIN = 60.0
"""Threads without work wake every half a minute."""


def _patience(_ctx: click.Context, param: click.Parameter, value: float) -> float:
    if value < STUCK_MIN:
        raise click.BadParameter(f"it is at least {format_duration(STUCK_MIN)}", param=param)
    return value


@click.command()
@spec_source
@click.option("--once", is_flag=True, help="Exit when all is in sync (0) or blocked (4).")
@click.option("--timeout", type=Duration(), help="With --once: give up after this long (3).")
@click.option(
    "--listen", type=HostPort(), help="HTTP face. Default 127.0.0.1:8890 if it is free; port 0: any."
)
@click.option("--http-name", "names", metavar="NAME", multiple=True, help=NAME_HELP)
@click.option("--hook-secret-file", metavar="FILE", type=click.Path(dir_okay=False), help=HOOK_HELP)
@click.option("--stuck-after", type=Duration(), default=STUCK_SECONDS, help=STUCK_HELP, callback=_patience)
@click.option(
    "--log-level", type=click.Choice(list(logs.LEVELS)), default="info", show_default=True, help=LEVEL_HELP
)
@kept_history
@policy
@select
@output
@state_dir
def command(
    paths: tuple[str, ...],
    git: GitOptions | None,
    history_age: float,
    history_size: int,
    once: bool,
    timeout: float | None,
    listen: tuple[str, int] | None,
    names: tuple[str, ...],
    hook_secret_file: str | None,
    stuck_after: float,
    log_level: str,
    policy: str,
    select: Selector,
    output: str,
    state_dir: str,
) -> int:
    """Deliver what the specs at PATH, or in a git repository, say and keep it in sync.

    Specs are read again when they change, and on SIGHUP. SIGTERM and Ctrl-C end it cleanly; transfers go
    on from where they were when it starts again.

    \b
    Example: lanesync run specs/01-quickstart
    Example: lanesync run --git https://git.example.org/site.git --ref main --subdir paris
    """
    hook_secret = _hook_secret(hook_secret_file)
    live = sys.stdout.isatty() and output == "text"
    with _logging(log_level, state_dir, live):
        kept = Retention(bytes=history_size, age=history_age)
        options = Options(paths, state_dir, not once, policy, select, git, kept, stuck_after)
        agent = Agent(options)
        try:
            face = _serve(agent, state_dir, listen, once, hook_secret, names)
            try:
                agent.start()
                return Runner(agent, once, timeout, output, live).run()
            finally:
                face.stop()
        finally:
            agent.stop()


@contextmanager
def _logging(level: str, state_dir: str, live: bool) -> Iterator[None]:
    """A live view has the terminal to itself: logs go to a file then."""
    if not live:
        logs.configure(level)
        yield
        return
    os.makedirs(state_dir, mode=0o700, exist_ok=True)
    with open(os.path.join(state_dir, "agent.log"), "a", encoding="utf-8", buffering=1) as file:
        logs.configure(level, file)
        yield


def _hook_secret(path: str | None) -> bytes | None:
    if path is None:
        return None
    return check_secret(resolve(SecretRef(SecretSource.FILE, os.path.abspath(path)), {}, None))


def _serve(
    agent: Agent,
    state_dir: str,
    listen: tuple[str, int] | None,
    once: bool,
    hook_secret: bytes | None,
    names: tuple[str, ...],
) -> Face:
    service = AgentService(agent)
    try:
        address = listen or (None if once else DEFAULT_LISTEN)
        face = Face(service, state_dir, address, hook_secret, names)
    except PermanentError as error:
        if listen is not None:
            raise
        log.warning("no HTTP face", why=str(error))
        face = Face(service, state_dir, None)
    agent.http_address = face.address
    return face


class Saves:
    """When the status is saved; times are monotonic seconds."""

    def __init__(self) -> None:
        self._state: State | None = None
        self._soonest = self._latest = 0.0

    def due(self, state: State, now: float) -> bool:
        return now >= self._latest or (state is not self._state and now >= self._soonest)

    def saved(self, state: State, begun: float, ended: float) -> None:
        self._state = state
        self._soonest = ended + CHANGE_PACE * (ended - begun)
        self._latest = ended + max(SAVE_SECONDS, SAVE_PACE * (ended - begun))


class Runner:
    """The main thread: signals, the service manager, the live view, and when to end."""

    def __init__(
        self, agent: Agent, once: bool, timeout: float | None, output: str = "text", live: bool = False
    ) -> None:
        self._agent = agent
        self._once = once
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._output = output
        self._live = live
        self._signal = 0
        self._reload_asked = False
        self._notifier = Notifier()
        self._next_ping = 0.0
        self._saves = Saves()

    def run(self) -> int:
        handled = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, self._stop) for number in handled}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._reload)
        self._notifier.send("READY=1", f"STATUS={self._agent.overall().message}")
        try:
            code = self._watch()
        finally:
            self._notifier.send("STOPPING=1")
            if self._once and not self._signal:
                self._agent.hooks.drain()  # what was delivered is told before we go
                self._agent.alerts.drain()
            for number, handler in before.items():
                signal.signal(number, handler)
        self._report()
        return code

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self._signal = number

    def _reload(self, _number: int, _frame: FrameType | None) -> None:
        """No lock is taken in a handler: it may have interrupted who holds it."""
        self._reload_asked = True

    def _watch(self) -> int:
        if self._live:
            return self._watch_live()
        if self._once:
            return self._watch_for_end()
        with Wakeup() as wakeup:
            while (code := self._ended()) is None:
                self._ping()
                wakeup.wait(self._next_ping - time.monotonic())
        return code

    def _watch_for_end(self) -> int:
        version = 0
        while True:
            begun = time.monotonic()
            if (code := self._ended()) is not None:
                return code
            self._ping()
            pause = max(PAUSE, PACE * (time.monotonic() - begun))
            version = self._agent.context.board.wait_change(version, TICK)
            time.sleep(pause)

    def _watch_live(self) -> int:
        from rich.console import Console
        from rich.live import Live

        from agent.cli.screen import FRAMES_PER_SECOND, Rates, render

        rates = Rates()
        footer = self._footer()
        with Live(console=Console(), auto_refresh=False) as live:
            while (code := self._ended()) is None:
                self._ping()
                live.update(render(self._agent.status(), rates, time.monotonic(), footer), refresh=True)
                time.sleep(1 / FRAMES_PER_SECOND)
            live.update(render(self._agent.status(), rates, time.monotonic()), refresh=True)
        return code

    def _footer(self) -> list[str]:
        lines = ["Ctrl-C stops"] if not self._once else []
        if self._agent.http_address:
            lines.append("status page: http://{}:{}/".format(*self._agent.http_address))
        return [*lines, f"log: {os.path.join(self._agent.options.state_dir, 'agent.log')}"]

    def _ended(self) -> int | None:
        """The exit code, once there is one."""
        if self._reload_asked:
            self._reload_asked = False
            self._agent.reload_soon()
        if self._signal:
            # Ctrl-C is how a service in the foreground is ended; it interrupts one that has an end.
            return INTERRUPTED if self._once and self._signal == signal.SIGINT else DONE
        if not self._once:
            return None
        state = self._agent.overall().state
        if state is State.IN_SYNC:
            return DONE
        if state is State.BLOCKED and self._agent.context.queue.idle():
            return BLOCKED
        if self._deadline is not None and time.monotonic() > self._deadline:
            return PENDING
        return None

    def _ping(self) -> None:
        """Tell the service manager; that we are alive only while everything moves that must."""
        now = time.monotonic()
        if now < self._next_ping:
            return
        watchdog = self._notifier.watchdog_seconds
        self._next_ping = now + min(5.0, watchdog / 3 if watchdog else 5.0)
        if stuck := self._agent.stuck():
            self._notifier.send(f"STATUS=stuck: {', '.join(f'{name} {why}' for name, why in stuck.items())}")
            return
        found = self._agent.overall()
        self._notifier.send("WATCHDOG=1", f"STATUS={found.message}")
        begun = time.monotonic()
        if self._saves.due(found.state, begun):
            self._save()
            self._saves.saved(found.state, begun, time.monotonic())

    def _save(self) -> None:
        """What `status` says should this process be killed."""
        try:
            self._agent.save_status()
        except LaneSyncError as error:
            log.warning("the status was not saved", why=str(error))

    def _report(self) -> None:
        document = self._agent.status()
        if self._output == "json":
            click.echo(json.dumps(document, ensure_ascii=True, indent=2))
        elif self._once:
            click.echo("\n".join([*delivered_lines(document), answer(document)]))
