"""Does anything slow down with what waits? `python -m tests.benchmarks.scale [--full]`"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks import backlog
from tests.benchmarks.bench import Amounts, Bench
from tests.benchmarks.contestants import FLOOR, OURS
from tests.benchmarks.server import Server


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("sizes", nargs="*", type=int)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="docket-bench-"))
    found = {}
    try:
        server = Server(folder)
        try:
            bench = Bench(server, folder, Amounts(), OURS, FLOOR, None)
            for size in options.sizes:
                began = time.monotonic()
                found[size] = backlog.Beside(
                    bench, size, backlog.QUICK if options.quick else backlog.Load()
                ).measure()
                print(size, f"{time.monotonic() - began:.0f} s", file=sys.stderr)
        finally:
            server.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for name in next(iter(found.values())):
        print(f"{name:50}", *(f"{found[size][name]:12,.2f}" for size in found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
