"""What other systems concluded from a Git host in trouble: what is served stays, whole, and people are told why."""

from functools import partial
from pathlib import Path
from typing import Any

from emulators.azure_devops import Fault, HostedRepository
from support.contoso import A, B, Contoso, whole_app
from support.processes import SECONDS
from support.stores import started
from support.world import Watched, workflow

X = "x-runtime.yaml"


def test_a_sign_in_page_is_a_failed_authentication_and_no_empty_repository(
    contoso: Contoso, hosted: HostedRepository
) -> None:
    contoso.subscribe()
    before = contoso.api.get("/runtimes/orders/main").data
    contoso.emulator.misbehave(Fault.SIGN_IN)
    assert contoso.push(hosted, {A: None, B: workflow(2)}) == 202
    assert contoso.status()["condition"] == "AuthenticationFailed"
    assert contoso.api.get("/runtimes/orders/main").data == before


def test_a_throttle_page_with_status_200_is_not_taken_for_a_file(contoso: Contoso, hosted: HostedRepository) -> None:
    contoso.subscribe()
    contoso.emulator.misbehave(Fault.THROTTLE_PAGE, route="blobs", retry_after=120)
    assert contoso.push(hosted, {A: workflow(2)}) == 202
    assert contoso.status()["condition"] == "Throttled"
    assert contoso.served() == {A: "workflow-1"}


def test_a_rewritten_history_leaves_nothing_of_the_old_one(contoso: Contoso, hosted: HostedRepository) -> None:
    contoso.subscribe()
    contoso.push(hosted, {X: workflow(7), B: workflow(8)})
    assert contoso.served() == {A: "workflow-1", B: "workflow-8", X: "workflow-7"}
    hosted.git.commit({A: workflow(1), B: workflow(2)}, onto="")
    assert contoso.push(hosted) == 200
    assert contoso.served() == {A: "workflow-1", B: "workflow-2"}


def test_a_repository_that_fails_leaves_all_others_syncing(contoso: Contoso, hosted: HostedRepository) -> None:
    others = [contoso.repository(f"team-{number}") for number in range(3)]
    contoso.sweep()
    contoso.subscribe()
    contoso.emulator.misbehave(Fault.ERROR, repository=hosted)
    assert contoso.push(hosted, {A: workflow(2)}) == 202
    assert [contoso.push(other, {A: workflow(3)}) for other in others] == [200, 200, 200]
    assert [contoso.served(other.name) for other in others] == [{A: "workflow-3"}] * 3
    assert (contoso.status()["condition"], contoso.served()) == ("FetchFailed", {A: "workflow-1"})


def test_a_registration_that_makes_no_sense_stops_nobody_else(contoso: Contoso, hosted: HostedRepository) -> None:
    nonsense = [
        ("source", "'::no url, no path::'"),
        ("source", "'https://user:secret@[::1:port/x'"),
        ("root", "E'../..\\\\//'"),
        ("pattern", "'[*'"),
        ("branches", "ARRAY['', '..', ' ', 'main']"),
        ("name", "E'\\x01'"),
    ]
    for number, (column, value) in enumerate(nonsense):
        contoso.repository(f"bad-{number}")
        contoso.execute(f"UPDATE repositories SET {column} = {value} WHERE name = %s".encode(), f"bad-{number}")
    hosted.git.commit({A: workflow(2)})
    assert contoso.sweep().is_complete
    assert contoso.served() == {A: "workflow-2"}
    shown: Any = contoso.api.get("/repositories").json
    assert len(shown) == 1 + len(nonsense)


def test_a_push_during_a_sync_leaves_the_set_of_one_commit(database: str, tmp_path: Path) -> None:
    watched: list[Watched] = []

    def around(git: object) -> Watched:
        watched.append(Watched(git))
        return watched[0]

    with whole_app(database, tmp_path, around=around) as contoso:
        hosted = contoso.repository()
        contoso.sweep()
        first = hosted.git.commit({A: workflow(2), B: workflow(2)})
        for call in ("head", "tree", "blobs"):
            watched[0].after[call].append(lambda: hosted.git.commit({A: workflow(3), B: None, X: workflow(3)}))
        assert contoso.api.post("/repositories/orders/sync").status_code == 200
        assert contoso.served() == {A: "workflow-2", B: "workflow-2"}
        assert contoso.status()["commit_id"] == first
        contoso.sweep()
        assert contoso.served() == {A: "workflow-3", X: "workflow-3"}


