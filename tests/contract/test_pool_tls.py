"""How connections are made: who is told what, over which TLS, and how soon the failure of one is known."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import certifi
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from support.stores import PATIENCE, started
from support.tls import SSL_REQUEST, Authority, Proxy, proxied

from shared.errors import DatabaseUnavailable, SecretUnavailable, SettingsInvalid
from shared.postgres import pool as pool_module
from shared.postgres.connecting import secured
from shared.postgres.migrate import migrate
from shared.postgres.pool import Pool

SOON = PATIENCE / 2
"""Seconds. Below what a caller waits for a connection here, and far above what a refusal takes."""
TOKEN = "the-token-of-this-app"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"))


@pytest.fixture
def proxy(database: str, authority: Authority) -> Iterator[Proxy]:
    """The database over TLS, called `database.test`."""
    with proxied(database, authority.context("database.test")) as running:
        yield running


def identified(conninfo: str) -> str:
    with closing(Pool(conninfo)) as pool:
        [(name,)] = pool.rows("SELECT current_user::text")
    return str(name)


def refusal(conninfo: str, **options: object) -> DatabaseUnavailable:
    with closing(Pool(conninfo, **options)) as pool, pytest.raises(DatabaseUnavailable) as caught:  # type: ignore[arg-type]
        pool.rows("SELECT 1")
    return caught.value


class TestCertificates:
    def test_a_server_is_verified_by_the_bundle_that_the_url_names(self, proxy: Proxy, authority: Authority) -> None:
        for sslmode in ("verify-full", "verify-ca"):
            assert identified(make_conninfo(proxy.conninfo, sslmode=sslmode, sslrootcert=str(authority.bundle)))
        # A pool whose first connection takes long opens a second one meanwhile.
        assert proxy.encrypted >= 2
        assert bytes(proxy.in_the_clear) == SSL_REQUEST * proxy.encrypted

    def test_without_one_by_the_bundle_that_comes_with_the_app(
        self, proxy: Proxy, authority: Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        conninfo = make_conninfo(proxy.conninfo, sslmode="verify-full")
        assert "could not be verified" in refusal(conninfo).message, "nobody vouches for ours"
        monkeypatch.setattr(certifi, "where", lambda: str(authority.bundle))
        assert identified(conninfo)
        assert migrate(conninfo) == []
        monkeypatch.setenv("PGSSLMODE", "verify-full")
        assert identified(proxy.conninfo)
        assert proxy.encrypted == 3

    def test_that_bundle_has_the_authorities_of_azure(self) -> None:
        bundle = Path(certifi.where()).read_text(encoding="utf-8")
        for name in ("DigiCert Global Root G2", "Microsoft RSA Root Certificate Authority 2017"):
            assert f"CN={name} " in bundle

    def test_a_bundle_of_the_environment_stays(self, monkeypatch: pytest.MonkeyPatch, authority: Authority) -> None:
        monkeypatch.setenv("PGSSLROOTCERT", str(authority.bundle))
        assert "sslrootcert" not in secured("postgresql://app@database.test/x?sslmode=verify-full")

    def test_nothing_is_added_where_nothing_is_verified(self) -> None:
        for query in ("", "?sslmode=disable", "?sslmode=require"):
            conninfo = f"postgresql://app@database.test:1/x{query}"
            assert conninfo_to_dict(secured(conninfo)) == conninfo_to_dict(conninfo)

    @pytest.mark.parametrize("sslmode", ["verify-full", "verify-ca", "require"])
    def test_an_unknown_authority_is_refused_at_once(self, proxy: Proxy, other: Authority, sslmode: str) -> None:
        begun = time.monotonic()
        error = refusal(make_conninfo(proxy.conninfo, sslmode=sslmode, sslrootcert=str(other.bundle)))
        assert time.monotonic() - begun < SOON
        assert error.message == "The certificate of the database's server could not be verified."
        assert "sslrootcert" in (error.hint or "")
        assert proxy.encrypted == 0

    def test_a_bundle_that_is_not_there_is_no_bundle(self, proxy: Proxy, tmp_path: Path) -> None:
        missing = str(tmp_path / "missing.pem")
        error = refusal(make_conninfo(proxy.conninfo, sslmode="verify-full", sslrootcert=missing))
        assert "sslrootcert" in (error.hint or "")

    def test_a_certificate_of_another_host_is_refused(self, database: str, authority: Authority) -> None:
        with proxied(database, authority.context("elsewhere.test")) as proxy:
            options = {"sslrootcert": str(authority.bundle)}
            error = refusal(make_conninfo(proxy.conninfo, sslmode="verify-full", **options))
        assert "for another host name" in error.message
        assert "as its certificate does" in (error.hint or "")

    def test_a_server_without_tls_is_told_nothing(self, database: str, authority: Authority) -> None:
        with proxied(database, None) as proxy:
            options = {"sslmode": "verify-full", "sslrootcert": str(authority.bundle)}
            error = refusal(make_conninfo(proxy.conninfo, **options))
        assert error.message == "The database's server speaks no TLS."
        assert bytes(proxy.in_the_clear).replace(SSL_REQUEST, b"") == b""


class TestTokens:
    """A token is who this app is: nobody is sent it who did not prove to be the database."""

    @pytest.fixture
    def role(self, own_database: str) -> Iterator[Callable[[str], None]]:
        """Makes the role `entra` whose password is the token that is given, from then on."""

        def accept(token: str) -> None:
            with closing(psycopg.connect(own_database, autocommit=True)) as admin:
                admin.execute(sql.SQL("ALTER ROLE entra PASSWORD {}").format(sql.Literal(token)))

        with closing(psycopg.connect(own_database, autocommit=True)) as admin:
            admin.execute("CREATE ROLE entra LOGIN")
            admin.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO entra")
            yield accept
            admin.execute("DROP OWNED BY entra")
            admin.execute("DROP ROLE entra")

    def test_every_new_connection_has_the_token_of_now_and_open_ones_live_on(
        self, own_database: str, authority: Authority, role: Callable[[str], None]
    ) -> None:
        token = TOKEN
        role(token)
        with proxied(own_database, authority.context("database.test")) as proxy:
            conninfo = make_conninfo(
                proxy.conninfo, user="entra", password="another", sslrootcert=str(authority.bundle)
            )
            with closing(Pool(conninfo, size=2, is_token_login=True, password=lambda: token)) as pool:
                with pool.connection() as first:
                    token = "the-next-token"
                    role(token)
                    with pool.connection() as second:
                        assert second is not first
                        ours = [one.execute("SELECT current_user::text").fetchone() for one in (first, second)]
                assert ours == [("entra",)] * 2
        # A pool whose first connection takes long opens a second one meanwhile.
        assert proxy.encrypted >= 2
        assert bytes(proxy.in_the_clear) == SSL_REQUEST * proxy.encrypted

    def test_tls_is_verified_in_full_when_the_url_says_nothing(
        self, proxy: Proxy, database: str, authority: Authority, other: Authority
    ) -> None:
        for bundle in (other.bundle, Path(certifi.where())):
            conninfo = make_conninfo(proxy.conninfo, sslrootcert=str(bundle))
            error = refusal(conninfo, is_token_login=True, password=lambda: TOKEN)
            assert "could not be verified" in error.message
        assert proxy.encrypted == 0
        with proxied(database, authority.context("elsewhere.test")) as impostor:
            conninfo = make_conninfo(impostor.conninfo, sslrootcert=str(authority.bundle))
            error = refusal(conninfo, is_token_login=True, password=lambda: TOKEN)
        assert "another host name" in error.message

    def test_a_server_without_tls_is_not_sent_it(self, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PGSSLMODE", "disable")
        with proxied(database, None) as proxy:
            error = refusal(proxy.conninfo, is_token_login=True, password=lambda: TOKEN)
        assert "no TLS" in error.message
        assert bytes(proxy.in_the_clear).replace(SSL_REQUEST, b"") == b""

    @pytest.mark.parametrize("sslmode", ["disable", "allow", "prefer", "require", "verify-ca"])
    @pytest.mark.parametrize(
        "where",
        [
            "//app@database.test/x?",
            "//app@database.test/x?sslrootcert=own.pem&",
            "//app@127.0.0.1,database.test/x?",
            "//app@localhost/x?hostaddr=192.0.2.1&",
            "///x?user=app&",
            "//app@localhost/x?service=production&",
        ],
    )
    def test_a_url_that_verifies_less_is_refused(self, where: str, sslmode: str) -> None:
        with pytest.raises(SettingsInvalid) as caught:
            Pool(f"postgresql:{where}sslmode={sslmode}", is_token_login=True)
        [problem] = caught.value.problems
        assert f"sslmode={sslmode}" in problem
        assert "DATABASE_LOGIN=entra" in problem

    @pytest.mark.parametrize("where", ["//app@127.0.0.1", "//app@[::1]", "//app@localhost", "//app@%2Frun%2Fpostgres"])
    def test_this_machine_may_be_told_without(self, where: str) -> None:
        assert "sslmode=disable" in secured(f"postgresql:{where}/x?sslmode=disable", is_token_login=True)

    def test_the_environment_does_not_lead_it_astray(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PGHOSTADDR", "192.0.2.1")
        with pytest.raises(SettingsInvalid):
            secured("postgresql://app@localhost/x?sslmode=disable", is_token_login=True)
        assert "gssencmode=disable" in secured("postgresql://app@x/x?gssencmode=prefer", is_token_login=True)

    def test_a_url_without_the_role_is_refused(self) -> None:
        with pytest.raises(SettingsInvalid, match="names no user") as caught:
            Pool("postgresql://database.test/x", is_token_login=True)
        assert "role that was made for this app's identity" in caught.value.problems[0]

    def test_a_url_that_nobody_can_read_is_not_quoted(self) -> None:
        with pytest.raises(SettingsInvalid) as caught:
            Pool("postgresql://app:se%zzcret@database.test/x")
        assert "cret" not in repr(caught.value)
        assert caught.value.__cause__ is None


class TestRefusals:
    """Known at once, and told by what somebody can do."""

    @pytest.mark.parametrize(
        "wrong",
        [{"password": "wrong-password"}, {"user": "nobody"}, {"dbname": "nothing"}],
        ids=["password", "user", "db"],
    )
    def test_a_refused_login_is_told_as_that_at_once(
        self, database: str, wrong: dict[str, str], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        begun = time.monotonic()
        error = refusal(make_conninfo(database, **wrong))
        assert time.monotonic() - begun < SOON
        assert error.message == "The database refuses the login."
        assert "DATABASE_LOGIN=entra" in (error.hint or "")
        assert "FATAL" in caplog.text
        assert "wrong-password" not in caplog.text + repr((error, error.__cause__, error.hint))

    def test_a_role_that_may_not_log_in_is_refused_too(self, own_database: str) -> None:
        with closing(psycopg.connect(own_database, autocommit=True)) as admin:
            admin.execute(f"CREATE ROLE silent NOLOGIN PASSWORD '{TOKEN}'")
            try:
                assert (
                    "refuses the login" in refusal(make_conninfo(own_database, user="silent", password=TOKEN)).message
                )
            finally:
                admin.execute("DROP ROLE silent")

    def test_a_password_that_cannot_be_had_says_so_itself(self, database: str) -> None:
        def password() -> str:
            raise SecretUnavailable("The vault is away.", hint="Call it back.")

        begun = time.monotonic()
        error = refusal(database, password=password)
        assert time.monotonic() - begun < SOON
        assert (error.message, error.hint) == ("The vault is away.", "Call it back.")

    def test_a_refused_connection_costs_nobody_the_whole_wait(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pool_module, "REFUSED_SECONDS", SOON)
        asked = []

        def password() -> str:
            asked.append(time.monotonic())
            return "x"

        with closing(Pool("host=127.0.0.1 port=1 user=x dbname=x", password=password)) as pool:
            begun = time.monotonic()
            for _ in range(50):
                with pytest.raises(DatabaseUnavailable, match="did not answer"):
                    pool.rows("SELECT 1")
            assert time.monotonic() - begun < SOON
        assert len(asked) == 1, "and the server is not asked again for each"

    def test_while_a_connection_is_in_use_a_caller_waits_for_it(self, database: str) -> None:
        failed = threading.Event()
        is_known = True

        def password() -> str | None:
            if is_known:
                return None
            failed.set()
            raise SecretUnavailable("The vault is away.")

        with closing(Pool(database, size=2, password=password)) as pool:
            with pool.connection():
                is_known = False
                waiting = started(lambda: pool.rows("SELECT 1"))
                late = started(lambda: pool.rows("SELECT 2") if failed.wait(PATIENCE) else None)
                assert failed.wait(PATIENCE)
            assert [waiting.result(PATIENCE), late.result(PATIENCE)] == [[(1,)], [(2,)]]

    def test_one_that_works_again_is_used_within_moments(self, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pool_module, "REFUSED_SECONDS", 0.1)
        failures: list[int] = []

        def password() -> str | None:
            if len(failures) < 5:  # more than the pool tries again by itself
                failures.append(1)
                raise SecretUnavailable("The vault is away.")
            return None

        with closing(Pool(database, password=password)) as pool:
            until = time.monotonic() + PATIENCE
            while time.monotonic() < until:
                try:
                    assert pool.rows("SELECT 1") == [(1,)]
                    break
                except DatabaseUnavailable:
                    continue
            assert len(failures) == 5
            assert pool.rows("SELECT 1") == [(1,)]
