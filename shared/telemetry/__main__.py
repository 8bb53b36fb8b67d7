"""Print the tables of `docs/telemetry.md`."""

import sys

from shared.telemetry.document import metrics_table, spans_table

if __name__ == "__main__":
    sys.stdout.write(f"{metrics_table()}\n\n{spans_table()}\n")
