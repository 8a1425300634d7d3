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

_BLOCKS = ("0.", "1.", "2.expand", "2.depthwise", "3.")  # with 2.project OpenVINO 2026.4 does not compile it
FP32_LAYERS = {"lite": ("encoder.stem.", *(f"encoder.blocks.{part}" for part in _BLOCKS))}
"""Encoder -> layers whose products stay in fp32 in bf16 too: the first ones, whose rounding all others pass on.

For ``buildings`` 4 on tiles at 1 m they halve the differences of p (99.9th percentile of the worst tile 0.039 to
0.018), and take a sixth of the time.
"""


class Probabilities(torch.nn.Module):
    """From both dates' windows to calibrated probabilities (n, 1 or 3, h, w), float32."""

    def __init__(self, network: torch.nn.Module, temperature: float) -> None:
        super().__init__()
        self.network, self.temperature = network, temperature

    def forward(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """Take uint8 windows (n, bands, h, w)."""
        return Logits.of(self.network(before, after)).probabilities(self.temperature)


def convert(network: torch.nn.Module, contract: Contract, side: int) -> openvino.Model:
    """Trace the network on windows of a side, px, and convert it: windows and batches of other sizes fit as well.

    The front end is called by itself: ``openvino.convert_model`` would report to its makers that it was used.

    Raises:
        Exception: Whatever torch and OpenVINO make of a network that they cannot trace.
    """
    bands = len(contract.bands)
    whole = Probabilities(folded(network), contract.temperature).eval()
    example = tuple(torch.zeros((1, bands, side, side), dtype=torch.uint8) for _ in "ab")
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of torch, on what a trace makes constant
        frontend = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(whole, example_input=example)
        found: openvino.Model = frontend.convert(frontend.load(decoder))
    for given in found.inputs:
        given.get_node().set_element_type(openvino.Type.u8)
        given.get_node().set_partial_shape(openvino.PartialShape([-1, bands, -1, -1]))
    found.validate_nodes_and_infer_types()
    return found


def keep_in_fp32(xml: Path, encoder: str) -> int:
    """Mark in a saved network the layers that stay in fp32 (Python has no other way); how many there are."""
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
