import dataclasses
import json
import pickle
import struct

import pytest
import torch

from rscd.core.contract import Contract
from rscd.core.errors import ModelError
from rscd.model.catalog import KEY, embedded, find_model, read_contract
from rscd.model.checkpoint import build_network, load_checkpoint, load_mean, save_checkpoint
from rscd.model.encoders import normalisation
from rscd.model.imported import import_sam
from rscd.model.registry import load_model


def contract(**changes):
    mean, std = normalisation("lite")
    fields = dict(name="t", version="1", encoder="lite", width=8, mean=mean, std=std, trained_on="a test")
    return Contract(**(fields | changes))


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "m.safetensors"
    return path, save_checkpoint(path, build_network(contract()), contract())


def test_a_checkpoint_comes_back_as_it_was_saved(saved):
    path, written = saved
    network, read = load_checkpoint(path)
    assert read == written == read_contract(path)
    assert len(read.sha256) == 64
    torch.manual_seed(0)
    for a, b in zip(network.state_dict().values(), build_network(contract()).state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_weights_of_checkpoints_are_averaged_by_shares(saved, tmp_path):
    first, other = saved[0], tmp_path / "other.safetensors"
    torch.manual_seed(1)
    save_checkpoint(other, build_network(contract()), contract(version="2"))
    network, read = load_mean({first: 0.25, other: 0.75})
    assert read.version == "2"
    states = [load_checkpoint(path)[0].state_dict() for path in (first, other)]
    for name, tensor in network.state_dict().items():
        one, two = (state[name] for state in states)
        expected = 0.25 * one + 0.75 * two if tensor.is_floating_point() else two
        torch.testing.assert_close(tensor, expected)
    wider = tmp_path / "wider.safetensors"
    save_checkpoint(wider, build_network(contract(width=16)), contract(width=16))
    with pytest.raises(ModelError, match="another network"):
        load_mean({wider: 0.5, first: 0.5})


def test_half_precision_halves_the_file_and_loads_as_float32(tmp_path, saved):
    half = tmp_path / "half.safetensors"
    save_checkpoint(half, load_checkpoint(saved[0])[0], contract(), half=True)
    assert half.stat().st_size < 0.6 * saved[0].stat().st_size
    assert {p.dtype for p in load_checkpoint(half)[0].parameters()} == {torch.float32}


def refusal(path):
    with pytest.raises(ModelError) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 4
    return str(caught.value)


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('a pickle was executed')",))


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_is_never_opened(tmp_path, protocol):
    path = tmp_path / "evil.safetensors"
    path.write_bytes(pickle.dumps(Bomb(), protocol))
    refusal(path)
    with pytest.raises(ModelError, match="not a plain state dict"):
        import_sam(path, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
    torch.save({"a": Bomb()}, path)
    assert "pickle" in refusal(path)
    with pytest.raises(ModelError, match="not a plain state dict"):
        import_sam(path, tmp_path / "out.safetensors")


def rewritten(path, change):
    """Change the header's contract without touching the tensors."""
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    told = json.loads(header["__metadata__"][KEY])
    change(told)
    header["__metadata__"][KEY] = json.dumps(told)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + size :])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(sha256="0" * 64), "sha256"),
        (lambda c: c.update(width=16), "do not fit"),
        (lambda c: c.update(encoder="vit_t"), "do not fit"),
        (lambda c: c.update(encoder="resnet"), "resnet"),
        (lambda c: c.update(format=99), "format 1"),
        (lambda c: c.update(threshold=3), "threshold"),
        (lambda c: c.update(extra=1), "extra"),
        (lambda c: c.pop("name"), "name"),
        (lambda c: c.update(mean=[1.0]), "mean"),
    ],
)
def test_a_contract_that_lies_is_refused(saved, change, words):
    path, _ = saved
    rewritten(path, change)
    assert words in refusal(path)


def test_cut_huge_empty_and_missing_files_are_refused(tmp_path, saved):
    path, _ = saved
    whole = path.read_bytes()
    path.write_bytes(whole[:-1000])
    refusal(path)
    path.write_bytes(struct.pack("<Q", 1 << 60) + whole[8:])
    refusal(path)
    path.write_bytes(b"")
    refusal(path)
    refusal(tmp_path / "missing.safetensors")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    network = build_network(contract())
    with torch.no_grad():
        next(network.parameters())[0] = float("nan")
    save_checkpoint(tmp_path / "nan.safetensors", network, contract())
    assert "not finite" in refusal(tmp_path / "nan.safetensors")


def test_a_model_is_found_by_name_or_path(saved):
    assert find_model(str(saved[0])) == saved[0]
    assert "buildings" in embedded()
    _, told = load_model("buildings")
    assert told.encoder == "lite"
    assert told.figures["validation_f1"] > 0.5
    assert embedded()["buildings"].stat().st_size < 16e6
    with pytest.raises(ModelError, match="buildings"):
        find_model("nothing-of-that-name")


def test_an_untrained_head_is_refused(tmp_path):
    path = tmp_path / "fresh.safetensors"
    save_checkpoint(path, build_network(contract()), dataclasses.replace(contract(), trained_on=""))
    with pytest.raises(ModelError, match="no trained change head"):
        load_model(str(path))


def test_a_header_whose_length_begins_like_a_pickle_is_read(saved):
    """0x80 opens a pickle, and may be the first byte of a length."""
    path, contract = saved
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    spaces = (0x80 - size) % 256
    header = raw[8 : 8 + size] + b" " * spaces
    path.write_bytes(struct.pack("<Q", size + spaces) + header + raw[8 + size :])
    assert path.read_bytes()[0] == 0x80
    assert load_checkpoint(path)[1] == contract
