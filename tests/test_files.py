"""Addresses: read through GDAL where the user allows it, from a real server on this machine, and only then."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from conftest import write_image

from rscd.core.errors import DataError
from rscd.core.types import Window
from rscd.options.pair import PairConfig
from rscd.scene.files import fingerprint, gdal_name
from rscd.scene.pair import open_pair

IMAGE = np.random.default_rng(0).integers(1, 255, (3, 256, 256), dtype=np.uint8)


class Ranges(SimpleHTTPRequestHandler):
    """Files in ranges, as object stores give them."""

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data, asked = path.read_bytes(), self.headers.get("Range")
        self.send_response(206 if asked else 200)
        if asked:
            first, last = asked.removeprefix("bytes=").split("-")
            end = min(int(last or len(data)), len(data) - 1)
            self.send_header("Content-Range", f"bytes {first}-{end}/{len(data)}")
            data = data[int(first) : end + 1]
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        self.server.asked += 1


@pytest.fixture
def served(tmp_path):
    """A folder with a pair, its address, and the server."""
    for name in ("b.tif", "a.tif"):
        write_image(tmp_path / name, IMAGE)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=tmp_path))
    server.asked = 0
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield tmp_path, f"http://127.0.0.1:{server.server_port}", server
    server.shutdown()
    server.server_close()


def test_names_for_gdal():
    assert gdal_name(Path("https://h/a.tif?x=1")) == "/vsicurl/https://h/a.tif?x=1"
    assert gdal_name(Path("s3://bucket/k/a.tif")) == "/vsis3/bucket/k/a.tif"
    assert gdal_name(Path("/data/a.tif")) is None
    assert gdal_name(Path("file:///a.tif")) is None


def test_a_remote_date_has_the_pixels_of_the_file(served):
    folder, address, _ = served
    with open_pair(PairConfig(Path(f"{address}/b.tif"), folder / "a.tif", remote=True)) as pair:
        pixels, valid = pair.before.raster.read(Window(0, 0, 256, 256))
    assert np.array_equal(pixels, IMAGE)
    assert valid.all()


def test_nothing_is_fetched_unless_it_is_allowed(served):
    folder, address, server = served
    with (
        pytest.raises(DataError, match="no such file"),
        open_pair(PairConfig(Path(f"{address}/b.tif"), folder / "a.tif")),
    ):
        pass
    assert server.asked == 0
    with pytest.raises(DataError, match="remote GeoTIFF"):
        with open_pair(PairConfig(Path(f"{address}/none.tif"), folder / "a.tif", remote=True)):
            pass


def test_the_fingerprint_tells_remote_files_apart(served):
    folder, address, _ = served
    other = IMAGE.copy()
    other[:, 100:120] //= 2
    write_image(folder / "c.tif", other)
    one, same, changed = (fingerprint(Path(f"{address}/{n}.tif"))["sampled_sha256"] for n in ("b", "a", "c"))
    assert one == same
    assert one != changed
