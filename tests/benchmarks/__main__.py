"""Run one benchmark by name."""

import argparse
import json
from pathlib import Path

from tests.benchmarks import memory

BENCHMARKS = {"memory": memory.run}


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("name", choices=sorted(BENCHMARKS))
    parser.add_argument("--folder", type=Path, default=None, help="where scenes are made; default: a temporary one")
    parser.add_argument("--json", type=Path, default=None, help="write the figures to this file")
    options = parser.parse_args()
    figures = BENCHMARKS[options.name](options.folder)
    for name, value in figures.items():
        print(f"{name:40} {value:.3f}" if isinstance(value, float) else f"{name:40} {value}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


main()
