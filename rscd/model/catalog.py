"""Model files without torch: find by name or path, read the contract in the header, hash the tensors' bytes."""

from __future__ import annotations

import hashlib
import json
import mmap
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

from rscd.core.contract import Contract
from rscd.core.errors import ModelError

WEIGHTS = Path(__file__).parent / "weights"
SUFFIX = ".safetensors"
DEFAULT = "buildings"
"""The model that is used if no other fits better."""


def embedded() -> dict[str, Path]:
    """The models included in the package: name -> checkpoint."""
    return {p.stem: p for p in sorted(WEIGHTS.glob(f"*{SUFFIX}"))}


def find_model(name: str) -> Path:
    """Convert the name of an embedded model, or a path, to a path.

    Raises:
        ModelError: It is neither.
    """
    if name in embedded():
        return embedded()[name]
    path = Path(name)
    with suppress(OSError):  # a name that is too long is not a file
        if path.is_file():
            return path
    names = ", ".join(embedded()) or "none"
    raise ModelError("no such model", path=name, remedy=f"give a checkpoint file, or one of: {names}")


KEY = "rscd_contract"
MAX_HEADER = 16 << 20
"""A safetensors header longer than this many bytes is refused before it is read."""
REMEDY = "use a checkpoint written by rscd train or rscd models import"
TORCH_NAMES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "I64": "int64"}
"""dtype names of safetensors -> of torch, for dtypes that a checkpoint may contain."""


def read_contract(path: Path) -> Contract:
    """Read only the contract, from a bounded header; no tensor is loaded.

    Raises:
        ModelError: Missing, not safetensors, no contract, or an invalid contract.
    """
    metadata = read_header(path).get("__metadata__")
    if not isinstance(metadata, dict) or not isinstance(metadata.get(KEY), str):
        raise ModelError("a safetensors file without a contract", path=path, remedy=REMEDY)
    return Contract.from_json(metadata[KEY], path=path)


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file.

    Raises:
        ModelError: Missing, or not safetensors.
    """
    try:
        with path.open("rb") as file:
            prefix = file.read(8)
            size = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
            if not 2 <= size <= MAX_HEADER:
                raise ValueError("its first bytes are not the length of a header")
            header = json.loads(file.read(size))
        if not isinstance(header, dict):
            raise ValueError("its header is not a JSON object")
    except OSError as error:
        raise ModelError(str(error), path=path, remedy=REMEDY) from error
    except (ValueError, RecursionError) as error:
        what = _pickle_hint(prefix) or f": {error}"
        raise ModelError(f"not a safetensors file{what}", path=path, remedy=REMEDY) from error
    return header


def stored_sha256(path: Path) -> str:
    """Hash of the tensors as stored in the file: name, dtype, shape and bytes of each, in name order.

    Equal to ``rscd.model.checkpoint.tensors_sha256`` of these tensors.

    Raises:
        ModelError: As ``read_header``; also for entries that are not tensors, or lie outside the file.
    """
    header, digest = read_header(path), hashlib.sha256()
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            start = 8 + struct.unpack("<Q", mapped[:8])[0]
            for name in sorted(header.keys() - {"__metadata__"}):
                entry = header[name]
                first, last = (start + int(offset) for offset in entry["data_offsets"])
                if not start <= first <= last <= len(mapped):
                    raise ValueError(f"{name} lies outside the file")
                shape = tuple(map(int, entry["shape"]))
                digest.update(f"{name}|torch.{TORCH_NAMES[entry['dtype']]}|{shape}|".encode())
                with memoryview(mapped) as whole, whole[first:last] as part:
                    digest.update(part)
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise ModelError(f"cannot be read: {error}", path=path, remedy="copy it again") from error
    return digest.hexdigest()


def _pickle_hint(prefix: bytes) -> str:
    """Hint for a file that is not safetensors, if its first bytes are those of a zip (torch.save) or a pickle.

    The length of a valid header may begin with the same byte, so this is only used after reading has failed.
    """
    pickled = prefix[:2] == b"PK" or prefix[:1] == b"\x80"
    return " but a pickle, which rscd never opens" if pickled else ""
