"""Model files that lie, are cut, or would be executed: exit 4 by name, and nothing in them runs."""

import io
import json
import os
import pickle
import resource
import struct
import subprocess
import sys
import zipfile

import pytest
import torch
from conftest import REPOSITORY
from typer.testing import CliRunner

from rscd.cli.app import app
from rscd.core.contract import Contract
from rscd.core.errors import ModelError
from rscd.model.catalog import KEY
from rscd.model.checkpoint import build_network, load_checkpoint, save_checkpoint
from rscd.model.encoders import normalisation
from rscd.model.imported import import_sam

MEAN, STD = normalisation("lite")
CONTRACT = Contract("t", "1", "lite", 8, MEAN, STD, trained_on="a test")


def rscd(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    save_checkpoint(path, build_network(CONTRACT), CONTRACT, half=True)
    return path.read_bytes()


def parts(raw):
    size = struct.unpack_from("<Q", raw)[0]
    return json.loads(raw[8 : 8 + size]), raw[8 + size :]


def joined(header, body):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def with_tensor(raw, **changes):
    header, body = parts(raw)
    header["msdf.gate.bias" if "msdf.gate.bias" in header else sorted(header)[1]].update(changes)
    return joined(header, body)


def with_contract(raw, told):
    header, body = parts(raw)
    header["__metadata__"] = {KEY: told} if told is not None else None
    return joined(header, body)


def contract_with(raw, **changes):
    header, _ = parts(raw)
    return with_contract(raw, json.dumps(json.loads(header["__metadata__"][KEY]) | changes))


BROKEN = {
    "cut in the tensors": (lambda raw: raw[: len(raw) // 2], "cannot be read"),
    "cut in the header": (lambda raw: raw[:1000], "JSON|safetensors|Unterminated|delimiter|value"),
    "empty": (lambda raw: b"", "not a safetensors file"),
    "a header of 2^60 bytes": (lambda raw: struct.pack("<Q", 1 << 60) + raw[8:], "not a safetensors file"),
    "a header of 17 MB": (lambda raw: joined(b"{" + b" " * (17 << 20) + b"}", b""), "not a safetensors file"),
    "a header of brackets": (lambda raw: joined(b"[" * 100_000, b""), "recursion|JSON|value|delimiter"),
    "a list for a header": (lambda raw: joined(b"[1, 2]", b""), "not a JSON object"),
    "a wrong shape": (lambda raw: with_tensor(raw, shape=[1, 2, 3]), r"do not fit a lite network: .*\[1, 2, 3\]"),
    "a shape of 10^18": (lambda raw: with_tensor(raw, shape=[10**9, 10**9]), "do not fit a lite network"),
    "another dtype": (lambda raw: with_tensor(raw, dtype="BOOL"), "do not fit a lite network: .*BOOL"),
    "offsets beyond the end": (lambda raw: with_tensor(raw, data_offsets=[0, 1 << 50]), "cannot be read"),
    "metadata of null": (lambda raw: with_contract(raw, None), "without a contract"),
    "a contract of a number": (lambda raw: with_contract(raw, 5), "without a contract"),
    "a contract of nothing": (lambda raw: with_contract(raw, ""), "unreadable contract"),
    "another sha256": (lambda raw: contract_with(raw, sha256="0" * 64), "do not match the contract's sha256"),
    "no sha256": (lambda raw: contract_with(raw, sha256=""), "do not match the contract's sha256"),
    "a flipped bit": (lambda raw: raw[:-100] + bytes([raw[-100] ^ 4]) + raw[-99:], "do not match"),
    "a huge window": (lambda raw: contract_with(raw, window=1 << 20), "window out of range"),
    "a huge width": (lambda raw: contract_with(raw, width=1 << 20), "width out of range"),
    "NaN for a threshold": (lambda raw: contract_with(raw, threshold=float("nan")), "threshold is not float"),
    "a name that is a list": (lambda raw: contract_with(raw, name=["<script>"]), "name is not str"),
    "no pixel sizes": (lambda raw: contract_with(raw, gsd_m=[]), "gsd_m is not"),
    "figures of text": (lambda raw: contract_with(raw, figures={"f1": "high"}), "figures is not"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_or_lying_checkpoint_is_refused_by_name_with_exit_4(tmp_path, sound, kind):
    change, words = BROKEN[kind]
    path = tmp_path / "bad.safetensors"
    path.write_bytes(change(sound))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match=words) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert caught.value.remedy
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # kB
    assert rscd("models", "verify", path).exit_code == 4


def test_tensors_are_compared_before_they_are_loaded(tmp_path, sound):
    """A file of a terabyte, as its header and the system say, whose body is a hole."""
    header, _ = parts(sound)
    header["more"] = {"dtype": "F32", "shape": [1 << 38], "data_offsets": [0, 1 << 40]}
    path = tmp_path / "sparse.safetensors"
    path.write_bytes(joined(header, b""))
    try:
        os.truncate(path, path.stat().st_size + (1 << 40))
    except OSError:
        pytest.skip("no sparse files here")
    with pytest.raises(ModelError, match="do not fit a lite network: more and 0 more are unknown"):
        load_checkpoint(path)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_weights_that_are_not_finite(tmp_path, value):
    network = build_network(CONTRACT)
    with torch.no_grad():
        next(network.parameters())[0] = float(value)
    path = tmp_path / "bad.safetensors"
    save_checkpoint(path, network, CONTRACT)
    said = rscd("models", "verify", path)
    assert said.exit_code == 4
    assert "is not finite" in said.stderr


BOMBS = """
import io, os, pickle, sys, zipfile
import torch
class Bomb:
    def __reduce__(self):
        return (os.system, ("touch " + MARK,))
class Setter:
    def __setstate__(self, state):
        raise AssertionError
def zipped(data, name="archive/data.pkl"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, data)
        archive.writestr("archive/version", "3")
        archive.writestr("archive/byteorder", "little")
    return file.getvalue()
"""


def bombs(folder):
    """Pickles of several makes, each of which would make a file if it were executed."""
    mark = folder / "executed"
    space = {"MARK": str(mark), "__name__": "bombs"}
    exec(BOMBS, space)
    bomb = space["Bomb"]()
    made = {f"protocol {p}": pickle.dumps(bomb, p) for p in range(6)}
    file = io.BytesIO()
    torch.save({"image_encoder.x": torch.zeros(1), "y": bomb}, file)
    made["torch zip"] = file.getvalue()
    file = io.BytesIO()
    torch.save({"image_encoder.x": bomb}, file, _use_new_zipfile_serialization=False)
    made["torch legacy"] = file.getvalue()
    made["zip of a pickle"] = space["zipped"](pickle.dumps(bomb))
    made["zip of constants"] = space["zipped"](pickle.dumps(bomb), "archive/constants.pkl")
    made["global by hand"] = (
        b"\x80\x02cos\nsystem\nX" + struct.pack("<I", len(f"touch {mark}")) + (f"touch {mark}".encode() + b"\x85R.")
    )
    return made, mark


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_no_pickle_is_ever_executed(tmp_path, suffix):
    made, mark = bombs(tmp_path)
    for name, raw in made.items():
        path = tmp_path / f"bomb{suffix}"
        path.write_bytes(raw)
        assert rscd("models", "import", path, "-o", tmp_path / "out.safetensors").exit_code == 4, name
        assert rscd("models", "verify", path).exit_code == 4, name
        assert rscd("models", "show", path).exit_code == 4, name
        detect = rscd("detect", path, path, "-o", tmp_path / "c.gpkg", "--model", path)
        assert detect.exit_code == 4, name
        assert "Traceback" not in detect.stderr
    assert not mark.exists()
    assert not (tmp_path / "out.safetensors").exists()
    pickle.loads(made["protocol 2"])
    assert mark.exists(), "the bombs are live"


def test_an_archive_that_unpacks_to_more_than_itself_is_not_imported(tmp_path):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(200 << 20))
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom rscd.model.imported import import_sam\n"
        "base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    import_sam(Path(sys.argv[1]), Path(sys.argv[2]))\nexcept Exception as error:\n    print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base)\n"
    )
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "out.safetensors")]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    told, grown = subprocess.run(command, env=environment, capture_output=True, text=True).stdout.splitlines()
    assert "unpacks to 209,715,200 bytes" in told
    assert int(grown) < 100_000  # kB
    with pytest.raises(ModelError):
        import_sam(path, tmp_path / "out.safetensors")


def test_a_name_that_is_too_long_is_no_model(tmp_path):
    assert rscd("models", "show", "x" * 5000).exit_code == 4
