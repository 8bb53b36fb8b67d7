"""What to try with a running demo: commands that can be copied as they are printed, into the shell of this system."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from examples import service_hook
from examples.demo_state import ROOT, DemoFolder

ITEM = "sales/customers/customers_runtime.yaml"
IS_WINDOWS = os.name == "nt"


def shown(path: Path) -> str:
    """As short as it can be said where the demo was started."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def what_to_try(demo: DemoFolder, url: str) -> str:
    git = f"git -C {_quoted(shown(demo.repository))}"
    # Not resolved: the path through .venv is what makes it that environment's.
    python = _quoted(shown(Path(sys.executable)))
    folder = "" if demo.folder == ROOT / ".local" else f" --folder {_quoted(shown(demo.folder))}"
    served = f"{url}/runtimes/{service_hook.NAME}/main"
    read = f"{_reader(python)} {served}/{ITEM} | {python} -m json.tool"
    change = _edit(demo.repository / ITEM, "  description: .*", "  description: Changed at ", with_time=True)
    spoil = _edit(demo.repository / ITEM, "  enabled: .*", "  enabled: perhaps", with_time=False)
    commands = {
        "List what main serves": [f"{_reader(python)} {served}"],
        "Read one config": [read],
        "Commit a change, and read it": [change, f"{git} commit -qam Change", read],
        "Commit a mistake; what is served stays": [spoil, f"{git} commit -qam Mistake"],
        "See how it is": [f"{python} -m examples.demo{folder} status {service_hook.NAME}"],
    }
    joint = "; " if IS_WINDOWS else " && "
    lines = [f"Five things to try in another terminal, in {Path.cwd()}{' (PowerShell)' if IS_WINDOWS else ''}:\n"]
    for number, (title, words) in enumerate(commands.items(), start=1):
        lines += [f"  {number}. {title}", f"     {joint.join(words)}\n"]
    lines.append(f"Take the mistake back with `{git} revert --no-edit HEAD`. Ctrl-C stops everything.")
    return "\n".join(lines)


def _reader(python: str) -> str:
    """What reads a URL: curl, which in PowerShell is an alias of something else, or Python where there is none."""
    if shutil.which("curl"):
        return f'{"curl.exe" if IS_WINDOWS else "curl"} -sw "\\n"'
    return f'{python} -c "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"'


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
