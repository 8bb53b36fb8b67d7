"""What is made of secrets, and the net around it."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from emulators import identity
from emulators.azure_devops import Emulator
from psycopg import sql
from psycopg.conninfo import make_conninfo
from support.leaks import SECRETS, Net, basic, listening
from support.postgres import Server
from support.secretive import CLIENT_ID

from shared.identity import managed_identity


@pytest.fixture(scope="session")
def role(postgres_server: Server) -> Iterator[str]:
    """Whose password is one of the secrets."""
    role = sql.Identifier("secretive")
    with closing(psycopg.connect(postgres_server.conninfo, autocommit=True)) as admin:
        password = sql.Literal(SECRETS["database-apart"])
        admin.execute(sql.SQL("CREATE ROLE {} SUPERUSER LOGIN PASSWORD {}").format(role, password))
        yield "secretive"
        admin.execute(sql.SQL("DROP ROLE {}").format(role))


@pytest.fixture
def database(database: str, role: str) -> str:
    return make_conninfo(database, user=role, password=SECRETS["database-apart"])


@pytest.fixture
def net(capfd: pytest.CaptureFixture[str]) -> Iterator[Net]:
    """Ends with a look at everything that a test let out."""
    net = Net()
    with listening(net):
        yield net
        net.note("output", *capfd.readouterr())
    net.holds()


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(tmp_path / "organisation", pace=0.001) as emulator:
        emulator.credentials = {basic("", SECRETS["pat"]), f"Bearer {SECRETS['token']}"}
        yield emulator


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[identity.Identity]:
    """Who gives this app's identity its tokens."""
    with identity.running(SECRETS["token"], CLIENT_ID) as endpoint:
        endpoint.header = SECRETS["identity-header"]
        monkeypatch.setenv("IDENTITY_ENDPOINT", endpoint.url)
        monkeypatch.setenv("IDENTITY_HEADER", endpoint.header)
        managed_identity.cache_clear()
        yield endpoint
        managed_identity.cache_clear()
