"""Encoders of the library transformers: models that the tests make with its own classes and save as it does."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest
import torch
from conftest import contents_of_raster, write_image, write_squares
from safetensors.torch import load_file

pytest.importorskip("transformers", reason="the extra encoders is not installed")

import transformers

from rscd.core.errors import ModelError, UsageError
from rscd.inference.backends.choice import open_backend
from rscd.inference.backends.pytorch import TorchBackend
from rscd.model.catalog import read_contract
from rscd.model.checkpoint import build_network, load_checkpoint, save_checkpoint
from rscd.model.imported import import_pretrained
from rscd.model.registry import Model
from rscd.options.training import TrainConfig
from rscd.training.data.batches import Batches
from rscd.training.data.tiles import find_tiles
from rscd.training.learner import Learner
from rscd.training.parallel import Group
from rscd.training.run_state import state_path
from rscd.training.start import start_network
from rscd.workflows.train import train

VIT = {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3}
STAGES = {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 2, 1]}
HIERA = transformers.Sam2HieraDetConfig(
    hidden_size=16,
    num_attention_heads=1,
    embed_dim_per_stage=[16, 32, 64, 128],
    num_attention_heads_per_stage=[1, 2, 4, 8],
    blocks_per_stage=[1, 2, 3, 2],
    global_attention_blocks=[4],
)
SIZES = {"fpn_hidden_size": 32, "backbone_channel_list": [128, 64, 32, 16]}
SAM2 = transformers.Sam2VisionConfig(backbone_config=HIERA, **SIZES)
MODELS = {
    "dinov3_vit": lambda: transformers.DINOv3ViTModel(
        transformers.DINOv3ViTConfig(**VIT, intermediate_size=96, num_register_tokens=4)
    ),
    "dinov2": lambda: transformers.Dinov2Model(transformers.Dinov2Config(**VIT, image_size=224)),
    "dinov2_with_registers": lambda: transformers.Dinov2WithRegistersModel(
        transformers.Dinov2WithRegistersConfig(**VIT, image_size=224)
    ),
    "dinov3_convnext": lambda: transformers.DINOv3ConvNextModel(transformers.DINOv3ConvNextConfig(**STAGES)),
    "convnextv2": lambda: transformers.ConvNextV2ForImageClassification(transformers.ConvNextV2Config(**STAGES)),
    "swinv2": lambda: transformers.Swinv2Model(
        transformers.Swinv2Config(embed_dim=24, depths=[1, 1, 2, 1], num_heads=[1, 2, 3, 6], window_size=8)
    ),
    "sam2": lambda: transformers.Sam2Model(transformers.Sam2Config(vision_config=SAM2)),
}


def families(*usual):
    """All families; others than the usual ones, which are much like one of them, run only with ``-m slow``."""
    return [pytest.param(name, marks=[] if name in usual else [pytest.mark.slow]) for name in MODELS]


KINDS = families("dinov3_vit", "convnextv2", "swinv2", "sam2")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Family -> folder, as the library's save_pretrained leaves it."""
    folders = {}
    for name, make in MODELS.items():
        torch.manual_seed(3)
        folders[name] = tmp_path_factory.mktemp(name)
        model = make()
        with torch.no_grad():  # else some parts begin at zero, and would hide what is wrong with them
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        model.save_pretrained(folders[name])
    return folders


@pytest.fixture(scope="module")
def imported(saved, tmp_path_factory):
    """Family -> checkpoint."""
    folder = tmp_path_factory.mktemp("imported")
    return {
        name: (import_pretrained(str(path), folder / f"{name}.safetensors"), folder / f"{name}.safetensors")[1]
        for name, path in saved.items()
    }


