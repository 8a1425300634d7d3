"""The QGIS plugin: its source, which QGIS's Python imports, and what installs and packs it."""
