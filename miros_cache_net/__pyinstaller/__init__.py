"""What does PyInstaller have to pack of this package?  It finds the answer by the entry point `pyinstaller40`.

Comes in: nothing.  Goes out: where the hook is.

Must not know: anything of the package but its name.
"""

from __future__ import annotations

import os


def get_hook_dirs() -> list[str]:
    """The directory of the hooks."""
    return [os.path.dirname(__file__)]
