"""Seeded, georeferenced before/after scenes with exact labels, of any size.

``Scene(SceneSpec(seed=1)).render(window)`` gives the pixels of a window; equal specs and windows give equal
bytes. Made for the demo, the tests, the benchmarks and for mixing into training.
"""

from rscd.simulate.scene import Scene
from rscd.simulate.spec import LAYOUTS, ChangedBuilding, Layout, Rendered, SceneSpec

__all__ = ["LAYOUTS", "ChangedBuilding", "Layout", "Rendered", "Scene", "SceneSpec"]
