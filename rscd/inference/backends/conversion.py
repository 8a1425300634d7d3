"""Conversion of a network from torch to OpenVINO."""

from __future__ import annotations

import warnings
from pathlib import Path
from xml.etree import ElementTree

import openvino
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

from rscd.core.contract import Contract
from rscd.model.network import Logits, folded

_BLOCKS = ("0.", "1.", "2.expand", "2.depthwise", "3.")  # OpenVINO 2026.4 cannot compile it with 2.project
FP32_LAYERS = {"lite": ("encoder.stem.", *(f"encoder.blocks.{part}" for part in _BLOCKS))}
"""Encoder -> layers that stay in fp32 in bf16 mode: the first ones, whose rounding errors reach all later layers.

For ``buildings`` 4 on tiles at 1 m this halves the differences of p (99.9th percentile of the worst tile 0.039 to
0.018), and takes a sixth of the time.
"""


class Probabilities(torch.nn.Module):
    """Maps windows of both dates to calibrated probabilities (n, 1 or 3, h, w), float32."""

    def __init__(self, network: torch.nn.Module, temperature: float) -> None:
        super().__init__()
        self.network, self.temperature = network, temperature

    def forward(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """Take uint8 windows (n, bands, h, w)."""
        return Logits.of(self.network(before, after)).probabilities(self.temperature)


def convert(network: torch.nn.Module, contract: Contract, side: int) -> openvino.Model:
    """Trace the network on windows of ``side`` px and convert it; windows and batches of other sizes also work.

    Raises:
        Exception: Any error of torch or OpenVINO on a network that they cannot trace.
    """
    bands = len(contract.bands)
    whole = Probabilities(folded(network), contract.temperature).eval()
    example = tuple(torch.zeros((1, bands, side, side), dtype=torch.uint8) for _ in "ab")
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # warnings of torch on values that become constants in a trace
        frontend = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(whole, example_input=example)
        found: openvino.Model = frontend.convert(frontend.load(decoder))
    for given in found.inputs:
        given.get_node().set_element_type(openvino.Type.u8)
        given.get_node().set_partial_shape(openvino.PartialShape([-1, bands, -1, -1]))
    found.validate_nodes_and_infer_types()
    return found


def keep_in_fp32(xml: Path, encoder: str) -> int:
    """Mark the layers that stay in fp32 in a saved network (not possible from Python); returns their number."""
    tree = ElementTree.parse(xml)
    parts = tuple(f"__module.network.{part}" for part in FP32_LAYERS.get(encoder, ()))
    marked = 0
    for layer in tree.iterfind("layers/layer"):
        if layer.get("type") != "Const" and parts and layer.get("name", "").startswith(parts):
            info = layer.find("rt_info")
            if info is None:
                info = ElementTree.Element("rt_info")
                layer.insert(1 if layer.find("data") is not None else 0, info)
            ElementTree.SubElement(info, "attribute", {"name": "precise", "version": "0"})
            marked += 1
    tree.write(xml)
    return marked
