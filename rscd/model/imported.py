"""Import of pretrained encoders: official SAM weights, and encoders saved by the library ``transformers``.

The latter come from a folder or the Hugging Face Hub: their weights are read only from safetensors. No code that
comes with weights is run.
"""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch

from rscd.core.contract import STRIDE, Contract
from rscd.core.errors import ModelError, UsageError, several
from rscd.model.catalog import SUFFIX
from rscd.model.checkpoint import build_network, save_checkpoint
from rscd.model.encoders import normalisation, sam
from rscd.model.encoders.pretrained import (
    FAMILIES,
    NOT_KEPT,
    SAM2,
    PretrainedEncoder,
    backbone_class,
    configuration,
    first_line,
    library,
)
from rscd.model.network import ChangeNetwork


def _check_archive(path: Path) -> None:
    """Refuse a zip that would unpack to more than its own size: torch does not compress.

    Raises:
        OSError: It would unpack to more.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > path.stat().st_size:
            raise OSError(f"an archive that unpacks to {size:,} bytes")


def import_sam(source: Path, target: Path, *, width: int = 64, seed: int = 0) -> Contract:
    """Convert an official ``sam_vit_b|l|h`` ``.pth`` to a checkpoint for training.

    The file is read with ``weights_only=True``: nothing in it is executed. STFE, MSDF and the pyramid get new
    weights, seeded, so the result is for ``rscd train --init``, and ``detect`` refuses it.

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
    except Exception as error:  # any error of unpickling another kind of file
        problem = f"not a plain state dict ({error if isinstance(error, OSError) else type(error).__name__})"
        raise ModelError(problem, path=source, remedy=remedy) from error
    tensors = isinstance(raw, dict) and all(isinstance(v, torch.Tensor) for v in raw.values())
    state = sam.official_state(raw) if tensors else {}
    variant = sam.variant_of(state)
    if variant is None:
        raise ModelError("contains no SAM image encoder", path=source, remedy=remedy)
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


FILES = (
    *("config.json", "preprocessor_config.json", "README.md"),
    *("model.safetensors", "model.safetensors.index.json", "model-*.safetensors"),
)
"""Files that are downloaded from the Hub."""
SAM2_TYPES = ("sam2", "sam2_video", "sam2_vision_model", "sam2_hiera_det_model")
"""``model_type`` of configurations with SAM 2's image encoder."""
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Default mean and standard deviation of the library's image processors, 0..1."""
FRESH_NORMS = "hidden_states_norms."
"""Parameters that the library's backbones add to pretrained models: factors 1, summands 0."""


def import_pretrained(source: str, target: Path, *, width: int = 64, seed: int = 0) -> Contract:
    """Convert an encoder saved by the library to a checkpoint for training.

    STFE, MSDF and the pyramid get new weights, seeded, so the result is for ``rscd train --init``, and ``detect``
    refuses it. The licence is taken from the model card next to the weights.

    Args:
        source: A folder with ``config.json`` and ``model.safetensors`` (or its shards), else an id of the Hub.
        target: The checkpoint; an existing file is replaced.
        width: Channels of STFE and MSDF.
        seed: Seed of the new weights.

    Raises:
        ModelError: There is no such model, rscd does not support it, or the library is not installed.
        UsageError: The target has another suffix.
        OutputError: The checkpoint cannot be written.
    """
    if target.suffix != SUFFIX:
        raise UsageError(f"-o {target}", remedy=f"name the checkpoint with the suffix {SUFFIX}")
    library()
    folder = _found(source)
    family, settings = _settings(folder)
    try:
        config = configuration(family, settings)
    except ModelError as error:
        raise ModelError(error.problem, path=folder, remedy=error.remedy) from error
    state = _weights(folder, family, config)
    mean, std = _scaling(folder)
    kept = {name: value for name, value in config.to_dict().items() if name not in NOT_KEPT and name[0] != "_"}
    contract = Contract(
        name=Path(source).name,
        version="1",
        encoder=family,
        encoder_settings=json.loads(json.dumps(kept)) | {"transformers_version": library().__version__},
        width=width,
        mean=mean,
        std=std,
        licence=_licence(folder, source),
    )
    torch.manual_seed(seed)
    network = build_network(contract)
    assert isinstance(network.encoder, PretrainedEncoder)
    network.encoder.model.load_state_dict(state)
    _try_out(network, folder)
    return save_checkpoint(target, network, contract)


def _try_out(network: ChangeNetwork, folder: Path) -> None:
    """Refuse a network that cannot forward a window: a configuration may contradict itself.

    Raises:
        ModelError: It cannot run.
    """
    date = torch.zeros(1, 3, 2 * STRIDE, 3 * STRIDE, dtype=torch.uint8)
    try:
        with torch.inference_mode():
            network.eval()(date, date)
    except Exception as error:  # any error of the library
        problem = f"its network does not run: {type(error).__name__}, {first_line(error)}"
        raise ModelError(problem, path=folder, remedy="check that config.json belongs to these weights") from error


