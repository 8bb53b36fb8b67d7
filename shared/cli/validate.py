"""Judging files before they are pushed, by the code that judges them afterwards."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import click

from shared.cli import exit_codes
from shared.cli.changed import Changes
from shared.cli.files import File, named
from shared.cli.findings import STYLES, style
from shared.cli.output import ticking, variable, with_debug
from shared.model import BlobId, Registration, SourceName, Validation

if TYPE_CHECKING:
    from shared.rules import Rules

_DEFAULTS: Final = Registration(name="", source=SourceName(""), branches=())
_NO_ID: Final = BlobId("")
"""Nothing is stored: what is judged needs no id."""


@click.command(
    epilog="\b\nExamples:\n  runtime-store validate .\n  runtime-store validate etl/orders_runtime.yaml\n"
    '  runtime-store validate "etl/**/*runtime*.yaml" --changed-since origin/main\n'
    "  git show HEAD:etl/orders_runtime.yaml | runtime-store validate -"
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--pattern", default=_DEFAULTS.pattern, show_default=True, help="Which files of a folder are configs.")
@click.option("--root", default="", metavar="FOLDER", help="Folder to look in, below each PATH that is a folder.")
@click.option("--changed-since", metavar="REF", help="Judge only files that differ from where HEAD left this branch.")
@click.option("--allow-none", is_flag=True, help="A PATH without any runtime config is no misuse.")
@click.option("--stdin-name", default="<stdin>", show_default=True, metavar="NAME", help="What - is called.")
@click.option(
    "--validation",
    type=click.Choice([mode.value for mode in Validation]),
    default=Validation.ENFORCE.value,
    show_default=True,
    help="As the repository is registered: whether findings of the schema reject.",
)
@click.option("--schema", metavar="SOURCE", help="As SCHEMA of the app: a file or URL that takes the schema's place.")
@click.option(
    "--format", "form", type=click.Choice(STYLES), default="text", show_default=True, help="How findings are told."
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@with_debug
def validate(
    paths: Sequence[str],
    pattern: str,
    root: str,
    changed_since: str | None,
    allow_none: bool,
    stdin_name: str,
    validation: str,
    schema: str | None,
    form: str,
    as_json: bool,
) -> int:
    """Judge runtime configs as a push would be judged.

    A PATH is a file, which is judged whatever it is called; a folder, of which the files that match the pattern are
    judged; a glob in quotes, which stands for the files and folders that it matches; or - for stdin. Needs neither
    settings nor a database.
    """
    rules = _rules(schema)
    registration = replace(_DEFAULTS, pattern=pattern, root=root.replace("\\", "/").strip("/"))
    found = named(rules, paths, registration, stdin_name=stdin_name, allow_none=allow_none)
    files: Sequence[File] = found.files
    if changed_since is not None:
        changes = Changes(changed_since)
        files = [file for file in files if changes.has(file)]
    told = style("json" if as_json else form, colour=not variable("NO_COLOR"))
    findings = list(found.findings)
    with ticking() as tick:
        told.show(rules.report(findings), b"")
        for number, file in enumerate(files, 1):
            tick(f"Judging {number} of {len(files)}: {file.path}")
            data = file.read()
            _, about = rules.judge(file.path, _NO_ID, data, Validation(validation))
            if about:
                findings.extend(about)
                tick("")
                told.show(rules.report(about), data)
    report = rules.report(findings)
    told.end(len(files), report)
    return exit_codes.FINDINGS.code if report.rejects else exit_codes.DONE.code


def _rules(schema: str | None) -> "Rules":
    """What judges: the rules of this release, with another schema if one is named."""
    from shared.rules import Rules

    return Rules.of(schema or None)
