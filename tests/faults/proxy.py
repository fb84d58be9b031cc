"""Networks that fail: a TCP proxy between any two processes, switched while bytes flow.

All links of a test run live in one event loop in one thread; their methods are called from any other thread and return
when the switch is thrown.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

CHUNK = 65_536
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
ATTACH_FILTER = 26  # Linux's SO_ATTACH_FILTER, which Python does not name
NOTHING_PASSES = struct.pack("HBBI", 6, 0, 0, 0)  # "return 0": the kernel drops what arrives, acknowledging nothing
UP, DOWN = "up", "down"  # towards the server, towards the client


class Network:
    """The loop that all links share."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._thread.start()
        self._links: list[Link] = []

    def link(self, port: int) -> Link:
        """A new way to this port of this machine."""
        link = Link(self, port)
        self._links.append(link)
        link.listen()
        return link

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run this in the loop and return what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def close(self) -> None:
        self.call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        for link in self._links:
            await link.end()
        if left := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(left, timeout=10)


class Link:
    """One listening port in front of one server. `open` ends whatever fault it had."""

    def __init__(self, network: Network, target: int) -> None:
        self._network, self._target = network, target
        self._server: asyncio.Server | None = None
        self._pairs: set[_Pair] = set()
        self.port = 0
        self.audible = asyncio.Event()
        self.lost = threading.Event()  # `lose_the_answer_to` has lost one
        self._heal()

    def _heal(self) -> None:
        self.latency = 0.0
        self.rate: float | None = None
        self.audible.set()
        self.cut: int | None = None
        self.answer: bytes | None = None
        self.fatal: tuple[bytes, bytes] | None = None

    def listen(self) -> None:
        self._network.call(self._listen())

    def open(self) -> None:
        """Everything passes again; a connection that lost bytes ends, as its two sides no longer agree."""
        self._network.call(self._open())

    def slow(self, latency: float = 0.0, rate: float | None = None) -> None:
        """From now on bytes take `latency` seconds, and at most `rate` of them a second pass each way."""
        self.latency, self.rate = latency, rate

    def swallow(self) -> None:
        """Half-open: connections stay, new ones too, and nothing that is sent arrives, not even their end."""
        self._network.call(self._swallow())

    def vanish(self) -> None:
        """The connections of this moment lead nowhere: what is sent is not even acknowledged; new ones are welcome."""
        self._network.call(self._vanish())

    def reset(self) -> None:
        """Reset the connections of this moment; new ones are welcome."""
        self._network.call(self._reset())

    def refuse(self) -> None:
        """Nobody listens, and the connections of this moment are reset."""
        self._network.call(self.end())

    def cut_after(self, count: int) -> None:
        """Each new connection is reset once its client has sent so many bytes."""
        self.cut = count

    def answer_all(self, answer: bytes) -> None:
        """Whatever is asked on a new connection is answered so by the network itself."""
        self.answer = answer
        self.reset()

    def lose_the_answer_to(self, question: bytes, after: bytes = b"") -> None:
        """Once: what contains this reaches the server and is done, and its answer is lost with the connection.

        With `after`, only on a connection on which that was sent before.
        """
        self.lost.clear()
        self.fatal = question, after

    async def _swallow(self) -> None:
        self.audible.clear()

    async def _vanish(self) -> None:
        for pair in self._pairs:
            pair.vanish()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, limit=CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _open(self) -> None:
        self._heal()
        for pair in [pair for pair in self._pairs if pair.lossy]:
            pair.reset()
        if self._server is None:
            await self._listen()

    async def _reset(self) -> None:
        for pair in list(self._pairs):
            pair.reset()

    async def end(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._reset()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pair = _Pair(self, writer)
        self._pairs.add(pair)
        try:
            if self.answer is not None:
                await reader.read(CHUNK)
                writer.write(self.answer)
                await writer.drain()
                return
            with contextlib.suppress(OSError):
                await pair.run(reader, *await asyncio.open_connection("127.0.0.1", self._target, limit=CHUNK))
        finally:
            self._pairs.discard(pair)
            pair.close()


class _Pair:
    """A client's connection and the one to the server behind it."""

    def __init__(self, link: Link, client: asyncio.StreamWriter) -> None:
        self._link, self._writers = link, [client]
        self._sent = 0
        self._primed = self._dying = False  # has sent what comes before; the next answer is lost
        self.lossy = False

    async def run(self, client: asyncio.StreamReader, reader: asyncio.StreamReader, up: asyncio.StreamWriter) -> None:
        self._writers.append(up)
        try:
            await asyncio.gather(self._pump(UP, client, up), self._pump(DOWN, reader, self._writers[0]))
        except OSError:  # one side reset its connection, and so the other is
            self.reset()

    async def _pump(self, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            for piece in self._pieces(data):
                if await self._passes(way, piece):
                    writer.write(piece)
                    await writer.drain()
        await self._link.audible.wait()  # in silence nobody is told of the end
        if writer.can_write_eof():
            writer.write_eof()

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        size = len(data) if self._link.rate is None else max(1, int(self._link.rate / 20))
        return (data[start : start + size] for start in range(0, len(data), size))

    async def _passes(self, way: str, piece: bytes) -> bool:
        link = self._link
        if pause := link.latency + (len(piece) / link.rate if link.rate else 0):
            await asyncio.sleep(pause)
        if not link.audible.is_set():
            self.lossy = True
            return False
        if way == UP:
            self._sent += len(piece)
            if link.cut is not None and self._sent > link.cut:
                self.reset()
            if link.fatal is not None:
                question, before = link.fatal
                if question in piece and (self._primed or not before):
                    link.fatal, self._dying = None, True
                self._primed = self._primed or before in piece
        elif self._dying:
            self.reset()
            link.lost.set()
            return False
        return True

    def vanish(self) -> None:
        """Both sides hear nothing any more, as if the machine between them had lost its power."""
        self.lossy = True
        program = ctypes.create_string_buffer(NOTHING_PASSES)
        for writer in self._writers:
            sock: socket.socket | None = writer.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(program)))

    def reset(self) -> None:
        for writer in self._writers:
            sock: socket.socket | None = writer.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            writer.transport.abort()

    def close(self) -> None:
        for writer in self._writers:
            writer.close()