def library_features(name, folder, images):
    """What the library's own model makes of images: four maps (N, C, h, w)."""
    if name == "sam2":
        model = transformers.Sam2Model.from_pretrained(folder).vision_encoder.backbone.eval()
        return [m.permute(0, 3, 1, 2) for m in model(images).intermediate_hidden_states]
    if name in ("dinov3_vit", "dinov2", "dinov2_with_registers"):
        model = transformers.AutoModel.from_pretrained(folder).eval()
        side = model.config.patch_size
        if side != 16:
            size = [n * side // 16 for n in images.shape[-2:]]
            images = torch.nn.functional.interpolate(images, size=size, mode="bilinear")
        rows, cols = (n // side for n in images.shape[-2:])
        norm = getattr(model, "norm", None) or model.layernorm
        hidden = model(images, output_hidden_states=True).hidden_states[1:]
        return [norm(h)[:, -rows * cols :].unflatten(1, (rows, cols)).permute(0, 3, 1, 2) for h in hidden]
    if name == "swinv2":
        model = transformers.Swinv2Backbone.from_pretrained(folder, out_indices=[1, 2, 3, 4]).eval()
        return model(images).feature_maps
    if name == "convnextv2":
        hidden = transformers.ConvNextV2Model.from_pretrained(folder).eval()(images, output_hidden_states=True)
        channels_first = [h.permute(0, 2, 3, 1) for h in hidden.hidden_states[1:]]
        return [
            torch.nn.functional.layer_norm(h, h.shape[-1:], eps=1e-6).permute(0, 3, 1, 2) for h in channels_first
        ]
    model = transformers.AutoModel.from_pretrained(folder).eval()
    return model(images, output_hidden_states=True).hidden_states[1:]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [(96, 224)])
def test_features_are_the_librarys_own(name, size, saved, imported):
    network, contract = load_checkpoint(imported[name])
    assert contract.encoder == name
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        for ours, theirs in zip(
            network.encoder.taps(images), library_features(name, saved[name], images), strict=True
        ):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_maps_are_at_strides_4_to_32(name, imported):
    network, _ = load_checkpoint(imported[name])
    with torch.no_grad():
        maps = network.encoder(torch.randn(1, 3, 64, 96))
    assert [m.shape[-2:] for m in maps] == [(64 // s, 96 // s) for s in (4, 8, 16, 32)]
    assert tuple(m.shape[1] for m in maps) == network.encoder.channels


@pytest.mark.parametrize("name", MODELS)
def test_swapping_the_dates_changes_nothing(name, imported):
    network, _ = load_checkpoint(imported[name])
    a, b = 255 * torch.rand(2, 1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(a, b).change, network(b, a).change, rtol=1e-4, atol=1e-4)


def test_heights_rise_from_the_last_block_to_the_embedding(imported):
    for name in ("dinov3_vit", "swinv2", "sam2", "convnextv2"):
        encoder = load_checkpoint(imported[name])[0].encoder
        heights, blocks = encoder.heights(), encoder.stack()
        assert len(blocks) >= 4
        assert {heights[id(p)] for p in blocks[-1].parameters()} == {1}
        assert {heights[id(p)] for p in blocks[0].parameters()} == {len(blocks)}
        assert heights[id(next(encoder.backbone.parameters()))] == len(blocks) + 1
        assert set(heights) == {id(p) for p in encoder.backbone.parameters()}


def test_a_contract_carries_scaling_and_licence_of_the_model(saved, tmp_path):
    folder = saved["dinov2"]
    (folder / "preprocessor_config.json").write_text(
        '{"image_mean": [0.4, 0.5, 0.6], "image_std": [0.1, 0.2, 0.3]}'
    )
    (folder / "README.md").write_text(
        "---\nlicense: other\nlicense_name: dinov3-license\n---\n# A card\nlicense: mit\n"
    )
    contract = import_pretrained(str(folder), tmp_path / "m.safetensors")
    assert contract.mean == (102.0, 127.5, 153.0)
    assert contract.std == (25.5, 51.0, 76.5)
    assert contract.licence.startswith("dinov3-license")
    (folder / "preprocessor_config.json").unlink()
    (folder / "README.md").unlink()
    contract = import_pretrained(str(folder), tmp_path / "m.safetensors")
    assert contract.mean == pytest.approx([123.675, 116.28, 103.53])
    assert "not stated" in contract.licence


@pytest.mark.parametrize("name", KINDS)
def test_openvino_says_the_same_of_batches(name, imported, tmp_path, monkeypatch):
    monkeypatch.setenv("RSCD_CACHE_DIR", str(tmp_path))
    network, contract = load_checkpoint(imported[name])
    model = Model.of((network, dataclasses.replace(contract, trained_on="nothing")))
    windows = np.random.default_rng(0).integers(0, 256, (2, 2, 3, 96, 96), dtype=np.uint8)
    backend = open_backend(model, "openvino", "cpu", "fp32", (2, 3, 96, 96))
    expected = TorchBackend(network)(*windows)
    assert np.ptp(expected) > 1e-4
    np.testing.assert_allclose(backend(*windows), expected, atol=2e-6)


def learner(tiles, output, init, **changes):
    options = {"epochs": 1, "crops": 8, "crop": 64, "batch_size": 8, "threads": 1, "device": "cpu", "rate": 3e-3}
    return TrainConfig(data=(tiles,), output=output, init=init, **(options | changes))


@pytest.fixture(scope="module")
def trained(imported, tiny_tiles, tmp_path_factory):
    """Family -> checkpoint after one step of full tuning, and after one of LoRA."""
    folder = tmp_path_factory.mktemp("trained")
    found = {}
    for name, checkpoint in imported.items():
        for tune in ("full", "lora"):
            found[name, tune] = folder / f"{name}-{tune}.safetensors"
            train(learner(tiny_tiles, found[name, tune], checkpoint, tune=tune, encoder_factor=1.0))
    return found


@pytest.mark.parametrize("name", MODELS)
def test_full_tuning_moves_the_encoder_and_lora_its_adapted_layers_alone(name, imported, trained):
    before = load_file(imported[name])
    encoder = load_checkpoint(imported[name])[0].encoder
    adapted = {f"encoder.model.{layer}.weight" for layer in encoder.adaptable_layers()}
    assert adapted
    for tune in ("full", "lora"):
        after = load_file(trained[name, tune])
        assert after.keys() == before.keys()
        moved = {k for k, v in after.items() if k.startswith("encoder.model.") and not v.equal(before[k].half())}
        assert moved if tune == "full" else moved == adapted


REPEATED = "dinov3_vit", "sam2"
"""A plain transformer and a hierarchical one."""


@pytest.mark.parametrize("names", [REPEATED, pytest.param({*MODELS} - {*REPEATED}, marks=pytest.mark.slow)])
def test_detect_repeats_in_fresh_processes(names, trained, tmp_path):
    """Each family, after one step: the same bytes twice, the second time from the converted network."""
    made = simulate_pair(tmp_path / "pair")
    script = tmp_path / "detect.py"
    script.write_text(DETECT)
    for turn in ("one", "two"):
        (tmp_path / turn).mkdir()
        models = [str(trained[name, "lora"]) for name in names]
        command = [sys.executable, script, *map(str, made), tmp_path / turn, *models]
        environment = os.environ | {"RSCD_CACHE_DIR": str(tmp_path / "cache")}
        subprocess.run(command, check=True, env=environment, timeout=300)
    for name in names:
        one, two = (tmp_path / turn / f"{name}-lora.tif" for turn in ("one", "two"))
        assert contents_of_raster(one) == contents_of_raster(two)


DETECT = """
import sys
from pathlib import Path
import rscd
before, after, folder, *models = sys.argv[1:]
for model in models:
    out = Path(folder, Path(model).stem)
    rscd.detect(rscd.DetectConfig(before, after, out.with_suffix(".gpkg"), probability=out.with_suffix(".tif"),
                                  model=model, window=96, overlap=32))
"""


def simulate_pair(folder):
    folder.mkdir()
    pixels = np.random.default_rng(1).integers(60, 120, (2, 3, 160, 160), dtype=np.uint8)
    pixels[1, :, 40:90, 60:110] = 230
    return [write_image(folder / f"{name}.tif", image) for name, image in zip("ab", pixels, strict=True)]


@pytest.mark.parametrize("name", families("dinov3_vit", "convnextv2"))
def test_each_family_overfits_eight_tiles(name, saved, imported, tmp_path):
    """60 steps on eight tiles, from random weights: the loss falls below half."""
    contract = read_contract(imported[name])
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "random.safetensors", build_network(contract), contract)
    write_squares(tmp_path / "tiles", count=8, side=64, square=24, margin=4, seed=0)
    options = {"crops": 480, "scale": (1.0, 1.0), "validation": (tmp_path / "tiles",), "warmup_steps": 0}
    config = learner(tmp_path / "tiles", tmp_path / "m.safetensors", tmp_path / "random.safetensors", **options)
    config = dataclasses.replace(config, encoder_factor=1.0, loss="bce")
    made = Learner(start_network(config)[0], config, Group(torch.device("cpu")), 60)
    tiles = find_tiles([tmp_path / "tiles"], pytest.fail)
    with closing(Batches(tiles, config, 0, 1, 1).steps(0, 60)) as batches:
        losses = [made.learn(batch, step) for step, batch in enumerate(batches) if step < 60]
    assert np.mean(losses[-5:]) < 0.5 * losses[0]


def test_the_state_of_a_run_holds_what_learns_alone(imported, tiny_tiles, tmp_path):
    output = tmp_path / "m.safetensors"
    kept = []
    config = learner(tiny_tiles, output, imported["dinov2"], tune="lora", crops=16, save_every=1)
    train(config, on_step=lambda *_: kept.append(load_file(state_path(output)).keys()))
    inside = {name for name in kept[-1] if ".encoder.model." in name}
    assert inside
    assert all(name.endswith((".up", ".down", ".exp_avg", ".exp_avg_sq", ".step")) for name in inside)


def test_going_on_needs_the_same_starting_model(imported, tiny_tiles, tmp_path):
    init = tmp_path / "init.safetensors"
    shutil.copy(imported["dinov2"], init)
    config = learner(tiny_tiles, tmp_path / "m.safetensors", init, tune="lora", crops=16, limit_minutes=1e-9)
    train(config)
    network, contract = load_checkpoint(init)
    with torch.no_grad():
        next(network.encoder.model.parameters()).add_(1)
    save_checkpoint(init, network, contract)
    with pytest.raises(UsageError, match="init_sha256 was"):
        train(config)


def folder_like(saved, target, **changes):
    """A copy of the small DINOv2, with changes in its configuration."""
    shutil.copytree(saved["dinov2"], target)
    path = target / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return target


def run(*arguments, **environment):
    command = [sys.executable, "-m", "rscd", *map(str, arguments)]
    found = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, timeout=120)
    return found.returncode, found.stderr.strip()


def test_what_is_no_image_encoder_is_refused_in_one_line(saved, tmp_path):
    (tmp_path / "empty").mkdir()
    text = folder_like(saved, tmp_path / "text", model_type="bert")
    unknown = folder_like(
        saved, tmp_path / "unknown", model_type="no_such_thing", auto_map={"AutoModel": "evil.Evil"}
    )
    wide = folder_like(saved, tmp_path / "wide", hidden_size=96)
    deep = folder_like(saved, tmp_path / "deep", num_hidden_layers=1_000_000_000)
    grey = folder_like(saved, tmp_path / "grey", num_channels=1)
    tiny = folder_like(saved, tmp_path / "tiny", patch_size=8)
    odd = folder_like(saved, tmp_path / "odd", hidden_size="many")
    pickled = folder_like(saved, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    cut = folder_like(saved, tmp_path / "cut")
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:5000])
    other = folder_like(saved, tmp_path / "other")
    shutil.copy(saved["convnextv2"] / "model.safetensors", other)
    broken = folder_like(saved, tmp_path / "broken")
    (broken / "config.json").write_text("{")
    for folder, said in (
        (tmp_path / "empty", "config.json: there is none"),
        (text, "model_type 'bert' is not an image encoder"),
        (unknown, "model_type 'no_such_thing' is not an image encoder"),
        (wide, "differ in shape"),
        (deep, "not a configuration of dinov2"),
        (grey, "rscd supports 3 bands"),
        (tiny, "patches of 8 px"),
        (odd, "not a configuration of dinov2"),
        (pickled, "pickled weights, which rscd does not open"),
        (cut, "cannot be read"),
        (other, "lack"),
        (broken, "cannot be read"),
        (saved["dinov2"] / "config.json", "give the folder"),
        (tmp_path / "mistyped", "there is no such folder"),
        ("./mistyped", "there is no such folder"),
    ):
        with pytest.raises(ModelError, match=said) as caught:
            import_pretrained(str(folder), tmp_path / "m.safetensors")
        assert "\n" not in caught.value.line
        assert caught.value.remedy
        assert caught.value.path
        assert not (tmp_path / "m.safetensors").exists()


