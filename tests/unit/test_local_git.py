"""What is particular to reading Git through its executable; what every source must do is in the contract suite."""

import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from support.git import GitRepository, environment, git, many_files
from support.git_http import GitHost, serving
from support.git_sources import local_source, registered

from shared.errors import CommitMissing, SourceError, SourceFailed, SourceRefused, SourceThrottled
from shared.local_git.source import LocalGitSource
from shared.model import ABSENT, BlobId, BranchName, CommitId, Deadline

MAIN = BranchName("main")


@pytest.fixture
def soon() -> Deadline:
    return Deadline.after(timedelta(seconds=30))


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    return GitRepository(tmp_path / "repository.git")


@pytest.fixture
def host(tmp_path: Path, repository: GitRepository) -> Iterator[GitHost]:
    with serving(tmp_path) as host:
        yield host


def script(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)
    return path


# -- A call ends -----------------------------------------------------------------------------------------------------


def test_without_git_the_hint_says_to_install_it(repository: GitRepository, soon: Deadline) -> None:
    source = LocalGitSource(timeout=timedelta(seconds=5), environment=environment(), git="git-is-not-here")

    with pytest.raises(SourceFailed) as raised:
        source.heads(registered(str(repository.path)), soon)
    assert "Install Git" in (raised.value.hint or "")


def test_the_adapters_own_timeout_ends_all_that_git_started(
    tmp_path: Path, repository: GitRepository, soon: Deadline
) -> None:
    held = tmp_path / "held-open-by-the-child-of-git"
    os.mkfifo(held)
    reader = os.open(held, os.O_RDONLY | os.O_NONBLOCK)
    hanging = script(tmp_path / "hanging-git", f"(echo started; sleep 20) > {shlex.quote(str(held))} &", "wait")
    source = LocalGitSource(timeout=timedelta(seconds=0.3), environment=environment(), git=str(hanging))
    started = time.monotonic()

    with pytest.raises(SourceFailed, match=r"did not answer within 0\.3 s"):
        source.heads(registered(str(repository.path)), soon)
    os.set_blocking(reader, True)
    with open(reader, "rb") as lines:
        assert lines.read() == b"started\n"
    assert time.monotonic() - started < 5


def test_a_reader_that_hangs_is_ended_in_the_middle_of_its_answer(
    tmp_path: Path, repository: GitRepository, soon: Deadline
) -> None:
    half = script(tmp_path / "half-git", "printf '%040d blob 9\\nhal' 1", "sleep 60")
    source = LocalGitSource(timeout=timedelta(seconds=0.3), environment=environment(), git=str(half))

    with pytest.raises(SourceFailed, match="did not answer"):
        list(source.blobs(registered(str(repository.path)), CommitId("1" * 40), [BlobId("0" * 39 + "1")], soon))


@pytest.mark.parametrize("answer", ["", "%040d bl", "%040d blob 9\\n", "%040d blob 9\\nhalf"])
def test_an_answer_that_is_cut_off_is_a_failure(
    tmp_path: Path, repository: GitRepository, soon: Deadline, answer: str
) -> None:
    half = script(tmp_path / "half-git", f"printf '{answer}' 1")
    source = LocalGitSource(timeout=timedelta(seconds=5), environment=environment(), git=str(half))

    with pytest.raises(SourceFailed, match="0 of 1 blobs"):
        list(source.blobs(registered(str(repository.path)), CommitId("1" * 40), [BlobId("0" * 39 + "1")], soon))


