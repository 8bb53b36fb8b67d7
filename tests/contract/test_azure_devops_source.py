"""Azure DevOps as a source and as a directory, beyond what the suite of `ports.GitSource` holds every source to."""

import hashlib
import io
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest
from emulators.azure_devops import Emulator, Fault, HostedRepository, contents
from emulators.azure_devops.answers import ZIP, Answer
from support.git import File, executable, many_files, submodule, symlink
from support.git_sources import registered

from shared.azure_devops import sdk
from shared.azure_devops.client import Organisation
from shared.azure_devops.directory import AzureDevOpsDirectory
from shared.azure_devops.source import AzureDevOpsSource
from shared.errors import RepositoryRefused, SourceFailed, SourceRefused
from shared.listing import prove
from shared.model import (
    ABSENT,
    BlobId,
    BranchName,
    CommitId,
    Deadline,
    Located,
    RefUpdate,
    RepoId,
    Repository,
    SourceName,
)
from shared.ports import Directory, GitSource

MAIN = BranchName("main")


@pytest.fixture
def source(organisation: Organisation) -> GitSource:
    return AzureDevOpsSource(organisation)


@pytest.fixture
def directory(organisation: Organisation) -> Directory:
    return AzureDevOpsDirectory(organisation)


@pytest.fixture
def hosted(emulator: Emulator) -> HostedRepository:
    return emulator.repository("etl", "orders")


@pytest.fixture
def repository(emulator: Emulator, hosted: HostedRepository) -> Repository:
    return registered(emulator.url, hosted.id)


@pytest.fixture
def soon() -> Deadline:
    return Deadline.after(timedelta(seconds=60))


def routes(emulator: Emulator) -> Counter[str]:
    return Counter(call.route for call in emulator.calls)


# -- Branches --------------------------------------------------------------------------------------------------------


def with_branches(hosted: HostedRepository, names: list[str]) -> CommitId:
    commit = hosted.git.commit({"a.yaml": "a: 1"})
    lines = "".join(f"create refs/heads/{name} {commit}\n" for name in names)
    hosted.git.git("update-ref", "--stdin", stdin=lines.encode())
    return commit


