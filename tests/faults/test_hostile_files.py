"""Inputs that are cut, broken, absurd, or something else than they say: refused by name, or masked and listed."""

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import zipfile
from shutil import which

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from conftest import REPOSITORY, Pointwise, utm_grid, write_image
from typer.testing import CliRunner

from rscd import DetectConfig, detect
from rscd.cli.app import app
from rscd.core.contract import Contract
from rscd.core.errors import DataError
from rscd.core.types import Window
from rscd.options.detect import PolygonsConfig
from rscd.options.pair import PairConfig
from rscd.scene.pair import open_pair
from rscd.scene.window_stream import read_windows
from rscd.scene.windows import WindowPlan
from rscd.workflows.polygons import polygons

STAND_IN = (
    Pointwise(),
    Contract("stand-in", "1", "lite", 8, (110.0,) * 3, (50.0,) * 3, window=96, overlap=32, trained_on="-"),
)
IMAGE = np.random.default_rng(0).integers(1, 255, (3, 512, 640), dtype=np.uint8)
LAYOUTS = {
    "tiles": {},
    "uncompressed tiles": {"compress": None},
    "strips": {"tiled": False, "blockysize": 16, "compress": "lzw"},
    "planes": {"interleave": "band", "compress": "zstd"},
    "pixels": {"interleave": "pixel"},
}


