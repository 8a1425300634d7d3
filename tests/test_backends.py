"""Backends: OpenVINO agrees with torch, needs torch only once, and torch goes on where OpenVINO cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import openvino
import pyogrio
import pytest
import rasterio
import torch
from conftest import Pointwise, utm_grid, write_image

from rscd import DetectConfig, detect, load_model
from rscd.core.contract import Contract
from rscd.core.errors import DataError, ModelError, UsageError
from rscd.inference.backends import openvino as ov
from rscd.inference.backends.choice import open_backend
from rscd.inference.backends.openvino import OpenVinoBackend
from rscd.inference.backends.pytorch import TorchBackend
from rscd.inference.device import cpu_bf16
from rscd.model.registry import Model
from rscd.options.types import BackendName
from rscd.workflows.setup import Settings

SHAPE = 1, 3, 256, 256
ONLY_LITE = Contract("stand-in", "1", "lite", 8, (0.0,) * 3, (1.0,) * 3, trained_on="nothing")


@pytest.fixture(scope="module")
def windows(place) -> tuple[np.ndarray, np.ndarray]:
    """Four windows of 256 px of a rendered place, both dates."""
    both = []
    for date in (place.before, place.after):
        parts = [date[:, y : y + 256, x : x + 256] for y in (0, 256) for x in (0, 256)]
        both.append(np.stack(parts))
    return both[0], both[1]


@pytest.fixture(scope="module")
def expected(windows) -> np.ndarray:
    """What torch says of them in fp32: (4, 3, 256, 256)."""
    network, contract = load_model("buildings")
    return TorchBackend(network, contract.temperature)(*windows)


@pytest.fixture
def pair(place, tmp_path) -> dict[str, Path]:
    """A rendered pair of 320 px as files."""
    dates = ("before", "after")
    return {date: write_image(tmp_path / f"{date}.tif", getattr(place, date)[:, :320, :320]) for date in dates}


def detected(pair: dict[str, Path], output: Path, **more) -> tuple[np.ndarray, dict]:
    """Values of the probability raster, and what the GeoPackage says of how it was made."""
    probability = output.with_suffix(".tif")
    detect(DetectConfig(pair["before"], pair["after"], output, probability, overwrite=True, **more))
    with rasterio.open(probability) as dataset:
        values = dataset.read(1)
    return values, json.loads(pyogrio.read_info(output, layer="changes")["layer_metadata"]["run"])


def test_in_fp32_openvino_says_what_torch_says(windows, expected):
    found = OpenVinoBackend(Model.named("buildings"), "fp32", SHAPE)(*windows)
    assert found.shape == expected.shape == (4, 3, 256, 256)
    assert found.dtype == np.float32
    assert (expected[:, 0] > 0.5).mean() > 0.01
    assert np.abs(found - expected).max() < 1 / 254


@pytest.mark.skipif(not cpu_bf16(), reason="this CPU has no bf16")
def test_in_bf16_it_differs_by_as_little_as_the_documentation_says(windows, expected):
    backend = OpenVinoBackend(Model.named("buildings"), "auto", SHAPE)
    assert (backend.name, backend.precision, backend.note) == ("openvino", "bf16", "")
    difference = np.abs(backend(*windows) - expected)[:, 0]
    assert 0 < np.quantile(difference, 0.999) < 0.03


@pytest.mark.skipif(not cpu_bf16(), reason="this CPU has no bf16")
def test_the_first_layers_stay_in_fp32_in_bf16():
    model = Model.named("buildings")
    network, _ = ov.converted(model, 256)
    network.reshape({0: [*SHAPE], 1: [*SHAPE]})
    compiled = openvino.Core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    kinds = {}
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = {key: value.astype(str) for key, value in node.get_rt_info().items() if key != "__weakref__"}
        if info.get("layerType") == "Convolution":
            kinds[info["originalLayersNames"]] = info["runtimePrecision"]
    first = {name: kind for name, kind in kinds.items() if "encoder.stem." in name or ".blocks.0." in name}
    assert set(first.values()) == {"f32"}
    assert sum(kind == "bf16" for kind in kinds.values()) > 50


def test_maps_agree_whole_and_the_provenance_says_what_ran(pair, tmp_path):
    """`detect` by either backend, to a value of 254."""
    one, told = detected(pair, tmp_path / "one.gpkg", backend="torch", precision="fp32")
    other, also = detected(pair, tmp_path / "other.gpkg", backend="openvino", precision="fp32")
    assert np.abs(one.astype(int) - other).max() <= 1
    assert told["backend"] == f"torch {torch.__version__}"
    assert also["backend"] == f"openvino {openvino.__version__}"
    assert also["precision"] == "fp32"


def test_a_run_of_one_backend_is_not_finished_by_the_other(pair, tmp_path):
    how = {"overwrite": True, "keep_journal": True, "precision": "fp32"}
    output = tmp_path / "a.gpkg"

    def resumed(backend: BackendName) -> int:
        return detect(DetectConfig(pair["before"], pair["after"], output, backend=backend, **how)).bands_resumed

    assert [resumed(name) for name in ("torch", "openvino", "openvino")][:2] == [0, 0]
    assert resumed("openvino") > 0


def test_once_converted_a_network_runs_without_torch_and_is_compiled_once_for_all_pairs(pair, tmp_path):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from rscd import DetectConfig, detect\n"
        "import openvino\n"
        "count, real = [], openvino.Core.compile_model\n"
        "def counted(*args):\n"
        "    count.extend([1] * (len(args[1].inputs) == 2))\n"
        "    return real(*args)\n"
        "openvino.Core.compile_model = counted\n"
        "for k in range(2):\n"
        "    detect(DetectConfig(*map(Path, sys.argv[1:3]), Path(sys.argv[3], f'{k}.gpkg')))\n"
        "print(len(count), 'torch' in sys.modules)\n"
    )
    OpenVinoBackend(Model.named("buildings"), "auto", SHAPE)  # converted by now
    words = [sys.executable, "-c", code, pair["before"], pair["after"], tmp_path]
    assert subprocess.check_output(words, text=True).split() == ["1", "False"]


def cut_out(place, folder, side, gsd):
    """Both dates of the place's upper left corner as files, with pixels said to be of another size."""
    return [
        write_image(folder / f"{date}.tif", getattr(place, date)[:, :side, :side], utm_grid(side, side, gsd))
        for date in ("before", "after")
    ]


