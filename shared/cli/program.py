"""Entry: commands are put together here, and every way to end becomes a line on stderr and an exit code."""

import logging
import os
import sys
import traceback
from collections.abc import Sequence

import click

from shared.cli import exit_codes, logs
from shared.cli.database import migrate
from shared.cli.hooks import hooks
from shared.cli.output import Options, note, with_debug
from shared.cli.repositories import register, repositories, status, unregister
from shared.cli.serve import serve
from shared.cli.syncs import reconcile, sync
from shared.cli.validate import validate
from shared.cli.wait import wait
from shared.errors import RuntimeStoreError

NAME = "runtime-store"


@click.group(
    NAME,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="\b\nA first run, with DATABASE_URL set (docs/settings.md has the settings, docs/cli.md the exit codes):\n"
    "  runtime-store migrate\n  runtime-store register SOURCE\n  runtime-store serve",
)
@with_debug
def program() -> None:
    """Serves the runtime configs that teams keep in Git: what a branch holds is readable over HTTP."""


for command in (serve, migrate, register, unregister, repositories, status, sync, reconcile, validate, wait, hooks):
    program.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
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
        error.show()
        return exit_codes.MISUSE.code
    except (KeyboardInterrupt, click.Abort):
        note("Interrupted.")
        return exit_codes.INTERRUPTED.code
    except BrokenPipeError:
        _let_go_of_stdout()
        return exit_codes.PIPE_CLOSED.code
    except RuntimeStoreError as error:
        _tell(error.message, error.hint, options)
        return exit_codes.of_error(error)
    except Exception as error:  # the edge: whatever it is, one line and a code
        _tell(f"{type(error).__name__}: {error}", "This is a defect; --debug shows where.", options)
        return exit_codes.INTERNAL.code


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


def _let_go_of_stdout() -> None:
    """The interpreter flushes it once more on its way out, and would complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
