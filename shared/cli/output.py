"""What is written where: results on stdout, everything else on stderr; never a secret, never a control character.

Files and messages come from other people's repositories: what a terminal or the agent of a pipeline would obey is
shown, not sent.
"""

import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TextIO, TypeVar

import click

from shared.cli import logs
from shared.cli.printable import one_line, printable

_F = TypeVar("_F", bound=Callable[..., Any])

_SECONDS_BETWEEN_TICKS: Final = 0.1


@dataclass
class Options:
    """What may stand behind every command."""

    debug: bool = False


def _set_debug(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Options).debug = True
        logs.show(logging.DEBUG)


def with_debug(command: _F) -> _F:
    return click.option(
        "--debug", is_flag=True, expose_value=False, callback=_set_debug, help="Show the log, and where an error arose."
    )(command)


def with_json(command: _F) -> _F:
    return click.option(
        "--json", "as_json", is_flag=True, help="Print JSON, as the HTTP API says it, and nothing else to stdout."
    )(command)


def variable(name: str) -> str | None:
    """What the environment has under a name that is no setting of the app; None when that is empty.

    By way of click, and for what must not be an option: a command line is kept in histories and shown to all.
    """
    return click.Option(["--value"], envvar=name).resolve_envvar_value(click.get_current_context())


def say(text: str) -> None:
    """A line of the result."""
    click.echo(printable(text))


def note(text: str) -> None:
    """A line about the result, on stderr. Where that cannot be written, what is done and decided stays the same."""
    try:
        click.echo(printable(text), err=True)
    except OSError:
        let_go_of(sys.stderr)


def let_go_of(stream: TextIO) -> None:
    """The interpreter flushes it once more on its way out, and would complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def say_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))


def counted(count: int, noun: str, plural: str = "") -> str:
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def short(commit: str | None) -> str:
    return commit[:8] if commit else "-"


def local_time(instant: str) -> str:
    return datetime.fromisoformat(instant).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def say_report(report: Mapping[str, Any], indent: str = "") -> None:
    """A report as the HTTP API has it, one finding a line."""
    for finding in report["findings"]:
        say(indent + one_line(_of_finding(finding)))
    if report["omitted"]:
        say(f"{indent}... and {report['omitted']} more")


def _of_finding(finding: Mapping[str, Any]) -> str:
    """As compilers write it, so that editors and terminals make it a link."""
    place = ":".join(str(finding[part]) for part in ("path", "line", "column") if finding[part] not in (None, ""))
    return f"{place + ': ' if place else ''}{finding['severity']}: {finding['message']} [{finding['rule']}]"


def say_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """On a terminal it fits the terminal; elsewhere each row is one line, whatever its length."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*map(printable, row))
    console = Console(markup=False, highlight=False, emoji=False)
    if console.is_terminal:
        console.print(table)
        return
    console.width = sum(max(map(len, column)) + 2 for column in zip(columns, *rows, strict=True))
    with console.capture() as text:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in text.get().splitlines()))


@contextmanager
def progress(text: str) -> Iterator[Callable[[str], None]]:
    """Shows that something is going on and for how long, on a terminal only; the text can be changed meanwhile."""
    if not sys.stderr.isatty():
        yield lambda changed: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    columns = (SpinnerColumn("line"), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task(printable(text), total=None)
        yield lambda changed: shown.update(task, description=printable(changed))


@contextmanager
def ticking() -> Iterator[Callable[[str], None]]:
    """As `progress`, for a command that writes its results meanwhile: "" takes the line away before the next one."""
    is_terminal, shown_at, is_there = sys.stderr.isatty(), 0.0, False

    def tick(text: str) -> None:
        nonlocal shown_at, is_there
        now = time.monotonic()
        if not is_terminal or (not is_there if not text else now - shown_at < _SECONDS_BETWEEN_TICKS):
            return
        # To the start of the line, and nothing behind it; a line that is longer than the terminal would stay.
        click.echo(f"\r\x1b[K{printable(text)[: shutil.get_terminal_size().columns - 1]}", err=True, nl=False)
        shown_at, is_there = now, bool(text)

    try:
        yield tick
    finally:
        tick("")
