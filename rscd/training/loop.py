"""The training loop: flat, seeded, resumable; the best epoch by validation F1 becomes the checkpoint."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import torch

from rscd.core.errors import UsageError, several
from rscd.inference.workers import prefetched
from rscd.model.checkpoint import save_checkpoint
from rscd.options.training import TrainConfig
from rscd.training.data.batches import Batches
from rscd.training.data.survey import labelled_tiles, with_pixel_sizes
from rscd.training.learner import Learner, merged, rate_factor
from rscd.training.parallel import Group
from rscd.training.run_state import (
    Epoch,
    Progress,
    describe,
    licence_of,
    load_state,
    remove_litter,
    remove_state,
    run_identity,
    save_state,
    state_path,
    write_history,
)
from rscd.training.start import start_network, starting_model
from rscd.training.validation import Verdict, calibrate, is_little, judge, validate

GRACE = 0.1
"""Share of the time limit that the last validation may take in addition."""
CUTTERS = 8
"""Threads that cut crops for training on a GPU; on a CPU there is one."""


@dataclass(frozen=True)
class Listener:
    """Callbacks of a training run."""

    step: Callable[[int, int, float], None]
    """After each step: steps done, steps in total, loss."""
    epoch: Callable[[Epoch], None]
    """After each epoch."""
    notice: Callable[[str], None]
    """For each message to the user."""
    validating: Callable[[int, int], None] = lambda done, total: None
    """During validation: tiles done and in total."""


class Run:
    """One training run in this process.

    Args:
        config: Its options.
        group: The processes that train together, and this one's rank.
        listener: Callbacks.

    Attributes:
        learner: Network, optimiser and moving average.
        progress: Progress of the run.
        steps: Total number of steps.
    """

    def __init__(self, config: TrainConfig, group: Group, listener: Listener) -> None:
        if config.batch_size % group.size:
            remedy = f"use a multiple of {group.size}, the number of processes"
            raise UsageError(f"--batch-size {config.batch_size}", remedy=remedy)
        torch.manual_seed(config.seed)
        tiles, self.held_out = labelled_tiles(config)
        config = with_pixel_sizes(config, tiles)
        self.config, self.group, self.listener = config, group, listener
        self.judged_by, self.said_little = math.inf, False
        self.steps_an_epoch = max(1, config.crops // config.batch_size)
        self.steps = config.epochs * self.steps_an_epoch
        network, self.start = start_network(config)
        self.identity = run_identity(config, self.start, tiles, self.held_out)
        self.learner = Learner(network, config, group, self.steps, listener.notice)
        self.progress = Progress(micro_batch=self.learner.micro_batch)
        self._resume()
        cutters = min(CUTTERS, os.cpu_count() or 1) if group.device.type == "cuda" else 1
        self.batches = Batches(tiles, config, group.rank, group.size, cutters)
        group.wait()  # until all have read the state, which is written again from here on

    def to_the_end(self, deadline: float = math.inf) -> None:
        """Train until the last step is done, or ``time.monotonic()`` reaches the deadline."""
        progress, began = self.progress, (time.monotonic(), self.progress.step)
        self.judged_by = deadline + GRACE * max(deadline - began[0], 0.0) if math.isfinite(deadline) else math.inf
        if self.config.init is not None and progress.step == 0 and self.group.leads:
            self._judge_start()
        self._save()  # a full disk is detected now, not after hours
        with closing(prefetched(self.batches.steps(progress.step, self.steps), depth=4)) as batches:
            for batch in batches:
                loss = self.learner.learn(batch, progress.step)
                progress.step += 1
                progress.loss_sum += loss
                self.listener.step(progress.step, self.steps, loss)
                epoch_ends = progress.step % self.steps_an_epoch == 0
                if epoch_ends and self.group.leads:
                    self._end_epoch(_speed(began, progress.step) * self.config.batch_size)
                    began = time.monotonic(), progress.step
                if progress.step == self.steps:
                    break
                late = math.isfinite(deadline) and self.group.agree(time.monotonic() > deadline)
                if late or epoch_ends or progress.step % self.config.save_every == 0:
                    self._save()
                if late:
                    return self._stop_early()
        if self.group.leads:
            if self._compare_with_start() and math.isinf(deadline):
                where = self.group.device, self.learner.bf16
                calibrate(self.config.output, self.held_out, *where, self.listener.validating)
            remove_state(self.config.output)
        return None

    def _resume(self) -> None:
        """Continue from the state next to the output, if there is one."""
        output = self.config.output
        try:
            found = load_state(output, self.identity)
        except UsageError:
            if not self.config.overwrite:
                raise
            found = None
        if self.group.leads:
            remove_litter(output)
        if found is None:
            return
        tensors, self.progress = found
        self.learner.load(tensors)
        self.learner.micro_batch = min(self.progress.micro_batch, self.learner.micro_batch)
        if not output.exists():
            self.progress.best = self.progress.start_f1 or 0.0
        self.listener.notice(f"continuing from step {self.progress.step} of {self.steps} ({state_path(output)})")

    def _save(self) -> None:
        if self.group.leads:
            self.progress.micro_batch = self.learner.micro_batch
            save_state(self.config.output, self.learner.tensors(), self.progress, self.identity)

    def _end_epoch(self, crops_per_s: float) -> None:
        """Validate; keep the weights if they are the best so far."""
        progress = self.progress
        verdict, whole = self._validate()
        f1, last = verdict.scores.f1, progress.step == self.steps
        epoch = Epoch(
            number=progress.step // self.steps_an_epoch,
            step=progress.step,
            loss=progress.loss_sum / self.steps_an_epoch,
            **vars(verdict.scores),
            ece=verdict.ece,
            threshold=verdict.threshold,
            temperature=verdict.temperature,
            rate=rate_factor(progress.step - 1, self.steps),
            crops_per_s=round(crops_per_s, 2),
            best=(whole and f1 > progress.best) or (last and progress.best == 0),
        )
        self.listener.epoch(epoch)
        progress.epochs.append(epoch)
        progress.loss_sum, progress.best = 0.0, max(f1, progress.best) if whole else progress.best
        if epoch.best:
            self._write(verdict)
        write_history(self.config.output, progress.epochs)

    def _validate(self) -> tuple[Verdict, bool]:
        """Score the weights on the held-out tiles; returns also whether there was time for all of them.

        A score on part of the tiles is not compared with other scores: it is not the same measure.
        """
        found = validate(
            self.learner.average,
            self.held_out,
            self.group.device,
            self.learner.bf16,
            deadline=self.judged_by,
            progress=self.listener.validating,
        )
        whole = found.tiles == len(self.held_out)
        if not whole:
            said = (
                f"validated on {found.tiles} of {several(len(self.held_out), 'tile')}, a fixed sample: time is up"
            )
            self.listener.notice(said)
        little = is_little(found.tiles, found.counts)
        if little and not self.said_little:
            self.said_little = True
            also = "; those of the starting model are kept" if self.fine_tunes else ""
            of = several(found.tiles, "validation tile")
            self.listener.notice(f"threshold and temperature would depend on only {of}: uncertain{also}")
        kept = (self.start.temperature, self.start.threshold) if little and self.fine_tunes else None
        return judge(found.counts, kept), whole

    @property
    def fine_tunes(self) -> bool:
        """Whether training starts from a model that can detect."""
        return self.config.init is not None and bool(self.start.trained_on)

    def _judge_start(self) -> None:
        """Score the model that training starts from: its weights are kept unless an epoch beats them."""
        if not self.fine_tunes:
            self.listener.notice("the starting model has no trained change head: there is nothing to compare with")
            return
        verdict, _ = self._validate()
        self.progress.best = self.progress.start_f1 = verdict.scores.f1
        self.listener.notice(f"the starting model has validation F1 {verdict.scores.f1:.4f}")

    def _compare_with_start(self) -> bool:
        """Report whether training improved on the starting model; returns that."""
        start, best = self.progress.start_f1, self.progress.best
        if start is None:
            return True
        if best > start:
            self.listener.notice(f"validation F1 {best:.4f}, {best - start:+.4f} compared with the starting model")
            return True
        self._write_start()
        self.listener.notice(f"no epoch beat the starting model's validation F1, {start:.4f}: its weights are kept")
        return False

    def _write_start(self) -> None:
        """Write the model that training started from, without parts that were not trained."""
        assert self.config.init is not None
        network, start = starting_model(self.config.init, self.config.encoder)
        contract = dataclasses.replace(start, name=self.config.name, licence=licence_of(start, self.config))
        save_checkpoint(self.config.output, network, contract, half=True)

    def _write(self, verdict: Verdict) -> None:
        contract = describe(self.start, self.config, verdict, self.identity)
        save_checkpoint(self.config.output, merged(self.learner.average), contract, half=True)

    def _stop_early(self) -> None:
        """Time is up: write a checkpoint if no epoch has, and the state to continue from."""
        if not self.group.leads:
            return
        written = self.config.output.exists() and any(epoch.best for epoch in self.progress.epochs)
        if self.progress.start_f1 is not None and not written:
            self._write_start()
        elif not (self.progress.best and self.config.output.exists()):
            self._write(self._validate()[0])
        self.listener.notice(
            f"time is up after step {self.progress.step} of {self.steps}: "
            f"{self.config.output} holds the best so far; run the same command again to continue"
        )


def _speed(began: tuple[float, int], step: int) -> float:
    """Steps per second since a moment and its step."""
    return (step - began[1]) / max(time.monotonic() - began[0], 1e-9)
