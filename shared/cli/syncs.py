"""Syncs by hand: one repository, or whatever is due."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from shared.cli import exit_codes
from shared.cli.opening import find, opened
from shared.cli.output import counted, progress, say, say_json, say_report, short, with_debug, with_json
from shared.errors import InvalidRequest
from shared.model import (
    ABSENT,
    BranchName,
    Budget,
    CommitId,
    Deadline,
    Outcome,
    Repository,
)
from shared.registration import chosen_branches

if TYPE_CHECKING:
    from shared.bootstrap import App


@click.command(epilog="\b\nExamples:\n  runtime-store sync orders\n  runtime-store sync orders release/1.0 --dry-run")
@click.argument("repository", metavar="REPOSITORY")
@click.argument("branch", required=False)
@click.option("--deep", is_flag=True, help="Compare what is stored byte by byte, and mend what was altered.")
@click.option("--dry-run", is_flag=True, help="Say what would come of it, and change nothing.")
@click.option("--commit", metavar="SHA", help="Do nothing when this commit is served or judged already.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=600,
    show_default=True,
    help="How long it may take; the timer goes on with what is left.",
)
@with_json
@with_debug
def sync(
    repository: str,
    branch: str | None,
    deep: bool,
    dry_run: bool,
    commit: str | None,
    seconds: float,
    as_json: bool,
) -> int:
    """Make what is served equal to Git, now.

    One BRANCH, or all that the registration names; then the worst outcome decides the exit code.
    """
    from shared.web.representations import of_outcome

    wanted = _commit(commit, branch)
    if dry_run and (deep or commit):
        raise click.UsageError("--dry-run judges the head; --deep and --commit do not go with it.")
    outcomes: dict[BranchName, Outcome] = {}
    with opened() as app:
        found = find(app, repository)
        branches = chosen_branches(found, branch)
        budget = Budget(Deadline.after(timedelta(seconds=seconds)))
        with progress(f"{'Judging' if dry_run else 'Syncing'} {found.name}") as show:
            if dry_run:
                done = _judged(app, found, branches, budget)
            else:
                done = app.by_hand.sync(found.repo_id, branches, budget, commit=wanted, deep=deep)
            for name, outcome in done:
                outcomes[name] = outcome
                show(f"{found.name}: {len(outcomes)} of {counted(len(branches), 'branch', 'branches')}")
    told = [{"branch": name, **of_outcome(outcome)} for name, outcome in outcomes.items()]
    if as_json:
        say_json({"repo_id": found.repo_id, "branches": told})
    else:
        for one in told:
            _say_outcome(f"{found.name} {one['branch']}", one, dry_run=dry_run)
    return exit_codes.of_outcomes(outcomes.values())


def _judged(
    app: "App", repository: Repository, branches: Sequence[BranchName], budget: Budget
) -> Iterator[tuple[BranchName, Outcome]]:
    for branch in branches:
        yield branch, app.by_hand.judge(repository.repo_id, branch, budget.deadline)


def _commit(text: str | None, branch: str | None) -> CommitId | None:
    from shared.web.repositories import COMMIT

    if text is None:
        return None
    if branch is None:
        raise click.UsageError("With --commit goes the one branch it is on.")
    if not COMMIT.fullmatch(text.lower()):
        raise InvalidRequest(
            f"{text!r} is no commit id.", field="commit", hint="`git rev-parse HEAD` prints one: 40 hex digits."
        )
    return CommitId(text.lower())


def _say_outcome(subject: str, told: Mapping[str, Any], *, dry_run: bool) -> None:
    """An outcome as the HTTP API has it, in words."""
    commit = told.get("commit_id")
    head = "the absence of the branch" if commit == ABSENT else short(commit)
    match told["outcome"]:
        case "Replaced":
            counts = f"{told['written']} written, {told['removed']} removed"
            say(f"{subject}: {head} {'would be' if dry_run else 'is'} served: {counts}.")
        case "Unchanged":
            say(f"{subject}: {head} is served, and nothing {'would have' if dry_run else 'had'} to change.")
        case "Rejected":
            say(f"{subject}: {head} {'would be' if dry_run else 'is'} rejected; what is served stays.")
        case "Deferred":
            say(f"{subject}: not now. {told['message']}")
        case _:
            say(f"{subject}: failed. {told['message']}" + (f"\n  {told['hint']}" if "hint" in told else ""))
    if "report" in told:
        say_report(told["report"], "  ")


@click.command(epilog="\b\nExample:\n  runtime-store reconcile --seconds 60")
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    help="No step begins after so long.  [default: RECONCILE_BUDGET_SECONDS]",
)
@with_json
@with_debug
def reconcile(seconds: float | None, as_json: bool) -> int:
    """Sync whatever is due, as the timer does.

    Also looks at the heads that are due to be looked at, in case a delivery was lost.
    """
    from shared.web.representations import of_sweep

    with opened() as app, progress("Reconciling"):
        budget = app.settings.reconcile_budget if seconds is None else timedelta(seconds=seconds)
        summary = app.reconcile.sweep("command", budget)
    if as_json:
        say_json(of_sweep(summary))
    elif not summary.started:
        say("Another sweep is at it; nothing was done.")
    else:
        failed = f" ({summary.heads_failed} not readable)" if summary.heads_failed else ""
        looked_at = summary.heads_checked + summary.heads_failed
        say(f"Heads of {counted(looked_at, 'repository', 'repositories')} looked at{failed}, {summary.moved} moved.")
        synced = ", ".join(f"{count} {name}" for name, count in sorted(summary.outcomes.items()))
        say(f"Syncs: {synced or 'none was due'}.")
        if not summary.is_complete:
            say("The time was over before everything due was done.")
    is_done = summary.started and summary.is_complete
    return exit_codes.DONE.code if is_done else exit_codes.DEFERRED.code
