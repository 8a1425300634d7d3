"""Compare the losses at one fixed budget: 1 m tiles, crops of 256 px, ``lite`` from ImageNet, three seeds each.

    python examples/loss_ablation.py SHARED_DATA OUTPUT.json [STEPS]

Writes a row a run as it ends, and goes on from the rows that are there.
"""

import json
import sys
import tempfile
from pathlib import Path

from rscd.options.training import TrainConfig
from rscd.workflows.train import train

LOSSES = ("cem", "bce", "focal", "ohem", "dice")
SEEDS = (0, 1, 2)
BATCH = 8


def main(data: Path, output: Path, steps: int) -> None:
    """Run what is missing."""
    levir = data / "levir"
    rows = json.loads(output.read_text()) if output.exists() else []
    done = {(row["loss"], row["seed"]) for row in rows}
    for seed, loss in ((s, name) for s in SEEDS for name in LOSSES if (name, s) not in done):
        with tempfile.TemporaryDirectory() as folder:
            config = TrainConfig(
                data=(levir / "train" / "1m_512_a", levir / "train" / "1m_512_b"),
                validation=(levir / "val" / "1m_512",),
                output=Path(folder) / "model.safetensors",
                epochs=1,
                crops=steps * BATCH,
                batch_size=BATCH,
                seed=seed,
                loss=loss,
                warmup_steps=steps // 10,
                encoder_factor=0.3,
                ema=0.95,
                threads=1,
            )
            contract = train(config)
        rows.append({"loss": loss, "seed": seed, "steps": steps, **contract.figures})
        output.write_text(json.dumps(rows, indent=1))
        print(rows[-1])


main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 400)
