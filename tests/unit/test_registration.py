"""What may be registered, and what is refused by the name of its field."""

from typing import Any, cast

import pytest

from shared.errors import InvalidRequest
from shared.model import BranchName, Registration, RepoId, Repository, SourceName
from shared.ports import Registry
from shared.registration import Registrar


class Kept:
    """Keeps what it is given."""

    def put(self, repo_id: RepoId, registration: Registration, *, expected: int | None) -> Registration:
        return registration


def put(repo_id: str = "id", **fields: Any) -> Registration:
    registrar = Registrar(cast(Registry, Kept()), branches=[BranchName("main")])
    given = {"name": "team", "source": "/srv/git/team", "branches": (), **fields}
    kept: Repository | Registration = registrar.put(RepoId(repo_id), Registration(**given), expected=None)
    assert isinstance(kept, Registration)
    return kept


@pytest.mark.parametrize(
    "source",
    [
        "https://dev.azure.com/org/a%20project/_git/repository",
        "http://127.0.0.1:8080/x.git",
        "git://127.0.0.1:9418/x",
        "ssh://git@host:22/x",
        "ssh://host/x",
        "git@host:team/x.git",
        "host.example:path/x",
        "file:///srv/x",
        "/srv/git/with a space",
        "C:\\git\\x",
        "C:/git/x",
        "\\\\server\\share",
    ],
)
def test_paths_and_git_urls_are_sources(source: str) -> None:
    assert put(source=SourceName(source)).source == source


@pytest.mark.parametrize(
    "source",
    [
        "",
        "relative/path",
        "-option",
        "ext::sh -c id",
        "fd::3",
        "https://",
        "https://-x",
        "https://user:SECRET@host/x",
        "https://SECRET@host/x",
        "https://user:SECRET/PW@host/x",
        "https://user:SECRET PW@host/x",
        "https:/user:SECRET@host/x",
        "user:SECRET@host/x",
        "https://host/x?token=SECRET",
        "ssh://user:SECRET@host/x",
        "ssh://-oProxyCommand=SECRET",
        "git@-oProxyCommand=SECRET:p",
        "/a\nb",
        "/a\0b",
        "/" + "a" * 2000,
    ],
)
def test_anything_else_is_refused_and_not_repeated(source: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        put(source=SourceName(source))
    assert raised.value.field == "source"
    assert "SECRET" not in f"{raised.value.message}{raised.value.hint}"


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("name", {"name": "5febef5a-833d-4e14-b9c0-14cb638f91e6"}),
        ("name", {"name": "a b"}),
        ("name", {"name": "team\n"}),
        ("repo_id", {"repo_id": "x\n"}),
        ("repo_id", {"repo_id": "../x"}),
        ("branches", {"branches": ("refs/heads/main",)}),
        ("branches", {"branches": ("a..b",)}),
        ("pattern", {"pattern": "a/*.yaml"}),
        ("pattern", {"pattern": "*" * 251}),
        ("root", {"root": "a/../b"}),
        ("suspended", {"suspended": " "}),
    ],
)
def test_the_field_that_cannot_be_used_is_named(field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as raised:
        put(**fields)
    assert raised.value.field == field


def test_what_is_left_out_is_filled_in() -> None:
    assert put(root="/a/b/").root == "a/b"
    assert put().branches == ("main",)
    assert put(branches=("dev", "dev", "release/1.0")).branches == ("dev", "release/1.0")
