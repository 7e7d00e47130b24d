"""What another program has written beside a GeoPackage, brought in before the file is read or replaced.

QGIS writes ahead (https://sqlite.org/wal.html): edits lie in a file ``-wal`` beside the GeoPackage until it is closed.
Whatever takes the place of the GeoPackage meanwhile has them played back over it, and is destroyed.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from geosam.errors import OutputError

_WAIT_S = 1.0
"""How long another program may hold the file before it is said to have it open."""


def settle_journal(target: Path) -> None:
    """Bring edits that lie beside a GeoPackage into it, so that it is one file.

    Raises
    ------
    OutputError
        If another program has it open, or what lies beside it belongs to one that is gone.
    """
    ahead, shared = (target.with_name(target.name + end) for end in ("-wal", "-shm"))
    if not (ahead.exists() or shared.exists()):
        return
    if target.exists():
        if not _is_one_file(target):
            raise OutputError(
                f"{target} is open in another program, QGIS perhaps, which holds edits of it beside "
                "the file. Close it there, then try again, or name another output."
            )
    elif ahead.exists() and ahead.stat().st_size:
        raise OutputError(
            f"{ahead} holds edits of a GeoPackage that is gone, and would spoil a new one. Remove it, "
            "or name another output."
        )


def _is_one_file(target: Path) -> bool:
    """Bring edits in, and return whether that could be done: nobody else may have the file open."""
    try:
        with closing(sqlite3.connect(target, timeout=_WAIT_S)) as database:
            (mode,) = database.execute("PRAGMA journal_mode=DELETE").fetchone()
    except sqlite3.Error:
        return False
    return bool(mode == "delete")