def rscd(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def refused(before, after, *options):
    """Inspect and say what the refusal says; detect refuses for the same reason before it forwards anything."""
    said = rscd("inspect", before, after, "--json", *options)
    assert said.exit_code == 3, said.output
    told = json.loads(said.stdout)
    assert told["verdict"] == "refused"
    return told["reasons"][0]


@pytest.fixture
def good(tmp_path):
    return write_image(tmp_path / "good.tif", IMAGE)


def place_of(path, row, col, band=1):
    """Offset and size in bytes of a block."""
    with rasterio.open(path) as dataset:
        return [int(dataset.get_tag_item(f"BLOCK_{what}_{col}_{row}", "TIFF", band)) for what in ("OFFSET", "SIZE")]


def spoil(path, row, col, band=1):
    """Overwrite the middle of a block."""
    offset, size = place_of(path, row, col, band)
    with path.open("rb+") as file:
        file.seek(offset + size // 3)
        file.write(b"\xa5" * (size // 3))


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_cut_file_is_refused_at_once(tmp_path, good, layout, share):
    cut = write_image(tmp_path / "cut.tif", IMAGE, **LAYOUTS[layout])
    os.truncate(cut, int(cut.stat().st_size * share))
    told = refused(good, cut)
    assert "cut.tif: is truncated: " in told
    assert "blocks lie beyond its end, the first at rows from" in told
    assert "cut.tif" in refused(cut, good)


def test_a_cut_cog_is_refused_too(tmp_path, good):
    cut = tmp_path / "cut.tif"
    rasterio.shutil.copy(good, cut, driver="COG", blocksize=128, compress="deflate")
    os.truncate(cut, cut.stat().st_size * 9 // 10)
    assert "cut.tif: is truncated" in refused(cut, good)


@pytest.mark.parametrize("layout", ["tiles", "strips", "planes", "pixels"])
def test_a_broken_block_stops_the_run_by_file_window_and_reason(tmp_path, good, layout):
    bad = write_image(tmp_path / "bad.tif", IMAGE, **LAYOUTS[layout] | {"compress": "deflate"})
    spoil(bad, 2, 0, band=2 if layout == "planes" else 1)
    with pytest.raises(DataError) as caught:
        detect(DetectConfig(good, bad, tmp_path / "c.gpkg"), model=STAND_IN)
    told = str(caught.value)
    assert caught.value.exit_code == 3
    place = "rows 32 to 47, columns 0 to 639" if layout == "strips" else "rows 256 to 383, columns 0 to 127"
    assert f"bad.tif: {place} cannot be read: " in told
    assert "ZIPDecode:Decoding error" in told
    assert "--bad-blocks mask" in told
    assert not (tmp_path / "c.gpkg").exists()


@pytest.mark.parametrize("grid", ["before", "after"])
def test_masked_blocks_are_not_observable_and_listed_everywhere(tmp_path, good, grid):
    after = IMAGE.copy()
    after[0, 40:60, 40:60] = 255
    bad = write_image(tmp_path / "bad.tif", after)
    spoil(bad, 2, 1)
    spoil(bad, 0, 4)
    config = DetectConfig(
        good,
        bad,
        tmp_path / "c.gpkg",
        probability=tmp_path / "p.tif",
        report=tmp_path / "r.html",
        bad_blocks="mask",
        align="off",
        grid=grid,
    )
    written = detect(config, model=STAND_IN).written
    assert len(written.read_errors) == 2
    assert any("rows 256 to 383, columns 128 to 255 cannot be read: " in words for words in written.read_errors)
    with rasterio.open(config.probability) as dataset:
        hidden = dataset.read(1) == 255
    expected = np.zeros_like(hidden)
    expected[256:384, 128:256] = expected[:128, 512:] = True
    np.testing.assert_array_equal(hidden, expected)
    assert written.not_observable_km2 == pytest.approx(2 * 128 * 128 * 0.25 / 1e6, rel=0.01)
    told = json.loads(pyogrio.read_info(config.output, layer="changes")["layer_metadata"]["read_errors"])
    assert told == list(written.read_errors)
    assert "Blocks that could not be read" in config.report.read_text()


def test_a_warped_date_masks_its_bad_blocks_too(tmp_path, good):
    bad = write_image(tmp_path / "bad.tif", IMAGE, utm_grid(512, 640, gsd=0.45))
    spoil(bad, 1, 1)
    with pytest.raises(DataError, match="rows 128 to 255, columns 128 to 255 cannot be read"):
        everything(PairConfig(good, bad))
    windows = everything(PairConfig(good, bad, bad_blocks="mask"))
    told = {words for window in windows for words in window.read_errors}
    assert len(told) == 1
    valid = np.zeros((512, 640), bool)
    for window in windows:
        cell = window.cell
        valid[cell.row : cell.row_stop, cell.col : cell.col_stop] = window.after_valid[window.in_cell]
    assert not valid[118:228, 118:228].any()  # 0.45 through 0.5
    assert valid[:110, :110].all()


def everything(config):
    with open_pair(config) as pair:
        return list(read_windows(pair, WindowPlan.over(*pair.grid.shape, 128, 0)))


def test_the_command_lists_masked_blocks_and_inspect_mentions_them(tmp_path, good):
    bad = write_image(tmp_path / "bad.tif", IMAGE)
    spoil(bad, 0, 0)
    said = rscd("detect", good, bad, "-o", tmp_path / "c.gpkg", "--bad-blocks", "mask", "--window", "256")
    assert said.exit_code == 0, said.stderr
    assert "1 block of the inputs, masked" in said.stderr
    assert "0 to 127, columns 0 to 127" in " ".join(said.stderr.split())
    told = rscd("inspect", good, bad, "--bad-blocks", "mask", "--json")
    assert "cannot be read and are masked" in " ".join(json.loads(told.stdout)["notes"])
    assert rscd("detect", good, bad, "-o", tmp_path / "c.gpkg", "--bad-blocks", "skip").exit_code == 2


def test_blocks_that_were_never_written_are_not_observable(tmp_path, good):
    """What a writer leaves that was killed: GDAL reads zeros there and says nothing."""
    partial = tmp_path / "partial.tif"
    profile = {"tiled": True, "blockxsize": 128, "blockysize": 128, "sparse_ok": True, "compress": "deflate"}
    with rasterio.open(good) as source:
        profile = source.profile | profile
    with rasterio.open(partial, "w", **profile) as dataset:
        dataset.write(IMAGE[:, :256], window=((0, 256), (0, 640)))
    with rasterio.open(partial) as dataset:
        assert (dataset.read()[:, 256:] == 0).all()
    with open_pair(PairConfig(good, partial)) as pair:
        pixels, valid = pair.after.read(Window(0, 0, 512, 640))
        assert valid[:256].all()
        assert not valid[256:].any()
        np.testing.assert_array_equal(pixels[:, :256], IMAGE[:, :256])
    notes = json.loads(rscd("inspect", good, partial, "--json").stdout)["notes"]
    assert "blocks of after were never written: not observable" in " ".join(notes)


def test_a_probability_raster_of_a_killed_writer_makes_no_polygons(tmp_path):
    kept = tmp_path / "p.tif"
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "nodata": 255, "width": 1024, "height": 1024}
    profile |= {"tiled": True, "blockxsize": 512, "blockysize": 512, "sparse_ok": True, "crs": "EPSG:32614"}
    with rasterio.open(kept, "w", transform=rasterio.Affine(0.5, 0, 6e5, 0, -0.5, 3.35e6), **profile) as dataset:
        dataset.scales = (1 / 254,)
        dataset.write(np.full((512, 1024), 200, np.uint8), 1, window=((0, 512), (0, 1024)))
    with pytest.raises(DataError, match="2 of its blocks were never written"):
        polygons(PolygonsConfig(kept, tmp_path / "c.gpkg"))
    assert not (tmp_path / "c.gpkg").exists()


def sparse(path, width, height, **profile):
    profile = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "zstd", "count": 3} | profile
    place = {"crs": "EPSG:32614", "transform": rasterio.Affine(0.5, 0, 6e5, 0, -0.5, 3.35e6)}
    profile = {"dtype": "uint8"} | profile | {"width": width, "height": height, "sparse_ok": True, **place}
    with rasterio.open(path, "w", driver="GTiff", bigtiff="yes", **profile) as dataset:
        if profile["blockysize"] <= 512 and profile["count"] == 3:
            dataset.write(IMAGE[:, :512, :512], window=((0, 512), (0, 512)))
    return path


ABSURD = {
    "400k x 400k, one block": (lambda p: sparse(p, 400_000, 400_000), "claims 400,000 rows of 400,000 px"),
    "no block": (lambda p: sparse(p, 8000, 8000, count=4), "contains no pixels: none of its 256 blocks"),
    "one strip": (
        lambda p: sparse(p, 20_000, 20_000, tiled=False, blockysize=20_000, interleave="pixel"),
        "a block of 20000 x 20000 px takes 1,200 MB",
    ),
    "one huge tile": (
        lambda p: sparse(p, 9000, 9000, blockxsize=16384, blockysize=16384, interleave="pixel"),
        "a block of 16384 x 16384 px takes 805 MB",
    ),
    "60,000 bands": (
        lambda p: sparse(p, 512, 512, count=60_000, photometric="minisblack"),
        "claims 60,000 bands",
    ),
    "1,020 interleaved bands of 16 bits": (
        lambda p: sparse(p, 1024, 1024, count=1020, dtype="uint16", interleave="pixel", photometric="minisblack"),
        "a block of 512 x 512 px takes 535 MB",
    ),
}
MEASURED = """
import json, resource, sys
from pathlib import Path
from rscd.options.pair import InspectConfig
from rscd.workflows.inspect import inspect
good, *bad = sys.argv[1:]
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
told = [inspect(InspectConfig(Path(good), Path(path))).reasons[0] for path in bad]
print(json.dumps([told, base / 1024, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def test_absurd_claims_are_refused_before_they_take_memory(tmp_path, good):
    paths = []
    for number, (make, _) in enumerate(ABSURD.values()):
        try:
            paths.append(make(tmp_path / f"absurd{number}.tif"))
        except rasterio.errors.RasterioError as error:
            pytest.fail(f"{list(ABSURD)[number]}: {error}")
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(good), *map(str, paths)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    reasons, base, peak = json.loads(done.stdout)
    for (_, words), path, told in zip(ABSURD.values(), paths, reasons, strict=True):
        assert words in told, (path, told)
    assert peak - base < 600  # MB
    assert rscd("detect", good, paths[0], "-o", tmp_path / "c.gpkg").exit_code == 3


def test_more_blocks_columns_or_pixels_than_are_allowed_are_refused(tmp_path, good, monkeypatch):
    monkeypatch.setattr("rscd.scene.blocks.MOST_BLOCKS", 19)
    assert "claims 20 blocks of 128 x 128 px" in refused(good, good)
    monkeypatch.undo()
    monkeypatch.setattr("rscd.scene.pair.MOST_COLUMNS", 639)
    assert "512 rows of 640 px are to be compared" in refused(good, good)


class Listener:
    """A server on the loopback that counts who connects."""

    def __enter__(self):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(0.2)
        self.port, self.connections, self._open = self._socket.getsockname()[1], 0, True
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def _serve(self):
        while self._open:
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            self.connections += 1
            connection.sendall(b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            connection.close()

    def __exit__(self, *_):
        self._open = False
        self._thread.join()
        self._socket.close()


VRT = """<VRTDataset rasterXSize="512" rasterYSize="512"><SRS>EPSG:32614</SRS>
<GeoTransform>600000,0.5,0,3350000,0,-0.5</GeoTransform>{bands}</VRTDataset>"""
BAND = """<VRTRasterBand dataType="Byte" band="{n}"><SimpleSource>
<SourceFilename relativeToVRT="0">{source}</SourceFilename><SourceBand>1</SourceBand>
</SimpleSource></VRTRasterBand>"""


def vrt(source):
    return VRT.format(bands="".join(BAND.format(n=n, source=source) for n in (1, 2, 3)))


WMS = "<GDAL_WMS><Service name='TMS'><ServerUrl>{}/t</ServerUrl></Service></GDAL_WMS>"
OGR_VRT = (
    '<OGRVRTDataSource><OGRVRTLayer name="x"><SrcDataSource>{}</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>'
)


def pretenders(folder, url):
    """Files named .tif that are none."""
    made = {
        "vrt": vrt(f"/vsicurl/{url}/x.tif"),
        "metadata": vrt("/vsicurl/http://169.254.169.254/latest/meta-data"),
        "passwd": vrt("/etc/passwd"),
        "wms": WMS.format(url),
        "text": f"/vsicurl/{url}/x.tif",
    }
    for name, text in made.items():
        (folder / f"{name}.tif").write_text(text)
    with zipfile.ZipFile(folder / "zip.tif", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.tif", bytes(20 << 20))
    return [folder / f"{name}.tif" for name in (*made, "zip")]


@pytest.fixture
def tempting(monkeypatch):
    """GDAL may fetch what it likes, at once."""
    monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "5")
    monkeypatch.setenv("GDAL_HTTP_CONNECTTIMEOUT", "5")
    monkeypatch.setenv("NO_PROXY", "*")


def test_what_only_claims_to_be_a_geotiff_is_refused_and_no_connection_is_made(tmp_path, good, tempting):
    with Listener() as server:
        url = f"http://127.0.0.1:{server.port}"
        files = pretenders(tmp_path, url)
        with rasterio.open(files[0]) as dataset, pytest.raises(rasterio.errors.RasterioError):
            dataset.read()
        assert server.connections > 0, "the trap is live: without driver='GTiff' GDAL fetches"
        server.connections = 0
        for path in files:
            assert f"{path.name}: cannot be opened as a GeoTIFF" in refused(good, path)
            assert f"{path.name}: cannot be opened as a GeoTIFF" in refused(path, good)
        direct = (
            url + "/x.tif",
            f"/vsicurl/{url}/x.tif",
            f"/vsizip/{tmp_path}/zip.tif/x.tif",
            vrt(f"/vsicurl/{url}/x.tif"),
            "GTIFF_DIR:1:" + str(good),
        )
        for path in direct:
            assert "no such file" in refused(good, path)
        said = rscd("detect", good, files[0], "-o", tmp_path / "c.gpkg")
        assert said.exit_code == 3
        assert server.connections == 0


TRACED = """
import sys
from pathlib import Path
from rscd.options.pair import InspectConfig
from rscd.workflows.inspect import inspect
good, *others = map(Path, sys.argv[1:])
for other in others:
    print(inspect(InspectConfig(good, other)).verdict)
"""


@pytest.mark.faults
def test_no_socket_is_opened_at_all(tmp_path, good):
    """As the system sees it, over a whole process."""
    if which("strace") is None:
        pytest.skip("strace is not here")
    files = pretenders(tmp_path, "http://169.254.169.254")
    (tmp_path / "good.tif.aux.xml").write_text(vrt("/vsicurl/http://169.254.169.254/x"))
    trace = ["strace", "-f", "-qq", "-e", "trace=socket,connect", "-o", str(tmp_path / "calls")]
    other = write_image(tmp_path / "other.tif", np.roll(IMAGE, 1, axis=2))
    command = [*trace, sys.executable, "-c", TRACED, str(good), *map(str, files), str(other)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    if "ptrace" in done.stderr:
        pytest.skip("strace is not permitted")
    *refused_all, last = done.stdout.splitlines()
    assert refused_all == ["refused"] * len(files) and last != "refused", done.stdout + done.stderr
    assert "AF_INET" not in (tmp_path / "calls").read_text()


def test_sidecars_are_ignored_and_refused_where_they_name_files(tmp_path, good):
    plain = write_image(tmp_path / "plain.tif", IMAGE)
    with Listener() as server:
        (tmp_path / "plain.tif.aux.xml").write_text(vrt(f"/vsicurl/http://127.0.0.1:{server.port}/x.tif"))
        (tmp_path / "plain.tif.ovr").write_text(vrt(f"/vsicurl/http://127.0.0.1:{server.port}/x.tif"))
        (tmp_path / "plain.tif.msk").write_text(vrt("/etc/passwd"))
        assert rscd("inspect", good, plain, "--json").exit_code == 0
        assert "refers to other files" in refused(good, plain, "--sidecars")
        assert server.connections == 0
    assert sorted(p.name for p in tmp_path.glob("*.aux.xml")) == ["plain.tif.aux.xml"]


@pytest.mark.parametrize("kind", ["vrt", "wfs in a comment", "algorithm", "entity", "zip", "text"])
def test_an_area_of_interest_that_points_elsewhere_is_refused(tmp_path, good, kind, tempting):
    with Listener() as server:
        url = f"http://127.0.0.1:{server.port}/x.geojson"
        text = {
            "vrt": OGR_VRT.format(url),
            "wfs in a comment": f"<kml><!--<OGRWFSDataSource><URL>{url}</URL></OGRWFSDataSource>--></kml>",
            "algorithm": json.dumps(
                {"type": "gdal_streamed_alg", "command_line": f"gdal vector pipeline read {url}"}
            ),
            "entity": f'<!DOCTYPE kml [<!ENTITY x SYSTEM "{url}">]><kml>&x;</kml>',
            "zip": "PK\3\4",
            "text": url,
        }[kind]
        path = tmp_path / "aoi.geojson"
        path.write_text(text)
        told = refused(good, good, "--aoi", path)
        assert "aoi.geojson: " in told
        assert "refers to other files" in told or "not a vector file of a supported format" in told
        assert server.connections == 0


KML = """<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document><Placemark><Polygon>
<outerBoundaryIs><LinearRing><coordinates>{}</coordinates></LinearRing></outerBoundaryIs></Polygon></Placemark>
</Document></kml>"""


@pytest.mark.parametrize("suffix", ["geojson", "gpkg", "fgb", "shp", "kml", "gml"])
def test_an_area_of_interest_in_the_usual_formats_is_read(tmp_path, good, suffix):
    import geopandas

    box = shapely.box(600_010, 3_349_800, 600_200, 3_349_950)
    frame = geopandas.GeoDataFrame(geometry=[box], crs=32614).to_crs(4326)
    path = tmp_path / f"aoi.{suffix}"
    if suffix == "kml":
        ring = " ".join(f"{x},{y}" for x, y in shapely.get_coordinates(frame.geometry[0]))
        path.write_text(KML.format(ring))
    else:
        frame.to_file(path)
    with open_pair(PairConfig(good, good, aoi=path)) as pair:
        assert pair.aoi.shape.area == pytest.approx(190 * 150 * 4, rel=0.02)


@pytest.mark.parametrize("how", ["appended", "in place", "replaced", "gone"])
def test_an_input_that_changes_during_the_run_is_noticed(tmp_path, good, how):
    after = write_image(tmp_path / "after.tif", IMAGE[:, ::-1].copy())
    config = DetectConfig(good, after, tmp_path / "c.gpkg", probability=tmp_path / "p.tif", align="off")
    detect(config, model=STAND_IN)
    old = config.output.read_bytes(), config.probability.read_bytes()
    stamp = after.stat().st_mtime_ns + 1_000_000_000

    def change(done, total):
        if how == "appended":
            after.write_bytes(after.read_bytes() + b"more")
        elif how == "in place":
            os.utime(after, ns=(stamp, stamp))
        elif how == "replaced":
            write_image(tmp_path / "other.tif", IMAGE).replace(after)
        else:
            after.unlink(missing_ok=True)

    again = DetectConfig(good, after, config.output, config.probability, align="off", overwrite=True, threshold=0.7)
    with pytest.raises(DataError, match=r"after\.tif: the after file changed while it was read"):
        detect(again, model=STAND_IN, progress=change)
    assert old == (config.output.read_bytes(), config.probability.read_bytes())
    assert not [p.name for p in tmp_path.iterdir() if ".tmp" in p.name or ".scratch" in p.name]


def test_a_tiff_whose_directory_runs_in_circles_is_read_or_refused(tmp_path, good):
    raw = bytearray(good.read_bytes())
    start = struct.unpack_from("<I", raw, 4)[0]
    entries = struct.unpack_from("<H", raw, start)[0]
    struct.pack_into("<I", raw, start + 2 + 12 * entries, start)  # the next directory is this one
    (tmp_path / "circle.tif").write_bytes(raw)
    assert rscd("inspect", good, tmp_path / "circle.tif", "--json").exit_code in (0, 3)
