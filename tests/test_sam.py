"""Our SAM encoder against the official one, through an official-style file made here (random weights)."""

import subprocess
import sys
import types

import pytest
import torch
from typer.testing import CliRunner

from rscd.cli.app import app
from rscd.model.checkpoint import load_checkpoint
from rscd.model.encoders.sam import SHAPES, sam_modeling, variant_of


def official_sam_vit_b():
    """segment-anything's own build_sam_vit_b(), with a stand-in for the torchvision that its __init__ asks for."""
    wanted = ("torchvision", "torchvision.ops", "torchvision.ops.boxes", "torchvision.transforms")
    names = [*wanted, "torchvision.transforms.functional"]
    stand_ins = {name: types.ModuleType(name) for name in names if name not in sys.modules}
    for module in stand_ins.values():
        module.__getattr__ = lambda name: object
    sys.modules.update(stand_ins)
    try:
        from segment_anything.build_sam import build_sam_vit_b

        torch.manual_seed(5)
        sam = build_sam_vit_b()
    finally:
        for name in stand_ins:
            sys.modules.pop(name, None)
    with torch.no_grad():  # SAM starts its position tables at zero, where any mistake in them would hide
        for name, parameter in sam.image_encoder.named_parameters():
            if "pos" in name:
                parameter.normal_(std=0.02)
    return sam.eval()


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sam")
    sam = official_sam_vit_b()
    torch.save(sam.state_dict(), folder / "sam_vit_b.pth")
    command = ["models", "import", str(folder / "sam_vit_b.pth"), "-o", str(folder / "vit_b.safetensors")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    return sam, folder / "vit_b.safetensors"


@pytest.mark.slow  # half a minute; test_attention.py compares its blocks in each run
def test_vit_b_equals_the_official_encoder_at_1024(imported):
    sam, path = imported
    network, contract = load_checkpoint(path)
    assert contract.encoder == "vit_b"
    image = torch.rand(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = sam.image_encoder(image)
        ours = network.encoder.taps(image)[-1]
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.01


@pytest.mark.parametrize("size", [224, 448])
def test_vit_b_is_finite_at_other_window_sizes(imported, size):
    network, _ = load_checkpoint(imported[1])
    pair = torch.randint(0, 256, (2, 1, 3, size, size), dtype=torch.uint8)
    with torch.inference_mode():
        logits = network(*pair).change
    assert logits.shape == (1, size, size)
    assert logits.isfinite().all()


def test_detect_refuses_an_import_whose_head_is_untrained(imported, tmp_path):
    for name in ("a.tif", "b.tif"):
        (tmp_path / name).touch()
    command = [
        "detect",
        str(tmp_path / "a.tif"),
        str(tmp_path / "b.tif"),
        "-o",
        str(tmp_path / "x.gpkg"),
        "--model",
        str(imported[1]),
    ]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 4
    assert "rscd train" in result.output


def test_modeling_is_imported_without_torchvision():
    code = (
        "import sys; from rscd.model.encoders.sam import sam_modeling; sam_modeling();"
        "assert 'torchvision' not in sys.modules; assert 'segment_anything' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert sam_modeling().ImageEncoderViT.__name__ == "ImageEncoderViT"


def test_variants_are_told_by_their_widths():
    for name, shape in SHAPES.items():
        patch, last = torch.empty(shape.width, 3, 16, 16), f"blocks.{shape.depth - 1}.x"
        state = {"patch_embed.proj.weight": patch, last: torch.empty(1)}
        assert variant_of(state) == name
    assert variant_of({"patch_embed.proj.weight": torch.empty(7, 3, 16, 16)}) is None
