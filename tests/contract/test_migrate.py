"""Migrations, and the rights of the two roles."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from support import postgres
from support.stores import Store, at_once

from shared.errors import DatabaseUnavailable, InvalidRequest
from shared.postgres.migrate import (
    REQUIRED_VERSION,
    TIMEOUTS,
    Migration,
    migrate,
    read_migrations,
    schema_version,
)
from shared.postgres.pool import Pool

ONE = Migration(1, "one", "CREATE TABLE one AS SELECT pg_current_xact_id()::text AS id")
TWO = Migration(2, "two", "CREATE TABLE two AS SELECT pg_current_xact_id()::text AS id; INSERT INTO one VALUES ('x')")
BROKEN = Migration(2, "broken", "CREATE TABLE two (); SELECT 1 / 0")


@pytest.fixture
def empty(postgres_server: postgres.Server) -> Iterator[str]:
    """The conninfo of a database without anything in it."""
    with postgres_server.clone("template0") as conninfo:
        yield conninfo


def rows(conninfo: str, statement: str) -> list[tuple[object, ...]]:
    with closing(psycopg.connect(conninfo, autocommit=True)) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def catalog(conninfo: str) -> list[tuple[object, ...]]:
    """Every relation, column and function that is not PostgreSQL's own, and which transaction last touched it."""
    return rows(
        conninfo,
        "SELECT c.relname, a.attname, c.xmin::text, a.xmin::text FROM pg_class AS c JOIN pg_attribute AS a"
        " ON a.attrelid = c.oid WHERE c.relnamespace = 'public'::regnamespace"
        " UNION ALL SELECT proname, '', xmin::text, '' FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        " ORDER BY 1, 2",
    )


