"""The configuration files: the machine's and the user's. In: the environment. Out: each as a mapping.

``/etc/layersmith/config.yaml`` and ``$XDG_CONFIG_HOME/layersmith/config.yaml``. Its sections are read by who they concern:
``registries`` and ``aliases`` by `registry_config`, ``gc`` by the command line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from layersmith.errors import UsageError


def user_directory(environ: Mapping[str, str]) -> Path:
    """Where the user's programs have their configuration."""
    return Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or "/") / ".config")


def config_files(environ: Mapping[str, str]) -> Iterator[tuple[Path, dict[Any, Any]]]:
    """The files that there are, the machine's first, parsed; YAML is loaded with the first. Raises UsageError."""
    for path in (Path("/etc/layersmith/config.yaml"), user_directory(environ) / "layersmith/config.yaml"):
        if not path.is_file():
            continue
        import yaml

        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UsageError(f"{path} can't be read: {error}") from None
        yield path, mapping(document, path, "the file")


def mapping(value: Any, path: Path, what: str) -> dict[Any, Any]:
    """``value`` of the file ``path``, or an empty mapping for nothing. Raises UsageError unless it is one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"{path}: {what} is not a mapping")
    return value
