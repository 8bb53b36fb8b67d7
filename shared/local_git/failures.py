"""Tells Git's failures apart by the words it has for people, which are English because of `LC_ALL=C`."""

import re
from datetime import timedelta

from shared.errors import CommitMissing, SourceError, SourceFailed, SourceRefused, SourceThrottled

_THROTTLED = re.compile(r"returned error: 429")
_REFUSED = re.compile(
    r"Authentication failed|could not read (Username|Password)|returned error: 40[137]|Permission denied"
    r"|Host key verification failed|access denied or repository not exported",
    re.IGNORECASE,
)
# Instead of Git a web page answered, or the way to one: what hosts do with a visitor who is not signed in.
_SIGN_IN = re.compile(
    r"not valid: is this a git repository|unable to update url base from redirection|dumb http transport"
)
_COMMIT_MISSING = re.compile(r"not our ref|bad object|request for unadvertised object")
_REPOSITORY_MISSING = re.compile(
    r"not a git repository|does not appear to be a git repository|not found|does not exist"
)

_ADVICE = re.compile(r"Please make sure you have|and the repository exists|fatal: Could not read from remote", re.I)
_USERINFO = re.compile(r"(?<=://)[^/\s]*@")
_LONGEST = 400


def failure(complaints: str) -> SourceError:
    """What git wrote to its standard error, as one of our errors, without credentials."""
    message = f"Git says: {_last_line(complaints)}"
    if _THROTTLED.search(complaints):
        return SourceThrottled(message, retry_after=timedelta(minutes=1))
    if _REFUSED.search(complaints):
        hint = "Give this process the right to read the repository: an SSH key, a credential helper, or file rights"
        return SourceRefused(message, hint=hint)
    if _SIGN_IN.search(complaints):
        return not_git(message)
    if _COMMIT_MISSING.search(complaints):
        return CommitMissing(message)
    if _REPOSITORY_MISSING.search(complaints):
        return SourceFailed(message, hint="Check the source of the repository: it must be a Git path or URL")
    return SourceFailed(message)


def not_git(message: str) -> SourceRefused:
    """Something answered that does not speak Git's protocol: a host that wants us to sign in, or no Git host at all."""
    hint = "A web page answered, most often a sign-in page: check the source of the repository and its credentials"
    return SourceRefused(message, hint=hint)


def is_incomplete(complaints: str) -> bool:
    """Whether git left something out although it ended well: a file among the refs that is no ref."""
    return "ignoring broken ref" in complaints


def _last_line(complaints: str) -> str:
    lines = [line for line in complaints.splitlines() if line.strip()]
    told = [line for line in lines if not _ADVICE.match(line)] or lines
    line = redacted(told[-1]) if told else "nothing, it just failed"
    return "".join(letter if letter.isprintable() else " " for letter in line)[:_LONGEST].strip()


def redacted(text: str) -> str:
    """The text without the user names and passwords of its URLs."""
    return _USERINFO.sub("***@", text)
