"""Official SAM weights, turned into a checkpoint to train from."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch

from rscd.core.contract import Contract
from rscd.core.errors import ModelError, UsageError
from rscd.model.catalog import SUFFIX
from rscd.model.checkpoint import build_network, save_checkpoint
from rscd.model.encoders import sam
from rscd.model.encoders.registry import normalisation


def _check_archive(path: Path) -> None:
    """Refuse a zip that would unpack to more than its own size: torch compresses nothing.

    Raises:
        OSError: It would.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > path.stat().st_size:
            raise OSError(f"an archive that unpacks to {size:,} bytes")


def import_sam(source: Path, target: Path, *, width: int = 64, seed: int = 0) -> Contract:
    """Turn an official ``sam_vit_b|l|h`` ``.pth`` into a checkpoint to train from.

    The file is read with ``weights_only=True``: nothing in it is executed. STFE, MSDF and the pyramid get fresh,
    seeded weights, so the result is for ``rscd train --init``, and ``detect`` refuses it.

    Raises:
        ModelError: Not a state dict of a SAM image encoder.
        OutputError: The checkpoint cannot be written.
    """
    remedy = "give sam_vit_b_01ec64.pth, sam_vit_l_0b3195.pth or sam_vit_h_4b8939.pth"
    if not source.is_file():
        raise ModelError("no such file", path=source, remedy=remedy)
    try:
        _check_archive(source)
        raw = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever an unpickler makes of a file that is not one
        problem = f"not a plain state dict ({error if isinstance(error, OSError) else type(error).__name__})"
        raise ModelError(problem, path=source, remedy=remedy) from error
    tensors = isinstance(raw, dict) and all(isinstance(v, torch.Tensor) for v in raw.values())
    state = sam.official_state(raw) if tensors else {}
    variant = sam.variant_of(state)
    if variant is None:
        raise ModelError("holds no SAM image encoder", path=source, remedy=remedy)
    if target.suffix != SUFFIX:
        raise UsageError(f"-o {target}", remedy=f"name the checkpoint with the suffix {SUFFIX}")
    torch.manual_seed(seed)
    mean, std = normalisation(variant)
    contract = Contract(
        name=variant,
        version="1",
        encoder=variant,
        width=width,
        mean=mean,
        std=std,
        licence="that of the imported SAM weights (Apache-2.0 as published by Meta)",
    )
    network = build_network(contract)
    assert isinstance(network.encoder, sam.SamEncoder)
    try:
        network.encoder.vit.load_state_dict(state)
    except RuntimeError as error:
        problem = f"not the tensors of {variant}: {str(error).splitlines()[-1].strip()}"
        raise ModelError(problem, path=source, remedy=remedy) from error
    return save_checkpoint(target, network, contract)
