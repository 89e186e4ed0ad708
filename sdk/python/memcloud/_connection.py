"""One connection to the daemon: messages out, answers in, matched by id.

A message is a 32-bit big-endian length and a MessagePack map (common/rpc-codec.ts). Any number of threads may
call at once; a thread of the connection reads the answers. Whatever happens, a call ends: by its answer, by
its time, or with the connection.
"""

import concurrent.futures
import os
import socket
import stat
import struct
import threading
from typing import Any, Dict, Optional, Tuple, Union

from . import _msgpack
from .errors import MemCloudError

#: Bytes of one message at most.
MESSAGE_SIZE_MAX = 1024 * 1024
#: Calls of one connection that may be under way; more wait for their turn.
CALLS_IN_FLIGHT_MAX = 64

_CONNECT_TIMEOUT_S = 5.0
_READ_SIZE = 256 * 1024
#: Bytes of a Unix socket path at most, as unix(7) has it.
_SOCKET_PATH_SIZE_MAX = 107

#: A path of a Unix socket, or a host and port.
Address = Union[str, Tuple[str, int]]


def unreachable(why: str) -> MemCloudError:
    """The daemon is not there, or not any more."""
    return MemCloudError("ERR_DAEMON_UNREACHABLE", why)


class Connection:
    """An open connection. It never comes back: when it has ended, make another."""

    def __init__(self, address: Address, token: Optional[str], timeout: float) -> None:
        self._socket = _open(address, timeout)
        self._send_lock = threading.Lock()
        self._lock = threading.Lock()
        self._waiting: Dict[int, "concurrent.futures.Future[Any]"] = {}
        self._room = threading.BoundedSemaphore(CALLS_IN_FLIGHT_MAX)
        self._next_id = 0
        self._ended: Optional[MemCloudError] = None
        self.pid = os.getpid()
        name = "memcloud-reader"
        self._reader = threading.Thread(target=self._read, name=name, daemon=True)
        self._reader.start()
        if token is not None:
            try:
                self.call("auth", {"token": token}, min(timeout, _CONNECT_TIMEOUT_S))
            except MemCloudError:
                self.close()
                raise

    @property
    def is_usable(self) -> bool:
        """False once it has ended, and in a child process: answers go to the parent's thread."""
        return self._ended is None and self.pid == os.getpid()

    def call(self, method: str, params: Dict[str, Any], timeout: float) -> Any:
        """Calls and waits."""
        return self.wait(self.start(method, params, timeout), method, timeout)

    def start(self, method: str, params: Dict[str, Any], timeout: float) -> "PendingCall":
        """Sends a call; others may be under way. :meth:`wait` gives its result."""
        if not self._room.acquire(timeout=timeout):
            raise _late(method, timeout)
        pending: "concurrent.futures.Future[Any]" = concurrent.futures.Future()
        # The room is given back when the call has ended, whichever way.
        pending.add_done_callback(lambda _: self._room.release())
        with self._lock:
            self._next_id += 1
            call_id = self._next_id
            ended = self._ended
            if ended is None:
                self._waiting[call_id] = pending
        if ended is not None:
            pending.cancel()
            raise ended
        try:
            body = _msgpack.encode({"id": call_id, "method": method, "params": params})
            if len(body) > MESSAGE_SIZE_MAX:
                raise ValueError(f"expected at most {MESSAGE_SIZE_MAX} bytes, got {len(body)}")
        except (TypeError, ValueError, OverflowError) as error:
            self._forget(call_id)
            raise MemCloudError("ERR_USAGE", f"{method}: {error}") from error
        self._send(body)
        return PendingCall(call_id, pending)

    def wait(self, call: "PendingCall", method: str, timeout: float) -> Any:
        """The result of a call. Once the time is over the daemon is told that nobody waits any more."""
        try:
            return call.future.result(timeout)
        except concurrent.futures.TimeoutError:
            self.abandon(call)
            raise _late(method, timeout) from None
        except MemCloudError:
            raise
        except BaseException:
            # An interrupt from the keyboard, for one.
            self.abandon(call)
            raise

    def abandon(self, call: "PendingCall") -> None:
        """Takes a call back: its answer will not be waited for."""
        if self._forget(call.call_id):
            try:
                self._send(_msgpack.encode({"cancel": call.call_id}))
            except MemCloudError:
                pass

    def close(self) -> None:
        """Ends the connection; calls under way fail."""
        self._end(unreachable("the connection was closed"))

    def drop(self) -> None:
        """Lets go of the connection of a parent process, which goes on using it."""
        self._socket.close()

    def _send(self, body: bytes) -> None:
        message = struct.pack(">I", len(body)) + body
        try:
            with self._send_lock:
                self._socket.sendall(message)
        except OSError as error:
            # Half a message may have gone: nothing more can be said on this connection.
            failure = unreachable(f"the daemon does not take messages ({error})")
            self._end(failure)
            raise failure from error

    def _forget(self, call_id: int) -> bool:
        with self._lock:
            pending = self._waiting.pop(call_id, None)
        if pending is not None:
            pending.cancel()
        return pending is not None

    def _read(self) -> None:
        held = bytearray()
        try:
            while True:
                chunk = self._socket.recv(_READ_SIZE)
                if not chunk:
                    raise unreachable("the daemon closed the connection")
                held += chunk
                self._take(held)
        except MemCloudError as error:
            self._end(error)
        except OSError as error:
            self._end(unreachable(f"the connection broke ({error})"))

    def _take(self, held: bytearray) -> None:
        start = 0
        while len(held) - start >= 4:
            (length,) = struct.unpack_from(">I", held, start)
            if length > MESSAGE_SIZE_MAX:
                raise MemCloudError("ERR_RPC_PROTOCOL", f"a message of {length} bytes")
            end = start + 4 + length
            if len(held) < end:
                break
            try:
                message = _msgpack.decode(bytes(memoryview(held)[start + 4 : end]))
            except _msgpack.DecodeError as error:
                raise MemCloudError("ERR_RPC_PROTOCOL", f"a message: {error}") from error
            start = end
            if not isinstance(message, dict):
                raise MemCloudError("ERR_RPC_PROTOCOL", "a message that is no map")
            self._on_message(message)
        del held[:start]

    def _on_message(self, message: Dict[str, Any]) -> None:
        call_id = message.get("id")
        error = message.get("error")
        if call_id is None and error is not None:
            # The last word of a daemon that hangs up.
            raise _error_of(error)
        pending = None
        if isinstance(call_id, int):
            with self._lock:
                pending = self._waiting.pop(call_id, None)
        if pending is None or not pending.set_running_or_notify_cancel():
            return
        if error is not None:
            pending.set_exception(_error_of(error))
        elif "result" in message:
            pending.set_result(message["result"])
        else:
            text = "an answer without result or error"
            pending.set_exception(MemCloudError("ERR_RPC_PROTOCOL", text))

    def _end(self, error: MemCloudError) -> None:
        with self._lock:
            if self._ended is None:
                self._ended = error
            waiting = list(self._waiting.values())
            self._waiting.clear()
        try:
            # Wakes the reader, and whoever waits for the kernel to take more.
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        if threading.current_thread() is not self._reader:
            if self._reader.is_alive() and self.pid == os.getpid():
                self._reader.join(_CONNECT_TIMEOUT_S)
        self._socket.close()
        for pending in waiting:
            if pending.set_running_or_notify_cancel():
                pending.set_exception(error)


