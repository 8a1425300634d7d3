"""Strip records to polygons with attributes."""
