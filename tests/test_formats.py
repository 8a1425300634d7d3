"""The vector file in each of its formats, as other software reads it, and what lies beside it."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
from conftest import Pointwise, utm_grid, write_image
from test_attributes import CONTRACT

from rscd.core.errors import OutputError, UsageError
from rscd.core.paths import siblings
from rscd.options.detect import DetectConfig
from rscd.output.vector.formats import suffixes
from rscd.workflows.detect import detect

TEXT = (".geojson",)
"""Formats in longitude and latitude whose numbers are rounded, and that name their columns feature by feature."""
OTHERS = [suffix for suffix in suffixes() if suffix != ".gpkg"]


def pair(folder: Path, kind: str = "squares") -> tuple[Path, Path]:
    """200 x 160 px: a ring and a square appear, or nothing, or everything changes; a corner is nodata."""
    folder.mkdir(exist_ok=True)
    before = np.full((3, 160, 200), 90, np.uint8)
    before[2, 0, 0] += 1  # which the stand-in does not see: a constant file would be refused
    after = before.copy()
    if kind == "squares":
        after[:, 20:60, 30:90] = 250
        after[:, 30:50, 40:80] = 90
        after[:, 100:120, 100:140] = 200
        after[:, 140:, 180:] = 0
    if kind == "all":
        after[:] = 250
        after[2, 0, 0] += 1
    grid = utm_grid(160, 200)
    a, b = ((folder / f"{name}.tif", pixels) for name, pixels in (("a", before), ("b", after)))
    return write_image(*a, grid, nodata=0), write_image(*b, grid, nodata=0)


def run(output: Path, kind: str = "squares", **options) -> geopandas.GeoDataFrame:
    before, after = pair(output.parent / "in", kind)
    config = DetectConfig(before, after, output, device="cpu", threshold=0.9, **options)
    detect(config, model=(Pointwise(), CONTRACT))
    return read(output)


def read(path: Path) -> geopandas.GeoDataFrame:
    if path.suffix == ".parquet":
        return geopandas.read_parquet(path)
    return geopandas.read_file(path, layer="changes" if path.suffix == ".gpkg" else None)


@pytest.mark.parametrize("suffix", OTHERS)
def test_the_same_columns_and_polygons_as_the_geopackage(tmp_path: Path, suffix: str) -> None:
    want = run(tmp_path / "changes.gpkg")
    got = run(tmp_path / f"changes{suffix}")
    assert [*got.columns] == [*want.columns]
    assert got.crs.equals(want.crs) or suffix in TEXT
    there = want.to_crs(got.crs)
    assert len(got) == 2 and shapely.is_valid(got.geometry).all()
    got, there = got.sort_values("id"), there.sort_values("id")  # FlatGeobuf orders by place
    close = 1e-7 if suffix in TEXT else 0.0  # 7 decimals of a degree
    for one, two in zip(got.geometry, there.geometry, strict=True):
        assert shapely.hausdorff_distance(one, two) <= close
        assert shapely.is_ccw(one.exterior) and not any(shapely.is_ccw(ring) for ring in one.interiors)
    unknown = ["direction", "presence_before", "presence_after", "ndvi_change"]
    for name in want.columns.drop(["geometry", "review", "registration_residual_px", *unknown]):
        ours, theirs = got[name].to_numpy(), there[name].to_numpy()
        if suffix in TEXT and theirs.dtype == np.float64:
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=5.1e-3, err_msg=name)
        else:
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
    assert got[unknown].isna().all(axis=None) and (got["review"] == "").all()


@pytest.mark.parametrize("suffix", OTHERS)
def test_extent_and_provenance_lie_beside_it(tmp_path: Path, suffix: str) -> None:
    run(tmp_path / f"changes{suffix}")
    extent_path, provenance_path = siblings(tmp_path / f"changes{suffix}")
    extent = read(extent_path)
    assert extent["not_observable_km2"].tolist() == [pytest.approx(20 * 20 * 0.25e-6, rel=2e-3)]
    told = json.loads(provenance_path.read_text(encoding="utf-8"))
    assert told["software"] == "rscd" and told["model"]["name"] == "pointwise"
    left = {path.name for path in tmp_path.iterdir()} - {"in"}
    assert left == {f"changes{suffix}", extent_path.name, provenance_path.name}


@pytest.mark.parametrize("suffix", suffixes())
@pytest.mark.parametrize(("kind", "polygons"), [("none", 0), ("all", 1)])
def test_valid_when_nothing_changed_and_when_everything_did(
    tmp_path: Path, suffix: str, kind: str, polygons: int
) -> None:
    frame = run(tmp_path / f"changes{suffix}", kind)
    assert len(frame) == polygons
    assert "area_m2" in frame.columns or (suffix in TEXT and kind == "none")
    if polygons:
        assert frame["area_m2"].tolist() == [pytest.approx(160 * 200 * 0.25, rel=2e-3)]


def test_geojson_is_rfc_7946(tmp_path: Path) -> None:
    run(tmp_path / "changes.geojson")
    told = json.loads((tmp_path / "changes.geojson").read_text(encoding="utf-8"))
    assert told["type"] == "FeatureCollection" and "crs" not in told
    lon, lat = told["features"][0]["geometry"]["coordinates"][0][0]
    assert -100 < lon < -97 and 30 < lat < 31
    for feature in told["features"]:
        for name, value in feature["properties"].items():
            most = 7 if name in ("lon", "lat") else 4
            assert not isinstance(value, float) or len(repr(value).partition(".")[2]) <= most, (name, value)


def test_geoparquet_says_1_1_and_reads_by_box(tmp_path: Path) -> None:
    frame = run(tmp_path / "changes.parquet")
    geo = json.loads(pq.read_metadata(tmp_path / "changes.parquet").metadata[b"geo"])
    column = geo["columns"][geo["primary_column"]]
    assert geo["version"] == "1.1.0" and column["encoding"] == "WKB"
    assert column["bbox"] == pytest.approx(frame.total_bounds) and column["geometry_types"] == ["Polygon"]
    one = frame.geometry.iloc[0]
    part = geopandas.read_parquet(tmp_path / "changes.parquet", bbox=one.bounds)
    assert part["id"].tolist() == [frame["id"].iloc[0]]


@pytest.mark.parametrize("name", ["changes.shp", "changes", "changes.json", "changes.gpkg.zip"])
def test_an_unknown_suffix_is_refused_before_any_work(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        run(tmp_path / name)
    assert all(suffix in str(caught.value.remedy) for suffix in (".gpkg", ".fgb", ".geojson", ".parquet"))
    assert caught.value.exit_code == 2 and name in str(caught.value)


@pytest.mark.parametrize("suffix", OTHERS)
def test_an_existing_sibling_is_kept_without_overwrite(tmp_path: Path, suffix: str) -> None:
    provenance = tmp_path / f"changes{suffix}.json"
    provenance.write_text("mine")
    with pytest.raises(UsageError, match="overwrite=True"):
        run(tmp_path / f"changes{suffix}")
    assert provenance.read_text() == "mine"
    assert len(run(tmp_path / f"changes{suffix}", overwrite=True)) == 2


@pytest.mark.parametrize("suffix", suffixes())
def test_a_missing_folder_is_an_output_error(tmp_path: Path, suffix: str) -> None:
    before, after = pair(tmp_path / "in")
    with pytest.raises(OutputError, match="mkdir"):
        detect(DetectConfig(before, after, tmp_path / "none" / f"changes{suffix}"), model=(Pointwise(), CONTRACT))


@pytest.mark.parametrize("suffix", suffixes())
@pytest.mark.parametrize("name", ["it's", "a#b", "who?", "a&b=c", "näheres 変化", "two  spaces", "100%20"])
def test_any_path_that_a_file_system_takes(tmp_path: Path, suffix: str, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    output = folder / f"{name}{suffix}"
    before, after = pair(folder / "in")
    detect(DetectConfig(before, after, output, device="cpu", threshold=0.9), model=(Pointwise(), CONTRACT))
    assert {path.name for path in folder.iterdir()} == {"in", output.name, *(p.name for p in siblings(output))}
    plain = tmp_path / f"plain{suffix}"
    output.rename(plain)
    assert len(read(plain)) == 2


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".geojson"])
def test_a_path_that_pyogrio_takes_for_an_archive_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(UsageError, match="'!'"):
        run(tmp_path / f"x!y{suffix}")
    assert len(run(tmp_path / "x!y.parquet")) == 2


@pytest.mark.parametrize("suffix", suffixes())
@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that takes no files, such as /proc")
def test_a_folder_that_takes_no_files_is_an_output_error(tmp_path: Path, suffix: str) -> None:
    before, after = pair(tmp_path / "in")
    with pytest.raises(OutputError) as caught:
        detect(DetectConfig(before, after, Path(f"/proc/changes{suffix}")), model=(Pointwise(), CONTRACT))
    assert caught.value.exit_code == 7 and caught.value.remedy
