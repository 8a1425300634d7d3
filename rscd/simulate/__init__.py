"""Seeded, georeferenced before/after scenes with exact labels, of any size.

``scene.Scene(spec.SceneSpec(seed=1)).render(window)`` gives the pixels of a window; equal specs and windows give
equal bytes. Made for the demo, the tests, the benchmarks and for mixing into training.
"""
