"""Runs the `git` executable.

Invariant: a call ends. Nothing prompts, nothing waits beyond the deadline, and whatever Git started ends with it.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from tempfile import TemporaryFile
from typing import IO, cast

from shared import telemetry
from shared.errors import SourceFailed
from shared.local_git.failures import failure, is_incomplete
from shared.model import Deadline

PROTOCOLS = ("git", "http", "https", "ssh")
ONLINE = {"GIT_ALLOW_PROTOCOL": ":".join(PROTOCOLS)}
OFFLINE = {"GIT_ALLOW_PROTOCOL": ""}
"""No transport starts at all, whatever a repository's own configuration says."""

# Of the caller's GIT_* variables only those that say how to reach a server; GIT_DIR and its like would redirect a read.
_KEPT = (
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_CONFIG_SYSTEM",
    "GIT_EXEC_PATH",
    "GIT_HTTP_PROXY",
    "GIT_PROXY",
    "GIT_SSH",
    "GIT_SSL",
)
_DROPPED = ("GIT_", "LANGUAGE", "SSH_ASKPASS")
_SET = {
    "LC_ALL": "C",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "SSH_ASKPASS_REQUIRE": "never",
    "GCM_INTERACTIVE": "never",
    # A replaced object has other bytes than its id says.
    "GIT_NO_REPLACE_OBJECTS": "1",
    # A blobless repository would fetch blob by blob: 203 requests instead of 3 for 200 files.
    "GIT_NO_LAZY_FETCH": "1",
}
_CONFIGURED = (
    f"core.hooksPath={os.devnull}",
    "protocol.version=2",
    "fetch.negotiationAlgorithm=noop",
    "fetch.writeCommitGraph=false",
    "gc.auto=0",
    "maintenance.auto=false",
)
_OPTIONS = tuple(word for setting in _CONFIGURED for word in ("-c", setting))


class Git:
    """The `git` executable in a clean environment. `environment` is the process's own; git is found on its PATH."""

    def __init__(self, executable: str, environment: Mapping[str, str]) -> None:
        kept = {name: value for name, value in environment.items() if _is_kept(name.upper())}
        self._executable = executable
        self._environment = {**kept, **_SET}

    def run(
        self,
        git_dir: str,
        arguments: Sequence[str],
        deadline: Deadline,
        *,
        stdin: bytes = b"",
        variables: Mapping[str, str] = OFFLINE,
    ) -> bytes:
        """All that git answers. Raises a `SourceError` unless git ended well."""
        with self.reading(git_dir, arguments, deadline, stdin=stdin, variables=variables) as stdout:
            return stdout.read()

    @contextmanager
    def reading(
        self,
        git_dir: str,
        arguments: Sequence[str],
        deadline: Deadline,
        *,
        stdin: bytes,
        variables: Mapping[str, str] = OFFLINE,
    ) -> Iterator[IO[bytes]]:
        """As `run`, but the answer as it comes: the body of the `with` reads to its end, or raises."""
        seconds = deadline.remaining
        if seconds == 0.0:
            raise SourceFailed("No time was left to ask Git")
        # Files, not pipes: git must never wait for somebody to read its complaints, nor we for it to read a question.
        span = telemetry.call(f"git {arguments[0]}", {"process.executable.name": "git"})
        with span, TemporaryFile() as question, TemporaryFile() as complaints:
            question.write(stdin)
            question.seek(0)
            process = self._start(git_dir, arguments, variables, question, complaints)
            stdout = cast(IO[bytes], process.stdout)
            expired = threading.Event()

            def expire() -> None:
                expired.set()
                _kill(process)

            watchdog = threading.Timer(seconds, expire)
            watchdog.daemon = True
            watchdog.start()
            try:
                yield stdout
                process.wait()
            finally:
                watchdog.cancel()
                if process.poll() is None:
                    _kill(process)
                stdout.close()
                process.wait()
            if expired.is_set():
                raise SourceFailed(f"Git did not answer within {seconds:.3g} s")
            complaints.seek(0)
            said = complaints.read().decode("utf-8", "replace")
            if process.returncode or is_incomplete(said):
                raise failure(said)

    def _start(
        self,
        git_dir: str,
        arguments: Sequence[str],
        variables: Mapping[str, str],
        question: IO[bytes],
        complaints: IO[bytes],
    ) -> "subprocess.Popen[bytes]":
        try:
            return subprocess.Popen(
                [self._executable, *_OPTIONS, f"--git-dir={git_dir}", *arguments],
                stdin=question,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env={**self._environment, **variables},
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            hint = "Install Git (https://git-scm.com) and see that `git` is on the PATH of this process"
            raise SourceFailed(f"Git cannot be started: {error.strerror}", hint=hint) from error


def _is_kept(name: str) -> bool:
    return name.startswith(_KEPT) or not name.startswith(_DROPPED)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Git and all that it started: its transports are processes of their own, and would keep the pipe open."""
    if sys.platform == "win32":
        command = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
        subprocess.run(command, capture_output=True, check=False)
    else:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