def _found(source: str) -> Path:
    """The folder of a model: a path on disk, else an id of the Hub.

    Raises:
        ModelError: There is no such model.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        remedy = f"give the folder that holds config.json and the weights: {path.parent}"
        raise ModelError("is a file, but not an official sam_vit_*.pth", path=path, remedy=remedy)
    if source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise ModelError("there is no such folder", path=path, remedy="correct the path, or give an id of the Hub")
    return _fetched(source)


def _fetched(name: str) -> Path:
    """A model from the Hub, in the cache of the Hub's library; only missing files are downloaded.

    Raises:
        ModelError: There is no model of this name, or it cannot be downloaded.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=[*FILES]))
    except Exception as error:  # errors of several libraries without a common class
        remedy = (
            "check its name and the network; if its terms must be accepted first, do so on its page and log in "
            "with hf auth login; or give a folder on disk with config.json and model.safetensors"
        )
        problem = f"neither a folder nor a model that can be fetched ({first_line(error)})"
        raise ModelError(problem, path=name, remedy=remedy) from error


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")
    except (OSError, ValueError, RecursionError) as error:
        remedy = "give a folder that the library's save_pretrained wrote, or an official sam_vit_*.pth"
        problem = "there is none" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
        raise ModelError(problem, path=path, remedy=remedy) from error
    return found


def _settings(folder: Path) -> tuple[str, dict[str, Any]]:
    """Family and image encoder configuration of a model in a folder."""
    found = _json(folder / "config.json")
    kind = found.get("model_type")
    if kind in SAM2_TYPES:
        for part in ("vision_config", "backbone_config"):
            found = found[part] if isinstance(found.get(part), dict) else found
        return SAM2, found
    if kind not in FAMILIES:
        remedy = f"use one of {', '.join(FAMILIES)}; or SAM's official .pth files"
        raise ModelError(f"model_type {kind!r} is not an image encoder that rscd knows", path=folder, remedy=remedy)
    return str(kind), found


def _weights(folder: Path, family: str, config: Any) -> dict[str, torch.Tensor]:  # noqa: ANN401
    """The tensors of the backbone, float32, by the names that the library uses now.

    Raises:
        ModelError: There are none in safetensors, some are missing, or they have other shapes.
    """
    names = ("model.safetensors", "model.safetensors.index.json")
    if not any((folder / name).is_file() for name in names):
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt*"))
        problem = "has pickled weights, which rscd does not open" if pickled else "has no model.safetensors"
        remedy = "save it with the library's save_pretrained, which writes safetensors"
        raise ModelError(problem, path=folder, remedy=remedy)
    options: dict[str, Any] = {"use_safetensors": True, "local_files_only": True, "dtype": torch.float32}
    if family == SAM2:
        options["key_mapping"] = {r"^(vision_encoder\.)?backbone\.": ""}
    try:
        with _silent():
            found = backbone_class(family, config).from_pretrained
            options["ignore_mismatched_sizes"] = True  # checked below
            model, said = found(folder, config=config, output_loading_info=True, **options)
    except Exception as error:  # any error of the library on other files
        raise ModelError(
            f"cannot be read: {first_line(error)}", path=folder, remedy="fetch or save it again"
        ) from error
    missing = [name for name in said["missing_keys"] if not name.startswith(FRESH_NORMS)]
    if said["mismatched_keys"]:
        problem = f"config.json and weights differ in shape: {sorted(map(str, said['mismatched_keys']))[0]}"
        raise ModelError(problem, path=folder, remedy="give the config.json that belongs to the weights")
    if missing:
        problem = f"its weights lack {several(len(missing), 'tensor')} of {family}, such as {sorted(missing)[0]}"
        raise ModelError(problem, path=folder, remedy="fetch or save it again")
    state: dict[str, torch.Tensor] = model.state_dict()
    return state


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the library from reporting the parts of a model other than its image encoder."""
    logging = library().utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        with warnings.catch_warnings():  # it warns if the environment disables its progress bars
            warnings.simplefilter("ignore")
            logging.enable_progress_bar()


def _scaling(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the model's input on the 0..255 scale, from its image processor."""
    path = folder / "preprocessor_config.json"
    said = _json(path) if path.is_file() else {}
    if said.get("do_normalize") is False:
        return (0.0,) * 3, (255.0,) * 3
    found = said.get("image_mean", IMAGENET[0]), said.get("image_std", IMAGENET[1])
    try:
        mean, std = (tuple(round(255 * float(value), 4) for value in values) for values in found)
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError("not three means and three deviations above 0")
    except (TypeError, ValueError) as error:
        raise ModelError(f"unreadable: {error}", path=path, remedy="fetch or save it again") from error
    return mean, std


def _licence(folder: Path, source: str) -> str:
    """Licence in the header of the model card, and its source."""
    said = _card(folder / "README.md")
    name = said.get("license_name") or said.get("license")
    if not name:
        return f"not stated beside the imported weights ({source})"
    link = f", {said['license_link']}" if said.get("license_link") else ""
    return f"{name}{link} (that of the imported weights, {source})"


def _card(path: Path) -> dict[str, str]:
    """Plain settings, and word lists joined by commas, from the YAML header of a model card."""
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError:
        return {}
    if not lines or lines[0].strip() != "---":
        return {}
    found: dict[str, str] = {}
    name = ""
    for line in takewhile(lambda line: line.strip() != "---", lines[1:]):
        item = line.strip()
        if item.startswith("- ") and name:
            found[name] = ", ".join(part for part in (found.get(name, ""), _word(item[2:])) if part)
        elif not line.startswith(" ") and ":" in item:
            name, _, value = (part.strip() for part in item.partition(":"))
            found[name] = ", ".join(_word(word) for word in value.strip("[]").split(",")) if value else ""
    return found


def _word(text: str) -> str:
    return text.strip().strip("\"'")
