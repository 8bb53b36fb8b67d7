"""Everything at once, for a long time: pushes, faults and readers, and invariants that are checked all the while.

`python -m benchmarks soak --pushes 10000` runs it. `people` push to real repositories, of which some are in an
organisation of Azure DevOps (the one of the tests) and some are read with Git; `network` carries the deliveries, and
loses, doubles and delays some; `services` are two real servers on one database, and their timer; `faults` is what goes
wrong; `readers`, in a process of their own, hold every answer against the `ledger` of what was pushed; `watching`
measures how soon a push is served, and looks at every branch when all is quiet.
"""

import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    tests = str(Path(__file__).parents[2] / "tests")
    if tests not in sys.path:
        sys.path.append(tests)
    from benchmarks.soak import program

    return program.main(arguments)
