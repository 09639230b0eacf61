"""`lanesync api METHOD key=value…`: a console to any server that speaks the JetStream API."""

from __future__ import annotations

import difflib
import inspect
import json
import os
import sys
from typing import Any

import click

from agent.jetstream import APIInterface, CommandError, Jetstream, JetstreamError, constants
from agent.model.printable import printable

PASSWORD_VARIABLE = "JETSTREAM_API_PASSWORD"  # noqa: S105 - the name of a variable
_NAMESPACES = ("server", "send", "recv", "lanesync")
_MAX_ARGUMENT_FILE = constants.MAX_MESSAGE_BYTES
_EXIT_FAILED, _EXIT_USAGE = 1, 2


def _complete_method(_ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Full names, and short ones once nothing is ambiguous about the namespace."""
    known = methods()
    full = [name for name in known if name.startswith(begun)]
    short = sorted({name.partition(".")[2] for name in known} if begun else set())
    return full or [name for name in short if name.startswith(begun)]


def _complete_argument(ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """`key=` of the method's parameters that are not there yet."""
    try:
        namespace, _, name = resolve_method(str(ctx.params.get("method"))).partition(".")
    except click.UsageError:
        return []
    taken = {argument.partition("=")[0] for argument in ctx.params.get("arguments") or ()}
    parameters = inspect.signature(getattr(getattr(Jetstream().api(), namespace), name)).parameters
    return [f"{key}=" for key in parameters if key not in taken and key.startswith(begun)]


@click.command("api", context_settings={"ignore_unknown_options": True})
@click.argument("method", shell_complete=_complete_method)
@click.argument("arguments", nargs=-1, shell_complete=_complete_argument)
@click.option("--host", default="127.0.0.1", show_default=True, help="Server to talk to.")
@click.option(
    "--port",
    "--api-control-port",
    default=constants.DEFAULT_API_PORT,
    show_default=True,
    help="Its control port.",
)
@click.option(
    "--user",
    help=f"Log in as this user; the password comes from --password-file, ${PASSWORD_VARIABLE} or a prompt.",
)
@click.option("--password-file", type=click.Path(dir_okay=False), help="Read the password from this file.")
@click.option("--token", help="Log in with this token; others on this machine can see it, a file is safer.")
@click.option("--token-file", type=click.Path(dir_okay=False), help="Log in with the token in this file.")
@click.option("--tls/--plain", default=None, help="Speak TLS or not.  [default: TLS to other hosts]")
@click.option(
    "--ca", type=click.Path(dir_okay=False), help="PEM file to check the server's certificate with."
)
@click.option("--public-key", help="Public key that the server has to show.")
@click.option(
    "--insecure", is_flag=True, help="Talk to another host without knowing that it is the right one."
)
@click.option("--superuser", is_flag=True, help="Act as superuser, which the account must be allowed to.")
@click.option("--timeout", default=10.0, show_default=True, help="Seconds to wait for the connection.")
def command(
    method: str,
    arguments: tuple[str, ...],
    host: str,
    port: int,
    user: str | None,
    password_file: str | None,
    token: str | None,
    token_file: str | None,
    tls: bool | None,
    ca: str | None,
    public_key: str | None,
    insecure: bool,
    superuser: bool,
    timeout: float,
) -> None:
    """Call METHOD (send.getTransfers, server.getServerInfo, getDestination, …) and print the result as JSON.

    Parameters are key=value or --key=value (value read as JSON where it is JSON, else as text), key=@FILE for
    a value from a file, or one JSON object.

    \b
    lanesync api send.getTransfers limit=10
    lanesync api createManifest 'mappings={"/docs/a.txt": "/home/a.txt"}'
    lanesync api send.createManifest mappings=@mappings.json

    Exit codes: 0 done, 1 the server refused or cannot be reached, 2 usage.
    """
    name, parameters = resolve_method(method), parse_arguments(arguments)
    api = Jetstream().api(host, port, timeout, tls=tls, ca=ca, publicKey=public_key, insecure=insecure)
    step = "log-in"
    try:
        with api:
            _log_in(api, user, password_file, token if token_file is None else _read(token_file))
            if superuser:
                api.server.superuser()
            step = name
            result = api.call(name, parameters, blocking=True)
    except CommandError as error:
        click.echo(printable(f"{step}: {str(error).removeprefix(f'{step}: ')}"), err=True)
        sys.exit(_EXIT_FAILED)
    except JetstreamError as error:
        click.echo(printable(str(error)), err=True)
        sys.exit(_EXIT_FAILED)
    click.echo(json.dumps(result, indent=2, ensure_ascii=True))


def methods() -> tuple[str, ...]:
    """Full names of all methods that the client knows."""
    api = Jetstream().api()
    return tuple(
        f"{namespace}.{name}"
        for namespace in _NAMESPACES
        for name, found in inspect.getmembers(getattr(api, namespace), inspect.ismethod)
        if not name.startswith("_")
    )


def resolve_method(text: str) -> str:
    """`getTransfers` -> `send.getTransfers`. Usage error with the nearest name when there is none."""
    known = methods()
    if text in known:
        return text
    for namespace in _NAMESPACES:
        if f"{namespace}.{text}" in known:
            return f"{namespace}.{text}"
    short = {name.partition(".")[2]: name for name in known}
    close = difflib.get_close_matches(text.rpartition(".")[2], short, n=1)
    hint = f"did you mean {short[close[0]]}?" if close else "for example send.getTransfers"
    raise click.UsageError(f"there is no method {text!r}; {hint}")


def parse_arguments(arguments: tuple[str, ...]) -> dict[str, Any]:
    """key=value pairs, or one JSON object."""
    if len(arguments) == 1 and arguments[0].lstrip().startswith("{"):
        try:
            parsed = json.loads(arguments[0])
        except (ValueError, RecursionError) as error:
            raise click.UsageError(f"the parameters are not a JSON object: {error}") from None
        return dict(parsed)
    parameters: dict[str, Any] = {}
    for argument in arguments:
        key, equals, value = argument.removeprefix("--").partition("=")
        if not equals or not key.isidentifier():
            raise click.UsageError(f"{argument!r} is not key=value; write for example limit=10")
        if key in parameters:
            raise click.UsageError(f"{key} is given twice")
        parameters[key] = parse_value(_read(value[1:]) if value.startswith("@") else value)
    if isinstance(parameters.get("fileMappings"), str):
        parameters["fileMappings"] = _file_mapping(parameters["fileMappings"])
    return parameters


def _file_mapping(text: str) -> dict[str, str]:
    """SOURCE:DESTINATION, with `::` between them where a path has a colon: the documents' console form."""
    source, separator, destination = text.partition("::" if "::" in text else ":")
    if not (separator and source and destination):
        raise click.UsageError(
            f"fileMappings {text!r} is not SOURCE:DESTINATION, SOURCE::DESTINATION or an object"
        )
    return {source: destination}


def parse_value(text: str) -> Any:
    """JSON where it is JSON, else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_ARGUMENT_FILE + 1)
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from None
    if len(data) > _MAX_ARGUMENT_FILE:
        raise click.UsageError(f"{path} is larger than a message may be ({_MAX_ARGUMENT_FILE} bytes)")
    return data.decode("utf-8", "surrogateescape").strip()


def _log_in(api: APIInterface, user: str | None, password_file: str | None, token: str | None) -> None:
    if user is not None and token is not None:
        raise click.UsageError("give --user or a token, not both")
    if password_file is not None and user is None and token is None:
        raise click.UsageError("--password-file needs --user or a token")
    if token is not None:  # most have no password, so none is asked for
        given = os.environ.get(PASSWORD_VARIABLE) if password_file is None else _read(password_file)
        api.server.authToken(token, given)
    elif user is not None:
        api.server.auth(user, _password(api, user, password_file))


def _password(api: APIInterface, user: str, file: str | None) -> str:
    if file is not None:
        return _read(file)
    given = os.environ.get(PASSWORD_VARIABLE)
    if given is None:
        given = click.prompt(f"Password of {user} at {api.host}", hide_input=True, err=True)
    return str(given)
