"""How values are encoded: the note in an object's meta, and compressed frames.

The formats are those of ``sdk/encoding.ts`` and ``sdk/compress.ts``; the vectors in
``test/vectors/object-encoding`` hold both clients to the same bytes. Python's standard library has no
ChaCha20-Poly1305, so this client does not open sealed values and says so; it has no LZ4 either, but a block
of it is simple enough to be undone here, at a few megabytes a second.
"""

import struct
from dataclasses import dataclass
from typing import Callable, Iterable, Iterator, Optional, Tuple

from .errors import MemCloudError

NOTE_MAGIC = b"ME"
NOTE_VERSION = 1
META_SIZE_MAX = 256
CHUNK_SIZE_MAX = 128 * 1024

_FLAG_SEALED = 0x04
_FLAG_SIZE = 0x08
_COMPRESSIONS = ("none", "lz4", "zstd")
_SIZE_MAX = 2**53 - 1
_HEADER_SIZE = 7
_KIND_STORED, _KIND_COMPRESSED, _KIND_END = 0, 1, 2


@dataclass(frozen=True)
class Encoding:
    """How a value is encoded."""

    #: ``none``, ``lz4`` or ``zstd``.
    compression: str = "none"
    #: Whether only the holder of a seal key can read it.
    sealed: bool = False
    #: Bytes before encoding; None when its writer did not know.
    plain_size: Optional[int] = None


def encode_meta(encoding: Encoding, rest: bytes = b"") -> bytes:
    """Meta of an encoding and the writer's own notes.

    :raises MemCloudError: ``ERR_USAGE`` when it does not fit
    """
    note = b""
    if encoding != Encoding() or rest.startswith(NOTE_MAGIC):
        flags = _COMPRESSIONS.index(encoding.compression)
        flags |= _FLAG_SEALED if encoding.sealed else 0
        flags |= 0 if encoding.plain_size is None else _FLAG_SIZE
        note = NOTE_MAGIC + bytes((NOTE_VERSION, flags))
        if encoding.plain_size is not None:
            note += struct.pack(">Q", encoding.plain_size)
    if len(note) + len(rest) > META_SIZE_MAX:
        room = META_SIZE_MAX - len(note)
        raise MemCloudError("ERR_USAGE", f"meta: expected at most {room} bytes, got {len(rest)}")
    return note + rest


def decode_meta(meta: bytes) -> Tuple[Encoding, bytes]:
    """Takes meta apart into the encoding and the writer's own notes.

    :raises MemCloudError: ``ERR_UNSUPPORTED`` for a note of a later version, or one that is cut short
    """
    if not meta.startswith(NOTE_MAGIC):
        return Encoding(), meta
    if len(meta) < 4:
        raise _unreadable("it is cut short")
    version, flags = meta[2], meta[3]
    if version != NOTE_VERSION or flags > 0x0F or flags & 0x03 == 0x03:
        raise _unreadable(f"version {version}, flags {flags}")
    end = 4
    plain_size = None
    if flags & _FLAG_SIZE:
        end = 12
        if len(meta) < end:
            raise _unreadable("it is cut short")
        plain_size = struct.unpack(">Q", meta[4:12])[0]
        if plain_size > _SIZE_MAX:
            raise _unreadable(f"a size of {plain_size}")
    encoding = Encoding(_COMPRESSIONS[flags & 0x03], bool(flags & _FLAG_SEALED), plain_size)
    return encoding, meta[end:]


def decoder(meta: bytes) -> Callable[[Iterable[bytes]], Iterator[bytes]]:
    """What undoes the encoding that ``meta`` speaks of, piece by piece.

    :raises MemCloudError: ``ERR_UNSUPPORTED`` for what this client cannot undo
    """
    encoding, _ = decode_meta(meta)
    if encoding.sealed:
        message = (
            "the value is sealed; the standard library of Python cannot open it: "
            "use the memcloud command or the TypeScript SDK"
        )
        raise MemCloudError("ERR_UNSUPPORTED", message)
    if encoding.compression == "none":
        return iter
    unpack = _unpack_lz4 if encoding.compression == "lz4" else _find_zstd()
    return lambda pieces: _decompress(pieces, unpack, encoding.plain_size)


