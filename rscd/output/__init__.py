"""What leaves a run: components, polygons, the GeoPackage with its style, rasters and reports."""