def test_nothing_is_left_behind(
    tmp_path: Path, repository: GitRepository, host: GitHost, soon: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    commit = repository.commit(many_files(50))
    source, at_host = local_source(), registered(f"{host.url}/repository.git")

    blob_ids = [entry.object_id for entry in source.tree(at_host, commit, soon).entries]
    reading = source.blobs(at_host, commit, blob_ids, soon)
    next(reading)
    assert list(temporary.iterdir())
    reading.close()  # type: ignore[attr-defined]
    with pytest.raises(CommitMissing):
        source.tree(at_host, CommitId("9" * 40), soon)

    assert not list(temporary.iterdir())


# -- Few round trips -------------------------------------------------------------------------------------------------


def test_every_question_to_a_host_is_two_requests_however_many_files(
    repository: GitRepository, host: GitHost, soon: Deadline
) -> None:
    commit = repository.commit(many_files(300))
    source, at_host = local_source(), registered(f"{host.url}/repository.git")

    def requests() -> int:
        count = len(host.requests)
        host.requests.clear()
        return count

    source.head(at_host, MAIN, soon)
    assert requests() == 2
    source.tree_id(at_host, commit, soon)
    assert requests() == 2
    tree = source.tree(at_host, commit, soon)
    assert requests() == 2
    assert len(list(source.blobs(at_host, commit, [entry.object_id for entry in tree.entries], soon))) == 300
    assert requests() == 2


def test_a_host_of_the_old_protocol_gives_what_its_branches_name(
    repository: GitRepository, host: GitHost, soon: Deadline
) -> None:
    host.protocol = 0
    repository.git("config", "uploadpack.allowFilter", "false")
    old = repository.commit({"a.yaml": "a: 1"})
    new = repository.commit({"a.yaml": "a: 2"})
    source, at_host = local_source(), registered(f"{host.url}/repository.git")

    assert source.head(at_host, MAIN, soon) == new
    assert source.tree_id(at_host, new, soon) == repository.tree_id(new)
    (entry,) = source.tree(at_host, new, soon).entries
    assert list(source.blobs(at_host, new, [entry.object_id], soon)) == [(entry.object_id, b"a: 2")]
    assert source.is_ancestor(at_host, old, new, soon)
    with pytest.raises(CommitMissing):
        source.tree(at_host, old, soon)


# -- Failures are told apart -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (200, SourceRefused),
        (203, SourceRefused),
        (401, SourceRefused),
        (403, SourceRefused),
        (404, SourceFailed),
        (429, SourceThrottled),
        (500, SourceFailed),
        (503, SourceFailed),
    ],
)
def test_what_a_host_answers_instead_of_git_is_told_apart(
    host: GitHost, soon: Deadline, status: int, error: type[SourceError]
) -> None:
    host.status = status
    at_host = registered(f"{host.url}/repository.git")

    with pytest.raises(SourceError) as raised:
        local_source().head(at_host, MAIN, soon)
    assert type(raised.value) is error
    with pytest.raises(SourceError) as raised:
        local_source().tree(at_host, CommitId("1" * 40), soon)
    assert type(raised.value) is error


@pytest.mark.parametrize("protocol", [0, 2])
def test_an_answer_of_a_host_that_is_cut_off_is_never_absence(
    repository: GitRepository, host: GitHost, soon: Deadline, protocol: int
) -> None:
    commit = repository.commit({"a.yaml": "a: 1"})
    repository.set_head("zebra", commit)
    host.protocol = protocol
    source, at_host = local_source(), registered(f"{host.url}/repository.git")

    for cut in range(0, 600, 23):
        host.cut = cut
        try:
            assert source.heads(at_host, soon) == {"main": commit, "zebra": commit}, cut
        except SourceError:
            continue


def test_a_host_that_does_not_listen_is_a_failure(soon: Deadline) -> None:
    with pytest.raises(SourceFailed, match="Git says"):
        local_source().heads(registered("http://127.0.0.1:9/repository.git"), soon)


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_credentials_of_a_url_are_never_told(host: GitHost, soon: Deadline, status: int) -> None:
    host.status = status
    url = host.url.replace("://", "://me:s3cr3t@") + "/repository.git"

    with pytest.raises(SourceError) as raised:
        local_source().heads(registered(url), soon)
    assert "s3cr3t" not in f"{raised.value} {raised.value.hint} {raised.value.__cause__!r}"


def test_credentials_of_a_url_that_is_refused_are_never_told(soon: Deadline) -> None:
    with pytest.raises(SourceFailed) as raised:
        local_source().heads(registered("ftp://me:s3cr3t@example.com/repository.git"), soon)
    assert "s3cr3t" not in str(raised.value)


@pytest.mark.parametrize("source", ["git@example.com:team/repository.git", "ssh://git@example.com/team/repository.git"])
def test_a_refused_ssh_key_is_told_as_refused(tmp_path: Path, soon: Deadline, source: str) -> None:
    ssh = script(tmp_path / "ssh", "echo 'git@example.com: Permission denied (publickey).' >&2", "exit 255")
    settings = {**environment(), "GIT_SSH_COMMAND": shlex.quote(str(ssh)), "GIT_SSH_VARIANT": "ssh"}

    with pytest.raises(SourceRefused, match="publickey") as raised:
        LocalGitSource(timeout=timedelta(seconds=5), environment=settings).heads(registered(source), soon)
    assert raised.value.hint


# -- What is not believed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "",
        "-",
        "--upload-pack=touch {}",
        "ext::touch {}",
        "ext::sh -c touch% {}",
        "fd::17",
        "http::http://127.0.0.1:9/x",
        "ftp://x/y",
        "HTTP://x",
        "a\nb",
    ],
)
def test_a_source_that_git_would_read_as_something_else_is_refused(tmp_path: Path, soon: Deadline, source: str) -> None:
    witness = tmp_path / "witness"
    repository = registered(source.format(witness))

    with pytest.raises(SourceFailed, match="not a Git source"):
        local_source().heads(repository, soon)
    with pytest.raises(SourceFailed, match="not a Git source"):
        local_source().tree(repository, CommitId("1" * 40), soon)
    assert not witness.exists()


@pytest.mark.parametrize("source", ["C:\\repositories\\sample", "D:/sample", "./no/such/folder", "no-such-folder"])
def test_a_path_is_never_asked_over_the_network(soon: Deadline, source: str) -> None:
    with pytest.raises(SourceFailed, match="There is no folder"):
        local_source().heads(registered(source), soon)


