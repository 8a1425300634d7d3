"""An archive on a Dask cluster of two worker processes, start to end, on rendered places.

Renders pairs, writes a manifest, starts the cluster, and runs ``rscd batch`` on it. Run again with the same folder,
it has nothing to do. On a cluster of your own, leave ``two_workers`` out and give your scheduler's address::

    python examples/archive/run.py /tmp/archive --pairs 6
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from rscd.core.types import Window
from rscd.output.geotiff import write_geotiff
from rscd.simulate.scene import Scene
from rscd.simulate.spec import SceneSpec


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--side", type=int, default=640, help="side of a scene in px")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    manifest = render(options.folder, options.pairs, options.side)
    with two_workers() as cluster:
        command = ["batch", manifest, "-o", options.folder / "out", "--scheduler", cluster.scheduler_address]
        sys.exit(subprocess.run([sys.executable, "-m", "rscd", *map(str, command)]).returncode)


def render(folder: Path, pairs: int, side: int) -> Path:
    """Render what is not there yet; returns the manifest."""
    lines = ["id,before,after"]
    for seed in range(1, pairs + 1):
        name = f"place_{seed:03}"
        lines.append(f"{name},before/{name}.tif,after/{name}.tif")
        scene = Scene(SceneSpec(seed=seed, width=side, height=side, layout="demo"))
        for date in ("before", "after"):
            path = folder / date / f"{name}.tif"
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                write_geotiff(path, scene.grid, [getattr(scene.render(Window(0, 0, side, side)), date)])
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return manifest


def two_workers():  # noqa: ANN201 - dask.distributed has no types
    """Two processes of one thread, each with one slot, on loopback and without a dashboard."""
    from distributed import LocalCluster

    quiet = "127.0.0.1:0"
    return LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        resources={"GPU": 1},
        memory_limit=0,
        scheduler_kwargs={"dashboard": False, "dashboard_address": quiet},
        worker_dashboard_address=None,
    )


if __name__ == "__main__":
    main()
