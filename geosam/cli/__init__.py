"""The command line. Only click and the table of options are imported before a command runs."""

from geosam.cli.app import app, main

__all__ = ["app", "main"]