def test_the_command_line_imports_and_says_the_licence_and_what_is_next(saved, tmp_path):
    output = tmp_path / "m.safetensors"
    code, said = run("models", "import", saved["dinov3_vit"], "-o", output)
    assert code == 0
    assert "licence: not stated" in said
    assert f"--init {output} -o" in said
    code, said = run("models", "import", saved["dinov3_vit"], "-o", output)
    assert code == 2
    assert "exists already" in said
    code, said = run("models", "verify", output)
    assert (code, "valid; " in said) == (0, True)


def test_a_name_that_cannot_be_fetched_is_refused_in_one_line(tmp_path):
    empty = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    code, said = run("models", "import", "facebook/dinov3-none", "-o", tmp_path / "m.safetensors", **empty)
    assert code == 4
    assert "Traceback" not in said
    assert "neither a folder nor a model that can be fetched" in said


def test_without_the_library_a_checkpoint_names_what_to_install(imported, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['transformers'] = None\n")
    code, said = run("models", "verify", imported["swinv2"], PYTHONPATH=str(tmp_path))
    assert code == 4
    assert "needs the library transformers" in said
    assert "pip install '.[encoders]'" in said
    assert len(said.splitlines()) == 1


def test_a_contract_of_endless_layers_builds_nothing(imported, tmp_path):
    network, contract = load_checkpoint(imported["dinov2"])
    settings = contract.encoder_settings | {"num_hidden_layers": 10**9}
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, network, dataclasses.replace(contract, encoder_settings=settings))
    with pytest.raises(ModelError, match="not a configuration of dinov2"):
        load_checkpoint(path)
    settings = contract.encoder_settings | {"hidden_size": 9_600}
    save_checkpoint(path, network, dataclasses.replace(contract, encoder_settings=settings))
    with pytest.raises(ModelError, match="tensors do not fit a dinov2 network"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["dinov2", "dinov3_vit", "swinv2"])
