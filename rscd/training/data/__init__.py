"""Labelled data: tiles, scenes, labels, reviews, and crops cut from them."""
