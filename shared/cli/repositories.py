"""What is registered, and what is true of it."""

import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from shared.cli.opening import find, look_up, opened
from shared.cli.output import (
    counted,
    local_time,
    note,
    say,
    say_json,
    say_report,
    say_table,
    short,
    with_debug,
    with_json,
)
from shared.errors import InvalidRequest, NameTaken
from shared.model import BranchName, Located, Registration, RepoId, Repository, SourceName, Validation

if TYPE_CHECKING:
    from shared.bootstrap import App


@click.command(
    epilog="\b\nExamples:\n  runtime-store register https://dev.azure.com/contoso/etl/_git/orders --branch main\n"
    '  runtime-store register --name orders --suspend "moves to another project"'
)
@click.argument("source", required=False)
@click.option("--name", help="What it is called in URLs; the last part of SOURCE when it is new.")
@click.option("--id", "repo_id", metavar="ID", help="Its id: the GUID of Azure DevOps. Its name when it is new.")
@click.option("--branch", "branches", multiple=True, metavar="BRANCH", help="A branch to ingest; may be repeated.")
@click.option("--project", help="The project it belongs to, for people.")
@click.option("--root", metavar="FOLDER", help="Folder to look in; all of it when it is empty.")
@click.option("--pattern", help="File names of runtime configs, such as *runtime*.yaml.")
@click.option("--validation", type=click.Choice([mode.value for mode in Validation]), help="Whether findings reject.")
@click.option("--suspend", "suspended", metavar="REASON", help="Sync nothing of it until --resume.")
@click.option("--resume", is_flag=True, help="Sync it again.")
@with_json
@with_debug
def register(
    source: str | None,
    name: str | None,
    repo_id: str | None,
    branches: tuple[str, ...],
    suspended: str | None,
    resume: bool,
    as_json: bool,
    **given: str | None,
) -> None:
    """Register a Git repository, or change one.

    SOURCE is a Git URL or a path. Without --branch it ingests those of this environment (BRANCHES). One that is
    registered keeps what is not said, and is named by --name or --id.
    """
    if suspended is not None and resume:
        raise click.UsageError("Either --suspend or --resume.")
    changes: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
    if "validation" in changes:
        changes["validation"] = Validation(changes["validation"])
    if branches:
        changes["branches"] = tuple(map(BranchName, branches))
    if source is not None:
        changes["source"] = _source(source)
    if suspended is not None or resume:
        changes["suspended"] = suspended
    if name is not None:
        changes["name"] = name
    with opened() as app:
        located = app.registrar.locate(changes["source"]) if source is not None else None
        if located and repo_id and repo_id.lower() != located.repo_id:
            raise click.UsageError(f"The repository there has the id {located.repo_id}; leave --id out.")
        existing = _existing(app, name, located.repo_id if located else repo_id, changes.get("source"))
        repository = _put(app, existing, located, changes, repo_id)
        shown = _one(app, repository)
    if as_json:
        say_json(shown)
        return
    does = "Registered" if existing is None else "Changed" if repository.revision != existing.revision else "Unchanged:"
    say(f"{does} {repository.name} (id {repository.repo_id}): {', '.join(shown['branches'])} of {shown['source']}")
    if shown["suspended"] is not None:
        say(f"It is suspended: {shown['suspended']}")
    elif does != "Unchanged:":
        note(f"The timer syncs it within a minute; at once: runtime-store sync {repository.name}")


def _existing(app: "App", name: str | None, repo_id: str | None, source: SourceName | None) -> Repository | None:
    """The repository that is meant, if it is registered. A name that only follows from SOURCE never changes another."""
    alias = repo_id or name
    if source is None:
        if not alias:
            raise click.UsageError("Say which repository: SOURCE, --name or --id.")
        return find(app, alias)
    if alias:
        return look_up(app, alias)
    found = look_up(app, _name_of(source))
    if found and found.source != source:
        hint = f"Give the new one another --name; to change the old one, say --name {found.name}."
        raise NameTaken(f"{found.name} is registered already, and is another repository.", hint=hint)
    return found


def _put(
    app: "App", existing: Repository | None, located: Located | None, changes: Mapping[str, Any], repo_id: str | None
) -> Repository:
    if existing:
        registration = replace(existing.registration, **changes)
        return app.registrar.put(existing.repo_id, registration, expected=existing.revision)
    name = _name_of(located.repository if located else changes["source"])
    registration = Registration(**{"name": name, "branches": (), **changes})
    return app.registrar.put(RepoId(repo_id) if repo_id else None, registration, expected=None)


def _source(text: str) -> SourceName:
    """A path is told from anywhere: the app does not run in this folder."""
    return SourceName(str(Path(text).resolve()) if os.path.isdir(text) else text)


