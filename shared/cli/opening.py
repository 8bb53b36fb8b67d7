"""The app for one command, and what every command looks up in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shared.errors import RepositoryNotFound
from shared.model import Repository

if TYPE_CHECKING:
    from shared.bootstrap import App


@contextmanager
def opened() -> Iterator["App"]:
    """The app as the environment says. Imported here: `--help` needs neither the database nor Git."""
    from shared import bootstrap

    app = bootstrap.build()
    try:
        yield app
    finally:
        app.close()


def look_up(app: "App", alias: str) -> Repository | None:
    """By name or id."""
    from shared.web.names import canonical

    return app.registry.find(canonical(alias))


def find(app: "App", alias: str) -> Repository:
    """By name or id. Raises `RepositoryNotFound`."""
    repository = look_up(app, alias)
    if repository is None:
        raise RepositoryNotFound(
            f"No repository has the id or name {alias!r}.", hint="`runtime-store repositories` lists them."
        )
    return repository
