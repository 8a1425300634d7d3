"""A full disk is exit code 7 with the file's name; older outputs are intact, and with room the run goes on."""

from __future__ import annotations

import dataclasses

import pytest

from faults.scenario import STRIPS, Case, same_result, start_stub

POINTS = [
    ("keep", 3, ("000002.tail", "changes.gpkg"), 2),
    ("tail-written", 4, ("000002.strip", "changes.gpkg"), 2),  # the first was journal.json's
    ("cog", 1, ("p.tif",), STRIPS),
    ("gpkg", 1, ("p.tif", "changes.gpkg"), STRIPS),
    ("gpkg-layers", 1, ("p.tif", "changes.gpkg"), STRIPS),
    ("report", 1, ("report.html",), STRIPS),
    ("publish", 1, ("published.json",), STRIPS),
]
"""Where the disk becomes full: a point of the stub's and which time, the file that the error names, strips kept.

The GeoPackage is begun with the first polygons, while strips are kept. It is ended at the same time as the raster,
and where both fail the raster is named; by the GeoPackage's points that may be done already."""


@pytest.mark.row("disk full while: journal, COG, GPKG, report")
@pytest.mark.faults
@pytest.mark.parametrize(("point", "nth", "named", "kept"), POINTS)
def test_a_full_disk_is_told_and_harms_nothing(pair, whole, small_disk, point, nth, named, kept):
    case = Case(*pair, small_disk, {"overwrite": True})
    old = case.old_outputs()
    victim = case.start(hold=point, nth=nth, fill=small_disk)
    code, told = victim.finish()
    assert code == 7, told
    assert any(name in told.splitlines()[-1] for name in named), told
    assert "free space" in told
    assert {path: path.read_bytes() for path in case.outputs} == old
    assert case.listing() == ["changes.gpkg", "changes.gpkg.rscd", "filler", "p.tif", "report.html"]
    assert not [path for path in case.journal.iterdir() if path.name.startswith(".")]
    (small_disk / "filler").unlink()
    assert case.run().bands_resumed == kept
    same_result(case, whole)


@pytest.mark.row("disk full while: journal, COG, GPKG, report")
@pytest.mark.faults
@pytest.mark.parametrize("suffix", [".fgb", ".geojson", ".parquet"])
def test_a_full_disk_in_another_format(pair, small_disk, suffix):
    config = Case(*pair, small_disk).config(report=None)
    config = dataclasses.replace(config, output=small_disk / f"c{suffix}")
    told = {
        k: None if v is None else v if isinstance(v, int | float | bool) else str(v)
        for k, v in vars(config).items()
    }
    victim = start_stub(config=told, hold="cog-verified", fill=str(small_disk))
    code, words = victim.finish()
    assert (code, f"c{suffix}" in words) == (7, True), words
    assert sorted(path.name for path in small_disk.iterdir()) == [f"c{suffix}.rscd", "filler"]
