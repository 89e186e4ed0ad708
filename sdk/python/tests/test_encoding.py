"""How values are encoded: this client and the TypeScript one mean the same bytes."""

import json
import os
import unittest
from typing import Any, Dict, List

from memcloud import Encoding, MemCloudError
from memcloud._encoding import decode_meta, decoder, encode_meta

FOLDER = os.path.join(os.path.dirname(__file__), "../../../test/vectors/object-encoding")
LZ4 = encode_meta(Encoding("lz4"))


def vectors(name: str) -> Dict[str, Any]:
    with open(os.path.join(FOLDER, name), encoding="utf-8") as file:
        return dict(json.load(file))


def cut(data: bytes, size: int) -> List[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


class NoteTest(unittest.TestCase):
    def test_vectors(self) -> None:
        found = vectors("notes.json")
        for row in found["notes"]:
            written = row["encoding"]
            encoding = Encoding(
                written["compression"], written["sealed"], written["plainSizeBytes"]
            )
            meta, rest = bytes.fromhex(row["meta"]), bytes.fromhex(row["rest"])
            self.assertEqual(decode_meta(meta), (encoding, rest), row["meta"])
            self.assertEqual(encode_meta(encoding, rest), meta, row["meta"])
        for hex_bytes in found["refused"]:
            with self.assertRaises(MemCloudError, msg=hex_bytes) as caught:
                decode_meta(bytes.fromhex(hex_bytes))
            self.assertEqual(caught.exception.code, "ERR_UNSUPPORTED")

    def test_notes_of_the_writer_have_256_bytes(self) -> None:
        self.assertEqual(len(encode_meta(Encoding(), bytes(256))), 256)
        self.assertEqual(len(encode_meta(Encoding("lz4", False, 1), bytes(244))), 256)
        for encoding, size in ((Encoding(), 257), (Encoding("lz4", False, 1), 245)):
            with self.assertRaises(MemCloudError) as caught:
                encode_meta(encoding, bytes(size))
            self.assertEqual(caught.exception.code, "ERR_USAGE")


class CompressedTest(unittest.TestCase):
    def test_vectors_come_out_in_pieces_of_any_size(self) -> None:
        found = vectors("compressed.json")
        for row in found["compressed"]:
            packed, plain = bytes.fromhex(row["packed"]), bytes.fromhex(row["plain"])
            for size in (1, 3, 7, 1000, 1 << 20):
                value = b"".join(decoder(LZ4)(cut(packed, size)))
                self.assertEqual(value, plain, f"{row['what']} in pieces of {size}")

    def test_damaged_values_are_refused(self) -> None:
        for row in vectors("compressed.json")["damaged"]:
            packed = bytes.fromhex(row["packed"])
            for size in (1, 1 << 20):
                with self.assertRaises(MemCloudError, msg=row["what"]) as caught:
                    b"".join(decoder(LZ4)(cut(packed, size)))
                self.assertEqual(caught.exception.code, "ERR_DATA_LOST", row["what"])

    def test_a_value_is_as_long_as_its_note_says(self) -> None:
        row = vectors("compressed.json")["compressed"][2]
        packed, size = bytes.fromhex(row["packed"]), len(row["plain"]) // 2
        for claimed in (size - 1, size + 1):
            meta = encode_meta(Encoding("lz4", False, claimed))
            with self.assertRaises(MemCloudError) as caught:
                b"".join(decoder(meta)([packed]))
            self.assertEqual(caught.exception.code, "ERR_DATA_LOST")
        meta = encode_meta(Encoding("lz4", False, size))
        self.assertEqual(b"".join(decoder(meta)([packed])).hex(), row["plain"])

    def test_long_runs_and_long_literals(self) -> None:
        # One literal, a match of 4 + 15 + 255 + 255 + 10 bytes at offset 1, then 5 literals.
        block = bytes([0x1F]) + b"a" + b"\x01\x00" + b"\xff\xff\x0a" + b"\x50" + b"bcdef"
        size = 1 + 539 + 5
        frame = b"\x01" + size.to_bytes(3, "big") + len(block).to_bytes(3, "big") + block
        end = b"\x02" + bytes(3) + b"\x00\x00\x08" + size.to_bytes(8, "big")
        self.assertEqual(b"".join(decoder(LZ4)([frame + end])), b"a" * 540 + b"bcdef")

    def test_plain_values_pass_and_sealed_ones_are_refused_in_words(self) -> None:
        self.assertEqual(list(decoder(b"")([b"a", b"b"])), [b"a", b"b"])
        with self.assertRaises(MemCloudError) as caught:
            decoder(encode_meta(Encoding("none", True)))
        self.assertEqual(caught.exception.code, "ERR_UNSUPPORTED")
        self.assertIn("sealed", str(caught.exception))


if __name__ == "__main__":
    unittest.main()
