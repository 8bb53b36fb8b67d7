"""Entry: commands are put together here, and every way to end becomes a line on stderr and an exit code."""

import errno
import logging
import os
import sys
import traceback
from collections.abc import Sequence

import click

from shared.cli import exit_codes, logs
from shared.cli.database import migrate
from shared.cli.hooks import hooks
from shared.cli.output import Options, let_go_of, note, with_debug
from shared.cli.repositories import register, repositories, restore, status, unregister
from shared.cli.serve import serve
from shared.cli.syncs import reconcile, sync
from shared.cli.validate import validate
from shared.cli.wait import wait
from shared.errors import RuntimeStoreError

NAME = "runtime-store"
_NOT_WRITTEN = (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EFBIG)
"""What a write to a full disk, a lost terminal or a stream that is not open for writing ends with."""


@click.group(
    NAME,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="\b\nA first run, with DATABASE_URL set (docs/settings.md has the settings, docs/cli.md the exit codes):\n"
    "  runtime-store migrate\n  runtime-store register SOURCE\n  runtime-store serve",
)
@with_debug
def program() -> None:
    """Serves the runtime configs that teams keep in Git: what a branch holds is readable over HTTP."""


for command in (
    serve,
    migrate,
    register,
    unregister,
    repositories,
    restore,
    status,
    sync,
    reconcile,
    validate,
    wait,
    hooks,
):
    program.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    _open_closed_streams()
    _never_fail_to_print()
    # What goes wrong becomes an exception, and is told once.
    logs.show(logging.CRITICAL)
    options = Options()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with program.make_context(NAME, words, obj=options) as context:
            code = program.invoke(context)
        sys.stdout.flush()
        return int(code or exit_codes.DONE.code)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        _show(error)
        return exit_codes.MISUSE.code
    except (KeyboardInterrupt, click.Abort):
        note("Interrupted.")
        return exit_codes.INTERRUPTED.code
    except BrokenPipeError:
        let_go_of(sys.stdout)
        return exit_codes.PIPE_CLOSED.code
    except RuntimeStoreError as error:
        _tell(error.message, error.hint, options)
        return exit_codes.of_error(error)
    except OSError as error:
        if error.errno not in _NOT_WRITTEN:
            return _defect(error, options)
        let_go_of(sys.stdout)
        _tell(f"The output cannot be written: {error.strerror}.", None, options)
        return exit_codes.MISUSE.code
    except Exception as error:  # the edge: whatever it is, one line and a code
        return _defect(error, options)


def _defect(error: Exception, options: Options) -> int:
    _tell(f"{type(error).__name__}: {error}", "This is a defect; --debug shows where.", options)
    return exit_codes.INTERNAL.code


def _show(error: click.ClickException) -> None:
    try:
        error.show()
    except OSError:
        let_go_of(sys.stderr)


def _tell(message: str, hint: str | None, options: Options) -> None:
    from shared.web.representations import redacted

    if options.debug:
        note(redacted(traceback.format_exc()))
    note(redacted(f"{NAME}: {message}"))
    if hint and not options.debug:
        note(redacted(f"  {hint}"))


def _never_fail_to_print() -> None:
    """A code page without a letter of somebody's file name shows it escaped."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _open_closed_streams() -> None:
    """Whoever closed stdout or stderr wants to read nothing there. No file that is opened later may take their place.

    Stdin stays without a stream: to read nothing from it would be a verdict about nothing.
    """
    if sys.stdin is None:
        os.open(os.devnull, os.O_RDONLY)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (open until the end)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (open until the end)
