"""`runtime-store hooks ensure`, `list` and `check`, against an organisation."""

import base64
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest
from emulators.azure_devops import EMULATOR_AUTHORIZATION, Emulator, Fault, HostedRepository, Subscription
from support.cli import CommandLine, log_restored
from support.world import World
from werkzeug.test import Client

from shared.bootstrap import build
from shared.cli.program import program
from shared.model import BranchName, Registration, RepoId, SourceName

PUBLIC = "http://127.0.0.1:9"
SECRET, NEWER = "first-secret-first-secret-first-secret", "newer-secret-newer-secret-newer-secret"
PAT = base64.b64decode(EMULATOR_AUTHORIZATION.removeprefix("Basic ")).decode().removeprefix(":")
DOCS = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(tmp_path / "organisation") as emulator:
        yield emulator


@pytest.fixture
def cli(
    emulator: Emulator, database: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[CommandLine]:
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("AZURE_DEVOPS_ORGANIZATION", emulator.url)
    monkeypatch.setenv("AZURE_DEVOPS_PAT", PAT)
    monkeypatch.setenv("PUBLIC_URL", PUBLIC)
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("BRANCHES", "dev")
    with log_restored():
        yield CommandLine(capsys)


@pytest.fixture
def orders(emulator: Emulator) -> HostedRepository:
    return emulator.repository("etl", "orders")


@pytest.fixture
def registered(cli: CommandLine, orders: HostedRepository, world: World) -> HostedRepository:
    register(world, orders, "dev")
    return orders


def register(world: World, repository: HostedRepository, *branches: str, source: str = "") -> None:
    read_from = SourceName(source or repository.organisation)
    registration = Registration(repository.name, read_from, tuple(map(BranchName, branches)))
    world.registrar.put(RepoId(repository.id), registration, expected=None)


def heard(emulator: Emulator) -> Sequence[tuple[str, str]]:
    """Of every subscription, the repository's id and the branch."""
    inputs = (one.data["publisherInputs"] for one in emulator.subscriptions)
    return sorted((one.get("repository", ""), one["branch"]) for one in inputs)


def only(emulator: Emulator) -> Subscription:
    (one,) = emulator.subscriptions
    return one


def writes(emulator: Emulator) -> Sequence[str]:
    return [call.method for call in emulator.calls if call.method in ("POST", "PUT", "DELETE")]


@pytest.mark.parametrize("name", ["ensure", "list", "check"])
def test_every_option_is_documented_and_has_an_example(name: str) -> None:
    group = program.commands["hooks"]
    assert isinstance(group, click.Group)
    command = group.commands[name]
    assert re.search(rf"^\| `hooks {name}\b", DOCS, re.MULTILINE)
    options = [one for one in command.params if isinstance(one, click.Option)]
    assert [option for one in options for option in one.opts if f"`{option}" not in DOCS] == []
    assert [one.name for one in options if not one.help] == []
    assert f"runtime-store hooks {name}" in (command.epilog or "")


def test_every_registered_project_gets_its_branches_and_a_second_run_changes_nothing(
    cli: CommandLine, emulator: Emulator, registered: HostedRepository, world: World
) -> None:
    register(world, emulator.repository("etl", "stock"), "trunk")
    emulator.repository("web", "shop")
    ended = cli("hooks", "ensure")
    assert (ended.code, ended.stdout) == (
        0,
        "etl dev is missing, or hidden from this identity: created.\n"
        "etl trunk is missing, or hidden from this identity: created.\n",
    )
    assert heard(emulator) == [("", "dev"), ("", "trunk")]
    emulator.forget_calls()
    ended = cli("hooks", "ensure")
    assert (ended.code, ended.stdout) == (0, "etl dev is as it must be.\netl trunk is as it must be.\n")
    assert "--renew-secret" in ended.stderr
    assert writes(emulator) == []


def test_it_counts_that_a_repository_is_there_and_not_what_reads_it(
    cli: CommandLine, emulator: Emulator, orders: HostedRepository, world: World
) -> None:
    register(world, orders, "trunk", source=orders.web_url)
    assert cli("hooks", "ensure").code == 0
    assert heard(emulator) == [("", "dev"), ("", "trunk")]


def test_what_was_made_is_let_in_by_the_app(cli: CommandLine, emulator: Emulator, registered: HostedRepository) -> None:
    cli("hooks", "ensure")
    inputs = only(emulator).inputs
    basic = base64.b64encode(f"{inputs['basicAuthUsername']}:{inputs['basicAuthPassword']}".encode()).decode()
    app = build()
    try:
        path = urlsplit(inputs["url"]).path
        answer = Client(app.wsgi).post(path, json={}, headers={"Authorization": f"Basic {basic}"})
        refused = Client(app.wsgi).post(path, json={})
    finally:
        app.close()
    assert (answer.status_code, refused.status_code) == (202, 401)


def test_a_dry_run_changes_nothing(cli: CommandLine, emulator: Emulator, registered: HostedRepository) -> None:
    ended = cli("hooks", "ensure", "--dry-run")
    assert (ended.code, ended.stdout) == (
        0,
        "etl dev is missing, or hidden from this identity: would be created.\n",
    )
    assert emulator.subscriptions == []


def test_a_project_needs_no_registered_repository(
    cli: CommandLine, emulator: Emulator, orders: HostedRepository
) -> None:
    ended = cli("hooks", "ensure")
    assert ended.code == 0
    assert "Name a PROJECT" in ended.stderr
    assert cli("hooks", "ensure", "ETL", "--json").value["subscriptions"][0]["done"] == "create"
    assert cli("hooks", "check").code == 0
    assert cli("hooks", "check", orders.project_id).stdout == "1 subscription, nothing to put right.\n"


def test_a_single_repository_can_be_heard_of(
    cli: CommandLine, emulator: Emulator, registered: HostedRepository
) -> None:
    assert "etl/orders dev is missing" in cli("hooks", "ensure", "etl", "--repository", "Orders").stdout
    assert heard(emulator) == [(registered.id, "dev")]
    assert cli("hooks", "check").code == 0
    widened = cli("hooks", "ensure", "etl").stdout.splitlines()
    assert widened[1] == "etl/orders dev is covered by the project's own: removed."
    assert heard(emulator) == [("", "dev")]
    covered = cli("hooks", "ensure", "etl", "--repository", "orders")
    assert "cover orders" in covered.stderr
    assert heard(emulator) == [("", "dev")]


def disarrange(cli: CommandLine, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that drifted, one on probation, one doubled, one of a branch that is not ingested, one missing."""
    monkeypatch.setenv("BRANCHES", "drifted,failing,doubled,old")
    cli("hooks", "ensure", "etl")
    by_branch = {one.data["publisherInputs"]["branch"]: one for one in emulator.subscriptions}
    by_branch["drifted"].data["consumerInputs"]["url"] += f"?code={SECRET}"
    by_branch["failing"].data["status"], by_branch["failing"].probes = "onProbation", 2
    by_branch["failing"].data["lastProbationRetryDate"] = "2026-01-02T03:04:05.6789012Z"
    again = Subscription("11111111-2222-4333-8444-555555555555", dict(by_branch["doubled"].data))
    again.data["id"] = again.id
    emulator.organisation.deliveries.keep(again)
    monkeypatch.setenv("BRANCHES", "drifted,failing,doubled,missing")


SENTENCES = [
    "etl missing is missing, or hidden from this identity",
    "etl drifted has what looks like a secret in its URL, where everybody who may view subscriptions reads it",
    "etl failing is on probation, because a delivery failed (2 of 7 probes failed): pushes are not announced meanwhile",
    "etl doubled is there twice",
    "etl old is for a branch that is not ingested here",
]


def test_whatever_is_off_is_told_with_an_exit_code(
    cli: CommandLine, emulator: Emulator, orders: HostedRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    disarrange(cli, emulator, monkeypatch)
    told = cli("hooks", "check", "etl")
    assert told.code == 1
    assert sorted(told.stdout.splitlines()) == sorted(f"{sentence}." for sentence in SENTENCES)
    assert "runtime-store hooks ensure etl" in told.stderr
    assert "every 15 minutes" in told.stderr
    value = cli("hooks", "check", "--json").value
    assert (value["ok"], value["count"]) == (False, 6)
    problems = sorted((one["branch"], one["problem"]) for one in value["problems"])
    assert problems == [
        ("doubled", "needless"),
        ("drifted", "drifted"),
        ("failing", "not-enabled"),
        ("missing", "missing"),
        ("old", "needless"),
    ]
    assert SECRET not in str(value) + told.stdout + told.stderr


def test_whatever_is_off_is_told_and_put_right(
    cli: CommandLine, emulator: Emulator, orders: HostedRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    disarrange(cli, emulator, monkeypatch)
    ended = cli("hooks", "ensure", "etl")
    does = ("created", "replaced", "enabled again", "removed", "removed")
    expected = [f"{sentence}: {done}." for sentence, done in zip(SENTENCES, does, strict=True)]
    assert sorted(ended.stdout.splitlines()) == sorted([*expected, "etl doubled is as it must be."])
    assert "found by the timer, within 15 minutes" in ended.stderr
    assert [branch for _, branch in heard(emulator)] == ["doubled", "drifted", "failing", "missing"]
    assert {one.status for one in emulator.subscriptions} == {"enabled"}
    assert cli("hooks", "check").code == 0


def test_those_of_others_are_marked_and_left_alone(
    cli: CommandLine, emulator: Emulator, registered: HostedRepository
) -> None:
    cli("hooks", "ensure", "--url", "https://contoso-acc.azurewebsites.net")
    cli("hooks", "ensure")
    assert [one["host"] for one in cli("hooks", "list", "--json").value] == ["127.0.0.1:9"]
    hosts = [(one["host"], one["calls_this_app"]) for one in cli("hooks", "list", "--all", "--json").value]
    assert hosts == [("127.0.0.1:9", True), ("contoso-acc.azurewebsites.net", False)]
    assert cli("hooks", "check", "--url", "https://contoso-acc.azurewebsites.net").code == 0
    assert "not this app" in cli("hooks", "list", "--all").stdout


def test_the_list_shows_what_is_heard_and_how_it_is(
    cli: CommandLine, emulator: Emulator, orders: HostedRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "hooks ensure" in cli("hooks", "list").stderr
    disarrange(cli, emulator, monkeypatch)
    lines = cli("hooks", "list").stdout.splitlines()
    assert lines[0].split() == ["PROJECT", "REPOSITORY", "BRANCH", "STATUS", "HOST", "DRIFT"]
    (failing,) = (line for line in lines if line.split()[2] == "failing")
    assert "onProbation (2 failed probes, next about 2026-01-02 " in failing
    assert failing.split()[:2] == ["etl", "(any)"]
    (one,) = (one for one in cli("hooks", "list", "--json").value if one["branch"] == "failing")
    # The third probe comes 80 minutes after the second.
    assert one["next_probe_at"].startswith("2026-01-02T04:24:05")
    assert (one["failed_probes"], one["repository"], one["project"]) == (2, None, "etl")
    assert SECRET not in "".join(lines)


def test_a_new_secret_is_written_to_all_when_it_is_asked_for(
    cli: CommandLine, emulator: Emulator, registered: HostedRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("hooks", "ensure")
    monkeypatch.setenv("WEBHOOK_SECRET", NEWER)
    cli("hooks", "ensure")
    assert only(emulator).inputs["basicAuthPassword"] == SECRET
    ended = cli("hooks", "ensure", "--renew-secret")
    assert (ended.code, ended.stdout) == (0, "etl dev is as it must be: given the password again.\n")
    assert only(emulator).inputs["basicAuthPassword"] == NEWER
    shown = [cli("hooks", "list", "--json"), cli("hooks", "ensure", "--renew-secret", "--json", "--debug"), ended]
    assert not any(secret in one.stdout + one.stderr for one in shown for secret in (SECRET, NEWER, PAT))


def test_json_says_what_was_done(cli: CommandLine, emulator: Emulator, registered: HostedRepository) -> None:
    value = cli("hooks", "ensure", "--json").value
    assert (value["url"], value["dry_run"], value["not_shown"]) == (f"{PUBLIC}/webhooks/azure-devops", False, [])
    (one,) = value["subscriptions"]
    assert (one["done"], one["project"], one["project_id"]) == ("create", "etl", registered.project_id)
    assert (one["repository"], one["branch"], one["subscription_id"]) == (None, "dev", None)


def test_what_may_not_be_edited_says_what_to_grant(
    cli: CommandLine, emulator: Emulator, registered: HostedRepository
) -> None:
    cli("hooks", "ensure")
    only(emulator).data["resourceVersion"] = "1.0-preview.1"
    emulator.misbehave(Fault.FORBIDDEN, route="subscription")
    ended = cli("hooks", "ensure")
    assert ended.code == 6
    told, hint = ended.stdout.splitlines()
    assert told.startswith("etl dev sends version 1.0-preview.1 of the payload, not 1.0: not replaced. 127.0.0.1:")
    assert "`Edit subscriptions`" in hint
    assert SECRET not in ended.stdout


def test_one_project_that_refuses_does_not_hold_up_the_others(
    cli: CommandLine, emulator: Emulator, registered: HostedRepository, world: World
) -> None:
    register(world, emulator.repository("web", "shop"), "dev")
    # Of the calls to this route the first is the list.
    emulator.misbehave(Fault.SLOW, route="subscriptions", times=1, seconds=0)
    emulator.misbehave(Fault.FORBIDDEN, route="subscriptions", times=1)
    ended = cli("hooks", "ensure", "--json")
    assert ended.code == 6
    first, second = ended.value["subscriptions"]
    assert (first["project"], first["error"]["kind"]) == ("etl", "source-refused")
    assert (second["project"], "error" in second) == ("web", False)
    assert cli("hooks", "ensure").code == 0


def test_nothing_is_removed_where_something_could_not_be_made(
    cli: CommandLine, emulator: Emulator, registered: HostedRepository, world: World
) -> None:
    cli("hooks", "ensure")
    only(emulator).data["publisherInputs"]["branch"] = ""
    emulator.misbehave(Fault.SLOW, route="subscriptions", times=1, seconds=0)
    emulator.misbehave(Fault.FORBIDDEN, route="subscriptions", times=1)
    assert cli("hooks", "ensure").code == 6
    assert heard(emulator) == [("", "")]
    assert cli("hooks", "ensure").code == 0
    assert heard(emulator) == [("", "dev")]


def test_who_is_asked_too_often_is_left_alone(
    cli: CommandLine, emulator: Emulator, registered: HostedRepository, world: World
) -> None:
    register(world, emulator.repository("web", "shop"), "dev")
    emulator.misbehave(Fault.SLOW, route="subscriptions", times=1, seconds=0)
    emulator.misbehave(Fault.THROTTLED, route="subscriptions")
    ended = cli("hooks", "ensure", "--json")
    assert ended.code == 7
    assert [one["project"] for one in ended.value["subscriptions"]] == ["etl"]


def test_what_may_not_be_viewed_says_what_to_grant(
    cli: CommandLine, emulator: Emulator, registered: HostedRepository
) -> None:
    emulator.misbehave(Fault.FORBIDDEN, route="subscriptions")
    for command in ("ensure", "list", "check"):
        ended = cli("hooks", command)
        assert (ended.code, ended.stdout) == (6, "")
        assert "`View subscriptions`" in ended.stderr


@pytest.mark.parametrize("route", ["repositories", "subscriptions"])
def test_a_list_that_is_cut_off_is_a_failure_and_changes_nothing(
    cli: CommandLine, emulator: Emulator, registered: HostedRepository, route: str
) -> None:
    cli("hooks", "ensure")
    emulator.forget_calls()
    emulator.misbehave(Fault.CUT, route=route, framed=True)
    for command in ("ensure", "list", "check"):
        assert cli("hooks", command).code == 5
    assert writes(emulator) == []


def test_a_repository_that_is_not_shown_is_a_problem_and_its_branches_are_left_alone(
    cli: CommandLine, emulator: Emulator, registered: HostedRepository, world: World
) -> None:
    hidden = emulator.repository("etl", "hidden")
    register(world, hidden, "trunk")
    cli("hooks", "ensure")
    emulator.delete(hidden)
    ended = cli("hooks", "check")
    assert (ended.code, ended.stdout) == (
        1,
        "hidden is registered, and the organization does not show its repository: it is missing, disabled, or this "
        "identity may not read it.\n",
    )
    assert cli("hooks", "check", "etl").code == 0
    ended = cli("hooks", "ensure")
    assert ended.code == 0
    assert "hidden is registered" in ended.stderr
    assert heard(emulator) == [("", "dev"), ("", "trunk")]


def test_what_is_not_there_is_named(cli: CommandLine, emulator: Emulator, orders: HostedRepository) -> None:
    for words in (["ensure", "nope"], ["check", "nope"], ["ensure", "etl", "--repository", "nope"]):
        ended = cli("hooks", *words)
        assert ended.code == 3
        assert "'nope'" in ended.stderr
    assert cli("hooks", "ensure", "--repository", "orders").code == 2
    assert cli("hooks", "ensure", "etl", "web", "--repository", "orders").code == 2


@pytest.mark.parametrize(
    "url", ["http://contoso-dev.azurewebsites.net", "https://example.com?code=abc", "https://u:p@example.com", "nope"]
)
def test_a_url_that_would_give_a_password_away_is_refused(cli: CommandLine, emulator: Emulator, url: str) -> None:
    ended = cli("hooks", "ensure", "--url", url)
    assert ended.code == 2
    assert "--url must be an https URL" in ended.stderr
    assert emulator.calls == []


def test_settings_that_are_missing_are_named(
    cli: CommandLine, registered: HostedRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WEBHOOK_SECRET")
    ended = cli("hooks", "ensure")
    assert ended.code == 9
    assert "WEBHOOK_SECRET is not set" in ended.stderr
    assert cli("hooks", "check").code == 1
    monkeypatch.delenv("AZURE_DEVOPS_ORGANIZATION")
    monkeypatch.delenv("PUBLIC_URL")
    ended = cli("hooks", "list")
    assert ended.code == 9
    assert "AZURE_DEVOPS_ORGANIZATION is not set" in ended.stderr
    assert "PUBLIC_URL is not set" in ended.stderr