def test_a_folder_inside_a_repository_is_not_that_repository(tmp_path: Path, soon: Deadline) -> None:
    outer = GitRepository(tmp_path / "outer", bare=False)
    outer.commit({"a.yaml": "a: 1"})
    (outer.path / "inner").mkdir()

    with pytest.raises(SourceFailed, match="not a git repository"):
        local_source().heads(registered(str(outer.path / "inner")), soon)


def test_variables_of_git_in_the_callers_environment_do_not_redirect_a_read(
    tmp_path: Path, repository: GitRepository, soon: Deadline
) -> None:
    commit = repository.commit({"a.yaml": "a: 1"})
    other = GitRepository(tmp_path / "other.git")
    caller = {
        "GIT_DIR": str(other.path),
        "GIT_OBJECT_DIRECTORY": str(other.path / "objects"),
        "GIT_NAMESPACE": "elsewhere",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "extensions.objectFormat",
        "GIT_CONFIG_VALUE_0": "sha256",
        "GIT_TRACE": "1",
    }
    source = LocalGitSource(timeout=timedelta(seconds=5), environment={**environment(), **caller})

    assert source.heads(registered(str(repository.path)), soon) == {"main": commit}
    assert len(source.tree(registered(str(repository.path)), commit, soon).entries) == 1


def test_replaced_objects_are_read_as_their_ids_say(repository: GitRepository, soon: Deadline) -> None:
    commit = repository.commit({"a.yaml": "a: 1", "b.yaml": "b: 1"})
    a, b = repository.blob_id(commit, "a.yaml"), repository.blob_id(commit, "b.yaml")
    repository.git("replace", a, b)

    assert dict(local_source().blobs(registered(str(repository.path)), commit, [a], soon)) == {a: b"a: 1"}


def test_the_configuration_of_a_repository_starts_nothing(
    tmp_path: Path, repository: GitRepository, soon: Deadline
) -> None:
    commit = repository.commit({"a.yaml": "a: 1"})
    witness = tmp_path / "witness"
    touch = script(tmp_path / "touch", f"touch {shlex.quote(str(witness))}")
    for name, value in {
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.promisor": "true",
        "remote.origin.url": f"file://{tmp_path}/elsewhere.git",
        "remote.origin.uploadpack": str(touch),
        "protocol.allow": "always",
        "core.fsmonitor": str(touch),
        "core.sshCommand": str(touch),
        "core.pager": str(touch),
    }.items():
        repository.git("config", name, value)
    shutil.rmtree(repository.path / "objects")
    (repository.path / "objects").mkdir()
    source, here = local_source(), registered(str(repository.path))

    assert source.heads(here, soon) == {"main": commit}
    with pytest.raises(CommitMissing):
        source.tree(here, commit, soon)
    with pytest.raises(SourceFailed, match="no blob"):
        list(source.blobs(here, commit, [BlobId("1" * 40)], soon))
    assert not witness.exists()


def test_a_broken_ref_is_not_absence(repository: GitRepository, soon: Deadline) -> None:
    repository.commit({"a.yaml": "a: 1"})
    other = repository.commit({"a.yaml": "a: 2"}, branch="other")
    (repository.path / "refs" / "heads" / "main").write_text("half a ref\n")
    source, here = local_source(), registered(str(repository.path))

    with pytest.raises(SourceFailed, match="broken ref"):
        source.head(here, MAIN, soon)
    with pytest.raises(SourceFailed, match="broken ref"):
        source.heads(here, soon)
    assert source.head(here, BranchName("other"), soon) == other


def test_a_branch_that_points_at_no_branch_is_absent(repository: GitRepository, soon: Deadline) -> None:
    main = repository.commit({"a.yaml": "a: 1"})
    repository.git("symbolic-ref", "refs/heads/alias", "refs/heads/gone")
    here = registered(str(repository.path))

    assert local_source().head(here, BranchName("alias"), soon) == ABSENT
    assert local_source().heads(here, soon) == {"main": main}


def test_a_linked_work_tree_is_read_like_its_repository(tmp_path: Path, soon: Deadline) -> None:
    repository = GitRepository(tmp_path / "main tree", bare=False)
    commit = repository.commit({"a.yaml": "a: 1"})
    repository.git("worktree", "add", "--quiet", "-b", "linked", str(tmp_path / "linked"), commit)

    assert local_source().heads(registered(str(tmp_path / "linked")), soon) == {"main": commit, "linked": commit}


def test_a_repository_with_other_ids_is_told_as_not_supported(tmp_path: Path, soon: Deadline) -> None:
    path = tmp_path / "sha256.git"
    git("init", "--quiet", "--bare", "--object-format=sha256", "--initial-branch=main", path)
    stream = b"commit refs/heads/main\ncommitter A <a@example.com> 1 +0000\ndata 1\nx\ndone\n"
    git(f"--git-dir={path}", "fast-import", "--quiet", "--done", stdin=stream)

    with pytest.raises(SourceFailed, match="SHA-256"):
        local_source().heads(registered(str(path)), soon)
