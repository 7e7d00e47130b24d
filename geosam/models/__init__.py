"""One file a backend, and the networks of the prompters; torch is imported only here and in training."""
