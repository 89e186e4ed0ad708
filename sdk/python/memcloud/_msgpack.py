"""MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md), as much of it as the RPC speaks.

Values are None, bool, int, float, str, bytes, list and dict with text keys. The daemon is JavaScript, which
has one kind of number: what is a whole number comes as an int here, however it was written, and whole
numbers beyond 32 bits are sent as floats, which hold them exactly up to 2**53 - 1.

The decoder is total: any bytes are a value or a ``DecodeError``, and it makes nothing that is longer than
its input says, nests deeper than ``DEPTH_MAX`` or has more items than there are bytes.
"""

import struct
from typing import Any, Callable, Dict, List, Tuple

#: Lists and maps inside one another, at most.
DEPTH_MAX = 64
#: The greatest whole number that JavaScript holds exactly.
INT_MAX = 2**53 - 1


class DecodeError(ValueError):
    """The bytes are no MessagePack, or more than the RPC speaks."""


def encode(value: Any) -> bytes:
    """Encodes one value.

    :raises TypeError: for a type that the RPC has no word for
    :raises OverflowError: for an int that JavaScript does not hold exactly
    """
    parts: List[bytes] = []
    _encode(value, parts, 0)
    return b"".join(parts)


def _encode(value: Any, parts: List[bytes], depth: int) -> None:
    if value is None:
        parts.append(b"\xc0")
    elif value is True:
        parts.append(b"\xc3")
    elif value is False:
        parts.append(b"\xc2")
    elif isinstance(value, int):
        parts.append(_encode_int(value))
    elif isinstance(value, float):
        parts.append(struct.pack(">Bd", 0xCB, value))
    elif isinstance(value, str):
        body = value.encode("utf-8")
        parts.append(_header(len(body), 0xA0, 31, (0xD9, 0xDA, 0xDB)))
        parts.append(body)
    elif isinstance(value, (bytes, bytearray, memoryview)):
        body = bytes(value)
        parts.append(_header(len(body), 0, -1, (0xC4, 0xC5, 0xC6)))
        parts.append(body)
    else:
        _encode_nested(value, parts, depth + 1)


def _encode_nested(value: Any, parts: List[bytes], depth: int) -> None:
    if depth > DEPTH_MAX:
        raise ValueError(f"expected at most {DEPTH_MAX} lists and maps inside one another")
    if isinstance(value, (list, tuple)):
        parts.append(_header(len(value), 0x90, 15, (None, 0xDC, 0xDD)))
        for item in value:
            _encode(item, parts, depth)
    elif isinstance(value, dict):
        parts.append(_header(len(value), 0x80, 15, (None, 0xDE, 0xDF)))
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"map key: expected str, got {type(key).__name__}")
            _encode(key, parts, depth)
            _encode(item, parts, depth)
    else:
        raise TypeError(f"the RPC has no word for {type(value).__name__}")


def _encode_int(value: int) -> bytes:
    if 0 <= value <= 0x7F:
        return bytes((value,))
    if -32 <= value < 0:
        return struct.pack(">b", value)
    if 0 <= value <= 0xFFFFFFFF:
        return struct.pack(">BI", 0xCE, value)
    if -0x80000000 <= value < 0:
        return struct.pack(">Bi", 0xD2, value)
    if -INT_MAX <= value <= INT_MAX:
        return struct.pack(">Bd", 0xCB, float(value))
    raise OverflowError(f"expected a whole number of at most 53 bits, got {value}")


def _header(length: int, fixed: int, fixed_max: int, codes: Tuple[Any, int, int]) -> bytes:
    if length <= fixed_max:
        return bytes((fixed | length,))
    if length <= 0xFF and codes[0] is not None:
        return struct.pack(">BB", codes[0], length)
    if length <= 0xFFFF:
        return struct.pack(">BH", codes[1], length)
    return struct.pack(">BI", codes[2], length)


def decode(data: bytes) -> Any:
    """Decodes one value that fills ``data``.

    :raises DecodeError: if it does not
    """
    reader = _Reader(data)
    value = reader.value(0)
    if reader.at != len(data):
        raise DecodeError(f"{len(data) - reader.at} bytes follow the value")
    return value


def _number(value: float) -> Any:
    return int(value) if value.is_integer() and abs(value) <= INT_MAX else value


_NUMBERS: Dict[int, Tuple[str, int]] = {
    0xCC: (">B", 1),
    0xCD: (">H", 2),
    0xCE: (">I", 4),
    0xCF: (">Q", 8),
    0xD0: (">b", 1),
    0xD1: (">h", 2),
    0xD2: (">i", 4),
    0xD3: (">q", 8),
    0xCA: (">f", 4),
    0xCB: (">d", 8),
}


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, length: int) -> bytes:
        end = self.at + length
        if end > len(self.data):
            raise DecodeError("the value is cut short")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def length(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def value(self, depth: int) -> Any:
        code = self.take(1)[0]
        if code <= 0x7F:
            return code
        if code >= 0xE0:
            return code - 0x100
        if code <= 0x8F:
            return self.map(code & 0x0F, depth)
        if code <= 0x9F:
            return self.list(code & 0x0F, depth)
        if code <= 0xBF:
            return self.text(code & 0x1F)
        if code in _NUMBERS:
            layout, size = _NUMBERS[code]
            number = struct.unpack(layout, self.take(size))[0]
            return _number(number) if isinstance(number, float) else number
        return self.other(code, depth)

    def other(self, code: int, depth: int) -> Any:
        if code == 0xC0:
            return None
        if code in (0xC2, 0xC3):
            return code == 0xC3
        if 0xC4 <= code <= 0xC6:
            return self.take(self.length(1 << (code - 0xC4)))
        if 0xD9 <= code <= 0xDB:
            return self.text(self.length(1 << (code - 0xD9)))
        if code in (0xDC, 0xDD):
            return self.list(self.length(2 << (code - 0xDC)), depth)
        if code in (0xDE, 0xDF):
            return self.map(self.length(2 << (code - 0xDE)), depth)
        # What JavaScript calls undefined: an extension of type 0 with one byte.
        if code == 0xD4 and self.take(2)[0] == 0:
            return None
        raise DecodeError(f"type 0x{code:02x} is none that the RPC speaks")

    def text(self, length: int) -> str:
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError as error:
            raise DecodeError("text that is no UTF-8") from error

    def list(self, count: int, depth: int) -> List[Any]:
        self.check(count, depth)
        item: Callable[[int], Any] = self.value
        return [item(depth + 1) for _ in range(count)]

    def map(self, count: int, depth: int) -> Dict[str, Any]:
        self.check(count * 2, depth)
        result: Dict[str, Any] = {}
        for _ in range(count):
            key = self.value(depth + 1)
            if not isinstance(key, str):
                raise DecodeError(f"map key: expected text, got {type(key).__name__}")
            result[key] = self.value(depth + 1)
        return result

    def check(self, count: int, depth: int) -> None:
        if depth >= DEPTH_MAX:
            raise DecodeError(f"more than {DEPTH_MAX} lists and maps inside one another")
        if count > len(self.data) - self.at:
            raise DecodeError("the value is cut short")
