"""The client: blocks, keys and streams in the pooled RAM of a LAN, through the daemon of this machine.

>>> from memcloud import MemCloud
>>> with MemCloud() as cloud:
...     cloud.set("greeting", b"hello", ttl=60)
...     cloud.get("greeting")
b'hello'
"""

import os
import threading
from collections import deque
from dataclasses import dataclass
from typing import (
    Any,
    BinaryIO,
    Callable,
    Deque,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Type,
    TypeVar,
    Union,
)

from ._connection import Address, Connection, PendingCall
from ._encoding import Encoding, decode_meta, decoder, encode_meta
from .errors import MemCloudError

#: Bytes of a value, or of a piece of one, that one call carries at most.
PIECE_SIZE = 48 * 1024
#: Calls that a stream, or a list of keys, has under way.
WINDOW = 16
#: A value that is replaced again and again while it is read is given up after so many readings.
_READ_TRIES = 5

#: Who besides this node may read an object.
Readers = Union[str, Sequence[str]]
Bytes = Union[bytes, bytearray, memoryview]
_T = TypeVar("_T")


@dataclass(frozen=True)
class ObjectInfo:
    """An object without its value."""

    #: Its key; None for a block.
    key: Optional[str]
    #: Its block id, a decimal number of 64 bits; None for a key.
    id: Optional[str]
    #: Node id of the node that holds it.
    holder: str
    #: Name of that node.
    holder_name: str
    #: Node id of the node that wrote it.
    owner: str
    #: Bytes of its value as they lie there.
    size: int
    #: Counts the writes of this name.
    version: int
    #: ``pinned`` or ``cache``.
    mode: str
    #: ``private``, ``trusted``, or node ids.
    readers: Readers
    #: Seconds until it is gone; None: no end.
    expires_in: Optional[float]
    #: The writer's own notes.
    meta: bytes
    #: How the value is encoded.
    encoding: Encoding


def _info_of(row: Mapping[str, Any]) -> ObjectInfo:
    encoding, meta = decode_meta(bytes(row["meta"]))
    left = row["expiresInMs"]
    return ObjectInfo(
        key=row["key"],
        id=row["id"],
        holder=row["holder"],
        holder_name=row["holderName"],
        owner=row["owner"],
        size=row["sizeBytes"],
        version=row["version"],
        mode=row["mode"],
        readers=row["readers"],
        expires_in=None if left is None else left / 1000,
        meta=meta,
        encoding=encoding,
    )


def default_socket_path() -> str:
    """Where the daemon of this user listens; ``MEMCLOUD_SOCKET`` overrides."""
    named = os.environ.get("MEMCLOUD_SOCKET")
    if named is not None:
        return named
    if os.geteuid() == 0:
        return "/run/memcloud/memcloud.sock"
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base is None:
        state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
        base = os.environ.get("MEMCLOUD_STATE") or os.path.join(state, "memcloud")
    return os.path.join(base, "memcloud.sock")