def test_checkpointing_gives_the_same_gradients(name, imported, tiny_tiles, tmp_path):
    found = []
    for checkpointing in (False, True):
        config = learner(tiny_tiles, tmp_path / "m", imported[name], checkpointing=checkpointing, batch_size=2)
        made = Learner(start_network(config)[0], config, Group(torch.device("cpu")), 1)
        made.bf16 = False
        made.network.train()
        for module in made.network.modules():  # positions are shifted at random while training
            if hasattr(module, "inv_freq"):
                module.eval()
        tiles = find_tiles([tiny_tiles], pytest.fail)
        with closing(Batches(tiles, config).steps(0, 1)) as batches:
            torch.manual_seed(5)  # of the blocks that are left out at random
            made._gradients(next(batches), 0)
        found.append(next(made.network.encoder.stack()[0].parameters()).grad)
        kept = [getattr(m, "gradient_checkpointing", False) for m in made.network.encoder.backbone.modules()]
        assert any(kept) == checkpointing
    assert found[0].any()
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-7)


def test_checkpointing_is_refused_where_the_library_has_none(imported, tiny_tiles, tmp_path):
    config = learner(tiny_tiles, tmp_path / "m", imported["convnextv2"], checkpointing=True)
    with pytest.raises(UsageError, match=r"checkpointing=True .*convnextv2 does not support it"):
        Learner(start_network(config)[0], config, Group(torch.device("cpu")), 1)


