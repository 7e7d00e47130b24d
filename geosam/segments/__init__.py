"""Masks of everything, tile by tile -> segments of the scene, each once and whole."""