def test_nor_does_a_scene_of_another_pixel_size_need_torch(place, tmp_path):
    """0.2 m instead of the 0.3 m that `buildings` is for: windows are resampled."""
    OpenVinoBackend(Model.named("buildings"), "auto", (1, 3, 256, 256))  # converted by now
    files = cut_out(place, tmp_path, 300, 0.2)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from rscd import DetectConfig, detect\n"
        "found = detect(DetectConfig(*map(Path, sys.argv[1:4])))\n"
        "print(found.inspection.model_gsd_m, found.windows, 'torch' in sys.modules)\n"
    )
    words = [sys.executable, "-c", code, *files, tmp_path / "c.gpkg"]
    assert subprocess.check_output(words, text=True).split() == ["0.3", "1", "False"]


@pytest.mark.parametrize(("gsd", "resampler"), [(0.2, {"pillow"}), (0.5, set())])
def test_strips_are_reused_only_if_the_same_library_resampled_them(place, tmp_path, gsd, resampler):
    files = cut_out(place, tmp_path, 300, gsd)
    with Settings(DetectConfig(*files, tmp_path / "c.gpkg", model="buildings")).open() as run:
        assert set(run.key["versions"]) == {"rscd", "openvino"} | resampler


QUIET = """
import os, sys, time
told = []
sys.addaudithook(lambda event, args: told.append(event))
from rscd.inference.backends import openvino as backend
from rscd.model.registry import Model
backend.OpenVinoBackend(Model.named("buildings"), "auto", (1, 3, 256, 256))
time.sleep(0.2)
watched = {"os.fork", "socket.connect", "socket.getaddrinfo", "urllib.Request"}
print(sorted(watched & set(told)), os.listdir(sys.argv[1]))
"""


