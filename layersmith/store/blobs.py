"""`Blobs`: blobs/sha256/: content under its digest. In: bytes with their digest. Out: the same bytes, verified.

A blob is only ever seen whole: it is written in the session's directory, synced, and renamed into place.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from layersmith.errors import DigestMismatchError, NotFoundError, StoreError, TransportError
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.digest import Digest, digest_of, encoded
from layersmith.oci.document import MAX_DOCUMENT
from layersmith.store.elsewhere import Elsewhere
from layersmith.store.files import fsync_directory, storing, write_all
from layersmith.store.session import Session

_CHUNK = 1 << 20


class Blobs:
    """The blobs of a store."""

    def __init__(self, directory: Path, session: Session) -> None:
        self._directory = directory
        self._session = session
        self.elsewhere = Elsewhere()
        """Where blobs that are not here can be had: `open` fetches them."""

    def path(self, digest: str) -> Path:
        """Where the blob ``digest`` is or would be; absolute."""
        return self._directory / encoded(digest)

    def has(self, digest: str) -> bool:
        """Whether the blob is there. If so it stays for as long as this process runs: a prune spares it."""
        self._session.pin(digest)
        return self.path(digest).is_file()

    def obtainable(self, digest: str) -> bool:
        """Whether the blob is there, or would be fetched by `open`."""
        return self.has(digest) or digest in self.elsewhere

    def size(self, digest: str) -> int:
        """The blob's size in bytes.

        Raises:
            NotFoundError: there is no such blob.
        """
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise _missing(digest) from None

    def list(self) -> Iterator[Digest]:
        """The digests of all blobs, in no order."""
        with os.scandir(self._directory) as entries:
            for entry in entries:
                if len(entry.name) == 64:
                    yield Digest("sha256:" + entry.name)

    def put(self, data: bytes) -> Digest:
        """Store ``data``; its digest."""
        digest = digest_of(data)
        if not self.has(digest):
            with self.writer() as writer:
                writer.write(data)
                writer.commit(digest, len(data))
        return digest

    def writer(self) -> BlobWriter:
        """A new blob, whose digest is known once it is written."""
        return BlobWriter(self, self._session)

    def ingest(self, descriptor: Descriptor, chunks: Iterable[bytes]) -> None:
        """Store the blob that ``descriptor`` describes from ``chunks``, unless it is there already.

        Raises:
            TransportError: ``chunks`` are not what it says; nothing is stored then.
        """
        if self.has(descriptor.digest):
            return
        hasher, size = hashlib.sha256(), 0
        with self.writer() as writer:
            for chunk in chunks:
                size += len(chunk)
                if size > descriptor.size:
                    break
                hasher.update(chunk)
                writer.write(chunk)
            if size != descriptor.size or hasher.hexdigest() != encoded(descriptor.digest):
                raise TransportError(
                    f"blob {descriptor.digest} ({descriptor.size} bytes): other bytes came than its digest says",
                    hint="the source is damaged, or somebody changed it on the way",
                )
            writer.commit(descriptor.digest, size)

    def open(self, descriptor: Descriptor) -> BlobReader:
        """A reader that has verified size and digest once it has returned ``b""``. Close it.

        A blob that is `elsewhere` is fetched first.

        Raises:
            NotFoundError: there is no such blob.
            TransportError: it can't be fetched.
        """
        self._session.pin(descriptor.digest)
        path = self.path(descriptor.digest)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            if not self.elsewhere.bring(descriptor):
                raise _missing(descriptor.digest) from None
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return BlobReader(fd, descriptor)

    def fetch(self, descriptor: Descriptor) -> None:
        """Have the blob here: fetched if it is `elsewhere`. Raises as `open`."""
        if not self.has(descriptor.digest) and not self.elsewhere.bring(descriptor):
            raise _missing(descriptor.digest)

    def read(self, descriptor: Descriptor, *, limit: int = MAX_DOCUMENT) -> bytes:
        """The whole blob, verified.

        Raises:
            StoreError: it is longer than ``limit`` bytes.
            NotFoundError, DigestMismatchError: it is missing or damaged.
        """
        if descriptor.size > limit:
            raise StoreError(f"blob {descriptor.digest} has {descriptor.size} bytes, more than {limit}")
        with self.open(descriptor) as reader:
            return b"".join(iter(lambda: reader.read(_CHUNK), b""))

    def verify(self, digest: Digest) -> bool:
        """Whether the blob's bytes still have its digest."""
        with self.path(digest).open("rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == encoded(digest)

    def copy_to(self, digest: Digest, path: Path) -> None:
        """Copy a blob to ``path``, sharing extents where the file system can.

        Never a hard link: whoever edits an exported file in place must not change the store.
        """
        with self.path(digest).open("rb") as source, path.open("xb") as target:
            left = os.fstat(source.fileno()).st_size
            try:
                while left and (done := os.copy_file_range(source.fileno(), target.fileno(), left)):
                    left -= done
            except OSError:
                os.lseek(source.fileno(), os.lseek(target.fileno(), 0, os.SEEK_CUR), os.SEEK_SET)
            while chunk := os.read(source.fileno(), _CHUNK):
                write_all(target.fileno(), chunk)


class BlobWriter:
    """A blob being written. A context manager that throws it away unless `commit` was called."""

    def __init__(self, blobs: Blobs, session: Session) -> None:
        self._blobs = blobs
        self._session = session
        self._path = session.new_path("blob")
        with storing(self._path):
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def fileno(self) -> int:
        """The open file, readable and writable."""
        return self._fd

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append ``data``; a large write lets other threads run. Returns its length."""
        with storing(self._path):
            write_all(self._fd, data)
        return len(data)

    def commit(self, digest: Digest, size: int) -> None:
        """Make what was written the blob ``digest``: afterwards it is on disk, under its name, for good.

        The caller has hashed the bytes; only their number is checked here. Done twice, or by two processes at once,
        it has the same outcome.

        Raises:
            StoreError: another number of bytes than ``size`` was written, or the disk is full.
        """
        target = self._blobs.path(digest)
        with storing(target):
            written = os.fstat(self._fd).st_size
            if written != size:
                raise StoreError(f"blob {digest}: {written} bytes were written, {size} were announced")
            self._session.pin(digest)
            try:
                there = target.stat().st_size == size
            except FileNotFoundError:
                there = False
            if not there:
                os.fchmod(self._fd, 0o644)
                os.fsync(self._fd)
                self._path.rename(target)
                fsync_directory(target.parent)
        self.abort()

    def abort(self) -> None:
        """Throw away what was written, if it was not committed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


class BlobReader:
    """Reads a blob and verifies it on the way: `read` raises instead of ending early or going on for too long.

    Whoever stops before ``b""`` has not verified anything.
    """

    def __init__(self, fd: int, descriptor: Descriptor) -> None:
        self._fd = fd
        self._descriptor = descriptor
        self._hasher = hashlib.sha256()
        self._left = descriptor.size
        self._verified = False

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes (all by default); ``b""`` only after size and digest were found right.

        Raises:
            DigestMismatchError: names the blob.
        """
        if size < 0:
            return b"".join(iter(lambda: self.read(_CHUNK), b""))
        if size == 0:
            return b""
        data = os.read(self._fd, size)
        self._account(data)
        return data

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """As `read`, into ``buffer``; the number of bytes."""
        view = memoryview(buffer)
        if not view:
            return 0
        count = os.readv(self._fd, [view])
        self._account(view[:count])
        return count

    def readable(self) -> bool:
        return True

    def _account(self, data: bytes | memoryview) -> None:
        self._hasher.update(data)
        self._left -= len(data)
        if self._left < 0 or (not data and self._left):
            found = "more" if self._left < 0 else f"{self._descriptor.size - self._left}"
            raise _mismatch(self._descriptor.digest, f"{found} bytes instead of {self._descriptor.size}")
        if not data and not self._verified:
            if self._hasher.hexdigest() != encoded(self._descriptor.digest):
                raise _mismatch(self._descriptor.digest, f"its bytes hash to {self._hasher.hexdigest()}")
            self._verified = True

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _missing(digest: str) -> NotFoundError:
    return NotFoundError(
        f"blob {digest} is not in the store", hint="`layersmith fsck` lists what is missing and what needs it"
    )


def _mismatch(digest: Digest, why: str) -> DigestMismatchError:
    return DigestMismatchError(
        f"blob {digest} is damaged: {why}",
        hint="`layersmith fsck --repair` removes it; then build or pull the image again",
    )
