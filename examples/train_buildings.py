"""The recipe that made the embedded model ``buildings``.

    python examples/train_buildings.py SHARED_DATA OUTPUT.safetensors
    python -m torch.distributed.run --nproc-per-node 2 examples/train_buildings.py ...   # two cores

Nine stages, each from the best epoch of the one before, unless it says otherwise:

1. real tiles alone, a schedule of 14 epochs that was stopped after its second;
2. 9 epochs with 30 % rendered scenes;
3. 12 longer epochs with 20 % rendered scenes and a faster encoder;
4. fine scales and presence: natural sizes (zoom 0.7 to 1.4), most crops at 0.5 m, 20 % rendered scenes, 10 % pairs
   of images of a single date; 1,400 steps of 16 crops on two processes;
5. the same once more, 15 % pairs of images of a single date; 1,600 steps;
6. crops of tiles at 0.5 m alone, zoom 0.65 to 1.25; 1,800 steps, of which the last ones count. It sharpens
   outlines, and forgets 1 m and other places; so its weights and those of stage 5 are averaged, half and half;
7. from that average, at a lower rate: tiles at 1 m again, zoom 0.6 to 1.4, 30 % pairs of images of a single date;
   800 steps;
8. from the mean of stages 5, 6 and 7 (0.3, 0.4, 0.3): the fine scales alone, which see the dates in the order of
   presence from here on; tiles at 0.5 m, zoom 0.7 to 1.25; the loss also counts the pixels near edges; 800 steps of
   8 crops;
9. everything again with that loss, tiles at 1 m too, at a lower rate; 1,000 steps.

The embedded weights are the mean of those of stages 8 and 9 (0.75, 0.25), threshold and temperature chosen anew.
Stages 1 to 3 took some three hours of one CPU core, stages 4 to 6 up to two hours each of two cores that had other
work too, stages 7 and 9 half an hour, stage 8 a quarter. Stage 8 was stopped after 800 of 1,200 steps, by a script
that held the other parts fixed as ``tune="fine"`` does. Stage 9 was judged on tiles at 0.5 m alone, where no epoch
beat its start, and the average of its last epoch was taken; its loss of change trained presence too, which it no
longer does.
Weights were first averaged, and tiles first drawn by their area, in stage 3; rendered scenes are more varied
since stage 4. The code does so in all stages now, so a rerun gives similar weights, not these. No scene of the
validation folders is trained on, and nothing was chosen by ``scenes/vhr_austin_0.5m``. Images of Austin of a
single date are left out, because they may show the same ground; so are those of Tyrol, Vienna, New Zealand and
SpaceNet, which guard other places.
"""

import os
import sys
from pathlib import Path

import torch

from rscd.inference.device import own_process
from rscd.model.checkpoint import load_mean, save_checkpoint
from rscd.options.training import TrainConfig
from rscd.training.data.tiles import find_tiles
from rscd.training.parallel import leads
from rscd.training.run_state import state_path
from rscd.training.validation import calibrate
from rscd.workflows.train import train

FOLDERS = ("1m_512_a", "1m_512_b", "0.5m_256", "0.5m_256_jittered", "0.5m_1024_jittered")
SHARP = ("0.5m_256", "0.5m_256_b", "0.5m_256_jittered", "0.5m_256_jittered_b", "0.5m_1024_jittered", "1m_512_a")
HELD_OUT = ("austin", "tyrol", "vienna", "nzlnd", "spacenet")
"""Parts of names of images of a single date that are not trained on."""