class MemCloud:
    """A client of the daemon. Threads may share one; it connects again when the daemon was replaced.

    :param socket_path: the daemon's Unix socket; without: :func:`default_socket_path`
    :param address: host and port of the daemon on loopback, instead of the socket
    :param token: what the daemon wants to see there
    :param timeout: seconds that a call may take

    Every method may raise :class:`MemCloudError`: ``ERR_DAEMON_UNREACHABLE``, ``ERR_TIMEOUT``, ``ERR_USAGE``
    for arguments out of their bounds, and the code of whatever the daemon or another node refuses.

    ``peer`` names the holder by name or id; ``local`` is this machine. Without it writes stay here, unless
    ``remote`` sends them to any peer with room, and reads ask here first and then every peer.
    """

    def __init__(
        self,
        socket_path: Optional[str] = None,
        *,
        address: Optional[Tuple[str, int]] = None,
        token: Optional[str] = None,
        timeout: float = 30.0,
    ) -> None:
        if timeout <= 0:
            raise MemCloudError("ERR_USAGE", f"timeout: expected more than 0 s, got {timeout:g}")
        self._address: Address = address if address is not None else (
            socket_path if socket_path is not None else default_socket_path()
        )
        self._token = token
        self._timeout = timeout
        self._lock = threading.Lock()
        self._closed = False
        self._connection: Optional[Connection] = None
        self._connected()

    # --- The connection ---------------------------------------------------------------------------

    def __enter__(self) -> "MemCloud":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Any,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; calls under way fail."""
        with self._lock:
            self._closed = True
            connection = self._connection
            self._connection = None
        if connection is not None:
            if connection.pid == os.getpid():
                connection.close()
            else:
                connection.drop()

    def _connected(self) -> Connection:
        with self._lock:
            if self._closed:
                raise MemCloudError("ERR_DAEMON_UNREACHABLE", "the connection was closed")
            connection = self._connection
            if connection is None or not connection.is_usable:
                if connection is not None and connection.pid != os.getpid():
                    connection.drop()
                self._connection = None
                connection = Connection(self._address, self._token, self._timeout)
                self._connection = connection
            return connection

    def call(
        self,
        method: str,
        params: Optional[Mapping[str, Any]] = None,
        timeout: Optional[float] = None,
    ) -> Any:
        """Calls any method of the daemon (docs/rpc.md); parameters that are None are left out."""
        seconds = self._timeout if timeout is None else timeout
        return self._connected().call(method, _present(params or {}), seconds)

    # --- Blocks -------------------------------------------------------------------------------------

    def store(
        self,
        data: Bytes,
        *,
        peer: Optional[str] = None,
        remote: bool = False,
        mode: str = "pinned",
        ttl: Optional[float] = None,
        readers: Optional[Readers] = None,
        meta: bytes = b"",
    ) -> str:
        """Keeps a block. The holder has it when this returns.

        :param mode: ``pinned`` stays; ``cache`` may go when its holder wants the room
        :param ttl: seconds until it is gone; without: no end
        :param readers: ``private``, ``trusted`` (as without), or names or ids of nodes
        :param meta: notes that come back with the object, at most 256 bytes
        :returns: its id
        """
        options = _options(mode, ttl, readers, meta, None)
        row = self._write(None, data, _present({"peer": peer, **options}), remote)
        return str(row["id"])

    def load(self, block_id: str, *, peer: Optional[str] = None) -> bytes:
        """The value of a block.

        :raises MemCloudError: ``ERR_OBJECT_UNKNOWN`` when there is none
        """
        value = self._read({"id": block_id, "peer": peer})
        if value is None:
            raise MemCloudError("ERR_OBJECT_UNKNOWN", f"there is no block {block_id}")
        return value

    def free(self, block_id: str, *, peer: Optional[str] = None) -> bool:
        """Deletes a block. :returns: whether there was one"""
        return bool(self.call("object.delete", {"id": block_id, "peer": peer})["deleted"])

    # --- Keys ---------------------------------------------------------------------------------------

    def set(
        self,
        key: str,
        data: Bytes,
        *,
        peer: Optional[str] = None,
        remote: bool = False,
        mode: str = "pinned",
        ttl: Optional[float] = None,
        readers: Optional[Readers] = None,
        meta: bytes = b"",
        if_version: Optional[int] = None,
    ) -> ObjectInfo:
        """Writes the value of a key. The holder has it when this returns. Options as of :meth:`store`.

        :param if_version: only if the key is at this version; 0: only if there is none. Else
            ``ERR_OBJECT_CONFLICT``
        """
        options = _options(mode, ttl, readers, meta, if_version)
        return _info_of(self._write(key, data, _present({"peer": peer, **options}), remote))

    def get(
        self, key: str, default: Optional[_T] = None, *, peer: Optional[str] = None
    ) -> Union[bytes, Optional[_T]]:
        """The value of a key, or ``default`` when there is none."""
        value = self._read({"key": key, "peer": peer})
        return default if value is None else value

    def get_range(
        self, key: str, offset: int, length: int, *, peer: Optional[str] = None
    ) -> Optional[bytes]:
        """At most ``length`` bytes from ``offset`` on, fewer at the end; None when there is no such key.

        :raises MemCloudError: ``ERR_UNSUPPORTED`` for values that are encoded: read them whole
        """
        parts: List[bytes] = []
        version = None
        end = offset + max(0, length)
        while True:
            wanted = min(PIECE_SIZE, end - offset)
            params = {"key": key, "peer": peer, "offset": offset, "length": wanted}
            row = self.call("object.get", {**params, "ifVersion": version})
            if not row["found"]:
                return b"".join(parts) if parts else None
            info = _info_of(row["object"])
            if info.encoding.sealed or info.encoding.compression != "none":
                raise MemCloudError("ERR_UNSUPPORTED", "ranges of encoded values: read them whole")
            version = info.version
            peer = info.holder
            parts.append(row["data"])
            offset += len(row["data"])
            if offset >= min(end, info.size) or not row["data"]:
                return b"".join(parts)

    def set_many(self, values: Mapping[str, Bytes], **options: Any) -> Dict[str, ObjectInfo]:
        """Writes many keys, many at a time. Options as of :meth:`set`. It stops at the first failure."""
        small = {key: data for key, data in values.items() if _size(data) <= PIECE_SIZE}
        remote = bool(options.get("remote", False))
        params = _present({"peer": options.get("peer"), **_options_of(options)})
        if remote:
            params["remote"] = True
        calls = (
            {"key": key, "data": bytes(data), **params} for key, data in small.items()
        )
        rows = self._pipeline("object.put", calls)
        done = {str(row["key"]): _info_of(row) for row in rows}
        for key, data in values.items():
            if key not in small:
                done[key] = self.set(key, data, **options)
        return done

    def get_many(self, keys: Iterable[str], *, peer: Optional[str] = None) -> Dict[str, bytes]:
        """The values of those keys that there are, asked for many at a time."""
        wanted = list(keys)
        calls = (_present({"key": key, "peer": peer, "length": PIECE_SIZE}) for key in wanted)
        found: Dict[str, bytes] = {}
        for key, row in zip(wanted, self._pipeline("object.get", calls)):
            value = self._value_of(row, {"key": key, "peer": peer})
            if value is not None:
                found[key] = value
        return found

    def delete(
        self, key: str, *, peer: Optional[str] = None, if_version: Optional[int] = None
    ) -> bool:
        """Deletes a key. :returns: whether there was one"""
        params = {"key": key, "peer": peer, "ifVersion": if_version}
        return bool(self.call("object.delete", params)["deleted"])

    def stat(
        self, key: Optional[str] = None, *, id: Optional[str] = None, peer: Optional[str] = None
    ) -> Optional[ObjectInfo]:
        """Looks at a key, or at a block; None when there is none."""
        row = self.call("object.stat", {"key": key, "id": id, "peer": peer})
        return None if row is None else _info_of(row)

    def objects(
        self,
        *patterns: str,
        kind: str = "key",
        pool: bool = False,
        peer: Optional[str] = None,
    ) -> Iterator[ObjectInfo]:
        """Objects that this node may read, sorted by name, a page at a time.

        :param patterns: globs on keys: ``*``, ``?``, ``[a-z]``; one must fit. Without: all
        :param kind: ``key``, ``block`` or ``all``
        :param pool: on every peer that is up as well as here
        """
        cursor = None
        while True:
            params = {"patterns": list(patterns) or None, "kind": kind, "peer": peer}
            page = self.call("object.list", {**params, "pool": pool or None, "cursor": cursor})
            for row in page["objects"]:
                yield _info_of(row)
            cursor = page["cursor"]
            if cursor is None:
                return

    def keys(
        self, *patterns: str, pool: bool = False, peer: Optional[str] = None
    ) -> List[str]:
        """Keys that this node may read. Parameters as of :meth:`objects`."""
        found = self.objects(*patterns, pool=pool, peer=peer)
        return [info.key for info in found if info.key is not None]

    def flush(self, *, peer: Optional[str] = None, everywhere: bool = False) -> List[Dict[str, Any]]:
        """Deletes every object that this node owns, here, on ``peer`` or everywhere.

        :returns: a row for each holder
        """
        result = self.call("object.flush", {"peer": peer, "all": everywhere or None})
        return list(result)

    def usage(self, *, peer: Optional[str] = None) -> Dict[str, Any]:
        """What objects take here, or what this node has on ``peer``."""
        return dict(self.call("object.usage", {"peer": peer}))

    # --- Streams ------------------------------------------------------------------------------------

    def store_stream(
        self,
        source: Union[BinaryIO, Iterable[Bytes]],
        key: Optional[str] = None,
        *,
        size_hint: Optional[int] = None,
        peer: Optional[str] = None,
        remote: bool = False,
        mode: str = "pinned",
        ttl: Optional[float] = None,
        readers: Optional[Readers] = None,
        meta: bytes = b"",
        if_version: Optional[int] = None,
    ) -> ObjectInfo:
        """Writes a value of any length, piece by piece, in little memory here and in the daemon.

        Nobody sees the value before its end has come; when anything fails, also ``source``, its room is given
        back. Options as of :meth:`set`; without ``key`` it is a block.

        :param source: a file opened for reading bytes, or anything that gives bytes
        :param size_hint: bytes that are expected; when there is no room for them it fails at once
        """
        options = _options(mode, ttl, readers, meta, if_version)
        params = _present({"key": key, "peer": peer, "sizeHint": size_hint, **options})
        if remote:
            params["remote"] = True
        return _info_of(self._upload(_pieces_of(source), params))

    def load_stream(
        self,
        key: Optional[str] = None,
        *,
        id: Optional[str] = None,
        peer: Optional[str] = None,
    ) -> Iterator[bytes]:
        """The value of a key, or of the block ``id``, piece by piece, in little memory.

        All pieces are of one version. When the value is replaced or deleted meanwhile the iterator raises.

        :raises MemCloudError: ``ERR_OBJECT_UNKNOWN`` when there is none, already here
        """
        where = _present({"key": key, "id": id, "peer": peer})
        first = self.call("object.get", {**where, "offset": 0, "length": PIECE_SIZE})
        if not first["found"]:
            raise MemCloudError("ERR_OBJECT_UNKNOWN", f"there is no {_label(where)}")
        decode = decoder(bytes(first["object"]["meta"]))
        return decode(self._pieces(first, where))

    # --- The node -----------------------------------------------------------------------------------

    def status(self) -> Dict[str, Any]:
        """The daemon (docs/cli-json.md, "status")."""
        return dict(self.call("status"))

    def peers(self) -> List[Dict[str, Any]]:
        """The other nodes (docs/cli-json.md, "peer ls")."""
        return list(self.call("peer.list"))

    def stats(self) -> Dict[str, Any]:
        """Counters and gauges of the daemon."""
        return dict(self.call("stats"))

    def volumes(self) -> List[Dict[str, Any]]:
        """The volumes of this node (docs/cli-json.md, "volume ls")."""
        return list(self.call("volume.list"))

    # --- How values travel --------------------------------------------------------------------------

    def _write(
        self, key: Optional[str], data: Bytes, params: Dict[str, Any], remote: bool
    ) -> Dict[str, Any]:
        if key is not None:
            params["key"] = key
        if remote:
            params["remote"] = True
        if _size(data) <= PIECE_SIZE:
            return dict(self.call("object.put", {**params, "data": bytes(data)}))
        view = memoryview(data).cast("B")
        return self._upload(_cut(view), {**params, "sizeHint": len(view)})

    def _upload(self, pieces: Iterable[bytes], params: Dict[str, Any]) -> Dict[str, Any]:
        # All on one connection: an upload belongs to the one that began it.
        connection = self._connected()
        begun = connection.call("object.begin", params, self._timeout)
        upload = begun["upload"]
        calls: Deque[PendingCall] = deque()
        offset = 0
        method = "object.append"
        try:
            for piece in pieces:
                if len(calls) >= WINDOW:
                    connection.wait(calls.popleft(), method, self._timeout)
                append = {"upload": upload, "offset": offset, "data": piece}
                calls.append(connection.start(method, append, self._timeout))
                offset += len(piece)
            while calls:
                connection.wait(calls.popleft(), method, self._timeout)
            return dict(connection.call("object.commit", {"upload": upload}, self._timeout))
        except BaseException:
            _give_up(connection, calls)
            try:
                connection.call("object.abort", {"upload": upload}, self._timeout)
            except MemCloudError:
                pass
            raise

    def _read(self, where: Mapping[str, Any]) -> Optional[bytes]:
        row = self.call("object.get", {**where, "length": PIECE_SIZE})
        return self._value_of(row, where)

    def _value_of(self, first: Dict[str, Any], where: Mapping[str, Any]) -> Optional[bytes]:
        """A whole value, of which the first piece is there. A value that changes meanwhile is read again."""
        for tries_left in range(_READ_TRIES, 0, -1):
            if not first["found"]:
                return None
            decode = decoder(bytes(first["object"]["meta"]))
            try:
                return b"".join(decode(self._pieces(first, where)))
            except MemCloudError as error:
                changed = error.code in ("ERR_OBJECT_CONFLICT", "ERR_OBJECT_UNKNOWN")
                if not changed or tries_left == 1:
                    raise
            first = self.call("object.get", {**where, "length": PIECE_SIZE})
        raise AssertionError("a loop that returns or raises")

    def _pieces(self, first: Dict[str, Any], where: Mapping[str, Any]) -> Iterator[bytes]:
        """The pieces of one version of a value, from its holder alone, several asked for ahead."""
        info = first["object"]
        size = int(info["sizeBytes"])
        data = bytes(first["data"])
        if data:
            yield data
        name = {field: where[field] for field in ("key", "id") if where.get(field) is not None}
        same = {**name, "peer": info["holder"], "ifVersion": info["version"]}
        calls = (
            {**same, "offset": offset, "length": min(PIECE_SIZE, size - offset)}
            for offset in range(len(data), size, PIECE_SIZE)
        )
        at = len(data)
        for row in self._pipeline("object.get", calls):
            if not row["found"]:
                raise MemCloudError("ERR_OBJECT_UNKNOWN", f"{_label(where)} went as it was read")
            piece = bytes(row["data"])
            if len(piece) != min(PIECE_SIZE, size - at):
                text = f"{_label(where)}: a piece of {len(piece)} bytes at {at} of {size}"
                raise MemCloudError("ERR_RPC_PROTOCOL", text)
            at += len(piece)
            yield piece

    def _pipeline(
        self, method: str, calls: Iterable[Dict[str, Any]]
    ) -> Iterator[Dict[str, Any]]:
        """Makes calls, several at a time, and yields their results in order."""
        connection = self._connected()
        under_way: Deque[PendingCall] = deque()
        try:
            for params in calls:
                if len(under_way) >= WINDOW:
                    yield connection.wait(under_way.popleft(), method, self._timeout)
                under_way.append(connection.start(method, params, self._timeout))
            while under_way:
                yield connection.wait(under_way.popleft(), method, self._timeout)
        finally:
            _give_up(connection, under_way)


def _give_up(connection: Connection, calls: "Deque[PendingCall]") -> None:
    while calls:
        connection.abandon(calls.popleft())


def _present(params: Mapping[str, Any]) -> Dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _options(
    mode: str,
    ttl: Optional[float],
    readers: Optional[Readers],
    meta: bytes,
    if_version: Optional[int],
) -> Dict[str, Any]:
    named = list(readers) if readers is not None and not isinstance(readers, str) else readers
    return {
        "mode": mode,
        "ttlMs": None if ttl is None else max(1, round(ttl * 1000)),
        "readers": named,
        "meta": encode_meta(Encoding(), meta) or None,
        "ifVersion": if_version,
    }


def _options_of(options: Mapping[str, Any]) -> Dict[str, Any]:
    return _options(
        options.get("mode", "pinned"),
        options.get("ttl"),
        options.get("readers"),
        options.get("meta", b""),
        options.get("if_version"),
    )


def _label(where: Mapping[str, Any]) -> str:
    key = where.get("key")
    return f"block {where.get('id')}" if key is None else f"key {key!r}"


def _size(data: Bytes) -> int:
    return data.nbytes if isinstance(data, memoryview) else len(data)


def _cut(view: memoryview) -> Iterator[bytes]:
    for at in range(0, len(view), PIECE_SIZE):
        yield bytes(view[at : at + PIECE_SIZE])


def _pieces_of(source: Union[BinaryIO, Iterable[Bytes]]) -> Iterator[bytes]:
    """Pieces of the size that travels best, however the source gives its bytes."""
    read: Optional[Callable[[int], bytes]] = getattr(source, "read", None)
    parts: Iterable[Bytes] = source if read is None else _read_all(read)
    held = bytearray()
    for part in parts:
        if not isinstance(part, (bytes, bytearray, memoryview)):
            text = f"stream: expected bytes, got {type(part).__name__}"
            raise MemCloudError("ERR_USAGE", text)
        view = memoryview(part).cast("B")
        at = 0
        while at < len(view):
            taken = view[at : at + PIECE_SIZE - len(held)]
            held += taken
            at += len(taken)
            if len(held) == PIECE_SIZE:
                yield bytes(held)
                held.clear()
    if held:
        yield bytes(held)


def _read_all(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while True:
        part = read(PIECE_SIZE)
        if not part:
            return
        yield part
