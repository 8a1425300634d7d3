"""Vector outputs: GeoPackage and other formats, style, reviews."""
