"""``python -m geosam``: the same as ``geosam``."""

from geosam.cli import main

if __name__ == "__main__":
    main()
