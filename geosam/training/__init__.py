"""Training of the embedded models: data, prompt simulation, losses and loops."""
