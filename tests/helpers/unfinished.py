"""What commands have left in a store's tmp/. In: its root. Out: paths."""

from __future__ import annotations

from pathlib import Path

from layersmith.store import hollow


def unfinished(root: Path) -> list[Path]:
    """All but the empty directories that stay for some minutes, where the file system is ext4."""
    return [path for path in sorted((root / "tmp").glob("*")) if path.name != hollow.NAME]
