"""Print `docs/settings.md`, or with `example` as argument `local.settings.json.example`."""

import sys

from shared.settings.document import render_example, render_markdown

if __name__ == "__main__":
    sys.stdout.write(render_example() if sys.argv[1:] == ["example"] else render_markdown())
