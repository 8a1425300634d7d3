"""Fine-tuning on labelled tiles: tiles, augmentation, losses, metrics and one flat loop."""
