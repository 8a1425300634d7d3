"""A first map in Python, on a rendered place: some 10 s on two CPU cores.

python examples/first_map.py /tmp/first-map
"""

import sys
from pathlib import Path

import geopandas

from rscd import DetectConfig, InspectConfig, detect, inspect
from rscd.workflows.demo import render_pair


def main(folder: Path) -> None:
    """Render a pair, look at it, map its changes, and list the largest."""
    place = render_pair(folder, seed=7)

    found = inspect(InspectConfig(place.before, place.after))
    print(f"The pair is {found.verdict}: pixels of {found.gsd_m} m, {found.valid_share:.0%} shown by both dates.")

    config = DetectConfig(
        place.before,
        place.after,
        folder / "changes.gpkg",
        probability=folder / "probability.tif",
        report=folder / "report.html",
        overwrite=True,
    )
    result = detect(config, progress=lambda done, total: print(f"\r{done / total:4.0%}", end="", flush=True))
    written = result.written
    print(f"\n{written.polygons} changes by {result.model}, {written.changed_m2:,.0f} m2 of")
    print(f"{written.observed_km2:.2f} km2; {written.not_observable_km2:.2f} km2 could not be observed.")

    changes = geopandas.read_file(written.geopackage, layer="changes")
    largest = changes.sort_values("area_m2", ascending=False).head(5)
    print(largest[["id", "direction", "area_m2", "mean_probability"]].to_string(index=False))


main(Path(sys.argv[1]))
