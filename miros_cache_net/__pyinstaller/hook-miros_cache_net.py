"""Public names and commands are imported by their text when they are first used, which PyInstaller cannot see."""

from __future__ import annotations

from PyInstaller.utils.hooks import collect_submodules, copy_metadata

#: What tests of users' programs need, and pytest with it, is in no finished program.
hiddenimports = collect_submodules("miros_cache_net", filter=lambda name: ".testing" not in name)
#: `miros_cache_net.__version__` and ``--version`` read it.
datas = copy_metadata("miros-cache-net")
