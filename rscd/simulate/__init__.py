"""Seeded, georeferenced before/after scenes with exact labels, of any size.

``Scene(SceneSpec(seed=1)).render(window)`` gives the pixels of a window; equal specs and windows give equal
bytes. Made for the demo, the tests, the benchmarks and for mixing into training.
"""

from __future__ import annotations

__all__ = ["LAYOUTS", "ChangedBuilding", "Layout", "Rendered", "Scene", "SceneSpec"]