def _name_of(source: str) -> str:
    last = re.split(r"[/\\:]", source.rstrip("/\\"))[-1].removesuffix(".git")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-._")


@click.command(
    epilog="\b\nExample:\n  runtime-store repositories --json > kept.json\n  runtime-store restore kept.json"
)
@click.argument("kept", metavar="FILE", type=click.File(encoding="utf-8"))
@with_debug
def restore(kept: TextIO) -> None:
    """Register what `repositories --json` wrote.

    What is registered already is changed to what it was then. Nothing is forgotten, and configs come from Git.
    """
    from shared.web.registrations import MEMBERS, registration_of

    try:
        wanted = {one["repo_id"]: {name: one[name] for name in MEMBERS} for one in json.load(kept)}
    except (ValueError, TypeError, KeyError) as error:
        hint = "It must be what `runtime-store repositories --json` writes."
        raise InvalidRequest(f"{kept.name} does not hold repositories.", field="FILE", hint=hint) from error
    with opened() as app:
        for repo_id, members in wanted.items():
            existing = look_up(app, repo_id)
            expected = existing.revision if existing else None
            app.registrar.put(RepoId(repo_id), registration_of(members), expected=expected)
    say(f"{counted(len(wanted), 'repository', 'repositories')} registered.")


@click.command(epilog="\b\nExample:\n  runtime-store unregister orders --yes")
@click.argument("repository", metavar="REPOSITORY")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_debug
def unregister(repository: str, yes: bool) -> None:
    """Forget a repository and its configs.

    Nothing of it is served any more; the Git repository itself is left alone.
    """
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("Nobody is there to ask: say --yes.")
    with opened() as app:
        found = find(app, repository)
        configs = sum(status.configs for status in app.queue.status(found.repo_id))
        if not yes:
            click.confirm(f"{found.name} serves {counted(configs, 'config')}. Forget it?", abort=True, err=True)
        app.registrar.remove(found.repo_id, expected=found.revision)
    say(f"{found.name} is not registered any more; {counted(configs, 'config')} less served.")


@click.command(epilog="\b\nExample:\n  runtime-store repositories --json")
@with_json
@with_debug
def repositories(as_json: bool) -> None:
    """List what is registered."""
    with opened() as app:
        shown = _all(app)
    if as_json:
        say_json(shown)
    elif not shown:
        note("No repository is registered. Begin with: runtime-store register SOURCE")
    else:
        columns = ("NAME", "ID", "BRANCHES", "VALIDATION", "PATTERN", "SOURCE")
        say_table(columns, [_row(one) for one in shown])


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    pattern = f"{one['root']}/**/{one['pattern']}" if one["root"] else one["pattern"]
    name = f"{one['name']} (suspended)" if one["suspended"] is not None else one["name"]
    return (name, one["repo_id"], " ".join(one["branches"]), one["validation"], pattern, one["source"])


@click.command(epilog="\b\nExamples:\n  runtime-store status\n  runtime-store status orders")
@click.argument("repository", metavar="[REPOSITORY]", required=False)
@with_json
@with_debug
def status(repository: str | None, as_json: bool) -> None:
    """Show whether the last push is served.

    Of every branch, or of those of one REPOSITORY, then with the findings that say why not.
    """
    with opened() as app:
        shown = [_one(app, find(app, repository))] if repository else _all(app)
    if as_json:
        say_json(shown[0] if repository else shown)
        return
    branches = [(one["name"], branch) for one in shown for branch in one["status"]]
    if not branches:
        note("Nothing is registered, or nothing was synced yet.")
        return
    columns = ("REPOSITORY", "BRANCH", "CONDITION", "SERVED", "CONFIGS", "SINCE", "MESSAGE")
    say_table(columns, [_branch_row(name, branch) for name, branch in branches])
    for _, branch in branches:
        if branch["report"].get("findings"):
            say(f"\n{branch['branch']} at {short(branch['judged_commit'])}:")
            say_report(branch["report"], "  ")


def _branch_row(name: str, branch: Mapping[str, Any]) -> tuple[str, ...]:
    since = local_time(branch["since"])
    told = (branch["condition"], short(branch["commit_id"]), str(branch["configs"]), since, branch["message"])
    return (name, branch["branch"], *told)


def _one(app: "App", repository: Repository) -> dict[str, Any]:
    from shared.web.representations import of_repository

    return of_repository(repository, app.queue.status(repository.repo_id), findings=True)


def _all(app: "App") -> list[dict[str, Any]]:
    from shared.web.representations import of_repository

    branches = defaultdict(list)
    for status in app.queue.status():
        branches[status.repo_id].append(status)
    return [of_repository(one, branches[one.repo_id], findings=False) for one in app.registry.list()]
