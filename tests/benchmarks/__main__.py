"""Run one benchmark by name."""

import argparse
import json
from pathlib import Path

from tests.benchmarks import accuracy, archive, encoders, guards, memory, precision, speed, train

BENCHMARKS = {
    "accuracy": accuracy.run,
    "archive": archive.run,
    "encoders": encoders.run,
    "guards": guards.run,
    "memory": memory.run,
    "precision": precision.run,
    "speed": speed.run,
    "split": archive.run_split,
    "train": train.run,
}


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("name", choices=sorted(BENCHMARKS))
    parser.add_argument("--folder", type=Path, default=None, help="where scenes are made; default: a temporary one")
    parser.add_argument("--model", default=None, help="model to measure; default: buildings")
    parser.add_argument("--side", type=int, default=None, help="archive, split: side of a scene in px")
    parser.add_argument("--json", type=Path, default=None, help="write the figures to this file")
    parser.add_argument(
        "--train", nargs="*", type=train.option, default=[], help="train: e.g. encoder=vit_b crop=448"
    )
    parser.add_argument("--rows", help="speed: rows of its table, such as 1,3,4; encoders: names; default: all")
    parser.add_argument("--device", help="speed: cpu, the default, or cuda")
    options = parser.parse_args()
    names = ("model", "side", "rows", "device")
    more = {name: value for name in names if (value := getattr(options, name)) is not None}
    more |= dict(options.train)
    figures = BENCHMARKS[options.name](options.folder, **more)
    for name, value in figures.items():
        print(f"{name:40} {value:.3f}" if isinstance(value, float) else f"{name:40} {value}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":  # workers import this module again
    main()