def test_nothing_is_sent_to_anyone_and_the_home_folder_stays_as_it_is(tmp_path):
    """OpenVINO's package sends its maker a message for each process that imports it, unless that is prevented."""
    OpenVinoBackend(Model.named("buildings"), "auto", (1, 3, 256, 256))  # converted by now
    there = {key: value for key, value in os.environ.items() if key not in ("CI", "TF_BUILD", "JENKINS_URL")}
    there |= {"HOME": str(tmp_path), "RSCD_CACHE_DIR": str(ov.cache_folder().parent)}
    words = [sys.executable, "-c", QUIET, tmp_path]
    assert subprocess.check_output(words, text=True, env=there) == "[] []\n"


AHEAD = """
import sys, threading
from importlib.abc import MetaPathFinder
from pathlib import Path
by = {}
class Noted(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        by.setdefault(name, threading.current_thread() is threading.main_thread())
sys.meta_path.insert(0, Noted())
from rscd import DetectConfig, detect
detect(DetectConfig(*map(Path, sys.argv[1:4])))
print([by[name] for name in ("rasterio", "openvino", "pyogrio", "scipy.sparse.csgraph")])
"""


def test_libraries_of_the_last_stages_are_loaded_while_the_network_is_compiled(pair, tmp_path):
    words = [sys.executable, "-c", AHEAD, pair["before"], pair["after"], tmp_path / "c.gpkg"]
    assert subprocess.check_output(words, text=True) == "[True, True, False, False]\n"


def test_a_pair_that_is_refused_loads_no_backend(place, tmp_path):
    cut_out(place, tmp_path, 128, 5.0)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from rscd import DetectConfig, detect\n"
        "from rscd.core.errors import DataError\n"
        "try:\n"
        "    detect(DetectConfig(*map(Path, sys.argv[1:4]), model='buildings'))\n"
        "except DataError:\n"
        "    print('openvino' in sys.modules, 'torch' in sys.modules)\n"
    )
    words = [sys.executable, "-c", code, *(tmp_path / name for name in ("before.tif", "after.tif", "c.gpkg"))]
    assert subprocess.check_output(words, text=True).split() == ["False", "False"]


def test_nothing_is_reported_to_anyone_while_a_network_is_converted(tmp_path):
    code = (
        "import sys, torch\n"
        "from rscd.inference.backends.openvino import OpenVinoBackend\n"
        "from rscd.model.registry import Model\n"
        "model = Model.named('urban-s2')\n"
        "model.network\n"
        "seen = []\n"
        "watched = ('socket.connect', 'socket.getaddrinfo', 'subprocess.Popen', 'os.posix_spawn', 'os.fork')\n"
        "sys.addaudithook(lambda event, args: event in watched and seen.append((event, str(args)[:99])))\n"
        "OpenVinoBackend(model, 'fp32', (1, 3, 64, 64))\n"
        "print(seen)\n"
    )
    words = [sys.executable, "-c", code]
    told = subprocess.check_output(words, text=True, env=os.environ | {"RSCD_CACHE_DIR": str(tmp_path)})
    assert told.strip() == "[]"
    assert len(list((tmp_path / "converted").iterdir())) == 1


