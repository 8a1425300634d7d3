"""Seeded, georeferenced before/after scenes of any size with exact labels.

``scene.Scene(spec.SceneSpec(seed=1)).render(window)`` returns the pixels of a window; equal specs and windows give
equal bytes. Used by the demo, the tests, the benchmarks and in training.
"""