class PendingCall:
    """A call that was sent."""

    def __init__(self, call_id: int, future: "concurrent.futures.Future[Any]") -> None:
        self.call_id = call_id
        self.future = future


def _late(method: str, timeout: float) -> MemCloudError:
    return MemCloudError("ERR_TIMEOUT", f"{method}: no answer within {timeout:g} s")


def _error_of(error: Any) -> MemCloudError:
    if not isinstance(error, dict):
        return MemCloudError("ERR_RPC_PROTOCOL", "an answer with an error that is no map")
    code, message = error.get("code"), error.get("message")
    return MemCloudError(
        code if isinstance(code, str) else "ERR_INTERNAL",
        message if isinstance(message, str) else "the daemon gave no message",
    )


def _open(address: Address, timeout: float) -> socket.socket:
    where = address if isinstance(address, str) else f"{address[0]}:{address[1]}"
    try:
        if isinstance(address, str):
            opened = _open_unix(address)
        else:
            opened = socket.create_connection(address, _CONNECT_TIMEOUT_S)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        why = error.strerror or str(error)
        message = f"no memnode answers on {where} ({why}); start it with: memcloud node start"
        raise unreachable(message) from error
    # Reads wait for ever, since a thread does nothing else; writes only as long as a call may take.
    opened.settimeout(None)
    seconds, micros = divmod(max(1, int(timeout * 1e6)), 1_000_000)
    limit = struct.pack("@ll", seconds, micros)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    return opened


def _refuse_squatter(path: str) -> None:
    """Where everybody may put files, somebody else may have put a socket, or its directory, in the daemon's place."""
    place = os.path.abspath(path)
    while (folder := os.path.dirname(place)) != place:
        try:
            is_open = os.stat(folder).st_mode & stat.S_IWOTH != 0
            owner = os.lstat(place).st_uid
        except OSError:
            is_open = False
        if is_open and owner not in (0, os.geteuid()):
            raise unreachable(
                f"{place} is of user {owner}, in a directory that everybody may write: not trusted"
            )
        place = folder


def _open_unix(path: str) -> socket.socket:
    size = len(os.fsencode(path))
    if not 0 < size <= _SOCKET_PATH_SIZE_MAX:
        message = f"socket path: expected 1 to {_SOCKET_PATH_SIZE_MAX} bytes, got {size}: {path}"
        raise MemCloudError("ERR_USAGE", message)
    _refuse_squatter(path)
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        opened.settimeout(_CONNECT_TIMEOUT_S)
        opened.connect(path)
    except BaseException:
        opened.close()
        raise
    return opened
