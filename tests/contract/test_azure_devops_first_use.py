"""The first use of the SDK in a process, by several threads at once: it is imported once, and whole."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# One thread is in the middle of importing msrest when another begins to post a status.
FIRST_USE = """
import sys, threading, time
from datetime import UTC, datetime, timedelta

from shared.azure_devops.client import Organisation
from shared.azure_devops.statuses import AzureDevOpsStatuses
from shared.errors import SourceFailed
from shared.model import CommitState, CommitStatus, Deadline, Registration, Repository

begun, posting = threading.Event(), threading.Event()

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "azure.devops.v7_1.git.models":
            posting.set()
        if name == "msrest.version":
            begun.set()
            if posting.wait(0.5):
                time.sleep(0.5)

sys.meta_path.insert(0, Finder())
organisation = Organisation("http://127.0.0.1:1/contoso", authorization=lambda: "", timeout=timedelta(seconds=5))
now = datetime.now(UTC)
repository = Repository("id", Registration("team", organisation.url, ("main",)), 1, now, now)
broken = []

def use(work):
    try:
        work()
    except SourceFailed:
        pass
    except BaseException as error:
        broken.append(repr(error))

def read():
    with organisation.git(Deadline.after(timedelta(seconds=5))):
        pass

def post():
    begun.wait()
    status = CommitStatus("a" * 40, CommitState.SUCCEEDED, "Served", None)
    AzureDevOpsStatuses(organisation, environment="dev").post(repository, status, Deadline.after(timedelta(seconds=5)))

threads = [threading.Thread(target=use, args=[work]) for work in (read, post)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert begun.is_set()
assert not broken, broken
"""


def test_threads_that_use_it_first_together_do_not_break_each_others_import() -> None:
    command = [sys.executable, "-c", FIRST_USE]
    done = subprocess.run(command, cwd=ROOT, env={}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
