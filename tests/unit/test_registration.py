"""What may be registered, and what is refused by the name of its field."""

from typing import Any, cast

import pytest

from shared.errors import InvalidRequest
from shared.model import BranchName, Deadline, Located, Registration, RepoId, SourceName
from shared.ports import Registry
from shared.registration import Registrar


class Kept:
    """Keeps what it is given."""

    def put(self, repo_id: RepoId, registration: Registration, *, expected: int | None) -> tuple[RepoId, Registration]:
        return repo_id, registration


def put(repo_id: str = "id", **fields: Any) -> Registration:
    return put_by(Registrar(cast(Registry, Kept()), branches=[BranchName("main")]), repo_id, **fields)[1]


def put_by(registrar: Registrar, repo_id: str | None, **fields: Any) -> tuple[RepoId, Registration]:
    given = {"name": "team", "source": "/srv/git/team", "branches": (), **fields}
    kept = registrar.put(RepoId(repo_id) if repo_id else None, Registration(**given), expected=None)
    return cast("tuple[RepoId, Registration]", kept)


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
        "/srv/_git/x",
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


ORGANISATION = SourceName("https://dev.azure.com/contoso")
GUID = RepoId("278d5cd2-584d-4b63-824a-2ba458937249")


class Contoso:
    """A directory of one repository."""

    def find(self, address: str, deadline: Deadline) -> Located | None:
        assert 0 < deadline.remaining < 60
        if not address.startswith(f"{ORGANISATION}/"):
            return None
        return Located(GUID, ORGANISATION, "Data Platform", "orders")


class TestAnAddressOfAHostThatGivesIds:
    ADDRESS = f"{ORGANISATION}/data/_git/orders"

    @pytest.fixture
    def registrar(self) -> Registrar:
        kept = cast(Registry, Kept())
        return Registrar(kept, branches=[BranchName("main")], directory=Contoso(), organisation=ORGANISATION)

    @pytest.mark.parametrize("repo_id", [None, GUID, "team"])
    def test_is_stored_as_the_id_and_the_organisation(self, registrar: Registrar, repo_id: str | None) -> None:
        kept_id, kept = put_by(registrar, repo_id, source=f" {self.ADDRESS} ")
        assert (kept_id, kept.source, kept.project) == (GUID, ORGANISATION, "Data Platform")

    def test_leaves_the_project_that_a_person_gave(self, registrar: Registrar) -> None:
        assert put_by(registrar, None, source=self.ADDRESS, project="ours")[1].project == "ours"

    @pytest.mark.parametrize("repo_id", ["other", "11111111-584d-4b63-824a-2ba458937249"])
    def test_is_not_registered_under_another_id(self, registrar: Registrar, repo_id: str) -> None:
        with pytest.raises(InvalidRequest, match=GUID) as raised:
            put_by(registrar, repo_id, source=self.ADDRESS)
        assert raised.value.field == "repo_id"

    def test_leaves_other_sources_alone(self, registrar: Registrar) -> None:
        assert put_by(registrar, None)[0] == "team"
        assert put_by(registrar, "id")[1].source == "/srv/git/team"

    @pytest.mark.parametrize("source", [ORGANISATION, "https://DEV.azure.com/Contoso/"])
    def test_the_organisation_itself_is_a_source_for_a_guid(self, registrar: Registrar, source: str) -> None:
        assert put_by(registrar, GUID.upper(), source=source) == (GUID, put_by(registrar, GUID, source=source)[1])
        assert put_by(registrar, GUID, source=source)[1].source == ORGANISATION
        with pytest.raises(InvalidRequest, match="'orders'") as raised:
            put_by(registrar, "orders", source=source)
        assert raised.value.field == "repo_id"
