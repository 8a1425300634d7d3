"""Two real processes over gloo learn what one learns."""

import os
import subprocess
import sys

import torch
from conftest import REPOSITORY
from safetensors.torch import load_file
from test_loop import config

from rscd.training.loop import Listener, Run
from rscd.training.parallel import joined

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
import test_parallel
test_parallel.learn(Path(sys.argv[1]), Path(sys.argv[2]), micro_batch=0)
"""


def learn(tiles, folder, micro_batch):
    """Train for three steps of four crops; keep every process's weights."""
    from safetensors.torch import save_file

    options = config(
        tiles, folder / "m.safetensors", crops=12, batch_size=4, micro_batch=micro_batch, rate=1e-4, save_every=1
    )
    losses = []
    with joined("cpu") as group:
        listener = Listener(lambda *told: losses.append(told[2]), lambda epoch: None, lambda text: None)
        run = Run(options, group, listener)
        run.to_the_end()
        kept = {k: v.contiguous() for k, v in run.learner.network.state_dict().items()}
        save_file(kept | {"losses": torch.tensor(losses)}, folder / f"{group.rank}_of_{group.size}.safetensors")
        group.wait()


def test_two_processes_agree_and_equal_one(tiny_tiles, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    (tmp_path / "learn.py").write_text(SCRIPT)
    done = subprocess.run(
        [*command, str(tmp_path / "learn.py"), str(tiny_tiles), str(tmp_path)],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, other = (load_file(tmp_path / f"{rank}_of_2.safetensors") for rank in (0, 1))
    for name in one:
        assert torch.equal(one[name], other[name]), name
    # one process that forwards as many crops at once as each of the two did: batch norm sees the same crops
    (tmp_path / "m.safetensors").unlink()
    learn(tiny_tiles, tmp_path, micro_batch=2)
    alone = load_file(tmp_path / "0_of_1.safetensors")
    for name, weight in alone.items():
        if not name.endswith(
            ("running_mean", "running_var", "num_batches_tracked")
        ):  # two processes average their statistics, one takes them in turn
            torch.testing.assert_close(one[name], weight, rtol=0, atol=1e-4)
