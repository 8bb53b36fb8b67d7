"""The service hooks of Azure DevOps, which announce pushes to this app."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from shared.cli import exit_codes
from shared.cli.opening import opened
from shared.cli.output import counted, local_time, note, progress, say, say_json, say_table, with_debug, with_json
from shared.errors import InvalidRequest, RuntimeStoreError, SettingsInvalid, SourceError, SourceThrottled
from shared.model import Deadline, Failed

if TYPE_CHECKING:
    from shared.azure_devops.hook_plan import Places, Step, Upkeep
    from shared.azure_devops.hooks import ServiceHooks
    from shared.azure_devops.subscriptions import Reach, Subscription
    from shared.bootstrap import App

_F = TypeVar("_F", bound=Callable[..., Any])

_PROBLEMS = {"create": "missing", "replace": "drifted", "enable": "not-enabled", "remove": "needless"}
_DONE = {
    "create": "created",
    "replace": "replaced",
    "enable": "enabled again",
    "renew": "given the password again",
    "remove": "removed",
}
_NOTHING = "No repository of this organization is registered, and nothing in it calls this app. Name a PROJECT."


@click.group(
    epilog="\b\nExamples:\n  runtime-store hooks ensure\n  runtime-store hooks list\n  runtime-store hooks check etl"
)
@with_debug
def hooks() -> None:
    """Look after the service hooks of Azure DevOps.

    They announce pushes to this app, by one subscription for each project and branch. A push that is not announced is
    found late, and not lost: the timer compares heads.
    """


def _with_url(command: _F) -> _F:
    return click.option("--url", help="Where this app is reached.  [default: PUBLIC_URL]")(command)


@dataclass(frozen=True)
class _Site:
    """The organisation as it is now, and what this app needs of it."""

    app: "App"
    service: "ServiceHooks"
    places: "Places"
    found: "Sequence[Subscription]"
    upkeep: "Upkeep"
    not_shown: Sequence[str]
    """Names of the registered repositories that the organisation does not show to us."""

    @property
    def head_checks(self) -> str:
        return counted(int(self.app.settings.head_check_interval.total_seconds() // 60), "minute")


@contextmanager
def _looking(url: str | None) -> Iterator[_Site]:
    with opened() as app:
        from shared.azure_devops.hook_plan import Upkeep

        service = _service(app, url)
        with progress("Asking Azure DevOps"):
            places, found = service.places(_soon()), service.subscriptions(_soon())
        # One that Git reads from elsewhere may be in a project all the same.
        registered = {
            one.repo_id: one
            for one in app.registry.list()
            if places.find(one.repo_id) or one.source.lower() == service.organisation.lower()
        }
        branches = {repo_id: one.registration.branches for repo_id, one in registered.items()}
        upkeep = Upkeep(places, found, app.settings.branches, branches)
        yield _Site(app, service, places, found, upkeep, [registered[one].name for one in upkeep.unplaced])


def _service(app: "App", url: str | None) -> "ServiceHooks":
    """Raises `SettingsInvalid` when the settings do not say which organisation, or where this app is reached."""
    from shared.azure_devops.hooks import ServiceHooks
    from shared.azure_devops.subscriptions import PATH
    from shared.bootstrap import organisation_from, secrets_from

    own = _parsed_url(url) if url else app.settings.public_url
    organisation = organisation_from(app.settings, secrets_from(app.settings))
    if organisation is None or own is None:
        problems = {
            "AZURE_DEVOPS_ORGANIZATION is not set: it says whose service hooks these are": organisation,
            "PUBLIC_URL is not set: it says what service hooks call. Or say it with --url": own,
        }
        raise SettingsInvalid([problem for problem, value in problems.items() if value is None])
    return ServiceHooks(organisation, own + PATH)


def _parsed_url(text: str) -> str:
    from shared.settings import parse

    try:
        return str(parse("PUBLIC_URL", text))
    except SettingsInvalid as error:
        raise InvalidRequest(error.problems[0].replace("PUBLIC_URL", "--url"), field="url") from None


def _secret(app: "App") -> str:
    from shared.bootstrap import secrets_from
    from shared.settings import parse

    secret = secrets_from(app.settings).get("webhook-secret")
    if secret is None:
        problem = "WEBHOOK_SECRET is not set, and the Key Vault has no secret `webhook-secret`: hooks sign in with it"
        raise SettingsInvalid([problem])
    return str(parse("WEBHOOK_SECRET", secret))


def _soon() -> Deadline:
    """When one call is given up; all together take as long as there is to do."""
    return Deadline.after(timedelta(minutes=2))


@hooks.command("list", epilog="\b\nExample:\n  runtime-store hooks list --all")
@click.option("--all", "everything", is_flag=True, help="Also those that post pushes to other addresses.")
@_with_url
@with_json
@with_debug
def list_(everything: bool, url: str | None, as_json: bool) -> None:
    """List the subscriptions that announce pushes to this app."""
    with _looking(url) as site:
        reasons = {step.subscription.subscription_id: step.reasons for step in site.upkeep.plan() if step.subscription}
        chosen = [one for one in site.found if one.is_ours or everything]
        chosen.sort(key=lambda one: (not one.is_ours, site.places.name(one.reach), one.subscription_id))
        shown = [_shown(site, one, reasons.get(one.subscription_id, one.drift)) for one in chosen]
    if as_json:
        say_json(shown)
    elif shown:
        say_table(("PROJECT", "REPOSITORY", "BRANCH", "STATUS", "HOST", "DRIFT"), [_row(one) for one in shown])
    else:
        note("No subscription calls this app, or this identity may see none. Begin with: runtime-store hooks ensure")


def _shown(site: _Site, one: "Subscription", reasons: Sequence[str]) -> dict[str, Any]:
    return {
        "subscription_id": one.subscription_id,
        **_heard(site, one.reach),
        "host": one.host,
        "calls_this_app": one.is_ours,
        "status": one.status,
        "failed_probes": one.probes if one.status == "onProbation" else None,
        "next_probe_at": one.next_probe_at.isoformat() if one.next_probe_at else None,
        "drift": list(reasons),
    }


def _heard(site: _Site, reach: "Reach") -> dict[str, Any]:
    """Null stands for all."""
    return {
        "project": site.places.project_name(reach.project_id) or None,
        "project_id": reach.project_id or None,
        "repository": site.places.repository_name(reach.repository_id) or None,
        "repository_id": reach.repository_id or None,
        "branch": reach.branch or None,
    }


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    status: str = one["status"]
    if one["failed_probes"] is not None:
        due = f", next about {local_time(one['next_probe_at'])}" if one["next_probe_at"] else ""
        status += f" ({counted(one['failed_probes'], 'failed probe')}{due})"
    heard = (one[part] or "(any)" for part in ("project", "repository", "branch"))
    return (*heard, status, one["host"], "; ".join(one["drift"]) or ("-" if one["calls_this_app"] else "not this app"))


@hooks.command(epilog="\b\nExamples:\n  runtime-store hooks check\n  runtime-store hooks check etl --json")
@click.argument("projects", metavar="[PROJECT]...", nargs=-1)
@_with_url
@with_json
@with_debug
def check(projects: tuple[str, ...], url: str | None, as_json: bool) -> int:
    """Tell whether the subscriptions are as they must be.

    Those of the PROJECTs, or of all with a registered repository. What is missing, drifted, needless, on probation or
    disabled is told, and the exit code is 1. Passwords cannot be read back, so they are not compared.
    """
    with _looking(url) as site:
        steps = site.upkeep.plan([site.places.project(alias) for alias in projects])
        problems = [_problem(site, step) for step in steps if step.is_problem]
        problems += [_not_shown(name) for name in site.not_shown if not projects]
    if as_json:
        say_json({"ok": not problems, "count": len(steps), "problems": problems})
    elif problems:
        for problem in problems:
            say(problem["message"])
        note(f"Put it right with: {' '.join(('runtime-store hooks ensure', *projects))}")
        note(f"Pushes that were not announced are not lost: the timer compares heads every {site.head_checks}.")
    elif steps:
        say(f"{counted(len(steps), 'subscription')}, nothing to put right.")
    else:
        note(_NOTHING)
    return exit_codes.FINDINGS.code if problems else exit_codes.DONE.code


def _problem(site: _Site, step: "Step") -> dict[str, Any]:
    return {"problem": _PROBLEMS[step.act], **_of_step(site, step), "message": f"{_sentence(site, step)}."}


def _not_shown(name: str) -> dict[str, Any]:
    missing = "it is missing, disabled, or this identity may not read it"
    message = f"{name} is registered, and the organization does not show its repository: {missing}."
    return {"problem": "not-shown", "name": name, "message": message}


def _of_step(site: _Site, step: "Step") -> dict[str, Any]:
    known = step.subscription
    return {
        "subscription_id": known.subscription_id if known else None,
        **_heard(site, step.reach),
        "status": known.status if known else None,
        "reasons": list(step.reasons),
    }


def _sentence(site: _Site, step: "Step") -> str:
    return f"{site.places.name(step.reach)} {'; '.join(step.reasons) or 'is as it must be'}"


@hooks.command(
    epilog="\b\nExamples:\n  runtime-store hooks ensure --dry-run\n"
    "  runtime-store hooks ensure etl --repository orders\n  runtime-store hooks ensure --renew-secret"
)
@click.argument("projects", metavar="[PROJECT]...", nargs=-1)
@click.option("--repository", metavar="NAME", help="Only this repository of the one PROJECT.")
@_with_url
@click.option("--renew-secret", is_flag=True, help="Write WEBHOOK_SECRET to all of them, as after its rotation.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@with_json
@with_debug
def ensure(
    projects: tuple[str, ...], repository: str | None, url: str | None, renew_secret: bool, dry_run: bool, as_json: bool
) -> int:
    """Make the subscriptions as they must be.

    One for each branch of the PROJECTs, or of all projects with a registered repository. Creates what is missing,
    replaces what drifted, enables what is on probation or disabled, and removes second ones and those of branches that
    are not ingested here. Those that call other addresses are left alone. Running it again changes nothing.
    """
    if repository and len(projects) != 1:
        raise click.UsageError("With --repository goes the one PROJECT that it is in.")
    with _looking(url) as site:
        secret = _secret(site.app)
        ids = [site.places.project(alias) for alias in projects]
        repository_id = site.places.repository(ids[0], repository) if repository else ""
        steps = site.upkeep.plan(ids, repository_id, widen=bool(ids) and not repository, renew=renew_secret)
        ended = []
        for step, error in ((step, None) for step in steps) if dry_run else _carried_out(site, steps, secret):
            ended.append((step, error))
            if not as_json:
                _say_step(site, step, error, dry_run=dry_run)
        told = [_ended(site, step, error) for step, error in ended]
    if as_json:
        shown = {"url": site.service.url, "dry_run": dry_run, "not_shown": list(site.not_shown), "subscriptions": told}
        say_json(shown)
    else:
        _note_rest(site, [step for step, _ in ended], covering=repository)
    return exit_codes.of_outcomes(Failed(error) for _, error in ended if error)


def _carried_out(
    site: _Site, steps: Sequence["Step"], secret: str
) -> Iterator[tuple["Step", RuntimeStoreError | None]]:
    """One after the other, until we are asked too often. Where something could not be written nothing is removed, so
    that no push goes unheard."""
    from shared.azure_devops.hook_plan import Act

    troubled = set()
    for step in steps:
        if step.act is Act.REMOVE and step.reach.project_id in troubled:
            continue
        try:
            site.service.do(step, secret, _soon())
        except SourceError as error:
            troubled.add(step.reach.project_id)
            yield step, error
            if isinstance(error, SourceThrottled):
                return
        else:
            yield step, None


def _say_step(site: _Site, step: "Step", error: RuntimeStoreError | None, *, dry_run: bool) -> None:
    does = _DONE.get(step.act)
    if error is not None:
        say(f"{_sentence(site, step)}: not {does}. {error.message}" + (f"\n  {error.hint}" if error.hint else ""))
    elif does is None:
        say(f"{_sentence(site, step)}.")
    else:
        say(f"{_sentence(site, step)}: {'would be ' if dry_run else ''}{does}.")


def _ended(site: _Site, step: "Step", error: RuntimeStoreError | None) -> dict[str, Any]:
    told = {"done": step.act, **_of_step(site, step)}
    return {**told, "error": {"kind": error.kind, "message": error.message, "hint": error.hint}} if error else told


def _note_rest(site: _Site, steps: Sequence["Step"], *, covering: str | None) -> None:
    if not steps:
        note(_NOTHING)
    if covering and steps and not any(step.reach.repository_id for step in steps):
        note(f"The subscriptions of the whole project cover {covering}.")
    for name in site.not_shown:
        note(_not_shown(name)["message"])
    if kept := sum(step.act == "keep" for step in steps):
        left = counted(kept, "password")
        note(f"{left} cannot be read back, and stayed: after a rotation of WEBHOOK_SECRET, say --renew-secret.")
    if any(step.act == "enable" for step in steps):
        note(f"Pushes that were not announced meanwhile are found by the timer, within {site.head_checks}.")
