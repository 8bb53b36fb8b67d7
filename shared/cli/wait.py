"""The last step of a pipeline: it ends when what was pushed is what services read."""

import random
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, NamedTuple

import click

from shared.cli import exit_codes
from shared.cli.output import note, say, say_json, say_report, short, variable, with_debug, with_json
from shared.cli.service import KEY, URL, Service, Unanswered, parsed_url
from shared.errors import InvalidRequest
from shared.model import ABSENT, Deadline, is_branch_name

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 15.0
_SHORTEST_LOOK: Final = timedelta(seconds=1)
_LONGEST_LOOK: Final = timedelta(seconds=20)
"""The service answers a reader within milliseconds; a cold start takes some seconds."""
_LONGEST_WAIT: Final = 86_400
"""Seconds: a day, longer than a pipeline may run."""
_DECIDED: Final = frozenset({"Replaced", "Unchanged", "Rejected"})
"""Outcomes that were about the head at that time."""


class _Verdict(NamedTuple):
    is_served: bool
    words: str
    status: Mapping[str, Any]


@click.command(
    epilog=f"\b\nExample, with a reader key in {KEY}:\n  runtime-store wait --url https://contoso-dev.azurewebsites.net"
    " --repository orders \\\n    --branch main --commit $(git rev-parse HEAD)"
)
@click.option("--url", envvar=URL, show_envvar=True, required=True, help="Where the service is reached.")
@click.option("--repository", required=True, metavar="NAME", help="Its name or id in Runtime Store.")
@click.option("--branch", required=True, help="The branch that was pushed to; refs/heads/ may stand before it.")
@click.option("--commit", required=True, metavar="SHA", help="The commit that was pushed: 40 hex digits.")
@click.option(
    "--timeout",
    type=click.IntRange(0, _LONGEST_WAIT),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait at most; a day at the longest.",
)
@with_json
@with_debug
def wait(url: str, repository: str, branch: str, commit: str, timeout: int, as_json: bool) -> int:
    """Wait until a pushed commit is served, or rejected.

    A later commit that has it, and is served in its place, is as good. A reader key is read from the variable
    RUNTIME_STORE_KEY, never from the command line; neither settings nor a database are needed.
    """
    service = Service(parsed_url(url), _key())
    push = _Push(service, _repository(repository), _branch(branch), _commit(commit))
    verdict = _decided(push, Deadline.after(timedelta(seconds=timeout)))
    if verdict is None:
        return exit_codes.TIME_OVER.code
    if as_json:
        say_json({"served": verdict.is_served, "branch": verdict.status})
        return exit_codes.DONE.code if verdict.is_served else exit_codes.FINDINGS.code
    say(verdict.words)
    if verdict.is_served:
        return exit_codes.DONE.code
    say_report(verdict.status["report"])
    note("Correct it and push again: `runtime-store validate` says the same before a push.")
    return exit_codes.FINDINGS.code


def _decided(push: "_Push", deadline: Deadline) -> _Verdict | None:
    """None when the time is over; the log of a pipeline shows what it waited for."""
    began, told, why = time.monotonic(), "", ""
    for pause in _pauses():
        retry_after = 0.0
        try:
            found = push.look(max(deadline.within(_LONGEST_LOOK), Deadline.after(_SHORTEST_LOOK), key=_moment))
        except Unanswered as error:
            found, retry_after = str(error), error.retry_after
        if isinstance(found, _Verdict):
            return found
        if found != told:
            note(told := found)
        if retry_after > deadline.remaining:
            why = f", and the service asked to come back after {retry_after:.6g} s, when the time is over"
            break
        if deadline.is_over:
            break
        # The last look is when the time is over.
        time.sleep(min(max(pause, retry_after), deadline.remaining))
    note(
        f"{push.subject} is not served after {time.monotonic() - began:.0f} s{why}. If it was pushed, it is served as "
        f"soon as it is synced.\n  Run this step again, or see why at GET /repositories/{push.repository}."
    )
    return None


def _moment(deadline: Deadline) -> float:
    return deadline.at


def _pauses() -> Iterator[float]:
    """Longer and longer, and never the same for two pipelines that began together."""
    pause = _FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.75, 1.25)  # noqa: S311 (spreads calls, hides nothing)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