def test_a_configuration_that_contradicts_itself_is_refused(saved, tmp_path):
    shutil.copytree(saved["sam2"], tmp_path / "odd")
    path = tmp_path / "odd" / "config.json"
    settings = json.loads(path.read_text())
    settings["vision_config"]["backbone_config"]["window_size_per_stage"] = [8, 4, 0, 7]
    path.write_text(json.dumps(settings))
    with pytest.raises(ModelError, match=r"its network does not run|that rscd supports"):
        import_pretrained(str(tmp_path / "odd"), tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("card", "terms"),
    [
        ("---\nlicense:\n- mit\n- apache-2.0\ntags:\n- x\n---\n", "mit, apache-2.0"),
        ("\ufeff---\r\nlicense: apache-2.0\r\n---\r\n", "apache-2.0"),
        ("---\nlicense: [mit, 'cc-by-4.0']\n---\n", "mit, cc-by-4.0"),
        ("---\ntags:\n- license\n---\nlicense: mit\n", "not stated"),
    ],
)
def test_licences_of_model_cards(card, terms, saved, tmp_path):
    shutil.copytree(saved["dinov2"], tmp_path / "m")
    (tmp_path / "m" / "README.md").write_bytes(card.encode())
    assert import_pretrained(str(tmp_path / "m"), tmp_path / "m.safetensors").licence.startswith(terms)


def test_a_library_that_does_not_load_is_named(imported, tmp_path):
    (tmp_path / "transformers").mkdir()
    (tmp_path / "transformers" / "__init__.py").write_text("raise ImportError('huggingface-hub>=9 is required')\n")
    code, said = run("models", "verify", imported["swinv2"], PYTHONPATH=str(tmp_path))
    assert code == 4
    assert "huggingface-hub>=9 is required" in said
    assert len(said.splitlines()) == 1


def test_nothing_of_the_library_is_printed(saved, tmp_path):
    code, said = run("models", "import", saved["sam2"], "-o", tmp_path / "m.safetensors")
    assert code == 0
    assert "Warning" not in said
    assert "[transformers]" not in said
