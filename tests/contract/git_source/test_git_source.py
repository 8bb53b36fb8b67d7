"""What every `ports.GitSource` must do, on real Git repositories."""

import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from support.git import File, GitRepository, executable, many_files, submodule, symlink
from support.git_sources import Hosted

from shared.errors import CommitMissing, RepositoryRefused, SourceFailed
from shared.model import ABSENT, BlobId, BranchName, CommitId, Deadline, Repository, TreeEntry
from shared.ports import GitSource

UNKNOWN = CommitId("1234567890" * 4)
MAIN = BranchName("main")

Ask = Callable[[GitSource, Repository, CommitId, Deadline], object]
QUESTIONS: dict[str, Ask] = {
    "heads": lambda source, repository, commit, deadline: source.heads(repository, deadline),
    "head": lambda source, repository, commit, deadline: source.head(repository, MAIN, deadline),
    "tree_id": lambda source, repository, commit, deadline: source.tree_id(repository, commit, deadline),
    "tree": lambda source, repository, commit, deadline: source.tree(repository, commit, deadline),
    "blobs": lambda source, repository, commit, deadline: list(
        source.blobs(repository, commit, [BlobId("1" * 40)], deadline)
    ),
    "is_ancestor": lambda source, repository, commit, deadline: source.is_ancestor(
        repository, commit, commit, deadline
    ),
}
questions = pytest.mark.parametrize("ask", QUESTIONS.values(), ids=QUESTIONS.keys())


# -- Branches --------------------------------------------------------------------------------------------------------


