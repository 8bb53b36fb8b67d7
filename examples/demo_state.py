"""What the demo keeps between two starts, and what it leaves for other processes while it runs."""

import json
import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from examples import embedded_postgres, sample_repository

ROOT = Path(__file__).resolve().parent.parent


class DemoProblem(Exception):
    """Something that only the person at the keyboard can put right; the message says how."""


class Source(StrEnum):
    """What the demo reads its sample repository through. Each has a demo of its own; both can run at a time."""

    LOCAL_GIT = "local-git"
    AZURE_DEVOPS = "azure-devops"


@dataclass(frozen=True, slots=True)
class DemoFolder:
    """Everything of a demo is in one folder: `given`, by default `.local` in the project, or `azure-devops` in it."""

    given: Path
    source: Source = Source.LOCAL_GIT

    @property
    def folder(self) -> Path:
        return self.given if self.source is Source.LOCAL_GIT else self.given / self.source

    @property
    def postgres(self) -> Path:
        return self.folder / "postgres"

    @property
    def repository(self) -> Path:
        return self.folder / "repositories" / "sample"

    @property
    def organisation(self) -> Path:
        """What the organisation of Azure DevOps holds, where there is one."""
        return self.folder / "organization"

    @property
    def running(self) -> Path:
        """Where the server is, with its settings; there only while it runs."""
        return self.folder / "demo" / "running.json"

    @property
    def _keys(self) -> Path:
        return self.folder / "demo" / "keys.json"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One demo at a time; the lock ends with its process. Raises `DemoProblem`."""
        (self.folder / "demo").mkdir(parents=True, exist_ok=True)
        with (self.folder / "demo" / "lock").open("a") as lock:
            try:
                _lock(lock.fileno())
            except OSError:
                raise DemoProblem(self._who_runs()) from None
            yield

    def _who_runs(self) -> str:
        told = self.told()
        if told is None:
            return "Another demo is just starting or stopping here. Try again in a few seconds."
        stop = f"taskkill /PID {told['pid']} /T /F" if os.name == "nt" else f"kill {told['pid']}"
        return (
            f"The demo is running already, at {told['url']}.\n"
            f"Use that one, or stop it with Ctrl-C in its terminal (or with: {stop})."
        )

    def told(self) -> Mapping[str, object] | None:
        """What a running demo has told."""
        try:
            told: Mapping[str, object] = json.loads(self.running.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return told

    @property
    def is_running(self) -> bool:
        """Whether what is told is true: a demo that was killed takes nothing back."""
        told = self.told()
        return told is not None and psutil.pid_exists(told["pid"])

    @contextmanager
    def telling(self, url: str, settings: Mapping[str, str]) -> Iterator[None]:
        """Inside, other processes find the server."""
        write_private(self.running, {"pid": os.getpid(), "url": url, "settings": dict(settings)})
        try:
            yield
        finally:
            with suppress(FileNotFoundError):
                self.running.unlink()

    def keys(self) -> Mapping[str, str]:
        """Random keys, made once, together with the database that one of them opens."""
        with suppress(OSError, ValueError):
            kept: Mapping[str, str] = json.loads(self._keys.read_text(encoding="utf-8"))
            return kept
        # Nobody can open a database whose password is lost.
        embedded_postgres.remove(self.postgres)
        made = {name: secrets.token_urlsafe(32) for name in ("database", "webhook", "admin")}
        write_private(self._keys, made)
        return made

    def clear(self) -> None:
        """Forget everything, but nothing that others keep in this folder."""
        embedded_postgres.remove(self.postgres)
        sample_repository.remove(self.repository.parent)
        sample_repository.remove(self.organisation)
        for path in (self.running, self._keys):
            with suppress(FileNotFoundError):
                path.unlink()


def write_private(path: Path, value: object) -> None:
    """Appears whole or not at all, and only its owner can read it."""
    half = path.with_suffix(".new")
    with suppress(FileNotFoundError):
        half.unlink()
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
    half.replace(path)


def _lock(number: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
