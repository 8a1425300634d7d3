"""What an encoder costs: s a window and peak memory of a whole network, each in a fresh process.

Weights are random: neither figure depends on them. Windows run side by side, as in ``detect``; peak memory is
beyond the libraries' (with OpenVINO, of a run whose network had been converted before).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SIDE = 448
"""Of a window, px."""
TURNS = 2
_DINO = {
    "small": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
}
_CONVNEXT = {
    "tiny": {"depths": [3, 3, 9, 3], "hidden_sizes": [96, 192, 384, 768]},
    "base": {"depths": [3, 3, 27, 3], "hidden_sizes": [128, 256, 512, 1024]},
}
SETTINGS: dict[str, dict[str, dict[str, object]]] = {
    "lite": {"": {}},
    "vit_b": {"": {}},
    "dinov3_vit": {size: _DINO[size] | {"num_register_tokens": 4} for size in _DINO},
    "dinov2": {size: _DINO[size] | {"image_size": 518} for size in ("small", "base")},
    "dinov3_convnext": _CONVNEXT,
    "convnextv2": _CONVNEXT,
    "swinv2": {
        "tiny": {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24], "window_size": 8},
        "base": {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32], "window_size": 8},
    },
    "sam2": {
        "tiny": {},
        "base": {
            "hidden_size": 112,
            "num_attention_heads": 2,
            "embed_dim_per_stage": [112, 224, 448, 896],
            "num_attention_heads_per_stage": [2, 4, 8, 16],
            "blocks_per_stage": [2, 3, 16, 3],
            "global_attention_blocks": [12, 16, 20],
            "window_positional_embedding_background_size": [14, 14],
        },
    },
}
"""Encoder -> size -> configuration, as published: model cards and configurations of the Hub."""

CHILD = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from pathlib import Path
from rscd.inference.backends.choice import open_backend
from rscd.model.registry import Model
path, backend, side, turns = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024 / 1e6

if backend == "torch":
    import torch, transformers
else:
    import openvino
libraries = status("VmRSS")
model = open_backend(Model.named(path), backend, "cpu", "fp32", (1, 3, side, side))
windows = np.random.default_rng(0).integers(0, 256, (2, 1, 3, side, side), dtype=np.uint8)
times = []
threads = max(1, 2 // model.workers)
alone = (lambda: torch.set_num_threads(threads)) if backend == "torch" else (lambda: None)
with ThreadPoolExecutor(model.workers, initializer=alone) as pool:  # as detect does: windows side by side
    for _ in range(1 + turns):
        began = time.perf_counter()
        list(pool.map(lambda _: model(*windows), range(2 * model.workers)))
        times.append((time.perf_counter() - began) / (2 * model.workers))
print(json.dumps({"s": min(times[1:]), "mb": status("VmHWM") - libraries}))
"""


def run(folder: Path | None = None, rows: str | None = None) -> dict[str, float | int]:
    """Measure all, or the encoders named in ``rows`` (comma-separated); figures by name.

    s/Mpx are of window: of a scene they are 1.36 times as many at the usual overlap.
    """
    import torch

    from rscd.core.contract import Contract
    from rscd.model.checkpoint import build_network, save_checkpoint

    figures: dict[str, float | int] = {}
    with tempfile.TemporaryDirectory(dir=folder) as name:
        for encoder in rows.split(",") if rows else SETTINGS:
            for size, settings in SETTINGS[encoder].items():
                given = {"encoder_settings": dict(settings)} if settings or encoder == "sam2" else {}
                contract = Contract(
                    "cost", "1", encoder, 64, (127.0,) * 3, (64.0,) * 3, trained_on="nothing", **given
                )
                torch.manual_seed(0)
                network = build_network(contract)
                path = Path(name, "m.safetensors")
                save_checkpoint(path, network, contract)
                label = f"{encoder} {size}".strip()
                figures[f"{label}: million parameters"] = sum(p.numel() for p in network.parameters()) / 1e6
                for backend in ("torch", "openvino"):
                    found = _measured(path, backend, Path(name))
                    figures[f"{label}: {backend}, s a window"] = found["s"]
                    figures[f"{label}: {backend}, s/Mpx"] = found["s"] / SIDE**2 * 1e6
                    figures[f"{label}: {backend}, peak MB"] = round(found["mb"])
    return figures


def _measured(path: Path, backend: str, cache: Path) -> dict[str, float]:
    command = [sys.executable, "-c", CHILD, str(path), backend, str(SIDE), str(TURNS)]
    environment = os.environ | {"RSCD_CACHE_DIR": str(cache)}
    for _ in range(2 if backend == "openvino" else 1):  # the first time converts
        text = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    found: dict[str, float] = json.loads(text.splitlines()[-1])
    return found
