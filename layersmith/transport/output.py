"""``-o``: where an image goes, and how. In: the option's text. Out: an `Output`, for `transport.export` to carry out.

The types and attributes are those of docker buildx, and ``layers``: every layer's tar, and an index of them.
"""

from __future__ import annotations

import csv
import re

from layersmith.dataclass import dataclass
from layersmith.errors import UsageError
from layersmith.layer.compress import Compression, parse_compression
from layersmith.oci.platform import Platform, parse_platform

_IMAGE = (
    "name",
    "compression",
    "compression-level",
    "force-compression",
    "oci-mediatypes",
    "rewrite-timestamp",
)
_PUSH = ("push", "push-by-digest", "registry.insecure", "store", "unpack")
_ATTRIBUTES = {
    "image": (*_IMAGE, *_PUSH),
    "registry": (*_IMAGE, *_PUSH),
    "oci": (*_IMAGE, "dest", "tar"),
    "docker": (*_IMAGE, "dest"),
    "layers": ("dest",),
    "tar": ("dest", "platform-split"),
    "local": ("dest", "platform-split"),
    "cacheonly": (),
}
TYPES = tuple(_ATTRIBUTES)
LEVELS = ("manifest", "manifest-descriptor", "index", "index-descriptor")
_ANNOTATION = re.compile(r"annotation(?:-([a-z-]+))?(?:\[([^]]+)\])?\.(\S+)")


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotation to set: ``level`` is one of `LEVELS`, ``platform`` None is every platform's."""

    level: str
    key: str
    value: str
    platform: Platform | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """A parsed ``-o``. ``dest`` None or ``-`` is standard output; ``names`` are from ``name=``.

    ``tar``: whether ``oci`` makes one file rather than a directory; None is the default of the type.
    ``compression`` and ``oci_media_types`` None leave layers and media types as they are. ``platform_split``: whether ``tar`` and ``local`` have a directory
    for each platform; None is yes where there are several.
    """

    type: str
    dest: str | None = None
    tar: bool | None = None
    names: tuple[str, ...] = ()
    compression: Compression | None = None
    force_compression: bool = False
    oci_media_types: bool | None = None
    rewrite_timestamp: bool = False
    annotations: tuple[Annotation, ...] = ()
    platform_split: bool | None = None
    push: bool = False
    push_by_digest: bool = False
    insecure: bool = False
    store: bool = True
    unpack: bool = False

    @property
    def holds_image(self) -> bool:
        """Whether what it makes is an image, with a manifest and a digest."""
        return self.type in ("image", "registry", "oci", "docker")

    @property
    def to_stdout(self) -> bool:
        """Whether it is written to standard output."""
        return self.type in ("oci", "docker", "tar", "layers") and self.dest in (None, "-")


def parse_output(text: str) -> Output:
    """``type=oci,dest=image.tar,…``; a word alone is a directory (``type=local``), ``-`` a tar on standard output.

    Raises:
        UsageError: an unknown type, an attribute that the type does not have, or a value that makes no sense.
    """
    fields = next(iter(csv.reader([text])), [])
    if len(fields) == 1 and "=" not in fields[0]:
        return Output("tar", "-") if fields[0] == "-" else Output("local", fields[0])
    values: dict[str, str] = {}
    annotations = []
    for field in fields:
        key, equals, value = field.partition("=")
        if not equals:
            raise UsageError(f"-o {text!r}: {field!r} is not key=value")
        if key.strip().startswith("annotation"):
            annotations.append(_annotation(key.strip(), value))
        else:
            values[key.strip().lower()] = value
    kind = values.pop("type", "")
    if kind not in TYPES:
        raise UsageError(f"-o {text!r}: unknown type {kind!r}", hint=f"one of {', '.join(TYPES)}")
    known = _ATTRIBUTES[kind]
    if unknown := sorted(set(values) - set(known)):
        raise UsageError(
            f"-o {text!r}: type={kind} has no attribute {unknown[0]!r}",
            hint=f"it has {', '.join(known) or 'none'}",
        )
    if annotations and "oci-mediatypes" not in known:
        raise UsageError(
            f"-o {text!r}: type={kind} has no annotations", hint="images have: oci, docker, image, registry"
        )

    def flag(name: str, default: str = "false") -> bool:
        return _boolean(text, values.get(name, default))

    output = Output(
        type=kind,
        dest=values.get("dest"),
        tar=flag("tar") if "tar" in values else None,
        names=tuple(name for name in values.get("name", "").split(",") if name),
        compression=_compression(text, values),
        force_compression=flag("force-compression"),
        oci_media_types=flag("oci-mediatypes") if "oci-mediatypes" in values else None,
        rewrite_timestamp=flag("rewrite-timestamp"),
        annotations=tuple(annotations),
        platform_split=flag("platform-split") if "platform-split" in values else None,
        push=flag("push", "true" if kind == "registry" else "false"),
        push_by_digest=flag("push-by-digest"),
        insecure=flag("registry.insecure"),
        store=flag("store", "true"),
        unpack=flag("unpack"),
    )
    if output.dest is None and (kind in ("local", "layers") or (kind == "oci" and output.tar is False)):
        raise UsageError(f"-o {text!r}: it has no dest", hint=f"write type={kind},dest=DIRECTORY")
    return output


def parse_annotation(text: str) -> tuple[Annotation, ...]:
    """``--annotation``: ``[LEVEL[,LEVEL][PLATFORM]:]KEY=VALUE``, as in docker buildx. Raises UsageError."""
    key, equals, value = text.partition("=")
    levels, colon, name = key.rpartition(":")
    if not equals or not name:
        raise UsageError(f"--annotation {text!r} is not KEY=VALUE")
    if not colon:
        return (_annotation(f"annotation.{name}", value),)
    return tuple(_annotation(f"annotation-{level}.{name}", value) for level in levels.split(","))


def _annotation(key: str, value: str) -> Annotation:
    found = _ANNOTATION.fullmatch(key)
    if not found:
        raise UsageError(f"{key!r} is not an annotation", hint="write annotation.KEY=VALUE")
    level, platform, name = found.groups()
    if level is not None and level not in LEVELS:
        raise UsageError(f"{key!r}: annotations can't be on {level!r}", hint=f"on one of {', '.join(LEVELS)}")
    if platform and level in ("index", "index-descriptor"):
        raise UsageError(f"{key!r}: an index is of no platform")
    return Annotation(level or "manifest", name, value, parse_platform(platform) if platform else None)


def _boolean(text: str, value: str) -> bool:
    if value.lower() not in ("true", "false", "1", "0"):
        raise UsageError(f"-o {text!r}: {value!r} is neither true nor false")
    return value.lower() in ("true", "1")


def _compression(text: str, values: dict[str, str]) -> Compression | None:
    name, level = values.get("compression"), values.get("compression-level")
    if name is None:
        if level is not None or "force-compression" in values:
            raise UsageError(
                f"-o {text!r}: it says nothing of the compression", hint="add compression=zstd or gzip"
            )
        return None
    if name == "estargz":
        raise UsageError(
            f"-o {text!r}: no Python library writes estargz", hint="compression=gzip is what every tool reads"
        )
    name = {"uncompressed": "none"}.get(name, name)
    return parse_compression(name if level is None else f"{name}:{level}")
