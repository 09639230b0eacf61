"""`lanesync`: the command line. One file per verb; each is imported only when it is called."""

from __future__ import annotations

import difflib
import importlib
import io
import os
import sys
from typing import Any

import click
from click.shell_completion import CompletionItem

import agent
from agent.cli.problems import BLOCKED, FAILED, INTERRUPTED, INVALID
from agent.model.outcome import LaneSyncError, NeedsPersonError, PolicyError
from agent.model.printable import printable

VERBS = {
    "init": "write a commented starter repository",
    "validate": "check specs; every error at once",
    "plan": "show what would be done",
    "apply": "carry out what the specs say, then exit",
    "run": "the service: reconcile, watch, stay",
    "status": "is everything in sync, and why not",
    "get": "the applied specs, and where they come from",
    "describe": "everything about one object",
    "explain": "everything about one path: whose it is, and what becomes of it",
    "events": "what happened, newest last",
    "history": "the audit trail: what was done, by whom, to which files",
    "reconcile": "look at an object now",
    "verify": "is everything at the destinations as it was delivered",
    "retry": "forget the pause after failures, and try now",
    "suspend": "stop working on an object for a while",
    "resume": "end a suspension",
    "approve": "let held deletions or a held revision through",
    "token": "print the token of a share",
    "backup": "copy what the agent knows, also while it runs",
    "serve": "run a transfer server",
    "relay": "a meeting point for servers that cannot be reached from outside",
    "user": "accounts of a transfer server",
    "keygen": "the key of a transfer server",
    "schema": "print the JSON Schema of the specs",
    "completion": "complete verbs, options and names in bash, zsh or fish",
    "api": "call any method of a JetStream API server",
}


class Verbs(click.Group):
    """Finds a verb's command in the module that has its name."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return super().get_command(ctx, cmd_name)
        command = importlib.import_module(f"agent.cli.{cmd_name}").command
        return command if isinstance(command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Click's own, with the nearest verb for a mistyped one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], VERBS, n=1)
            hint = f" Did you mean `{near[0]}`?" if near else ""
            raise click.UsageError(f"{error.message}{hint}", ctx) from None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Click's own looks at each verb whether it is hidden, and so would import all of them."""
        verbs = [
            CompletionItem(verb, help=text) for verb, text in VERBS.items() if verb.startswith(incomplete)
        ]
        return verbs + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(agent.__version__, prog_name="lanesync")
def lanesync() -> None:
    """Declarative file delivery: YAML specs in git, priority lanes, a reconciler, a transfer server.

    \b
    lanesync init my-specs        start a repository
    lanesync run my-specs         deliver, and keep in sync
    lanesync status               is everything in sync?
    """


def main() -> None:
    """Run the command line and exit with its contract's codes."""
    sys.exit(run())


def run(arguments: list[str] | None = None) -> int:
    try:
        result: Any = lanesync.main(arguments, prog_name="lanesync", standalone_mode=False)
    except click.ClickException as error:
        said = io.StringIO()
        error.show(file=said)
        click.echo("\n".join(printable(line) for line in said.getvalue().split("\n")), nl=False, err=True)
        return error.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except LaneSyncError as error:
        click.echo(f"Error: {printable(str(error))}", err=True)
        return _code(error)
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        click.echo(f"Error: {printable(f'{place}{error.strerror or error}')}", err=True)
        return FAILED
    except Exception as error:  # a defect: told in one line, whole where it is asked for
        if os.environ.get("LANESYNC_TRACEBACK"):
            raise
        text = printable(f"{type(error).__name__}: {error}")
        click.echo(f"Error: internal error: {text} (LANESYNC_TRACEBACK=1 shows where)", err=True)
        return FAILED
    return result if isinstance(result, int) else 0


def _code(error: LaneSyncError) -> int:
    if isinstance(error, NeedsPersonError):
        return BLOCKED
    return INVALID if isinstance(error, PolicyError) else FAILED


if __name__ == "__main__":
    main()
