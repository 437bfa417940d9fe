"""Threads that work on a stream of large buffers side by side. In: buffers to fill. Out: each station's effects, in order.

Hashing, compressing and writing drop the interpreter lock, so with a thread for each they take no longer together
than the longest alone. Buffers go round: their number bounds the memory, and makes a fast station wait for a slow one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from mmap import mmap
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from layersmith.layer.tar.writer import PIECE

BUFFERS = 5

Station = Callable[[memoryview], None]
_Piece = tuple[memoryview, int] | None


class Pipeline:
    """Passes each piece through ``stations``, one thread each. What one raises, the caller gets from its next call.

    Threads are started by the second piece: a stream of one piece is worked on at once, by the caller's.
    """

    def __init__(self, *stations: Station) -> None:
        self._stations = stations
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        self._queues: list[SimpleQueue[_Piece]] = [SimpleQueue() for _ in stations]
        self._threads: list[threading.Thread] = []
        self._first: tuple[memoryview, int] | None = None
        self._made = 1
        self._error: BaseException | None = None

    @staticmethod
    def buffer() -> memoryview:
        """A buffer to begin with; pages that are never written to take no memory."""
        return memoryview(mmap(-1, PIECE))

    def emit(self, buffer: memoryview, length: int) -> memoryview:
        """Send off the first ``length`` bytes of ``buffer``; a buffer to go on with (see `TarWriter`)."""
        if self._error is not None:
            raise self._error
        if self._first is None and not self._threads:
            self._first = (buffer, length)
        else:
            self._start()
            self._queues[0].put((buffer, length))
        if self._free.empty() and self._made < BUFFERS:
            self._made += 1
            return self.buffer()
        return self._free.get()

    def finish(self) -> None:
        """Wait until all pieces are through all stations."""
        if self._threads:
            self._join()
        elif self._first is not None:
            buffer, length = self._first
            for station in self._stations:
                station(buffer[:length])
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._error = self._error or error
        self._join()

    def _start(self) -> None:
        if self._threads:
            return
        for number in range(len(self._stations)):
            self._threads.append(threading.Thread(target=self._work, args=(number,), daemon=True))
        for thread in self._threads:
            thread.start()
        self._queues[0].put(self._first)

    def _join(self) -> None:
        if self._threads:
            self._queues[0].put(None)
            for thread in self._threads:
                thread.join()
            self._threads = []

    def _work(self, number: int) -> None:
        station, queue = self._stations[number], self._queues[number]
        last = number + 1 == len(self._stations)
        while (piece := queue.get()) is not None:
            if self._error is None:
                try:
                    station(piece[0][: piece[1]])
                except BaseException as error:
                    self._error = error
            if last:
                self._free.put(piece[0])
            else:
                self._queues[number + 1].put(piece)
        if not last:
            self._queues[number + 1].put(None)


class Feed:
    """The other way round: one thread fills buffers by ``fill``, another sends them through ``station``; iterate to get them.

    ``fill(buffer)`` puts bytes into the whole of it, unless the stream ends, and gives their number. A piece is valid
    until the next one is asked for. What ``fill`` or ``station`` raises comes out of the iteration.
    """

    def __init__(self, fill: Callable[[memoryview], int], station: Station) -> None:
        self._fill = fill
        self._station = station
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        self._filled: SimpleQueue[_Piece | BaseException] = SimpleQueue()
        self._ready: SimpleQueue[_Piece | BaseException] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()

    def __iter__(self) -> Iterator[memoryview]:
        buffer = Pipeline.buffer()
        count = self._fill(buffer)
        self._station(buffer[:count])
        yield buffer[:count]
        if count < PIECE:
            return
        self._free.put(buffer)
        for _ in range(BUFFERS - 1):
            self._free.put(Pipeline.buffer())
        for work in (self._fill_all, self._pass_all):
            self._threads.append(threading.Thread(target=work, daemon=True))
            self._threads[-1].start()
        while (piece := self._ready.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece[0][: piece[1]]
            self._free.put(piece[0])

    def close(self) -> None:
        """End the threads, wherever they are."""
        self._stop.set()
        self._free.put(Pipeline.buffer())
        for thread in self._threads:
            thread.join()

    def _fill_all(self) -> None:
        try:
            count = PIECE
            while count == PIECE and not self._stop.is_set():
                buffer = self._free.get()
                if self._stop.is_set():
                    break
                count = self._fill(buffer)
                if count:
                    self._filled.put((buffer, count))
            self._filled.put(None)
        except BaseException as error:
            self._filled.put(error)

    def _pass_all(self) -> None:
        while True:
            piece = self._filled.get()
            if piece is None or isinstance(piece, BaseException):
                self._ready.put(piece)
                return
            try:
                self._station(piece[0][: piece[1]])
            except BaseException as error:
                self._ready.put(error)
                return
            self._ready.put(piece)
