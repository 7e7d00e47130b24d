"""Training: examples, prompt simulation, losses, loops; `river_tiny` made the embedded models."""
