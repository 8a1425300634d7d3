"""The outputs of a run: polygons, the GeoPackage with its style, rasters and reports."""
