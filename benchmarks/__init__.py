"""What backs the figures of docs/performance.md: our way and the plain way of the same work, in the same run.

`python -m benchmarks` runs them all, `python -m benchmarks NAME...` some; `--quick` takes small sizes.
"""
