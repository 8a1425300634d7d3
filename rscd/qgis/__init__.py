"""The QGIS plugin: its source, imported by QGIS's Python, and its installer and packager."""
