"""The database's schema."""

import time

import click

from shared.cli.output import progress, say, say_json, with_debug, with_json
from shared.errors import DatabaseUnavailable


@click.command(
    epilog="\b\nExample, as a step of every deployment:\n  runtime-store migrate --app-role runtime_store_app --wait 60"
)
@click.option("--app-role", metavar="ROLE", help="Grant this database role what the app needs, and its time-outs.")
@click.option(
    "--app-identity",
    metavar="OBJECT_ID",
    help="Make that role where it is missing, for this managed identity. For Azure Database for PostgreSQL.",
)
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=0,
    metavar="SECONDS",
    help="Keep trying for so long: the server may still be starting.",
)
@with_json
@with_debug
def migrate(app_role: str | None, app_identity: str | None, wait: float, as_json: bool) -> None:
    """Bring the database's schema up to date.

    Runs what is pending in one transaction, as the owner of the schema; running it again changes nothing.
    """
    from shared.bootstrap import database_password, database_url, secrets_from
    from shared.postgres.migrate import REQUIRED_VERSION
    from shared.postgres.migrate import migrate as run_pending
    from shared.settings import DatabaseLogin, load

    if app_identity and not app_role:
        raise click.UsageError("--app-identity needs --app-role: the name of the role that it logs in as.")
    secrets = secrets_from(settings := load())
    url, password = database_url(settings, secrets), database_password(settings, secrets)
    is_token_login = settings.database_login is DatabaseLogin.ENTRA
    give_up_at = time.monotonic() + wait
    with progress("Migrating") as show:
        while True:
            try:
                ran = run_pending(
                    url,
                    is_token_login=is_token_login,
                    password=password(),
                    app_role=app_role,
                    app_identity=app_identity,
                    progress=lambda one: show(one.name),
                )
                break
            except DatabaseUnavailable as error:
                if time.monotonic() >= give_up_at:
                    raise
                show(f"Waiting for the database. {error.message}".splitlines()[0])
                time.sleep(0.2)
    names = [f"{migration.version:04}_{migration.name}" for migration in ran]
    if as_json:
        say_json({"ran": names, "version": REQUIRED_VERSION, "app_role": app_role})
        return
    for name in names:
        say(f"Ran {name}")
    say(f"The schema is at version {REQUIRED_VERSION}{'' if names else ', as it was'}.")
    if app_role:
        say(f"{app_role} may do what the app needs.")
