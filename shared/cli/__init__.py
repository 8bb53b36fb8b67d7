"""The command `runtime-store`: what an operator, a pipeline and a team do by hand."""

from shared.cli.program import main

__all__ = ["main"]
