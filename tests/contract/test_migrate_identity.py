"""The role of a managed identity, made by the functions that Azure Database for PostgreSQL keeps for it.

Signatures as of https://learn.microsoft.com/azure/postgresql/flexible-server/security-manage-entra-users; here the same
functions write down what they were asked for, and make an ordinary role.
"""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import Connection
from psycopg.rows import TupleRow
from support import postgres

from shared.errors import InvalidRequest
from shared.postgres.migrate import migrate

ROLE = "runtime-store-dev"
IDENTITY = "6F9619FF-8B86-D011-B42D-00C04FC964FF"
FUNCTIONS = """
CREATE TABLE principals (
    rolname name, principalType text, objectId text, tenantId text, isMfa integer, isAdmin integer);
CREATE FUNCTION pgaadauth_list_principals(isAdminValue boolean) RETURNS SETOF principals LANGUAGE sql
AS 'SELECT * FROM principals WHERE (isAdmin = 1) = isAdminValue';
CREATE FUNCTION pgaadauth_create_principal_with_oid(
    roleName text, objectId text, objectType text, isAdmin boolean, isMfa boolean) RETURNS text LANGUAGE plpgsql
AS $$ BEGIN
    EXECUTE format('CREATE ROLE %I LOGIN', roleName);
    INSERT INTO principals VALUES (roleName, objectType, lower(objectId), 'tenant', isMfa::int, isAdmin::int);
    RETURN 'Created role for "' || roleName || '"';
END $$;
"""


@pytest.fixture
def principals(postgres_server: postgres.Server) -> Iterator[Connection[TupleRow]]:
    """The server's database `postgres`, with what Azure has there."""
    with psycopg.connect(postgres_server.database("postgres"), autocommit=True) as connection:
        connection.execute(FUNCTIONS)
        yield connection
        connection.execute(
            "DROP FUNCTION pgaadauth_list_principals, pgaadauth_create_principal_with_oid; DROP TABLE principals"
        )


@pytest.fixture
def azure(principals: Connection[TupleRow], own_database: str) -> Iterator[str]:
    """The conninfo of a database on such a server; the role is gone afterwards."""
    yield own_database
    with psycopg.connect(own_database, autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (ROLE,)).fetchone():
            connection.execute(f'DROP OWNED BY "{ROLE}"; DROP ROLE "{ROLE}"'.encode())


def test_the_role_is_made_for_the_identity_once_and_gets_its_rights(
    azure: str, principals: Connection[TupleRow]
) -> None:
    for _ in range(2):
        migrate(azure, app_role=ROLE, app_identity=IDENTITY)
    made = principals.execute("SELECT rolname, principalType, objectId, isMfa, isAdmin FROM principals").fetchall()
    assert made == [(ROLE, "service", IDENTITY.lower(), 0, 0)]
    with psycopg.connect(azure) as connection:
        row = connection.execute("SELECT has_table_privilege(%s, 'runtime_configs', 'INSERT')", (ROLE,)).fetchone()
    assert row == (True,)


def test_a_role_of_another_identity_is_left_alone_and_told(azure: str) -> None:
    migrate(azure, app_role=ROLE, app_identity="00000000-0000-0000-0000-000000000001")
    with pytest.raises(
        InvalidRequest, match="belongs to another identity, 00000000-0000-0000-0000-000000000001"
    ) as caught:
        migrate(azure, app_role=ROLE, app_identity=IDENTITY)
    assert caught.value.hint
    assert f'DROP ROLE "{ROLE}"' in caught.value.hint


def test_a_server_elsewhere_says_that_it_knows_no_identities(own_database: str) -> None:
    with pytest.raises(InvalidRequest, match="knows no identities") as caught:
        migrate(own_database, app_role=ROLE, app_identity=IDENTITY)
    assert caught.value.hint == "Leave --app-identity out, and create the role by hand."