def test_the_rows_of_a_deleted_branch_go_and_its_status_says_so(contoso: Contoso, hosted: HostedRepository) -> None:
    contoso.subscribe()
    hosted.git.delete("main")
    assert contoso.push(hosted) == 200
    assert contoso.execute("SELECT count(*) FROM runtime_configs") == [(0,)]
    gone: Any = contoso.api.get("/runtimes/orders/main").json
    assert (gone["status"], gone["reason"]) == (404, "BranchGone")
    assert contoso.status()["reason"] == "BranchGone"


def test_a_sync_by_hand_that_fails_says_so_and_why(contoso: Contoso, hosted: HostedRepository) -> None:
    contoso.emulator.misbehave(Fault.ERROR)
    failed = contoso.api.post("/repositories/orders/sync")
    assert failed.status_code == 502
    told: Any = failed.json
    assert (told["kind"], "answered 500" in told["detail"]) == ("source-failed", True)


class TestCallsFall:
    """What time has to do with it is moved in the database."""

    def calls(self, contoso: Contoso, minutes: int, moved: str) -> int:
        """How many the first sweep makes that comes so much later for what is `moved`."""
        contoso.execute(f"UPDATE {moved} - make_interval(mins => %s)".encode(), minutes)
        contoso.emulator.forget_calls()
        contoso.app.sweep()
        return len(contoso.emulator.calls)

    def registered(self, contoso: Contoso, count: int, branch: str) -> None:
        """So many repositories, of which each has the branch `main`."""
        first = contoso.emulator.repository("data", "team-0")
        first.git.commit({A: workflow(1)})
        more = [contoso.emulator.add("data", f"team-{number}", first.git.path) for number in range(1, count)]
        for hosted in [first, *more]:
            contoso.register(hosted, branches=[branch])

    def test_of_a_hundred_branches_that_are_wrong(self, contoso: Contoso) -> None:
        """Each is proven absent once; then its repository is looked at every quarter of an hour."""
        self.registered(contoso, 100, "mian")
        heads = "repositories SET heads_checked_at = heads_checked_at"
        assert self.calls(contoso, 0, heads) >= 300
        assert self.calls(contoso, 1, heads) <= 30
        assert self.calls(contoso, 15, heads) <= 110

    def test_of_repositories_that_stay_broken(self, contoso: Contoso) -> None:
        self.registered(contoso, 10, "main")
        contoso.emulator.misbehave(Fault.NOT_FOUND, route="refs")
        attempts = "branches SET next_attempt_at = next_attempt_at"
        minutes = [self.calls(contoso, 1, attempts) for _ in range(24)]
        assert sum(minutes[16:]) < sum(minutes[:8]) / 2, minutes


def test_reads_do_not_wait_for_a_git_host_that_hangs(database: str, tmp_path: Path) -> None:
    """More syncs hang than there are connections to the database."""
    with whole_app(database, tmp_path, DATABASE_POOL_SIZE="2") as contoso:
        hosted = [contoso.repository(f"team-{number}") for number in range(4)]
        contoso.sweep()
        contoso.emulator.forget_calls()
        contoso.emulator.misbehave(Fault.HANG)
        syncs = [started(partial(contoso.api.post, f"/repositories/{one.name}/sync")) for one in hosted]
        contoso.emulator.wait_for_calls(len(syncs), SECONDS)
        for path in ("/runtimes/team-0/main", f"/runtimes/team-0/main/{A}", "/repositories", "/health"):
            assert contoso.api.get(path).status_code == 200
        assert [sync.done() for sync in syncs] == [False] * len(syncs)
        contoso.emulator.behave()
        assert all(sync.result(SECONDS) for sync in syncs)


def test_a_sync_that_hangs_gives_up_and_is_not_tried_again_at_once(database: str, tmp_path: Path) -> None:
    with whole_app(database, tmp_path, GIT_TIMEOUT_SECONDS="2") as contoso:
        contoso.repository()
        contoso.sweep()
        contoso.emulator.misbehave(Fault.HANG)
        assert contoso.api.post("/repositories/orders/sync").status_code == 502
        status = contoso.status()
        assert (status["condition"], status["waiting"]) == ("FetchFailed", True)
        assert status["next_attempt_at"] > status["since"]