def _decompress(
    pieces: Iterable[bytes],
    unpack: Callable[[bytes, int], bytes],
    plain_size: Optional[int],
) -> Iterator[bytes]:
    """Undoes frames; holds one frame and the piece that it came in."""
    held = bytearray()
    total = 0
    ended = False
    for piece in pieces:
        held += piece
        while len(held) >= _HEADER_SIZE:
            if ended:
                break
            kind = held[0]
            size = int.from_bytes(held[1:4], "big")
            length = int.from_bytes(held[4:7], "big")
            _check_header(kind, size, length)
            if plain_size is not None and total + size > plain_size:
                raise _damaged(f"it is longer than {plain_size} bytes")
            end = _HEADER_SIZE + length
            if len(held) < end:
                break
            body = bytes(held[_HEADER_SIZE:end])
            del held[:end]
            total += size
            if kind == _KIND_END:
                if int.from_bytes(body, "big") != total:
                    raise _damaged("frames are missing")
                ended = True
            else:
                yield body if kind == _KIND_STORED else _unpacked(unpack, body, size)
        if ended and held:
            raise _damaged("bytes follow its end")
    if not ended:
        raise _damaged("it is cut short")
    if plain_size is not None and total != plain_size:
        raise _damaged(f"expected {plain_size} bytes, got {total}")


def _check_header(kind: int, size: int, length: int) -> None:
    if kind == _KIND_END and size == 0 and length == 8:
        return
    fits = (kind == _KIND_STORED and length == size) or (
        kind == _KIND_COMPRESSED and 0 < length < size
    )
    if not fits or size == 0 or size > CHUNK_SIZE_MAX:
        raise _damaged(f"a frame of kind {kind} of {size} bytes in {length}")


def _unpacked(unpack: Callable[[bytes, int], bytes], body: bytes, size: int) -> bytes:
    chunk = unpack(body, size)
    if len(chunk) != size:
        raise _damaged("a frame is not as long as it says")
    return chunk


def _unpack_lz4(body: bytes, size: int) -> bytes:
    """Undoes one block (lz4_Block_format.md) that gives at most ``size`` bytes."""
    out = bytearray()
    at = 0
    try:
        while True:
            token = body[at]
            literals, at = _lz4_length(body, at + 1, token >> 4)
            if at + literals > len(body) or len(out) + literals > size:
                raise _damaged("a frame is no lz4")
            out += body[at : at + literals]
            at += literals
            if at == len(body):
                return bytes(out)
            offset = body[at] | body[at + 1] << 8
            match, at = _lz4_length(body, at + 2, token & 0x0F)
            match += 4
            if offset == 0 or offset > len(out) or len(out) + match > size:
                raise _damaged("a frame is no lz4")
            start = len(out) - offset
            if offset >= match:
                out += out[start : start + match]
            else:
                # The match runs into itself: what it repeats is its first ``offset`` bytes.
                run = bytes(out[start:])
                out += (run * (match // offset + 1))[:match]
    except IndexError:
        raise _damaged("a frame is no lz4") from None


def _lz4_length(body: bytes, at: int, length: int) -> Tuple[int, int]:
    if length == 15:
        while True:
            more = body[at]
            at += 1
            length += more
            if more != 255:
                break
    return length, at


def _find_zstd() -> Callable[[bytes, int], bytes]:
    try:
        from compression import zstd  # type: ignore[import-not-found]  # Python 3.14
    except ImportError:
        message = "the value is compressed by zstd, which Python has from 3.14 on"
        raise MemCloudError("ERR_UNSUPPORTED", message) from None

    def unpack(body: bytes, size: int) -> bytes:
        try:
            # One byte more than there may be shows that there would be more.
            return bytes(zstd.ZstdDecompressor().decompress(body, max_length=size + 1))
        except zstd.ZstdError as error:
            raise _damaged("a frame is no zstd") from error

    return unpack


def _unreadable(why: str) -> MemCloudError:
    message = f"the note on how the object is encoded is unknown to this client: {why}"
    return MemCloudError("ERR_UNSUPPORTED", message)


def _damaged(why: str) -> MemCloudError:
    return MemCloudError("ERR_DATA_LOST", f"the compressed value is damaged: {why}")
