"""What to try with a running demo: commands that can be copied as they are printed, into the shell of this system."""

import base64
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from examples import service_hook
from examples.demo_state import ROOT, DemoFolder, Source

ITEM = "sales/customers/customers_runtime.yaml"
IS_WINDOWS = os.name == "nt"


def shown(path: Path) -> str:
    """As short as it can be said where the demo was started."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


class _Commands:
    """What the demos have in common, and how to write it down."""

    def __init__(self, demo: DemoFolder, url: str) -> None:
        # Not resolved: the path through .venv is what makes it that environment's.
        self.python = _quoted(shown(Path(sys.executable)))
        self.git = f"git -C {_quoted(shown(demo.repository))}"
        folder = "" if demo.given == ROOT / ".local" else f" --folder {_quoted(shown(demo.given))}"
        source = "" if demo.source is Source.LOCAL_GIT else f" --source {demo.source}"
        self.store = f"{self.python} -m examples.demo{folder}{source}"
        served = f"{url}/runtimes/{service_hook.NAME}/main"
        self.list = f"{_reader(self.python)} {served}"
        self.read = f"{_reader(self.python)} {served}/{ITEM} | {self.python} -m json.tool"
        item = demo.repository / ITEM
        self.change = _edit(item, "  description: .*", "  description: Changed at ", with_time=True)
        self.spoil = _edit(item, "  enabled: .*", "  enabled: perhaps", with_time=False)


def what_to_try(demo: DemoFolder, url: str) -> str:
    its = _Commands(demo, url)
    commands = {
        "List what main serves": [its.list],
        "Read one config": [its.read],
        "Commit a change, and read it": [its.change, f"{its.git} commit -qam Change", its.read],
        "Commit a mistake; what is served stays": [its.spoil, f"{its.git} commit -qam Mistake"],
        "See how it is": [f"{its.store} status {service_hook.NAME}"],
    }
    end = f"Take the mistake back with `{its.git} revert --no-edit HEAD`. Ctrl-C stops everything."
    return _numbered("Five things to try", commands, end)


def what_to_try_with_azure_devops(demo: DemoFolder, url: str, control: str, commits: str, token: str) -> str:
    """`control` is where the organisation is told to misbehave; `commits` is the address of its API for them."""
    its = _Commands(demo, url)
    push = f"{its.git} push -q"
    status = f"{_reader(its.python, token)} {commits}/$({its.git} rev-parse HEAD)/statuses | {its.python} -m json.tool"
    back = f"{its.git} revert --no-edit HEAD"
    commands = {
        "List what main serves": [its.list],
        "Push a change; this terminal tells what comes of it": [its.change, f"{its.git} commit -qam Change", push],
        "Read it": [its.read],
        "Push a mistake; what is served stays": [its.spoil, f"{its.git} commit -qam Mistake", push],
        "See what its commit shows in Azure DevOps": [status],
        "See how it is": [f"{its.store} status {service_hook.NAME}"],
        "Look at the service hooks": [f"{its.store} hooks list", f"{its.store} hooks check"],
        "Take the mistake back while Azure DevOps throttles; 6 tells": [
            f"{_reader(its.python, posts=True)} {control}/_misbehave/throttled",
            back,
            push,
        ],
        "Let it behave again, and do not wait": [
            f"{_reader(its.python, posts=True)} {control}/_behave",
            f"{its.store} sync {service_hook.NAME}",
        ],
    }
    more = "sign_in, not_found, error, cut, wrong_bytes, hang"
    end = f"Instead of `throttled`, Azure DevOps can be told: {more}. Ctrl-C stops everything."
    return _numbered("Things to try", commands, end)


def _numbered(title: str, commands: Mapping[str, Sequence[str]], end: str) -> str:
    joint = "; " if IS_WINDOWS else " && "
    lines = [f"{title} in another terminal, in {Path.cwd()}{' (PowerShell)' if IS_WINDOWS else ''}:\n"]
    for number, (what, words) in enumerate(commands.items(), start=1):
        lines += [f"  {number}. {what}", f"     {joint.join(words)}\n"]
    return "\n".join([*lines, end])


def _reader(python: str, token: str = "", *, posts: bool = False) -> str:
    """What reads a URL: curl, which in PowerShell is an alias of something else, or Python where there is none."""
    if shutil.which("curl"):
        more = (f" -u :{token}" if token else "") + (" -X POST" if posts else "")
        return f'{"curl.exe" if IS_WINDOWS else "curl"} -sw "\\n"{more}'
    signed = base64.b64encode(f":{token}".encode()).decode()
    more = (f", headers={{'Authorization': 'Basic {signed}'}}" if token else "") + (", method='POST'" if posts else "")
    request = f"u.Request(sys.argv[1]{more})" if more else "sys.argv[1]"
    return f'{python} -c "import sys, urllib.request as u; print(u.urlopen({request}).read().decode())"'


def _edit(path: Path, pattern: str, text: str, *, with_time: bool) -> str:
    """A command that changes the lines of a file that match."""
    file = _quoted(shown(path))
    if IS_WINDOWS:
        new = f"('{text}' + (Get-Date -Format HH:mm:ss))" if with_time else f"'{text}'"
        return f"(Get-Content {file}) -replace '^{pattern}', {new} | Set-Content {file}"
    time_of_day = "$(date +%T)" if with_time else ""
    return f'sed -i.bak "s/^{pattern}/{text}{time_of_day}/" {file}'


def _quoted(text: str) -> str:
    if IS_WINDOWS:
        return f'"{text}"' if " " in text else text
    return shlex.quote(text)
