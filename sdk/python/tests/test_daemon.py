"""The client against real daemons. MEMCLOUD_TEST_SOCKET is the socket of one, MEMCLOUD_TEST_PEER its peer."""

import io
import os
import random
import threading
import unittest
from typing import Any, Iterator, List

from memcloud import MemCloud, MemCloudError

SOCKET = os.environ.get("MEMCLOUD_TEST_SOCKET")
PEER = os.environ.get("MEMCLOUD_TEST_PEER", "")
TCP = os.environ.get("MEMCLOUD_TEST_TCP", "")
MIB = 2**20
#: Sizes around those of a piece.
SIZES = [0, 1, 49_151, 49_152, 49_153, 200_000, 3 * MIB + 1]


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


@unittest.skipIf(SOCKET is None, "MEMCLOUD_TEST_SOCKET names no daemon")
class DaemonTest(unittest.TestCase):
    def setUp(self) -> None:
        self.cloud = MemCloud(SOCKET)
        self.addCleanup(self.cloud.close)
        self.cloud.flush(everywhere=True)

    def refused(self, code: str, work: Any, *args: Any, **options: Any) -> None:
        with self.assertRaises(MemCloudError) as caught:
            work(*args, **options)
        self.assertEqual(caught.exception.code, code, str(caught.exception))

    def test_the_node(self) -> None:
        status = self.cloud.status()
        self.assertEqual(len(status["nodeId"]), 32)
        self.assertIsInstance(status["provider"]["usage"]["offeredBytes"], int)
        self.assertIn(PEER, [peer["name"] for peer in self.cloud.peers()])
        self.assertEqual(self.cloud.volumes(), [])
        self.assertGreater(self.cloud.stats()["rpc"]["callCount"], 0)

    def test_blocks_of_every_length_here_and_there(self) -> None:
        for where in ({}, {"peer": PEER}, {"remote": True}):
            for size in SIZES:
                value = noise(size)
                block = self.cloud.store(value, **where)  # type: ignore[arg-type]
                self.assertRegex(block, r"^[0-9]{1,20}$")
                self.assertEqual(self.cloud.load(block), value, f"{size} bytes {where}")
                self.assertTrue(self.cloud.free(block))
                self.assertFalse(self.cloud.free(block))
                self.refused("ERR_OBJECT_UNKNOWN", self.cloud.load, block)

    def test_keys_of_every_length_here_and_there(self) -> None:
        for peer in (None, PEER):
            for size in SIZES:
                value = noise(size)
                info = self.cloud.set("k/ä", value, peer=peer)
                self.assertEqual((info.key, info.size), ("k/ä", size))
                self.assertEqual(self.cloud.get("k/ä", peer=peer), value)
                self.assertEqual(self.cloud.get("k/ä"), value, "found without saying where")
            self.assertTrue(self.cloud.delete("k/ä", peer=peer))
            self.assertFalse(self.cloud.delete("k/ä", peer=peer))
        self.assertIsNone(self.cloud.get("k/ä"))
        self.assertEqual(self.cloud.get("k/ä", 7), 7)

    def test_what_is_kept_with_a_value(self) -> None:
        written = self.cloud.set(
            "k", b"v", mode="cache", ttl=100, readers="private", meta=b"ME mine"
        )
        info = self.cloud.stat("k")
        assert info is not None
        self.assertEqual((info.mode, info.readers, info.meta), ("cache", "private", b"ME mine"))
        self.assertEqual((info.version, info.size), (written.version, 1))
        assert info.expires_in is not None
        self.assertTrue(0 < info.expires_in <= 100)
        self.assertEqual(info.encoding.compression, "none")
        self.assertIsNone(self.cloud.stat("absent"))

    def test_compare_and_set(self) -> None:
        first = self.cloud.set("k", b"1", if_version=0)
        self.refused("ERR_OBJECT_CONFLICT", self.cloud.set, "k", b"2", if_version=0)
        second = self.cloud.set("k", b"2", if_version=first.version)
        self.refused("ERR_OBJECT_CONFLICT", self.cloud.delete, "k", if_version=first.version)
        self.assertTrue(self.cloud.delete("k", if_version=second.version))

    def test_many_at_a_time(self) -> None:
        values = {f"many/{n}": noise(n * 7, n) for n in range(500)}
        values["many/long"] = noise(100_000)
        written = self.cloud.set_many(values, peer=PEER)
        self.assertEqual(set(written), set(values))
        self.assertEqual(self.cloud.get_many([*values, "absent"]), values)
        self.assertEqual(sorted(self.cloud.keys("many/*", peer=PEER)), sorted(values))
        self.assertEqual(self.cloud.keys("many/?", peer=PEER), [f"many/{n}" for n in range(10)])
        self.assertEqual(len(self.cloud.keys("many/*", pool=True)), 501)
        self.assertEqual(self.cloud.keys("many/*"), [])

    def test_ranges(self) -> None:
        value = noise(120_000)
        self.cloud.set("k", value)
        for offset, length in [(0, 10), (49_000, 60_000), (119_999, 5), (120_000, 5), (7, 0)]:
            got = self.cloud.get_range("k", offset, length)
            self.assertEqual(got, value[offset : offset + length], f"{length} at {offset}")
        self.assertIsNone(self.cloud.get_range("absent", 0, 1))

    def test_streams_from_files_and_generators_to_a_peer_and_back(self) -> None:
        value = noise(5 * MIB + 3)

        def pieces() -> Iterator[bytes]:
            at = 0
            source = random.Random(2)
            while at < len(value):
                size = source.randrange(0, 100_000)
                yield value[at : at + size]
                at += size

        info = self.cloud.store_stream(io.BytesIO(value), "s", peer=PEER, size_hint=len(value))
        self.assertEqual((info.key, info.size, info.holder_name), ("s", len(value), PEER))
        self.assertEqual(b"".join(self.cloud.load_stream("s")), value)
        block = self.cloud.store_stream(pieces(), remote=True)
        self.assertEqual(b"".join(self.cloud.load_stream(id=block.id)), value)
        empty = self.cloud.store_stream([], "empty")
        self.assertEqual(empty.size, 0)
        self.assertEqual(list(self.cloud.load_stream("empty")), [])
        self.refused("ERR_OBJECT_UNKNOWN", self.cloud.load_stream, "absent")

    def test_a_stream_that_fails_leaves_nothing(self) -> None:
        def broken() -> Iterator[bytes]:
            yield noise(MIB)
            raise OSError("the disk is gone")

        with self.assertRaises(OSError):
            self.cloud.store_stream(broken(), "s", peer=PEER)
        self.refused("ERR_USAGE", self.cloud.store_stream, ["text"], "s", peer=PEER)
        self.assertIsNone(self.cloud.get("s"))
        usage = self.cloud.usage(peer=PEER)
        self.assertEqual((usage["uploadCount"], usage["valueBytes"]), (0, 0))

    def test_a_value_that_is_replaced_while_it_is_streamed_is_no_mixture(self) -> None:
        self.cloud.set("s", b"a" * 3 * MIB)
        stream = self.cloud.load_stream("s")
        next(stream)
        self.cloud.set("s", b"b" * 3 * MIB)
        self.refused("ERR_OBJECT_CONFLICT", lambda: b"".join(stream))
        self.assertEqual(self.cloud.get("s"), b"b" * 3 * MIB)

    def test_readers_that_leave_early_leave_nothing_behind(self) -> None:
        self.cloud.set("s", noise(4 * MIB))
        for _ in range(50):
            stream = self.cloud.load_stream("s")
            next(stream)
            stream.close()  # type: ignore[attr-defined]
        self.assertEqual(len(self.cloud.get("s") or b""), 4 * MIB)

    def test_threads_share_a_client(self) -> None:
        wrong: List[str] = []

        def work(number: int) -> None:
            for step in range(30):
                key, value = f"t/{number}", noise(step * 4000, number * 100 + step)
                self.cloud.set(key, value, peer=PEER if step % 2 else None)
                if self.cloud.get(key, peer=PEER if step % 2 else "local") != value:
                    wrong.append(f"{key} at {step}")

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        self.assertEqual(wrong, [])

    def test_arguments_out_of_bounds_are_refused_in_words(self) -> None:
        self.refused("ERR_USAGE", self.cloud.set, "", b"v")
        self.refused("ERR_USAGE", self.cloud.set, "k" * 1025, b"v")
        self.refused("ERR_USAGE", self.cloud.set, "k\0", b"v")
        self.refused("ERR_USAGE", self.cloud.set, "k", b"v", mode="solid")
        self.refused("ERR_USAGE", self.cloud.set, "k", b"v", meta=bytes(257))
        self.refused("ERR_USAGE", self.cloud.stat)
        self.refused("ERR_PEER_UNKNOWN", self.cloud.set, "k", b"v", peer="nobody")
        self.refused("ERR_RPC_UNKNOWN_METHOD", self.cloud.call, "no.such")

    def test_more_than_there_is_room_for_is_refused_and_takes_nothing(self) -> None:
        self.refused(
            "ERR_LEASE_CAPACITY", self.cloud.store_stream, [b"x"], peer=PEER, size_hint=2**40
        )
        self.assertEqual(self.cloud.usage(peer=PEER)["uploadCount"], 0)

    @unittest.skipIf(TCP == "", "MEMCLOUD_TEST_TCP names no port and token")
    def test_loopback_with_a_token(self) -> None:
        host, port, token = TCP.split(" ")
        with MemCloud(address=(host, int(port)), token=token) as cloud:
            cloud.set("over/tcp", b"v")
            self.assertEqual(self.cloud.get("over/tcp"), b"v")
        self.refused("ERR_RPC_DENIED", MemCloud, address=(host, int(port)), token="0" * 64)


if __name__ == "__main__":
    unittest.main()
