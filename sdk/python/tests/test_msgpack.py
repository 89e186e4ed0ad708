"""The codec of messages: the bytes of the specification, and that no bytes do harm."""

import os
import random
import struct
import unittest
from typing import Any

from memcloud import _msgpack

# Value, and its bytes by the MessagePack specification, as this client writes them.
VECTORS = [
    (None, "c0"),
    (False, "c2"),
    (True, "c3"),
    (0, "00"),
    (127, "7f"),
    (128, "ce00000080"),
    (-1, "ff"),
    (-32, "e0"),
    (-33, "d2ffffffdf"),
    (2**32 - 1, "ceffffffff"),
    (2**32, "cb41f0000000000000"),
    (2**53 - 1, "cb433fffffffffffff"),
    (1.5, "cb3ff8000000000000"),
    ("", "a0"),
    ("abc", "a3616263"),
    ("ä", "a2c3a4"),
    ("x" * 32, "d920" + "78" * 32),
    ("x" * 256, "da0100" + "78" * 256),
    (b"", "c400"),
    (b"\x00\xff", "c40200ff"),
    (b"x" * 256, "c50100" + "78" * 256),
    ([], "90"),
    ([1, [2]], "92019102"),
    ([0] * 16, "dc0010" + "00" * 16),
    ({}, "80"),
    ({"id": 1, "method": "status", "params": {}}, "83a2696401a66d6574686f64a6737461747573a6706172616d7380"),
]

# What others write for the same values, the daemon above all.
FOREIGN = [
    ("cc80", 128),
    ("cd0100", 256),
    ("cf0000000100000000", 2**32),
    ("d080", -128),
    ("d18000", -(2**15)),
    ("d3ffffffffffffffff", -1),
    ("cb41f0000000000000", 2**32),
    ("ca40000000", 2),
    ("cb4059200000000000", 100.5),
    ("de0001a16101", {"a": 1}),
    ("df00000001a16101", {"a": 1}),
    ("dd0000000101", [1]),
    ("db00000001" + "61", "a"),
    ("c600000001" + "61", b"a"),
    ("d40000", None),
]

REFUSED = [
    "",
    "c1",
    "0000",
    "a2c3",
    "a2c328",
    "cb00",
    "91",
    "81",
    "8100",
    "810102",
    "d40001" + "00",
    "d4ff00",
    "d6ff00000000",
    "c700ff",
    "ddffffffff",
    "dfffffffff",
    "dbffffffff61",
    "c6ffffffff61",
    "91" * 65 + "00",
]


class MessagePackTest(unittest.TestCase):
    def test_values_are_the_bytes_of_the_specification(self) -> None:
        for value, hex_bytes in VECTORS:
            self.assertEqual(_msgpack.encode(value).hex(), hex_bytes, repr(value)[:40])
            self.assertEqual(_msgpack.decode(bytes.fromhex(hex_bytes)), value)

    def test_what_others_write_is_understood(self) -> None:
        for hex_bytes, value in FOREIGN:
            decoded = _msgpack.decode(bytes.fromhex(hex_bytes))
            self.assertEqual(decoded, value, hex_bytes)
            self.assertIs(type(decoded), type(value), hex_bytes)

    def test_views_and_tuples_are_bytes_and_lists(self) -> None:
        self.assertEqual(_msgpack.encode(bytearray(b"a")), b"\xc4\x01a")
        self.assertEqual(_msgpack.encode(memoryview(b"a")), b"\xc4\x01a")
        self.assertEqual(_msgpack.encode((1,)), b"\x91\x01")

    def test_what_the_rpc_has_no_word_for_is_refused(self) -> None:
        nested: Any = []
        for _ in range(100):
            nested = [nested]
        for value, error in [
            (2**53, OverflowError),
            (-(2**53), OverflowError),
            ({1: 2}, TypeError),
            ({"a", "b"}, TypeError),
            (object(), TypeError),
            (nested, ValueError),
        ]:
            with self.assertRaises(error):
                _msgpack.encode(value)

    def test_bytes_that_are_no_value_are_refused(self) -> None:
        for hex_bytes in REFUSED:
            with self.assertRaises(_msgpack.DecodeError, msg=hex_bytes):
                _msgpack.decode(bytes.fromhex(hex_bytes))

    def test_any_bytes_are_a_value_or_a_decode_error(self) -> None:
        seed = int(os.environ.get("SEED", "1"))
        source = random.Random(seed)
        good = _msgpack.encode({"id": 7, "result": [None, 1.5, "text", b"bytes", {"a": [1, -2]}]})
        for round_number in range(20_000):
            data = bytearray(good)
            for _ in range(source.randrange(5)):
                at = source.randrange(len(data))
                data[at] = source.choice([source.randrange(256), 0xC0 + source.randrange(32)])
            if source.random() < 0.3:
                del data[source.randrange(len(data)) :]
            try:
                _msgpack.decode(bytes(data))
            except _msgpack.DecodeError:
                pass
            except Exception as error:  # pragma: no cover
                self.fail(f"SEED={seed} round {round_number}: {error!r} from {bytes(data).hex()}")

    def test_a_float_that_is_no_number_stays_one(self) -> None:
        for value in (float("inf"), float("-inf")):
            self.assertEqual(_msgpack.decode(_msgpack.encode(value)), value)
        self.assertNotEqual(_msgpack.decode(struct.pack(">Bd", 0xCB, float("nan"))), 0)


if __name__ == "__main__":
    unittest.main()