@dataclass
class _Push:
    """What was pushed, and what became of it."""

    service: Service
    repository: str
    branch: str
    commit: str
    _looked_at: int = -1
    """How many requests of the branch were answered when its history was last looked at."""

    @property
    def subject(self) -> str:
        return f"{self.repository} {self.branch}: {short(self.commit)}"

    def look(self, deadline: Deadline) -> _Verdict | str:
        """The verdict, or what is being waited for."""
        served = self.service.served(self.repository, self.branch, deadline)
        status = self.service.status(self.repository, self.branch, deadline)
        if status is None:
            if served is None:
                return f"{self.repository} has no branch {self.branch} yet, or --repository or --branch is mistaken."
            return "Waiting for the status of the branch."
        if self.commit in (served, status["commit_id"]):
            return _Verdict(True, f"{self.subject} is served.", status)
        if status["judged_commit"] == self.commit and status["report"]["rejects"]:
            return _Verdict(False, f"{self.subject} is rejected; {_served(status)}.", status)
        if self._is_behind(status, deadline):
            return self._superseded(status)
        told = status["message"] or status["reason"]
        waits = "its sync is running" if status["syncing"] else f"{status['condition']}{told and ': '}{told}"
        return f"{self.subject} is not served yet ({waits}); {_served(status)}."

    def _superseded(self, status: Mapping[str, Any]) -> _Verdict:
        later = status["judged_commit"]
        if later == ABSENT:
            return _Verdict(False, f"{self.subject} is not served: the branch was deleted.", status)
        if status["report"]["rejects"]:
            words = (
                f"{self.subject} is not served: {short(later)}, which came after it, is rejected; {_served(status)}."
            )
            return _Verdict(False, words, status)
        return _Verdict(True, f"{self.subject} is served with {short(later)}, which came after it.", status)

    def _is_behind(self, status: Mapping[str, Any], deadline: Deadline) -> bool:
        """Whether what was judged last was the head after this push.

        A sync asks for the head after it noted which requests it answers. So once it has answered the request of this
        push's delivery, the commit that it judged is this one or a later one.
        """
        finished = status["finished"]
        if finished == self._looked_at:
            return False
        is_behind = self._was_head(finished, deadline)
        self._looked_at = finished
        return is_behind

    def _was_head(self, finished: int, deadline: Deadline) -> bool:
        for delivery in self.service.deliveries(self.repository, deadline):
            pushed = {"branch": self.branch, "new": self.commit}
            if any(update.items() >= pushed.items() for update in delivery["updates"]):
                number: int = delivery["requests"].get(self.branch, finished + 1)
                return number <= finished
        # Nobody announced it: then only a sync that found it tells.
        syncs = self.service.syncs(self.repository, self.branch, deadline)
        return any(sync["commit_id"] == self.commit and sync["outcome"] in _DECIDED for sync in syncs)


def _served(status: Mapping[str, Any]) -> str:
    return f"{short(status['commit_id'])} is served" if status["commit_id"] else "nothing is served"


def _key() -> str | None:
    key = (variable(KEY) or "").strip()
    if re.fullmatch(r"\$\([\w.-]+\)", key):
        hint = f"Define it in the pipeline or in a variable group, as a secret, and map it to {KEY} under env."
        raise InvalidRequest(f"{KEY} is {key}: the pipeline has no such variable.", field=KEY, hint=hint)
    if not re.fullmatch(r"[!-~]*", key):
        hint = "Copy the key again, alone and on one line."
        raise InvalidRequest(f"{KEY} holds white space or a character outside ASCII.", field=KEY, hint=hint)
    return key or None


def _repository(text: str) -> str:
    if not text.strip():
        hint = "It is the name that `GET /repositories` shows, as a rule that of the Git repository."
        raise InvalidRequest("--repository is empty.", field="repository", hint=hint)
    return text.strip()


def _branch(text: str) -> str:
    name = text.removeprefix("refs/heads/")
    if not is_branch_name(name):
        hint = "It is the branch that was pushed to, such as main; a pull request is no branch, and never served."
        raise InvalidRequest(f"{text!r} is no branch.", field="branch", hint=hint)
    return name


def _commit(text: str) -> str:
    from shared.web.repositories import COMMIT

    if not COMMIT.fullmatch(text.lower()):
        hint = "`git rev-parse HEAD` prints one: 40 hex digits. In a pipeline it is $(Build.SourceVersion)."
        raise InvalidRequest(f"{text!r} is no commit id.", field="commit", hint=hint)
    return text.lower()
