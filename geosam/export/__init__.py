"""Results to files, one module a format."""