class TestFiles:
    def test_ours_are_well_named_and_the_app_requires_the_last_one(self) -> None:
        assert [migration.version for migration in read_migrations()] == list(range(1, REQUIRED_VERSION + 1))

    @pytest.mark.parametrize(
        "name", ["1_one.sql", "0001-one.sql", "0001_One.sql", "0001_.sql", "0001.sql", "0001_one__two.sql", "one.sql"]
    )
    def test_a_name_off_the_grammar_is_refused(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("")
        with pytest.raises(ValueError, match=name):
            read_migrations(tmp_path)

    @pytest.mark.parametrize("names", [["0002_two"], ["0001_one", "0003_three"], ["0001_one", "0001_two"]])
    def test_gaps_and_doubles_are_refused(self, tmp_path: Path, names: list[str]) -> None:
        for name in names:
            (tmp_path / f"{name}.sql").write_text("")
        with pytest.raises(ValueError, match="gap or double"):
            read_migrations(tmp_path)

    def test_they_are_read_in_the_order_of_their_numbers(self, tmp_path: Path) -> None:
        for name in ("0002_a", "0001_b_2"):
            (tmp_path / f"{name}.sql").write_text(f"-- {name}")
        assert read_migrations(tmp_path) == [Migration(1, "b_2", "-- 0001_b_2"), Migration(2, "a", "-- 0002_a")]


class TestRunning:
    def test_an_empty_database_gets_everything_and_serves(self, empty: str) -> None:
        assert list(migrate(empty)) == list(read_migrations())
        with closing(psycopg.connect(empty)) as connection:
            assert schema_version(connection) == REQUIRED_VERSION
        with closing(Pool(empty)) as pool:
            Store(pool, empty).use_everything()

    def test_a_second_run_changes_nothing(self, empty: str) -> None:
        migrate(empty)
        before = catalog(empty)
        recorded = rows(empty, "SELECT xmin::text, * FROM schema_migrations")
        assert migrate(empty) == []
        assert catalog(empty) == before
        assert rows(empty, "SELECT xmin::text, * FROM schema_migrations") == recorded

    def test_only_what_is_pending_runs_and_is_told_in_order(self, empty: str) -> None:
        told: list[Migration] = []
        assert migrate(empty, migrations=[ONE], progress=told.append) == [ONE]
        assert migrate(empty, migrations=[ONE, TWO], progress=told.append) == [TWO]
        assert told == [ONE, TWO]
        assert rows(empty, "SELECT version, name FROM schema_migrations ORDER BY 1") == [(1, "one"), (2, "two")]

    def test_all_that_is_pending_runs_in_one_transaction(self, empty: str) -> None:
        migrate(empty, migrations=[ONE, TWO])
        assert rows(empty, "SELECT count(*) FROM one JOIN two USING (id)") == [(1,)]

    def test_what_somebody_holds_is_tried_again(self, empty: str) -> None:
        migrate(empty, migrations=[ONE])
        held = Migration(2, "held", "ALTER TABLE one ADD COLUMN more text")
        with psycopg.connect(empty) as holder:
            holder.execute("LOCK TABLE one")
            told: list[Migration] = []

            def let_go(migration: Migration) -> None:
                told.append(migration)
                if len(told) == 2:
                    holder.rollback()

            assert migrate(empty, migrations=[ONE, held], progress=let_go) == [held]
        assert told == [held, held]

    def test_the_app_may_use_what_a_later_migration_makes(self, empty: str) -> None:
        role = "app_of_later"
        with psycopg.connect(empty, autocommit=True) as admin:
            admin.execute(f"CREATE ROLE {role}")
            try:
                migrate(empty, migrations=[ONE], app_role=role)
                migrate(empty, migrations=[ONE, Migration(2, "two", "CREATE VIEW seen AS SELECT * FROM one")])
                told = admin.execute(f"SELECT has_table_privilege('{role}', 'seen', 'SELECT')").fetchone()
                assert told == (True,)
            finally:
                admin.execute(f"DROP OWNED BY {role}")
                admin.execute(f"DROP ROLE {role}")

    def test_a_failing_one_leaves_no_trace_of_any(self, empty: str) -> None:
        with pytest.raises(DatabaseUnavailable, match="division by zero") as caught:
            migrate(empty, migrations=[ONE, BROKEN])
        assert caught.value.hint is not None
        assert "Nothing was changed" in caught.value.hint
        assert catalog(empty) == []

    def test_a_failing_one_leaves_what_was_there_before(self, empty: str) -> None:
        migrate(empty, migrations=[ONE])
        before = catalog(empty)
        with pytest.raises(DatabaseUnavailable):
            migrate(empty, migrations=[ONE, BROKEN])
        assert catalog(empty) == before
        assert migrate(empty, migrations=[ONE, TWO]) == [TWO]

    @pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
    def test_two_at_once_wait_for_each_other(self, empty: str, isolation: str) -> None:
        database = psycopg.conninfo.conninfo_to_dict(empty)["dbname"]
        rows(empty, f"ALTER DATABASE {database} SET default_transaction_isolation = '{isolation}'")
        results = at_once(*[lambda: list(migrate(empty)) for _ in range(3)])
        assert sorted(map(repr, results)) == sorted(map(repr, [list(read_migrations()), [], []]))

    def test_a_newer_schema_is_left_alone(self, empty: str) -> None:
        migrate(empty)
        newer = "INSERT INTO schema_migrations (version, name) VALUES (9999, 'newer')"
        rows(empty, newer)
        assert migrate(empty) == []

    def test_a_server_that_is_not_there_is_told(self) -> None:
        with pytest.raises(DatabaseUnavailable, match="did not happen") as caught:
            migrate("host=127.0.0.1 port=1 user=x dbname=x", password="hunter2")
        assert "hunter2" not in str(caught.value)


class TestRoles:
    """The owner of a database that is no superuser migrates; the app's role does the rest."""

    @pytest.fixture
    def owned(self, postgres_server: postgres.Server) -> Iterator[str]:
        with (
            postgres_server.clone("template0") as conninfo,
            closing(psycopg.connect(conninfo, autocommit=True)) as superuser,
        ):
            where = psycopg.conninfo.conninfo_to_dict(conninfo)
            database, password = sql.Identifier(where["dbname"]), sql.Literal(where["password"])
            create = sql.SQL("CREATE ROLE {} LOGIN {} PASSWORD {}")
            superuser.execute(create.format(sql.SQL("the_owner"), sql.SQL("CREATEROLE"), password))
            superuser.execute(sql.SQL("ALTER DATABASE {} OWNER TO the_owner").format(database))
            try:
                with closing(psycopg.connect(conninfo, user="the_owner", autocommit=True)) as owner:
                    owner.execute(create.format(sql.SQL("the_app"), sql.SQL(""), password))
                yield make_conninfo(conninfo, user="the_owner")
            finally:
                superuser.execute(sql.SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(database))
                superuser.execute("DROP OWNED BY the_app, the_owner CASCADE")
                superuser.execute("DROP ROLE the_app, the_owner")

    @pytest.fixture
    def app(self, owned: str) -> str:
        migrate(owned, app_role="the_app")
        return make_conninfo(owned, user="the_app")

    def test_the_app_may_do_everything_that_the_app_does(self, app: str) -> None:
        with closing(Pool(app)) as pool:
            Store(pool, app).use_everything()

    @pytest.mark.parametrize(
        "statement",
        [
            "CREATE TABLE mine ()",
            "ALTER TABLE branches ADD COLUMN mine text",
            "DROP TABLE runtime_configs",
            "TRUNCATE runtime_configs",
            "CREATE INDEX ON branches (reason)",
            "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "INSERT INTO schema_migrations (version, name) VALUES (9, 'mine')",
            "UPDATE schema_migrations SET version = 9",
            "DELETE FROM schema_migrations",
            "CREATE ROLE mine",
        ],
    )
    def test_the_app_may_not_change_the_schema(self, app: str, statement: str) -> None:
        with (
            closing(psycopg.connect(app, autocommit=True)) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute(statement.encode())

    def test_nobody_else_may_create_tables_either_as_up_to_postgresql_14(self, owned: str) -> None:
        rows(owned, "GRANT CREATE ON SCHEMA public TO PUBLIC")
        migrate(owned, app_role="the_app")
        with (
            closing(psycopg.connect(make_conninfo(owned, user="the_app"), autocommit=True)) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute("CREATE TABLE mine ()")

    def test_its_time_outs_are_settings_of_the_role(self, app: str) -> None:
        for name, value in TIMEOUTS.items():
            assert rows(app, f"SELECT setting || unit, source FROM pg_settings WHERE name = '{name}'") == [
                (value.replace("s", "000ms"), "user")
            ]

    def test_an_app_without_rights_is_told_what_to_run(self, owned: str) -> None:
        migrate(owned)
        app = make_conninfo(owned, user="the_app")
        with closing(Pool(app)) as pool, pytest.raises(DatabaseUnavailable) as caught:
            Store(pool, app).queue.status("orders")
        assert caught.value.hint == "Run `runtime-store migrate --app-role ROLE` as the owner."

    def test_granting_again_changes_nothing(self, owned: str) -> None:
        granted = "SELECT relname, relacl::text FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
        migrate(owned, app_role="the_app")
        before = rows(owned, granted)
        migrate(owned, app_role="the_app")
        assert rows(owned, granted) == before

    def test_a_role_that_does_not_exist_is_named_and_nothing_runs(self, owned: str) -> None:
        with pytest.raises(InvalidRequest, match="'nobody'"):
            migrate(owned, app_role="nobody")
        assert catalog(owned) == []
