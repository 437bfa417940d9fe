"""A network as it is on a train: slow, and gone every now and then."""

from __future__ import annotations

import itertools
import random
import socket
import threading
import time
from contextlib import suppress


class FaultyLine:
    """A proxy that forwards bytes and loses connections: each ends after so many bytes in either direction, every second
    one after ``least``, the others after a random number up to ``most``."""

    def __init__(self, target: str, *, seed: int, least: int = 20_000, most: int = 400_000) -> None:
        host, _, port = target.partition(":")
        self._target = (host, int(port))
        self._random = random.Random(seed)
        self._bounds = (least, most)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.lost = 0
        self._closing = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        for number in itertools.count():
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._closing:
                near.close()
                return
            least, most = self._bounds
            budget = self._random.randint(least, most) if number % 2 else least
            threading.Thread(target=self._forward, args=(near, budget), daemon=True).start()

    def _forward(self, near: socket.socket, budget: int) -> None:
        with near, socket.create_connection(self._target) as far:
            left = [budget]
            ways = [
                threading.Thread(target=self._copy, args=(a, b, left), daemon=True)
                for a, b in ((near, far), (far, near))
            ]
            for way in ways:
                way.start()
            for way in ways:
                way.join()

    def _copy(self, source: socket.socket, target: socket.socket, left: list[int]) -> None:
        with suppress(OSError):
            while data := source.recv(16_384):
                if left[0] < len(data):
                    target.sendall(data[: max(0, left[0])])
                    self.lost += 1
                    break
                left[0] -= len(data)
                target.sendall(data)
                time.sleep(0.0005)
        for side in (source, target):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._closing = True
        with suppress(OSError):
            socket.create_connection(self._listener.getsockname(), 1).close()
        self._listener.close()