@pytest.fixture
def kept(monkeypatch) -> None:
    """Small modules count as networks of ours, which are kept."""
    monkeypatch.setattr(Model, "ours", True)
    monkeypatch.setattr("rscd.inference.backends.conversion.FP32_LAYERS", {})


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """A cache of its own, and nothing compiled."""
    monkeypatch.setenv("RSCD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("rscd.inference.backends.openvino._HELD", __import__("collections").OrderedDict())
    return tmp_path / "cache"


@pytest.mark.parametrize("damage", ["a byte", "cut", "no sums", "no file"])
def test_a_damaged_cache_is_made_anew(damage, cache, kept, windows, monkeypatch):
    model = Model.of((Weighted(), ONLY_LITE))
    first = OpenVinoBackend(model, "fp32", SHAPE)(*windows)
    (folder,) = (cache / "converted").iterdir()
    weights = folder / "network.bin"
    raw = weights.read_bytes()
    if damage == "a byte":
        weights.write_bytes(raw[:1000] + bytes([raw[1000] ^ 255]) + raw[1001:])
    elif damage == "cut":
        weights.write_bytes(raw[: len(raw) // 2])
    elif damage == "no sums":
        (folder / "sha256.json").write_text("[]")
    else:
        weights.unlink()
    monkeypatch.setattr("rscd.inference.backends.openvino._HELD", __import__("collections").OrderedDict())
    np.testing.assert_array_equal(OpenVinoBackend(model, "fp32", SHAPE)(*windows), first)
    assert weights.read_bytes() == raw
    assert [path.name for path in (cache / "converted").iterdir()] == [folder.name]


class Weighted(torch.nn.Module):
    """As small as a network can be that has weights in its file."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(1, 3, 20, 21, generator=torch.Generator().manual_seed(seed)))

    def forward(self, before, after):
        both = torch.nn.functional.conv2d((after.float() - before.float()) / 255, self.weight, padding=10)
        return torch.nn.functional.interpolate(both, size=before.shape[-2:], mode="bilinear")[:, 0]


def network_of_ours() -> torch.nn.Module:
    """A small network with fresh weights."""
    from rscd.model.checkpoint import build_network

    return build_network(ONLY_LITE).eval()


def test_a_cache_that_cannot_be_written_is_a_note_and_no_failure(windows, cache, kept):
    cache.write_text("a file")
    backend = OpenVinoBackend(Model.of((Weighted(), ONLY_LITE)), "fp32", SHAPE)
    assert "could not be kept" in backend.note
    assert str(cache) in backend.note
    assert backend(*windows).shape == (4, 256, 256)


def test_the_cache_keeps_what_was_used_last_and_drops_what_was_abandoned(cache, kept, monkeypatch):
    models = [Model.of((Weighted(seed), ONLY_LITE)) for seed in range(3)]
    for k, model in enumerate(models):
        ov.converted(model, 256)
        if k == 0:
            (first,) = (cache / "converted").iterdir()
            (cache / "converted" / "making-old").mkdir()
            os.utime(cache / "converted" / "making-old", (0, 0))
            (cache / "converted" / "desktop.ini").write_text("not ours")
            monkeypatch.setattr(ov, "KEPT_BYTES", 2.5 * sum(f.stat().st_size for f in first.iterdir()))
        os.utime(cache / "converted" / ov.key_of(model, 256), (k, k))
    left = {path.name for path in (cache / "converted").iterdir()}
    assert left == {ov.key_of(model, 256) for model in models[1:]} | {"desktop.ini"}


@pytest.mark.parametrize("side", [64, 224])
def test_sam_encoders_say_the_same_in_both(side, cache, windows):
    from rscd.model.checkpoint import build_network
    from rscd.model.encoders import normalisation

    contract = Contract("sam", "1", "vit_t", 16, *normalisation("vit_t"), trained_on="nothing")
    torch.manual_seed(0)
    network = build_network(contract).eval()
    cut = [date[:1, :, :side, :side] for date in windows]
    backend = open_backend(Model.of((network, contract)), "auto", "cpu", "auto", (1, 3, side, side))
    assert (backend.name, backend.precision) == ("openvino", "fp32")
    expected = TorchBackend(network)(*cut)
    assert np.ptp(expected) > 1e-4
    np.testing.assert_allclose(backend(*cut), expected, atol=1e-5)


@pytest.mark.parametrize("side", [64, 224])
def test_ordered_fine_scales_say_the_same_in_both(side, cache, windows):
    from rscd.model.checkpoint import build_network

    parts = {"fine": 8, "presence": True, "ordered": True}
    contract = Contract("new", "1", "lite", 16, (127.0,) * 3, (128.0,) * 3, trained_on="nothing", **parts)
    torch.manual_seed(0)
    network = build_network(contract).eval()
    torch.nn.init.normal_(network.fine.head.weight)
    cut = [date[:1, :, :side, :side] for date in windows]
    found = open_backend(Model.of((network, contract)), "openvino", "cpu", "fp32", (1, 3, side, side))(*cut)
    expected = TorchBackend(network)(*cut)
    assert np.ptp(expected[:, 0]) > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-5)


class Strange(torch.nn.Module):
    """OpenVINO has nothing of this kind."""

    def forward(self, before, after):
        size = torch.linalg.eigvals(before[0, 0, :4, :4].float()).real.sum()
        return (after[:, 0].float() - before[:, 0].float()) * 0 + size


def test_a_network_that_cannot_be_converted_runs_in_torch_or_is_refused(windows, cache, monkeypatch):
    model = Model.of((Strange(), ONLY_LITE))
    monkeypatch.setattr(Model, "ours", True)
    backend = open_backend(model, "auto", "cpu", "fp32", SHAPE)
    assert backend.name == "torch"
    assert "cannot be converted for OpenVINO" in backend.note
    assert "\n" not in backend.note
    with pytest.raises(UsageError, match=r"--backend openvino: the network cannot be converted.*--backend torch"):
        open_backend(model, "openvino", "cpu", "fp32", SHAPE)


def test_networks_of_another_make_stay_in_torch_unless_asked(windows, cache):
    model = Model.of((Pointwise(), ONLY_LITE))
    assert open_backend(model, "auto", "cpu", "auto", SHAPE).name == "torch"
    asked = open_backend(model, "openvino", "cpu", "fp32", SHAPE)
    found = TorchBackend(Pointwise())(*windows)
    np.testing.assert_allclose(asked(*windows), found, atol=1e-6)


class Turned(Pointwise):
    """As it, with signs turned: no weights tell the two apart."""

    def forward(self, before, after):
        return -super().forward(before, after)


def test_modules_of_someones_own_are_told_apart_and_not_kept(windows, cache):
    one, other = (OpenVinoBackend(Model.of((module(), ONLY_LITE)), "fp32", SHAPE) for module in (Pointwise, Turned))
    np.testing.assert_allclose(one(*windows), 1 - other(*windows), atol=1e-6)
    assert not (cache / "converted").exists()


def test_numbers_that_are_none_are_refused(windows, cache):
    network = network_of_ours()
    with torch.no_grad():
        network.msdf.head[1].bias.fill_(float("nan"))
    with pytest.raises(ModelError, match="NaN or Inf"):
        OpenVinoBackend(Model.of((network, ONLY_LITE)), "fp32", SHAPE)(*windows)


def test_weights_that_were_changed_in_memory_are_not_taken_for_those_of_the_file():
    network, contract = load_model("buildings")
    assert Model.of((network, contract)).sha256 == contract.sha256 == Model.named("buildings").sha256
    with torch.no_grad():
        next(network.parameters()).add_(0.25)
    assert Model.of((network, contract)).sha256 != contract.sha256


def test_a_small_step_of_training_makes_other_weights():
    network, contract = load_model("buildings")
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.mul_(1.0001)
    assert Model.of((network, contract)).sha256 != contract.sha256


def test_offsets_that_are_no_numbers_are_refused(tmp_path):
    raw = Path(load_path("buildings")).read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    header[next(name for name in header if name != "__metadata__")]["data_offsets"] = [0, float("inf")]
    text = json.dumps(header).encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + size :])
    with pytest.raises(ModelError, match="cannot be read"):
        _ = Model.named(str(path)).sha256


def test_a_checkpoint_with_a_flipped_bit_is_refused_without_torch(tmp_path):
    path = tmp_path / "m.safetensors"
    raw = bytearray(Path(load_path("buildings")).read_bytes())
    raw[-1000] ^= 4
    path.write_bytes(raw)
    with pytest.raises(ModelError, match="tensors do not match"):
        _ = Model.named(str(path)).sha256


def load_path(name: str) -> Path:
    """Where an embedded model lies."""
    from rscd.model.catalog import find_model

    return find_model(name)


def command(code: str, pair: dict[str, Path], output: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line, after some code."""
    code += "\nfrom rscd.cli.app import main\nmain()"
    line = [sys.executable, "-c", code, "detect", pair["before"], pair["after"], "-o", output, *words]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_without_openvino_torch_goes_on_and_says_so(pair, tmp_path):
    without = "import sys\nsys.modules['openvino'] = None"
    told = command(without, pair, tmp_path / "c.gpkg")
    assert told.returncode == 0, told.stderr
    assert "device cpu, fp32, torch" in told.stderr
    assert "openvino is not installed" in told.stderr
    assert (tmp_path / "c.gpkg").is_file()
    asked = command(
        "import sys\nsys.modules['openvino'] = None", pair, tmp_path / "d.gpkg", "--backend", "openvino"
    )
    assert (asked.returncode, asked.stdout) == (2, "")
    assert asked.stderr.strip() == "rscd: --backend openvino: it is not installed - pip install openvino"


def test_an_openvino_that_cannot_be_loaded_is_a_note(pair, tmp_path):
    broken = tmp_path / "broken"
    (broken / "openvino").mkdir(parents=True)
    (broken / "openvino" / "__init__.py").write_text("raise ImportError('libtbb.so.12: cannot open')")
    told = command(f"import sys\nsys.path.insert(0, {str(broken)!r})", pair, tmp_path / "c.gpkg")
    assert told.returncode == 0, told.stderr
    assert "openvino cannot be loaded (libtbb.so.12: cannot open); torch is used" in told.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_disk_that_is_full_during_conversion_is_a_note(pair, tmp_path, monkeypatch):
    monkeypatch.setenv("RSCD_CACHE_DIR", str(tmp_path / "small"))
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))"
    limit += "\nimport signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)"
    told = command(limit, pair, tmp_path / "c.gpkg")
    assert told.returncode == 0, told.stderr
    assert "cannot be converted for OpenVINO" in told.stderr
    assert "device cpu, fp32, torch" in told.stderr
    assert not [*(tmp_path / "small" / "converted").iterdir()]


def test_openvino_on_a_gpu_is_refused(monkeypatch):
    monkeypatch.setattr("rscd.inference.device.cuda_devices", lambda: 1)
    with pytest.raises(UsageError, match=r"--backend openvino --device cuda.*use --device cpu, or --backend torch"):
        open_backend(Model.named("buildings"), "openvino", "cuda", "auto", SHAPE)


def test_a_gpu_that_is_not_there_is_refused_whatever_the_backend(pair, tmp_path):
    told = command("", pair, tmp_path / "c.gpkg", "--backend", "openvino", "--device", "cuda")
    assert told.returncode == 2
    assert "--device" in told.stderr
    assert len(told.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "c.gpkg").exists()


def test_a_batch_of_another_size_than_the_usual_one_is_taken(windows, expected):
    backend = OpenVinoBackend(Model.named("buildings"), "fp32", SHAPE)
    part = backend(windows[0][:, :, :128, :192], windows[1][:, :, :128, :192])
    assert part.shape == (4, 3, 128, 192)
    assert np.abs(part[..., :64, :64] - expected[..., :64, :64]).max() < 0.6  # another window, not another place


def test_data_errors_are_raised_before_the_model_is(tmp_path, place):
    write_image(tmp_path / "b.tif", place.before[:, :128, :128])
    with pytest.raises(DataError):
        detect(DetectConfig(tmp_path / "b.tif", tmp_path / "none.tif", tmp_path / "c.gpkg"))


RACE = """
import sys, threading
import numpy as np
from conftest import Pointwise
from test_backends import ONLY_LITE
from rscd.inference.backends.openvino import OpenVinoBackend
from rscd.model.registry import Model
import openvino
callers, infer = [], openvino.InferRequest.infer
def noted(*args, **kwargs):
    callers.append(threading.current_thread())
    return infer(*args, **kwargs)
openvino.InferRequest.infer = noted
sys.setswitchinterval(1e-6)
backend = OpenVinoBackend(Model.of((Pointwise(), ONLY_LITE)), "fp32", (1, 3, 32, 32))
start = threading.Barrier(8)
def first():
    backend._request((1, 3, 32, 32), "fp32")
    start.wait()
    backend(*np.zeros((2, 1, 3, 32, 32), np.uint8))
threads = [threading.Thread(target=first) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert callers[0] is threading.main_thread()
"""


def test_first_calls_of_several_threads_at_once_do_not_wait_for_each_other():
    """The first call of all is one that the backend makes beforehand: without it some of such processes hang."""
    there = os.environ | {"PYTHONPATH": os.pathsep.join(["tests", os.environ.get("PYTHONPATH", "")])}
    for _ in range(3):
        subprocess.run([sys.executable, "-c", RACE], check=True, timeout=60, env=there)


def test_a_checkpoint_that_was_loaded_is_not_hashed_once_more(monkeypatch):
    model = Model.named("buildings")
    assert model.network
    monkeypatch.setattr("rscd.model.registry.stored_sha256", lambda path: pytest.fail("read again"))
    assert model.sha256 == model.contract.sha256
