"""Archives: hundreds of pairs from a manifest, on one machine or a cluster, into one summary."""
