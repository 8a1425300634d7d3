"""Train: from labelled tiles and scenes to a checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch

from rscd.core.contract import Contract
from rscd.core.paths import check_target
from rscd.core.publish import locked
from rscd.model.catalog import read_contract
from rscd.options.training import TrainConfig
from rscd.training.loop import Listener, Run
from rscd.training.parallel import joined
from rscd.training.run_state import Epoch, state_path
from rscd.training.start import check_output


def train(
    config: TrainConfig,
    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_notice: Callable[[str], None] = lambda text: None,
    on_validating: Callable[[int, int], None] = lambda done, total: None,
) -> Contract:
    """Train or fine-tune on labelled tiles; write the best epoch's checkpoint to ``config.output``.

    The checkpoint is written again at each better epoch, and the state of the run every ``config.save_every``
    steps, next to it. An interrupted run continues from its state when it is called again; the state is removed
    when the run has finished.

    Returns:
        The contract that was written.

    Raises:
        UsageError: An option is out of range, or the state of another run is there.
        DataError: Tiles cannot be used, or the loss is not finite.
        ModelError: ``config.init`` cannot be used.
        OutputError: The checkpoint, the state or the history cannot be written, or another run writes them.
    """
    limit_s = 60 * config.limit_minutes or math.inf
    deadline = time.monotonic() + limit_s
    check_output(config)
    check_target(config.output, overwrite=config.overwrite or state_path(config.output).exists())
    if config.threads:
        torch.set_num_threads(config.threads)
    with joined(config.device) as group, locked(config.output) if group.leads else nullcontext():
        Run(config, group, Listener(on_step, on_epoch, on_notice, on_validating)).to_the_end(deadline)
        group.wait()
        return read_contract(config.output)