def main(data: Path, output: Path) -> None:
    """Train the stages in turn; each goes on where it was if it was cut short."""
    own_process("cpu")  # freed memory is kept, as rscd train does: a fifth of a step
    levir = data / "levir"
    common = {
        "validation": (levir / "val" / "0.5m_1024", levir / "val" / "1m_512"),
        "name": "buildings",
        "threads": 1,
        "trained_on": "LEVIR-CD training scenes (1 m and 0.5 m)",
        "licence": "research and non-commercial use: trained on LEVIR-CD",
        "class_name": "building change",
        "minimum_mapping_m2": 40.0,  # chosen by object F1 on the validation tiles at 0.5 m
    }
    early = {"data": tuple(levir / "train" / name for name in FOLDERS), "fine": 0, "presence": False, **common}
    late = {
        "data": tuple(levir / "train" / name for name in SHARP),
        "crops": 3200,
        "batch_size": 16,
        "rate": 6e-4,
        "simulated": 0.2,
        "one_date": (chosen(data / "buildings_single_date", output.with_name("one_date")),),
        "scale": (0.7, 1.4),
        "encoder_factor": 0.3,
        **common,
    }
    names = (output.with_name(f"{output.stem}-stage{n}.safetensors") for n in range(1, 10))
    first, second, third, fourth, fifth, sixth, seventh, eighth, ninth = names
    averaged, mean = (output.with_name(f"{output.stem}-{name}.safetensors") for name in ("averaged", "mean"))
    half_metre = {
        "data": tuple(levir / "train" / name for name in SHARP[:-1]),
        "validation": (levir / "val" / "0.5m_1024",),
    }
    stages = (
        TrainConfig(output=first, epochs=2, seed=0, **early),
        TrainConfig(output=second, epochs=9, seed=1, init=first, simulated=0.3, **early),
        TrainConfig(
            output=third,
            epochs=12,
            crops=2048,
            seed=2,
            init=second,
            simulated=0.2,
            encoder_factor=0.3,
            **early,
        ),
        TrainConfig(
            output=fourth,
            epochs=7,
            seed=3,
            init=third,
            fine=24,
            presence=True,
            one_date_share=0.1,
            **late,
        ),
        TrainConfig(
            output=fifth,
            epochs=8,
            seed=4,
            init=fourth,
            one_date_share=0.15,
            **late,
        ),
        TrainConfig(  # it is judged on tiles at 0.5 m, for at 1 m it loses
            output=sixth,
            epochs=9,
            seed=5,
            init=fifth,
            one_date_share=0.15,
            **late | half_metre | {"scale": (0.65, 1.25)},
        ),
        TrainConfig(
            output=seventh,
            epochs=4,
            seed=6,
            init=averaged,
            one_date_share=0.3,
            **late | {"scale": (0.6, 1.4), "rate": 4e-4},
        ),
        TrainConfig(
            output=eighth,
            epochs=2,
            seed=11,
            init=mean,
            tune="fine",
            loss="cem+dice+edge",
            one_date_share=0.1,
            **late | half_metre | {"scale": (0.7, 1.25), "simulated": 0.1, "batch_size": 8, "rate": 1e-3},
        ),
        TrainConfig(
            output=ninth,
            epochs=5,
            seed=21,
            init=eighth,
            one_date_share=0.25,
            loss="cem+dice+edge",
            **late | {"scale": (0.65, 1.3), "simulated": 0.15, "rate": 4e-4},
        ),
    )
    for config in stages:
        if config.init == averaged:
            average({fifth: 0.5, sixth: 0.5}, averaged)
        if config.init == mean:
            average({fifth: 0.3, sixth: 0.4, seventh: 0.3}, mean)
        if not config.output.exists() or state_path(config.output).exists():
            train(config, on_epoch=print)
    if leads():
        average({eighth: 0.75, ninth: 0.25}, output)
        calibrate(output, find_tiles(common["validation"], print), torch.device("cpu"), bf16=True)


def average(shares: dict[Path, float], output: Path) -> None:
    """Write a mean of checkpoints' weights, with the last one's contract."""
    save_checkpoint(output, *load_mean(shares))


def chosen(source: Path, target: Path) -> Path:
    """A folder of links to the images of a single date that are trained on, and to their labels."""
    for part in ("image", "label"):
        (target / part).mkdir(parents=True, exist_ok=True)
        for path in (source / part).iterdir():
            link = target / part / path.name
            if not any(name in path.name for name in HELD_OUT) and not link.exists():
                os.symlink(path.resolve(), link)  # noqa: PTH211 - of several processes, one makes it
    return target


main(Path(sys.argv[1]), Path(sys.argv[2]))
