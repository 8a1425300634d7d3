"""Fine-tune on labels of your own, and look at the gain: half a minute on two CPU cores.

    python examples/fine_tune.py /tmp/fine-tune

The tiles are rendered, and shown as a film negative shows them: imagery that ``buildings`` has never seen. Put your
own in place of them: folders ``A`` (before), ``B`` (after) and ``label`` with files of equal names.
"""

import sys
from pathlib import Path

from PIL import Image

from rscd import EvaluateConfig, TrainConfig, evaluate, train
from rscd.core.types import Window
from rscd.simulate.scene import Scene
from rscd.simulate.spec import SceneSpec

SIDE, TILES = 256, 6


def write_tiles(folder: Path, seeds: range) -> Path:
    """Render tiles of a place each, and write them as labelled tiles."""
    for seed in seeds:
        scene = Scene(SceneSpec(seed=seed, width=SIDE, height=SIDE, layout="suburb"))
        seen = scene.render(Window(0, 0, SIDE, SIDE))
        images = {"A": 255 - seen.before.transpose(1, 2, 0), "B": 255 - seen.after.transpose(1, 2, 0)}
        for part, pixels in (images | {"label": 255 * seen.label}).items():
            (folder / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / part / f"place_{seed}.png")
    return folder


def main(folder: Path) -> None:
    """Judge the embedded model on the new imagery, train, and judge again, on tiles that training never saw."""
    tiles = write_tiles(folder / "tiles", range(100, 100 + TILES))
    validation = write_tiles(folder / "validation", range(150, 153))
    held_out = write_tiles(folder / "held_out", range(200, 200 + TILES))
    judged = {"data": (held_out,), "gsd_m": 0.5}
    before = evaluate(EvaluateConfig(**judged, model="buildings")).total
    config = TrainConfig(
        (tiles,),
        folder / "mine.safetensors",
        validation=(validation,),
        init="buildings",
        epochs=2,
        crops=64,
        crop=160,
        batch_size=8,
        rate=1e-3,
        encoder_factor=0.5,
        warmup_steps=0,
        ema=0.9,
        overwrite=True,
    )
    train(config, on_notice=print)
    after = evaluate(EvaluateConfig(**judged, model=str(config.output))).total
    print(f"F1 of pixels on {TILES} held-out tiles: {before.f1:.3f} before, {after.f1:.3f} after")
    print(f"F1 of buildings: {before.object_f1:.3f} before, {after.object_f1:.3f} after")


main(Path(sys.argv[1]))