def test_heads_are_the_branches_and_nothing_else(
    git: GitRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    main = git.commit({"a.yaml": "a: 1"})
    release = git.commit({"b.yaml": "b: 1"}, branch="release/1.0/rc")
    git.tag("v1", main)
    git.tag("v2", release, annotated=True)
    git.git("update-ref", "refs/pull/1/merge", main)

    assert source.heads(repository, soon) == {"main": main, "release/1.0/rc": release}


def test_an_empty_repository_has_no_heads(source: GitSource, repository: Repository, soon: Deadline) -> None:
    assert source.heads(repository, soon) == {}
    assert source.head(repository, MAIN, soon) == ABSENT


@pytest.mark.parametrize(
    "other", ["main2", "mai", "main/x", "x/main", "refs/heads/main", "heads/main", "Main", "m*", "", "main\n", "\udcff"]
)
def test_a_branch_with_another_name_is_not_the_branch(
    git: GitRepository, source: GitSource, repository: Repository, soon: Deadline, other: str
) -> None:
    git.commit({"a.yaml": "a: 1"})

    assert source.head(repository, BranchName(other), soon) == ABSENT


def test_a_branch_is_found_among_those_with_similar_names(
    git: GitRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    heads = {}
    for number, name in enumerate(["main2", "main", "feature/a", "feature/ab", "x/refs/heads/main", "a\u2028b"]):
        heads[name] = git.commit({"a.yaml": f"a: {number}"}, branch=name)

    assert {name: source.head(repository, BranchName(name), soon) for name in heads} == heads
    assert source.head(repository, BranchName("feature"), soon) == ABSENT


@pytest.mark.parametrize("annotated", [False, True])
def test_a_tag_of_the_same_name_is_not_the_branch(
    git: GitRepository, source: GitSource, repository: Repository, soon: Deadline, annotated: bool
) -> None:
    old = git.commit({"a.yaml": "a: 1"})
    git.tag("main", old, annotated=annotated)
    git.tag("only-a-tag", old, annotated=annotated)
    new = git.commit({"a.yaml": "a: 2"})

    assert source.head(repository, MAIN, soon) == new
    assert source.head(repository, BranchName("only-a-tag"), soon) == ABSENT


def test_the_head_is_the_one_of_now(
    git: GitRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    first = git.commit({"a.yaml": "a: 1"})
    second = git.commit({"a.yaml": "a: 2"})
    assert source.head(repository, MAIN, soon) == second

    git.set_head("main", first)
    assert source.head(repository, MAIN, soon) == first

    git.delete("main")
    assert source.head(repository, MAIN, soon) == ABSENT

    git.set_head("main", second)
    assert source.head(repository, MAIN, soon) == second


# -- Trees -----------------------------------------------------------------------------------------------------------


def test_a_tree_lists_every_file_with_its_mode(
    hosted: Hosted, git: GitRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    commit = git.commit(
        {
            "a.yaml": "a: 1\n",
            "folder/deeper/run.sh": executable(b"#!/bin/sh\n"),
            "folder/link.yaml": symlink("../a.yaml"),
            "module": submodule("ab" * 20),
            "empty.yaml": "",
        }
    )

    tree = source.tree(repository, commit, soon)

    def entry(path: str, mode: str, size: int) -> TreeEntry:
        return TreeEntry(path, mode, git.blob_id(commit, path), size if hosted.knows_sizes else None)

    assert tree.tree_id == git.tree_id(commit)
    assert sorted(tree.entries) == [
        entry("a.yaml", "100644", 5),
        entry("empty.yaml", "100644", 0),
        entry("folder/deeper/run.sh", "100755", 10),
        entry("folder/link.yaml", "120000", 9),
        TreeEntry("module", "160000", BlobId("ab" * 20), None),
    ]


@pytest.mark.parametrize(
    "path",
    [
        "größe/日本.yaml",
        "not lost \ufffd.yaml",
        'with "quotes" and \\.yaml',
        "tab\tand\nnewline.yaml",
        " spaces at both ends ",
        "-option.yaml",
    ],
)
def test_every_file_name_that_git_allows_is_told_exactly(
    git: GitRepository, source: GitSource, repository: Repository, soon: Deadline, path: str
) -> None:
    commit = git.commit({path: "a: 1"})

    assert [entry.path for entry in source.tree(repository, commit, soon).entries] == [path]


def test_a_file_name_that_is_not_utf_8_is_told_exactly_or_is_what_the_failure_names(
    hosted: Hosted, git: GitRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    path = b"folder/latin-\xff.yaml".decode("utf-8", "surrogateescape")
    commit = git.commit({path: "a: 1", "other.yaml": "a: 1"})

    if hosted.keeps_bytes:
        assert {entry.path for entry in source.tree(repository, commit, soon).entries} == {path, "other.yaml"}
    else:
        with pytest.raises(SourceFailed, match=r"'folder/latin-\ufffd\.yaml', is not UTF-8"):
            source.tree(repository, commit, soon)


def test_a_tree_of_thousands_of_files_is_whole(
    git: GitRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    files = many_files(3000)
    commit = git.commit(files)

    assert {entry.path for entry in source.tree(repository, commit, soon).entries} == set(files)


def test_a_commit_without_files_has_an_empty_tree(
    git: GitRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    git.commit({"a.yaml": "a: 1"})
    commit = git.commit({"a.yaml": None})

    assert source.tree(repository, commit, soon).entries == ()


def test_a_commit_stays_readable_when_its_branch_moved_on(
    git: GitRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    first = git.commit({"a.yaml": "a: 1"})
    git.commit({"a.yaml": None, "b.yaml": "b: 1"})

    assert [entry.path for entry in source.tree(repository, first, soon).entries] == ["a.yaml"]
    assert source.tree_id(repository, first, soon) == git.tree_id(first)


def test_commits_with_the_same_files_have_the_same_tree(
    git: GitRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    first = git.commit({"a.yaml": "a: 1"})
    second = git.commit({}, message="Nothing changed")

    assert first != second
    assert source.tree_id(repository, first, soon) == source.tree_id(repository, second, soon) == git.tree_id(first)


@pytest.mark.parametrize("unknown", [UNKNOWN, ABSENT, CommitId("main"), CommitId("--all"), CommitId("")])
def test_an_unknown_commit_is_told_as_missing(
    git: GitRepository, source: GitSource, repository: Repository, soon: Deadline, unknown: CommitId
) -> None:
    git.commit({"a.yaml": "a: 1"})

    with pytest.raises(CommitMissing):
        source.tree(repository, unknown, soon)
    with pytest.raises(CommitMissing):
        source.tree_id(repository, unknown, soon)


def test_a_blob_is_not_a_commit(git: GitRepository, source: GitSource, repository: Repository, soon: Deadline) -> None:
    commit = git.commit({"a.yaml": "a: 1"})

    with pytest.raises(CommitMissing):
        source.tree(repository, CommitId(git.blob_id(commit, "a.yaml")), soon)


def test_a_commit_that_was_rewritten_and_collected_is_missing(
    git: GitRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    gone = git.commit({"a.yaml": "a: 1"})
    git.commit({"b.yaml": "b: 1"}, onto="")
    git.collect()

    with pytest.raises(CommitMissing):
        source.tree(repository, gone, soon)


# -- Blobs -----------------------------------------------------------------------------------------------------------


def test_blobs_come_byte_by_byte_as_they_are(
    git: GitRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    contents = [b"", b"\n", b"no newline", b"a\r\nb\r\n", b"\x00\xff" * 500, b"blob missing\n", b"x" * 5_000_000]
    commit = git.commit({f"{number}.bin": File(content) for number, content in enumerate(contents)})
    wanted = {git.blob_id(commit, f"{number}.bin"): content for number, content in enumerate(contents)}

    assert dict(source.blobs(repository, commit, list(wanted), soon)) == wanted


def test_only_the_blobs_asked_for_come_each_once(
    git: GitRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    commit = git.commit({"a.yaml": "a: 1", "b.yaml": "b: 1", "same-as-a.yaml": "a: 1"})
    a = git.blob_id(commit, "a.yaml")

    assert list(source.blobs(repository, commit, [a, a, a], soon)) == [(a, b"a: 1")]
    assert list(source.blobs(repository, commit, [], soon)) == []


def test_thousands_of_blobs_come_whole(
    git: GitRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    commit = git.commit(many_files(3000))
    wanted = {entry.object_id for entry in source.tree(repository, commit, soon).entries}

    read = {}
    for blob_id, content in source.blobs(repository, commit, wanted, soon):
        read[blob_id] = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()

    assert len(read) == 3000
    assert read == {blob_id: blob_id for blob_id in wanted}


@pytest.mark.parametrize("missing", ["9" * 40, "not an id", "--all", "9" * 40 + "\n" + "8" * 40])
def test_a_missing_blob_is_a_failure_and_never_an_empty_file(
    git: GitRepository, source: GitSource, repository: Repository, soon: Deadline, missing: str
) -> None:
    commit = git.commit({"a.yaml": "a: 1"})

    with pytest.raises(SourceFailed):
        dict(source.blobs(repository, commit, [git.blob_id(commit, "a.yaml"), BlobId(missing)], soon))


def test_a_tree_is_not_a_blob(git: GitRepository, source: GitSource, repository: Repository, soon: Deadline) -> None:
    commit = git.commit({"a.yaml": "a: 1"})

    with pytest.raises(SourceFailed):
        dict(source.blobs(repository, commit, [BlobId(git.tree_id(commit))], soon))


def test_reading_can_be_given_up_after_the_first_blob(
    git: GitRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    commit = git.commit(many_files(500))
    wanted = [entry.object_id for entry in source.tree(repository, commit, soon).entries]

    reading = source.blobs(repository, commit, wanted, soon)
    next(reading)
    reading.close()  # type: ignore[attr-defined]

    assert len(list(source.blobs(repository, commit, wanted, soon))) == 500


# -- History ---------------------------------------------------------------------------------------------------------


def test_ancestors_are_the_commit_and_its_history(
    git: GitRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    first = git.commit({"a.yaml": "a: 1"})
    second = git.commit({"a.yaml": "a: 2"})
    third = git.commit({"a.yaml": "a: 3"})
    aside = git.commit({"a.yaml": "a: 4"}, branch="aside", onto=second)
    foreign = git.commit({"a.yaml": "a: 5"}, branch="foreign", onto="")

    def is_ancestor(ancestor: CommitId, descendant: CommitId) -> bool:
        return source.is_ancestor(repository, ancestor, descendant, soon)

    assert is_ancestor(third, third)
    assert is_ancestor(first, third)
    assert is_ancestor(second, aside)
    assert not is_ancestor(third, first)
    assert not is_ancestor(aside, third)
    assert not is_ancestor(foreign, third)


@pytest.mark.parametrize("unknown", [UNKNOWN, ABSENT, CommitId("--all")])
def test_nothing_is_an_ancestor_of_an_unknown_commit_nor_that_of_anything(
    git: GitRepository, source: GitSource, repository: Repository, soon: Deadline, unknown: CommitId
) -> None:
    commit = git.commit({"a.yaml": "a: 1"})

    assert not source.is_ancestor(repository, unknown, commit, soon)
    assert not source.is_ancestor(repository, commit, unknown, soon)
    assert not source.is_ancestor(repository, unknown, unknown, soon)


# -- Trouble ---------------------------------------------------------------------------------------------------------


@questions
def test_a_removed_repository_is_a_failure_and_never_absence(
    hosted: Hosted, git: GitRepository, source: GitSource, repository: Repository, soon: Deadline, ask: Ask
) -> None:
    commit = git.commit({"a.yaml": "a: 1"})
    hosted.remove()

    with pytest.raises((SourceFailed, RepositoryRefused)) as raised:
        ask(source, repository, commit, soon)
    assert not isinstance(raised.value, CommitMissing)
    assert raised.value.hint


@questions
def test_nothing_begins_after_the_deadline(
    git: GitRepository, source: GitSource, repository: Repository, ask: Ask
) -> None:
    commit = git.commit({"a.yaml": "a: 1"})

    with pytest.raises(SourceFailed, match="time"):
        ask(source, repository, commit, Deadline.after(timedelta(0)))


@questions
def test_no_question_outlasts_its_deadline(hanging: Hosted, ask: Ask) -> None:
    commit = hanging.git.commit({"a.yaml": "a: 1"})
    started = time.monotonic()

    with pytest.raises(SourceFailed, match="did not answer within"):
        ask(hanging.source, hanging.repository, commit, Deadline.after(timedelta(seconds=0.2)))
    assert time.monotonic() - started < 10


def test_one_source_serves_several_threads(
    git: GitRepository, source: GitSource, repository: Repository, soon: Deadline
) -> None:
    commits = [git.commit({f"{number}.yaml": f"a: {number}"}, branch=f"b{number}", onto="") for number in range(8)]

    with ThreadPoolExecutor(8) as threads:
        trees = list(threads.map(lambda commit: source.tree(repository, commit, soon), commits))

    assert [[entry.path for entry in tree.entries] for tree in trees] == [[f"{n}.yaml"] for n in range(8)]