def test_thousands_of_branches_come_from_all_pages(
    emulator: Emulator, hosted: HostedRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    names = [f"größe/{number:04}" for number in range(2500)]
    commit = with_branches(hosted, names)

    assert source.heads(repository, soon) == dict.fromkeys(["main", *names], commit)
    assert routes(emulator) == {"options": 1, "refs": 3}


def test_a_branch_is_found_on_a_later_page_and_its_absence_proven_by_all(
    emulator: Emulator, hosted: HostedRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    commit = with_branches(hosted, [f"a{number:04}" for number in range(1200)])
    # What is not printable cannot be asked for: it is looked for among all.
    assert source.head(repository, BranchName("main\n"), soon) == ABSENT
    assert routes(emulator) == {"options": 1, "refs": 4, "repository": 1}
    assert source.head(repository, BranchName("a1199"), soon) == commit
    assert source.head(repository, BranchName("a"), soon) == ABSENT
    assert routes(emulator) == {"options": 1, "refs": 9, "repository": 2}


@pytest.mark.parametrize(
    "name",
    ["release/1.0/rc+1", "größe-日本", "a&filter=heads/x", "100%25", "what#now", "a=b;c,d", "'quoted'", "{project}"],
)
def test_every_character_of_a_branch_is_asked_for_as_it_is(
    hosted: HostedRepository, source: GitSource, repository: Repository, soon: Deadline, name: str
) -> None:
    commit = with_branches(hosted, [name])
    assert source.head(repository, BranchName(name), soon) == commit


@pytest.mark.parametrize("fault", [Fault.SIGN_IN, Fault.HTML, Fault.NOT_FOUND, Fault.CUT, Fault.ERROR, Fault.RESET])
def test_nothing_but_a_good_answer_proves_that_a_branch_is_gone(
    emulator: Emulator, source: GitSource, repository: Repository, soon: Deadline, fault: Fault
) -> None:
    emulator.misbehave(fault, route="refs")
    with pytest.raises((SourceFailed, SourceRefused)):
        source.head(repository, MAIN, soon)
    with pytest.raises((SourceFailed, SourceRefused)):
        source.heads(repository, soon)


ODD = [
    b"{}",
    b"[]",
    b"null",
    b'{"value": null}',
    b'{"value": {}}',
    b'{"value": "x"}',
    b'{"value": [{}]}',
    b'{"count": 0}',
]


def test_a_listing_that_lacks_the_default_branch_is_no_proof(
    emulator: Emulator, hosted: HostedRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    hosted.git.commit({"a.yaml": "a: 1"})
    emulator.misbehave(Fault.PARTIAL, route="refs")
    with pytest.raises(SourceFailed, match="default branch"):
        source.head(repository, MAIN, soon)


def test_one_answer_that_lacks_a_branch_is_no_proof(
    emulator: Emulator, hosted: HostedRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    hosted.git.commit({"a.yaml": "a: 1"})
    commit = hosted.git.commit({"a.yaml": "a: 2"}, branch="release")
    emulator.misbehave(Fault.PARTIAL, route="refs", times=1)
    assert source.head(repository, BranchName("release"), soon) == commit
    assert source.head(repository, BranchName("nothing"), soon) == ABSENT


@pytest.mark.parametrize("body", ODD)
def test_an_answer_of_another_shape_proves_nothing(
    source: GitSource, repository: Repository, soon: Deadline, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.heads(repository, soon)
    monkeypatch.setattr(sdk.Answer, "body", lambda self: body)
    for ask in (source.heads, lambda repository, soon: source.head(repository, MAIN, soon)):
        with pytest.raises(SourceFailed, match="cannot be understood"):
            ask(repository, soon)


def test_a_repository_with_other_ids_is_refused(
    source: GitSource, repository: Repository, hosted: HostedRepository, soon: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(hosted), "refs", lambda self: {"refs/heads/main": "ab" * 32})
    with pytest.raises(SourceFailed, match="SHA-256"):
        source.heads(repository, soon)


def test_a_stale_head_is_told_as_it_is_given(
    emulator: Emulator, hosted: HostedRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    first = hosted.git.commit({"a.yaml": "a: 1"})
    emulator.pushed(hosted)
    second = hosted.git.commit({"a.yaml": "a: 2"})
    emulator.pushed(hosted)
    emulator.misbehave(Fault.STALE, route="refs", times=1)

    assert source.head(repository, MAIN, soon) == first
    assert source.head(repository, MAIN, soon) == second


# -- Renames, ids, threads -------------------------------------------------------------------------------------------


def test_a_rename_changes_nothing(
    emulator: Emulator, hosted: HostedRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    commit = hosted.git.commit({"a.yaml": "a: 1"})
    emulator.rename(hosted, "other name")

    assert source.head(repository, MAIN, soon) == commit
    assert [entry.path for entry in source.tree(repository, commit, soon).entries] == ["a.yaml"]
    assert all("etl" not in call.path for call in emulator.calls)


def test_a_disabled_repository_is_refused_alone(
    emulator: Emulator, hosted: HostedRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    emulator.disable(hosted)
    with pytest.raises(RepositoryRefused, match="missing, disabled or forbidden") as raised:
        source.heads(repository, soon)
    assert not raised.value.concerns_source


def test_one_source_reads_for_eight_threads(
    emulator: Emulator, hosted: HostedRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    emulator.latency = 0.005
    commits = [hosted.git.commit({f"{n}.yaml": f"a: {n}"}, branch=f"b{n}", onto="") for n in range(8)]

    def read(number: int) -> list[object]:
        tree = source.tree(repository, commits[number], soon)
        blobs = dict(source.blobs(repository, commits[number], [entry.object_id for entry in tree.entries], soon))
        return [source.head(repository, BranchName(f"b{number}"), soon), tree.entries[0].path, *blobs.values()]

    with ThreadPoolExecutor(8) as threads:
        for number, found in enumerate(threads.map(read, [*range(8)] * 3)):
            assert found == [commits[number % 8], f"{number % 8}.yaml", f"a: {number % 8}".encode()]
    assert routes(emulator) == {"options": 1, "commit": 24, "tree": 24, "blobs": 24, "refs": 24}


# -- Trees -----------------------------------------------------------------------------------------------------------


def test_a_tree_takes_two_calls_and_proves_itself(
    emulator: Emulator, hosted: HostedRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    odd: dict[str, File | str | bytes | None] = {
        "run.sh": executable(b"x"),
        "link": symlink("a"),
        "module": submodule("ab" * 20),
        "a-b/c": "1",
        "a/c": "2",
    }
    commit = hosted.git.commit({**many_files(300), **odd})
    tree = source.tree(repository, commit, soon)
    prove(tree)
    assert len(tree.entries) == 305
    assert routes(emulator) == {"options": 1, "commit": 1, "tree": 1}


def test_a_tree_whose_root_was_asked_for_takes_one_call(
    emulator: Emulator, hosted: HostedRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    commit = hosted.git.commit({"a.yaml": "a: 1"})
    root = source.tree_id(repository, commit, soon)
    assert source.tree(repository, commit, soon).tree_id == root
    assert routes(emulator) == {"options": 1, "commit": 1, "tree": 1}


def test_the_tree_without_files_is_known_without_asking_for_it(
    emulator: Emulator, hosted: HostedRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    hosted.git.commit({"a.yaml": "a: 1"})
    tree = source.tree(repository, hosted.git.commit({"a.yaml": None}), soon)
    prove(tree)
    assert tree.entries == ()
    assert routes(emulator) == {"options": 1, "commit": 1}


def test_a_listing_that_lacks_a_file_does_not_prove_itself(
    emulator: Emulator, hosted: HostedRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    commit = hosted.git.commit(many_files(20))
    emulator.misbehave(Fault.PARTIAL, route="tree")
    with pytest.raises(SourceFailed, match="not complete"):
        prove(source.tree(repository, commit, soon))


def test_a_path_that_lost_its_bytes_is_named_wherever_it_is(
    hosted: HostedRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    commit = hosted.git.commit({"a.yaml": "a: 1", b"old/\xe9t\xe9.txt".decode("utf-8", "surrogateescape"): "x"})
    with pytest.raises(SourceFailed, match="old/\ufffdt\ufffd") as raised:
        source.tree(repository, commit, soon)
    assert "Rename" in (raised.value.hint or "")


# -- Blobs -----------------------------------------------------------------------------------------------------------


def stored(hosted: HostedRepository, count: int) -> tuple[CommitId, list[BlobId]]:
    commit = hosted.git.commit(many_files(count))
    rows = hosted.git.git("ls-tree", "-r", commit).split("\n")
    return commit, [BlobId(row.split()[2]) for row in rows]


def test_blobs_come_two_hundred_at_a_time(
    emulator: Emulator, hosted: HostedRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    commit, blob_ids = stored(hosted, 401)
    assert dict(source.blobs(repository, commit, blob_ids, soon)).keys() == set(blob_ids)
    assert routes(emulator) == {"options": 1, "blobs": 3}


def test_a_blob_that_is_larger_than_is_read_is_told_by_its_size(
    hosted: HostedRepository, organisation: Organisation, repository: Repository, soon: Deadline
) -> None:
    commit = hosted.git.commit({"large": b"x" * 1001, "largest": b"y" * 1000})
    large, largest = (hosted.git.blob_id(commit, path) for path in ("large", "largest"))
    source = AzureDevOpsSource(organisation, largest=1000)
    assert dict(source.blobs(repository, commit, [large, largest], soon)) == {large: 1001, largest: b"y" * 1000}


def test_altered_bytes_come_as_they_are_and_are_the_syncs_to_find(
    emulator: Emulator, hosted: HostedRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    commit, [blob_id] = stored(hosted, 1)
    emulator.misbehave(Fault.WRONG_BYTES)
    [(told, data)] = source.blobs(repository, commit, [blob_id], soon)
    assert told == blob_id
    assert isinstance(data, bytes)
    assert hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() != blob_id


@pytest.mark.parametrize(
    ("fault", "details", "words"),
    [
        (Fault.CUT, {}, "broke its answer off"),
        (Fault.PARTIAL, {}, "did not give blob"),
    ],
)
def test_an_archive_that_is_not_whole_is_a_failure(
    emulator: Emulator,
    hosted: HostedRepository,
    source: GitSource,
    repository: Repository,
    soon: Deadline,
    fault: Fault,
    details: dict[str, Any],
    words: str,
) -> None:
    commit, blob_ids = stored(hosted, 30)
    emulator.misbehave(fault, route="blobs", **details)
    with pytest.raises(SourceFailed, match=words):
        list(source.blobs(repository, commit, blob_ids, soon))


def zipped(*entries: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "cut": lambda whole: whole[: len(whole) // 2],
    "html": lambda whole: b"<html>sign in</html>",
    "content": lambda whole: flipped(whole, 75),
    "directory": lambda whole: flipped(whole, whole.rindex(b"PK\x01\x02") + 43),
    "unknown compression": lambda whole: whole.replace(b"\x08\x00", b"\x63\x00"),
    "encrypted": lambda whole: whole.replace(b"\x14\x00\x00\x00", b"\x14\x00\x01\x00"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_archive_is_a_failure(
    hosted: HostedRepository,
    source: GitSource,
    repository: Repository,
    soon: Deadline,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[bytes], bytes],
) -> None:
    commit, [blob_id] = stored(hosted, 1)
    whole = zipped((blob_id, b"some content, which is compressed"))
    monkeypatch.setattr(contents, "_zip", lambda *_: Answer(200, damage(whole), ZIP))
    with pytest.raises(SourceFailed, match="damaged"):
        list(source.blobs(repository, commit, [blob_id], soon))


@pytest.mark.parametrize("name", ["{}.blob", "blobs/{}", "{}"])
def test_an_ending_or_a_folder_in_the_archive_changes_nothing(
    hosted: HostedRepository,
    source: GitSource,
    repository: Repository,
    soon: Deadline,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    commit, [blob_id] = stored(hosted, 1)
    archive = zipped((name.format(blob_id), b"content"), ("12" * 20, b"not asked for"))
    monkeypatch.setattr(contents, "_zip", lambda *_: Answer(200, archive, ZIP))
    assert list(source.blobs(repository, commit, [blob_id], soon)) == [(blob_id, b"content")]


# -- Pushes ----------------------------------------------------------------------------------------------------------


def test_a_push_tells_the_branches_that_it_moved(
    emulator: Emulator, hosted: HostedRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    first = hosted.git.commit({"a.yaml": "a: 1"})
    hosted.git.commit({"a.yaml": "a: 1"}, branch="old")
    emulator.pushed(hosted)
    second = hosted.git.commit({"a.yaml": "a: 2"})
    new = hosted.git.commit({"a.yaml": "a: 3"}, branch="release/1.0")
    old = hosted.git.head("old")
    hosted.git.delete("old")
    hosted.git.tag("v1", second)
    push_id = emulator.pushed(hosted)

    updates = source.push(repository, push_id, soon)
    assert sorted(updates, key=lambda update: update.branch) == [
        RefUpdate(MAIN, first, second),
        RefUpdate(BranchName("old"), old, ABSENT),
        RefUpdate(BranchName("release/1.0"), ABSENT, new),
    ]


def test_a_push_that_nobody_knows_is_a_failure(source: GitSource, repository: Repository, soon: Deadline) -> None:
    with pytest.raises(SourceFailed):
        source.push(repository, 4711, soon)


# -- The directory ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "{url}/My%20project/_git/Größe",
        "{url}/My%20project/_git/Gr%C3%B6%C3%9Fe",
        "{url}/My project/_git/Größe/",
        "{url}/my project/_git/GRÖßE?path=/a.yaml&version=GBmain",
        "{url}/My%20project/_git/Größe/commit/1234#now",
        "  {user}/My%20project/_git/Größe",
        "{upper}/My%20project/_git/Größe",
    ],
)
def test_a_repository_is_found_by_what_people_copy(
    emulator: Emulator, directory: Directory, soon: Deadline, address: str
) -> None:
    hosted = emulator.repository("My project", "Größe")
    named = {
        "url": emulator.url,
        "user": emulator.url.replace("://", "://ada:secret@"),
        "upper": emulator.url.replace("contoso", "CONTOSO"),
    }
    assert directory.find(address.format(**named), soon) == Located(
        RepoId(hosted.id), SourceName(emulator.url), "My project", "Größe"
    )


def test_a_project_may_be_left_out_when_it_has_the_name_of_the_repository(
    emulator: Emulator, directory: Directory, soon: Deadline
) -> None:
    hosted = emulator.repository("etl", "etl")
    assert directory.find(f"{emulator.url}/_git/etl", soon) == Located(
        RepoId(hosted.id), SourceName(emulator.url), "etl", "etl"
    )


def test_after_a_rename_the_new_name_leads_to_the_same_id(
    emulator: Emulator, hosted: HostedRepository, directory: Directory, soon: Deadline
) -> None:
    emulator.rename(hosted, "sales")
    found = directory.find(f"{emulator.url}/etl/_git/sales", soon)
    assert found == Located(RepoId(hosted.id), SourceName(emulator.url), "etl", "sales")
    with pytest.raises(RepositoryRefused):
        directory.find(f"{emulator.url}/etl/_git/orders", soon)


@pytest.mark.parametrize("address", ["{url}/etl/_git/unknown", "{url}/unknown/_git/orders", "{url}/_git/orders"])
def test_what_is_not_there_is_refused_with_what_to_do(
    emulator: Emulator, hosted: HostedRepository, directory: Directory, soon: Deadline, address: str
) -> None:
    with pytest.raises(RepositoryRefused, match="missing") as raised:
        directory.find(address.format(url=emulator.url), soon)
    assert "Code (read)" in (raised.value.hint or "")


@pytest.mark.parametrize(
    "address",
    [
        "",
        "/srv/git/orders.git",
        "git@ssh.dev.azure.com:v3/contoso/etl/orders",
        "https://github.com/contoso/etl/_git/orders",
        "https://dev.azure.com/fabrikam/etl/_git/orders",
        "https://dev.azure.com/contoso2/etl/_git/orders",
        "https://dev.azure.com.example.org/contoso/etl/_git/orders",
        "https://dev.azure.com:8443/contoso/etl/_git/orders",
        "https://dev.azure.com:x/contoso/etl/_git/orders",
        "http://dev.azure.com/contoso/etl/_git/orders",
        "https://dev.azure.com/contoso/etl/_wiki/orders",
        "https://dev.azure.com/contoso/etl/_git/",
        "https://dev.azure.com/contoso/etl",
        "https://dev.azure.com/contoso",
        "https://dev.azure.com",
        "https://fabrikam.visualstudio.com/etl/_git/orders",
        "https://contoso.visualstudio.com.example.org/etl/_git/orders",
    ],
)
def test_an_address_of_somebody_else_is_none_and_nobody_is_asked(soon: Deadline, address: str) -> None:
    def authorization() -> str:
        raise AssertionError(address)

    organisation = Organisation(
        "https://dev.azure.com/contoso", authorization=authorization, timeout=timedelta(seconds=1)
    )
    assert AzureDevOpsDirectory(organisation).find(address, soon) is None


@pytest.mark.parametrize(
    "address",
    [
        "https://dev.azure.com/contoso/My%20project/_git/orders",
        "https://contoso@dev.azure.com/contoso/My%20project/_git/orders",
        "https://Contoso.visualstudio.com/My%20project/_git/orders",
        "https://contoso.visualstudio.com/DefaultCollection/My%20project/_git/orders",
    ],
)
def test_the_real_hosts_addresses_of_both_ages_are_asked_at_the_organisation(address: str, soon: Deadline) -> None:
    asked = []

    class Answering(Organisation):
        def git(self, deadline: Deadline) -> Any:
            return nullcontext(self)

        def get_repository(self, *names: str) -> Mapping[str, Any]:
            asked.append(names)
            return {"id": "5FEBEF5A-833D-4E14-B9C0-14CB638F91E6", "name": "Orders", "project": {"name": "My Project"}}

    url = SourceName("https://dev.azure.com/contoso")
    organisation = Answering(url, authorization=str, timeout=timedelta(seconds=1))
    found = AzureDevOpsDirectory(organisation).find(address, soon)
    assert asked == [("orders", "My project")]
    assert found == Located(RepoId("5febef5a-833d-4e14-b9c0-14cb638f91e6"), url, "My Project", "Orders")
