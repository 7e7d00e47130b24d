"""``python -m geosam``: the same as ``geosam``."""

from geosam.cli.app import main

if __name__ == "__main__":
    main()
