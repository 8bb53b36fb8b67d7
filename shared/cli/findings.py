"""How findings are told: for people, for programs, and for Azure Pipelines."""

import re
from typing import Final, Protocol
from unicodedata import category, east_asian_width

import click

from shared.cli.output import counted, note, say, say_json
from shared.cli.printable import one_line, printable
from shared.model import Finding, Report, Severity

_LINE_BREAK: Final = re.compile("\r\n|\r|\n")
_INDEX: Final = re.compile("[0-9]+")
_WIDTH: Final = 100
"""Columns of a line that are shown: a file of one line may have a million."""
_COLOURS: Final = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}


STYLES: Final = ("text", "json", "azure-pipelines")


class Style(Protocol):
    def show(self, report: Report, data: bytes) -> None:
        """Tell what was found in one file, or with `data` empty in a listing, as soon as it is known."""

    def end(self, files: int, report: Report) -> None:
        """Tell what came of all `files`."""


def style(name: str, *, colour: bool) -> Style:
    """One of `STYLES`."""
    match name:
        case "json":
            return Json()
        case "azure-pipelines":
            return AzurePipelines()
        case _:
            return Text(colour=colour)


class Text:
    """Two parts: the place as compilers write it, so that editors and terminals make it a link, and the line itself."""

    def __init__(self, *, colour: bool) -> None:
        # Off a terminal click takes the colours out again.
        self._colour = None if colour else False

    def show(self, report: Report, data: bytes) -> None:
        lines = _LINE_BREAK.split(data.decode("utf-8-sig", "replace"))
        for finding in report.findings:
            self._say(_headline(finding))
            if data and finding.line and finding.column and finding.line <= len(lines):
                for line in _frame(lines[finding.line - 1], finding.line, finding.column, place_in(finding.pointer)):
                    self._say(line)
        if report.omitted:
            self._say(f"... and {report.omitted} more in this file")

    def end(self, files: int, report: Report) -> None:
        note(summary(files, report))

    def _say(self, line: str) -> None:
        click.echo(line, color=self._colour)


class Json:
    """One document, in the words of the HTTP API, when everything is known."""

    def show(self, report: Report, data: bytes) -> None:
        pass

    def end(self, files: int, report: Report) -> None:
        from shared.web.representations import of_report

        say_json({"files": files, **of_report(report)})


class AzurePipelines:
    """Logging commands: the run lists each finding with its file and line.

    Source: https://learn.microsoft.com/azure/devops/pipelines/scripts/logging-commands. The agent takes %3B, %0D, %0A
    and %5D for `;`, line ends and `]`, and %AZP25 for `%` (its docs/design/percentEncoding.md).
    """

    def show(self, report: Report, data: bytes) -> None:
        for finding in report.findings:
            kind = {Severity.ERROR: "error", Severity.WARNING: "warning"}.get(finding.severity)
            where = f" (at {place_in(finding.pointer)})" if finding.pointer else ""
            if kind is None:
                say(one_line(f"{finding.path}: {finding.severity}: {finding.message} [{finding.rule}]"))
            else:
                place = {"sourcepath": finding.path, "linenumber": finding.line, "columnnumber": finding.column}
                said = {name: value for name, value in place.items() if value}
                _command("task.logissue", finding.message + where, type=kind, **said, code=finding.rule)
        if report.omitted:
            say(f"... and {report.omitted} more in this file")

    def end(self, files: int, report: Report) -> None:
        result = "Failed" if report.rejects else "SucceededWithIssues" if _warns(report) else "Succeeded"
        _command("task.complete", summary(files, report), result=result)


def summary(files: int, report: Report) -> str:
    if not files and not report.findings:
        return "There was no file to judge."
    verdict = "a push of this would be rejected" if report.rejects else "a push of this would be served"
    return f"{counted(files, 'file')}, {counted(len(report.findings) + report.omitted, 'finding')}: {verdict}."


def place_in(pointer: str) -> str:
    """A JSON pointer as people write a path: `/workflow/jobs/0/id` is `workflow.jobs[0].id`."""
    path = ""
    for token in pointer.split("/")[1:]:
        if _INDEX.fullmatch(token):
            path += f"[{token}]"
        else:
            path += f"{'.' if path else ''}{token.replace('~1', '/').replace('~0', '~')}"
    return path


# -- Text ------------------------------------------------------------------------------------------------------------


def _headline(finding: Finding) -> str:
    place = ":".join(str(part) for part in (finding.path, finding.line, finding.column) if part)
    severity = click.style(f"{finding.severity}:", fg=_COLOURS[finding.severity], bold=True)
    rule = click.style(f"[{one_line(finding.rule)}]", dim=True)
    where = f"{click.style(one_line(place), bold=True)}: " if place else ""
    return f"{where}{severity} {one_line(finding.message)} {rule}"


def _frame(line: str, number: int, column: int, place: str) -> tuple[str, str]:
    """The line, and below it a caret under `column` (from 1) with the path inside the document."""
    at = min(column - 1, len(line))
    begin = 0 if len(line) <= _WIDTH else max(0, min(at - _WIDTH // 2, len(line) - _WIDTH))
    before, after = (_visible(part) for part in (line[begin:at], line[at : begin + _WIDTH]))
    dots = "..." if begin else ""
    gutter = f"{number:>6} | "
    space = " " * (_columns(dots + before))
    text = f"{dots}{before}{after}{'...' if len(line) > begin + _WIDTH else ''}"
    caret = click.style("^", fg="red", bold=True) + (f" {one_line(place)}" if place else "")
    return f"{click.style(gutter, dim=True)}{printable(text)}", f"{' ' * (len(gutter) - 2)}| {space}{caret}"


def _visible(text: str) -> str:
    """One column for a tab, and escapes for what a terminal would obey."""
    return printable(text.replace("\t", " "))


def _columns(text: str) -> int:
    return sum(_width(letter) for letter in text)


def _width(letter: str) -> int:
    if category(letter) in ("Mn", "Me"):
        return 0  # It is drawn over the letter before it.
    return 2 if east_asian_width(letter) in "WF" else 1


# -- Azure Pipelines -------------------------------------------------------------------------------------------------


def _warns(report: Report) -> bool:
    return any(finding.severity is Severity.WARNING for finding in report.findings)


def _command(name: str, message: str, **properties: object) -> None:
    said = "".join(f"{key}={_escaped(str(value), ';', ']')};" for key, value in properties.items())
    click.echo(f"##vso[{name} {said}]{_escaped(message)}")


_ESCAPES: Final = {"%": "%AZP25", "\r": "%0D", "\n": "%0A", ";": "%3B", "]": "%5D"}


def _escaped(text: str, *more: str) -> str:
    text = printable(text)
    for sign in ("%", "\r", "\n", *more):
        text = text.replace(sign, _ESCAPES[sign])
    return text
