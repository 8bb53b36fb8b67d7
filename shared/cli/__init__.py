"""The command `runtime-store`: what an operator, a pipeline and a team do by hand."""

import sys
from collections.abc import Sequence

_INTERRUPTED = 130
"""As `exit_codes` has it, which may not be loaded yet."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    try:
        # Imported here: Ctrl-C while it is loaded, which takes a while, is no traceback either.
        from shared.cli.program import main as run

        return run(arguments)
    except KeyboardInterrupt:
        if sys.stderr is not None:
            print("Interrupted.", file=sys.stderr)
        return _INTERRUPTED


__all__ = ["main"]
