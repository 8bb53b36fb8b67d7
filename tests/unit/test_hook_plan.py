"""What a service hook subscription must be, what counts as drift, and the steps that put all of them right."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from shared.azure_devops.hook_plan import Act, Place, Places, Step, Upkeep
from shared.azure_devops.subscriptions import Reach, Subscription, read, wanted
from shared.errors import RepositoryNotFound
from shared.model import BranchName, RepoId

URL = "https://contoso-dev.azurewebsites.net/webhooks/azure-devops"
SECRET = "s" * 32
ETL, WEB = "6ce954b1-ce1f-45d1-b94d-e6bf2464ba2c", "eb6e4656-77fc-42a1-9181-4c6d8e9da5d1"
ORDERS, STOCK, SHOP = (RepoId(f"{digit * 8}-0000-4000-8000-000000000000") for digit in "123")
PLACES = Places(
    [Place(ETL, "etl", ORDERS, "orders"), Place(ETL, "etl", STOCK, "Stock"), Place(WEB, "Web", SHOP, "shop")]
)
REACH = Reach(ETL, "", "main")


def listed(reach: Reach = REACH, **changed: Any) -> SimpleNamespace:
    """A subscription as the SDK reads it, as it must be but for what is `changed`: fields, or inputs by their name."""
    body = dict(wanted(reach, URL, SECRET))
    for inputs, more in (("publisher_inputs", "tfsSubscriptionId"), ("consumer_inputs", "httpHeaders")):
        body[inputs] = {key: changed.pop(key, value) for key, value in {**body[inputs], more: ""}.items()}
    read_only = {"id": "a", "probation_retries": None, "last_probation_retry_date": None}
    return SimpleNamespace(**{**read_only, **body, **changed})


def there(
    project: str = ETL, repository: str = "", branch: str = "main", *, name: str = "a", **changed: Any
) -> Subscription:
    return replace(read(listed(Reach(project, repository, branch)), URL), subscription_id=name, **changed)


def upkeep(
    *found: Subscription, registered: Mapping[RepoId, Sequence[str]] | None = None, branches: str = "main"
) -> Upkeep:
    named = {repo_id: [BranchName(name) for name in names] for repo_id, names in (registered or {}).items()}
    return Upkeep(PLACES, found, [BranchName(name) for name in branches.split()], named)


def acts(steps: Sequence[Step]) -> list[tuple[str, str]]:
    return [(step.act.value, PLACES.name(step.reach)) for step in steps]


def test_the_secret_is_in_the_password_and_nowhere_else() -> None:
    body = wanted(Reach(ETL, ORDERS, "release/1.0"), URL, SECRET)
    assert body["consumer_inputs"].pop("basicAuthPassword") == SECRET
    assert SECRET not in str(body)
    assert body["publisher_inputs"] == {"projectId": ETL, "repository": ORDERS, "branch": "release/1.0", "pushedBy": ""}


def test_what_is_written_has_no_drift() -> None:
    subscription = read(listed(), URL)
    assert (subscription.is_ours, subscription.drift, subscription.trouble) == (True, (), None)
    assert subscription.reach == Reach(ETL, "", "main")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"resource_version": "1.0-preview.1"}, "version 1.0-preview.1 of the payload"),
        ({"resource_version": None}, "version the latest"),
        ({"resourceDetailsToSend": "minimal"}, "sends minimal of the resource details"),
        ({"resourceDetailsToSend": ""}, "no stated amount"),
        ({"basicAuthUsername": ""}, "has no user name"),
        ({"basicAuthPassword": None}, "has no password"),
        ({"acceptUntrustedCerts": "True"}, "accepts untrusted certificates"),
        ({"branch": ""}, "hears of every branch"),
        ({"projectId": ""}, "hears of every project"),
        ({"pushedBy": "8c8c7d32"}, "hears only of the pushes"),
        ({"httpHeaders": "X-Trace:1\nx-functions-key:abc"}, "secret in a header"),
        ({"url": f"{URL}?code=abc"}, "secret in its URL"),
        ({"url": URL.replace("://", "://u:p@")}, "secret in its URL"),
        ({"url": URL.replace("https", "http")}, "calls over http"),
        ({"url": f"{URL}/"}, "another spelling of the URL"),
        ({"url": URL.upper().replace("HTTPS", "https")}, "another spelling of the URL"),
    ],
)
def test_each_drift_is_told_alone(changed: Mapping[str, Any], told: str) -> None:
    subscription = read(listed(**changed), URL)
    assert subscription.is_ours
    (drift,) = subscription.drift
    assert told in drift


@pytest.mark.parametrize(
    "changed", [{"branch": "refs/heads/main"}, {"httpHeaders": "X-Trace:1"}, {"projectId": ETL.upper()}]
)
def test_what_makes_no_difference_is_no_drift(changed: Mapping[str, Any]) -> None:
    assert read(listed(**changed), URL) == read(listed(), URL)


def test_http_is_fine_where_nothing_leaves_the_machine() -> None:
    url = "http://127.0.0.1:7071/webhooks/azure-devops"
    assert read(listed(url=url), url).drift == ()


@pytest.mark.parametrize(
    "url",
    [
        "https://contoso-acc.azurewebsites.net/webhooks/azure-devops",
        URL + "s",
        URL.replace(".net", ".net:8443"),
        "",
        "http://[::1",
        None,
    ],
)
def test_those_that_call_something_else_are_not_ours(url: str | None) -> None:
    subscription = read(listed(url=url, resourceDetailsToSend="minimal"), URL)
    assert (subscription.is_ours, subscription.drift) == (False, ())


def test_no_secret_of_a_url_is_kept() -> None:
    assert "hidden" not in repr(read(listed(url="https://hidden:hidden@example.com/x?code=hidden"), URL))
    assert read(listed(url="https://hidden@example.com:8443/x"), URL).host == "example.com:8443"


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("onProbation", "(2 of 7 probes failed)"),
        ("disabledBySystem", "disabled by Azure DevOps"),
        ("disabledByUser", "by somebody"),
        ("disabledByInactiveIdentity", "has left"),
        ("frozen", "'frozen'"),
    ],
)
def test_whatever_is_not_enabled_is_trouble(status: str, told: str) -> None:
    trouble = read(listed(status=status, probation_retries="2"), URL).trouble
    assert trouble is not None
    assert told in trouble


def test_the_next_probe_is_counted_from_the_last() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    on_probation = there(status="onProbation", probed_at=at)
    for probes, minutes in ((0, 20), (1, 40), (6, 900)):
        assert replace(on_probation, probes=probes).next_probe_at == at + timedelta(minutes=minutes)
    assert replace(on_probation, probes=7).next_probe_at is None
    never = datetime(1, 1, 1, tzinfo=UTC)
    assert read(listed(status="onProbation", last_probation_retry_date=never), URL).next_probe_at is None
    assert replace(on_probation, status="disabledBySystem").next_probe_at is None


def test_every_project_with_a_registered_repository_gets_one_for_each_branch() -> None:
    steps = upkeep(registered={SHOP: ["main"], ORDERS: ["main", "trunk"]}, branches="main dev").plan()
    assert acts(steps) == [
        ("create", "Web main"),
        ("create", "Web dev"),
        ("create", "etl main"),
        ("create", "etl dev"),
        ("create", "etl trunk"),
    ]
    assert {step.reach.repository_id for step in steps} == {""}


def test_what_is_there_is_kept_and_others_are_left_alone() -> None:
    other = replace(there(branch="dev", name="b"), is_ours=False)
    (step,) = upkeep(there(), other, registered={ORDERS: ["main"]}).plan()
    assert (step.act, step.is_problem) == (Act.KEEP, False)
    (step,) = upkeep(there(), other, registered={ORDERS: ["main"]}).plan(renew=True)
    assert (step.act, step.is_problem) == (Act.RENEW, False)


def test_the_best_of_doubled_ones_is_kept() -> None:
    drifted, disabled = there(name="b", drift=("drifts",)), there(name="c", status="disabledByUser")
    steps = upkeep(drifted, disabled, there(name="d"), registered={ORDERS: ["main"]}).plan()
    assert [(step.act, step.subscription and step.subscription.subscription_id) for step in steps] == [
        (Act.KEEP, "d"),
        (Act.REMOVE, "b"),
        (Act.REMOVE, "c"),
    ]
    assert steps[1].reasons == ("is there twice", "drifts")


def test_drift_and_trouble_are_put_right() -> None:
    drifted, disabled = there(drift=("drifts",)), there(branch="dev", name="b", status="disabledByUser", drift=("x",))
    steps = upkeep(drifted, disabled, branches="main dev").plan([ETL])
    assert [(step.act, step.reasons) for step in steps] == [
        (Act.REPLACE, ("drifts",)),
        (Act.ENABLE, ("was disabled by somebody", "x")),
    ]


def test_what_is_missing_comes_first_and_what_is_needless_last() -> None:
    everything, stale = there(branch="", name="b", drift=("hears of all",)), there(branch="old", name="c")
    steps = upkeep(there(branch="dev"), everything, stale, branches="dev main").plan([ETL])
    assert acts(steps) == [
        ("create", "etl main"),
        ("keep", "etl dev"),
        ("remove", "etl (any branch)"),
        ("remove", "etl old"),
    ]
    assert steps[2].reasons == ("hears of all",)
    assert steps[3].reasons == ("is for a branch that is not ingested here",)


def test_single_repositories_stay_single_until_a_project_is_asked_for() -> None:
    site = upkeep(there(repository=ORDERS), registered={ORDERS: ["main"], STOCK: ["trunk"]})
    assert acts(site.plan()) == [("create", "etl/Stock trunk"), ("keep", "etl/orders main")]
    assert acts(site.plan([ETL], ORDERS)) == [("keep", "etl/orders main")]
    widened = site.plan([ETL], widen=True)
    assert acts(widened) == [("create", "etl main"), ("create", "etl trunk"), ("remove", "etl/orders main")]


def test_a_single_repository_is_covered_by_its_project() -> None:
    assert acts(upkeep(there()).plan([ETL], ORDERS)) == [("keep", "etl main")]
    steps = upkeep(there(), there(repository=ORDERS, name="b")).plan()
    assert acts(steps) == [("keep", "etl main"), ("remove", "etl/orders main")]
    assert steps[1].reasons == ("is covered by the project's own",)


def test_a_new_single_repository_gets_this_environments_branches() -> None:
    assert acts(upkeep(branches="dev main").plan([ETL], ORDERS)) == [
        ("create", "etl/orders dev"),
        ("create", "etl/orders main"),
    ]


def test_nothing_is_removed_for_repositories_that_are_not_shown() -> None:
    """Neither those of a project that is hidden, nor those of branches that a hidden repository names."""
    hidden = RepoId("99999999-0000-4000-8000-000000000000")
    elsewhere = there(project="00000000-0000-4000-8000-000000000009", branch="old", name="b")
    site = upkeep(there(), there(branch="trunk", name="c"), elsewhere, registered={ORDERS: ["main"], hidden: ["trunk"]})
    assert site.unplaced == [hidden]
    assert [step.act for step in site.plan()] == [Act.KEEP] * 3
    assert [step.act for step in upkeep(there(), there(branch="trunk", name="c")).plan()] == [Act.KEEP, Act.REMOVE]


def test_places_are_found_by_name_and_id_in_any_case() -> None:
    assert PLACES.project("ETL") == PLACES.project(ETL.upper()) == ETL
    assert PLACES.repository(ETL, "stock") == PLACES.repository(ETL, STOCK) == STOCK
    with pytest.raises(RepositoryNotFound, match="'nope'"):
        PLACES.project("nope")
    with pytest.raises(RepositoryNotFound, match="'etl' shows no repository 'shop'"):
        PLACES.repository(ETL, "shop")
