"""One HTTP connection: request after request, each with its time limits. h11 knows the protocol."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import IO

import h11

from ihp_backend.serving.front import Front, NoRoomError, is_probe
from ihp_backend.serving.wsgi_call import Address, HttpAnswer, environ_of, failure

logger = logging.getLogger(__name__)

_CHUNK = 1 << 18


class _RefusedError(Exception):
    """A request does not come to the application: it is answered, and the connection closed."""

    def __init__(self, reason: str, answer: HttpAnswer | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.answer = answer


class HttpConnection:
    """A client. See ``front.Waiting`` for its attributes."""

    def __init__(self, front: Front, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._front = front
        self._limits = front.limits
        self._reader = reader
        self._writer = writer
        writer.transport.set_write_buffer_limits(high=0)  # what is drained is the kernel's
        self._client: Address = (writer.get_extra_info("peername") or ("", 0))[:2]
        self.peer = self._client[0]
        self._server: Address = (writer.get_extra_info("sockname") or ("", 0))[:2]
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.head_bytes)
        self._loop = asyncio.get_running_loop()
        self.since = self._loop.time()
        self.is_answering = self.is_probe = self.is_half = False
        self.body_bytes = 0
        self.unsent = 0

    @classmethod
    async def serve(cls, front: Front, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers a client's requests until either side has enough."""
        connection = cls(front, reader, writer)
        front.connections[connection] = None
        front.make_room()
        try:
            await connection._run()
            writer.close()
        except asyncio.CancelledError:
            connection.drop()  # the process ends
        except Exception:
            logger.exception("a connection failed")
            connection.drop()
        finally:
            front.connections.pop(connection, None)

    def drop(self) -> None:
        """Ends the connection at once."""
        self._front.connections.pop(self, None)
        self._writer.transport.abort()

    async def _run(self) -> None:
        try:
            is_first = True
            while await self._one(is_first=is_first):
                self._http.start_next_cycle()
                is_first = False
                await asyncio.sleep(0)  # one that sends thousands at once takes turns with the others
        except _RefusedError as refused:
            self._front.policy.count(refused.reason)
            if refused.answer is not None:
                await self._refuse(refused.answer)
        except (OSError, TimeoutError, h11.LocalProtocolError):
            self.drop()

    async def _one(self, *, is_first: bool) -> bool:
        """Answers one request; returns whether there may be a next one."""
        self.since = self._loop.time()
        request = await self._head(is_first=is_first)
        if request is None:
            return False
        environ = environ_of(request, self._client, self._server)
        length = int(environ.get("CONTENT_LENGTH") or 0)
        if self._front.policy.refuses(environ):
            await self._refuse(self._front.answer_at_once(environ))
            return False
        if length > self._limits.body_bytes:
            raise self._too_large()
        is_chunked = "HTTP_TRANSFER_ENCODING" in environ
        if is_chunked and "CONTENT_LENGTH" in environ:
            text = "the request has both Content-Length and Transfer-Encoding; expected one of them"
            raise _RefusedError("malformed", failure(400, text))
        async with self._body(self._limits.body_bytes if is_chunked else length) as body:
            given = body if length or is_chunked else None
            self.is_probe = is_probe(environ, given)
            if not self._front.has_place(environ, given):
                text = "too many requests run or wait already; try again in a second"
                raise _RefusedError("too many requests", failure(503, text, retry_after=1))
            self.is_answering = True
            answer = await self._front.answer(environ, given)
        self.is_answering = False
        await self._send(answer, is_last=self._front.is_stopping)
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _head(self, *, is_first: bool) -> h11.Request | None:
        """Reads a head; ``None`` if none comes."""
        if not self._http.trailing_data[0]:
            try:
                async with asyncio.timeout(self._limits.head_s if is_first else self._limits.idle_s):
                    self._http.receive_data(await self._reader.read(_CHUNK))
            except TimeoutError:
                return None
        try:
            async with asyncio.timeout(self._limits.head_s):
                event = await self._event()
        except TimeoutError:
            text = f"the request's head is not there after {self._limits.head_s:g} s"
            raise _RefusedError("slow head", failure(408, text)) from None
        return event if isinstance(event, h11.Request) else None

    @asynccontextmanager
    async def _body(self, size: int) -> AsyncIterator[IO[bytes]]:
        """Reads a body into a file, which is gone after the block."""
        self._front.make_room(size)
        try:
            file = self._front.place(size)
        except NoRoomError as error:
            raise _RefusedError("no room for bodies", failure(503, str(error), retry_after=10)) from None
        self.body_bytes = size
        try:
            with file:
                await self._read_body(file)
                yield file
        finally:
            self.body_bytes = 0

    async def _read_body(self, file: IO[bytes]) -> None:
        came, until = 0, self._loop.time() + self._limits.body_s
        while True:
            soonest = min(until + came / self._limits.bytes_a_second, self._loop.time() + self._limits.pause_s)
            try:
                async with asyncio.timeout_at(soonest):
                    event = await self._event()
            except TimeoutError:
                text = f"the request's body came too slowly: {came} bytes are there"
                raise _RefusedError("slow body", failure(408, text)) from None
            if not isinstance(event, h11.Data):
                break
            came += len(event.data)
            if came > self._limits.body_bytes:
                raise self._too_large()
            file.write(event.data)
            await asyncio.sleep(0)  # a body of thousands of tiny chunks takes turns with the others
        if not isinstance(event, h11.EndOfMessage):
            raise ConnectionResetError
        file.truncate(came)
        file.seek(0)

    def _too_large(self) -> _RefusedError:
        text = f"the request is larger than {self._limits.body_bytes >> 20} MB; raise IHP_MAX_BODY_MB"
        return _RefusedError("large body", failure(413, text))

    async def _event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Returns what comes next, reading on as needed."""
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    go_on = self._http.send(h11.InformationalResponse(status_code=100, headers=[]))
                    self._writer.write(go_on or b"")
                self.is_half = True
                if len(self._front.connections) > self._limits.connections:
                    self._front.make_room()
                self._http.receive_data(await self._reader.read(_CHUNK))
            self.is_half = False
            return event
        except h11.RemoteProtocolError as error:
            if self._reader.at_eof():
                raise ConnectionResetError from None
            status = error.error_status_hint if error.error_status_hint < 500 else 400
            raise _RefusedError("malformed", failure(status, f"this is not HTTP/1.1: {error}")) from None

    async def _send(self, answer: HttpAnswer, *, is_last: bool) -> None:
        self.since = self._loop.time()
        headers = [*answer.headers, (b"Date", formatdate(usegmt=True).encode())]
        if is_last:
            headers.append((b"Connection", b"close"))
        response = h11.Response(status_code=answer.status, headers=headers, reason=answer.reason.encode("latin-1"))
        parts = [self._http.send(response)]
        if answer.body:
            parts.append(self._http.send(h11.Data(data=answer.body)))
        parts.append(self._http.send(h11.EndOfMessage()))
        self.unsent = len(answer.body)
        self._front.make_room()
        try:
            async with asyncio.timeout(self._limits.answer_s + len(answer.body) / self._limits.bytes_a_second):
                self._writer.write(b"".join(part for part in parts if part))
                await self._writer.drain()
        finally:
            self.unsent = 0

    async def _refuse(self, answer: HttpAnswer) -> None:
        """Answers, and reads on for a moment: a reset on its way would take the answer from who still sends."""
        try:
            self.is_half = True
            await self._send(answer, is_last=True)
            self._writer.write_eof()
            async with asyncio.timeout(self._limits.linger_s):
                while await self._reader.read(_CHUNK):
                    pass
        except (OSError, TimeoutError, h11.LocalProtocolError):
            pass
