"""Named files in an object store, by fsspec: S3, GCS, Azure, anything that it has a URL for. In: a URL. Out: `Objects`.

fsspec is an extra (``pip install 'layersmith[objects]'``), loaded by nothing but this; S3 also needs s3fs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from layersmith.errors import LayersmithError, TransportError, UsageError
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.document import MAX_DOCUMENT
from layersmith.oci.manifest import Index
from layersmith.transport.files import read_file

if TYPE_CHECKING:
    from layersmith.store import Store

_PIECE = 4 << 20
_MISSING = "pip install 'layersmith[objects]', and what fsspec wants for that store (s3fs, gcsfs, adlfs)"
_S3_OPTIONS = {"access_key_id": "key", "secret_access_key": "secret", "endpoint_url": "endpoint_url"}


def location(kind: str, given: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """The URL, and what fsspec is told besides, of the attributes of a cache ``type=s3`` or ``type=fsspec``."""
    if kind == "fsspec":
        return given["url"], {}
    prefix = given.get("prefix", "").strip("/")
    options: dict[str, Any] = {theirs: given[ours] for ours, theirs in _S3_OPTIONS.items() if given.get(ours)}
    if given.get("region"):
        options["client_kwargs"] = {"region_name": given["region"]}
    return f"s3://{given['bucket']}" + (f"/{prefix}" if prefix else ""), options


class Objects:
    """A directory in an object store: `Files` and `Sink` in one.

    Whatever goes wrong there becomes a TransportError that names the URL: every store has exceptions of its own, so
    there is nothing narrower than Exception to catch.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        try:
            import fsspec
        except ImportError:
            raise UsageError(f"{url}: fsspec is not installed", hint=_MISSING) from None
        self.name = url
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url, **options)
        except ImportError as error:
            raise UsageError(f"{url}: {error}", hint=_MISSING) from None
        except Exception as error:
            raise UsageError(
                f"{url}: {error}", hint="write a URL that fsspec knows, such as s3://…"
            ) from None
        self._fs.invalidate_cache()

    def size(self, path: str) -> int | None:
        try:
            found = self._fs.info(self._path(path))
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._failed(f"look at {path}", error) from error
        return int(found["size"]) if found["type"] == "file" else None

    def chunks(self, path: str) -> Iterator[bytes]:
        try:
            with self._fs.open(self._path(path), "rb") as file:
                while piece := file.read(_PIECE):
                    yield piece
        except Exception as error:
            raise self._failed(f"read {path}", error) from error

    def data(self, path: str, data: bytes) -> None:
        self._write(path, iter([data]))

    def blob(self, path: str, store: Store, descriptor: Descriptor) -> None:
        """As `Sink.blob`; one of the same name and size is kept."""
        if self.size(path) != descriptor.size:
            with store.blobs.open(descriptor) as reader:
                self._write(path, iter(lambda: reader.read(_PIECE), b""))

    def entries(self) -> tuple[Descriptor, ...]:
        """The entries of the layout that is there, none if there is none."""
        if self.size("index.json") is None:
            return ()
        return Index.from_json(read_file(self, "index.json", limit=MAX_DOCUMENT)).manifests

    def close(self) -> None:
        pass

    def _path(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}"

    def _write(self, path: str, pieces: Iterator[bytes]) -> None:
        """Write an object that appears when it is whole."""
        target = self._path(path)
        try:
            self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            with self._fs.transaction, self._fs.open(target, "wb") as file:
                for piece in pieces:
                    file.write(piece)
        except LayersmithError:
            raise
        except Exception as error:
            raise self._failed(f"write {path}", error) from error

    def _failed(self, what: str, error: Exception) -> TransportError:
        return TransportError(f"{self.name}: can't {what}: {error or type(error).__name__}")
