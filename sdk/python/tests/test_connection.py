"""One connection, against a daemon of this test that answers as it is told: late, never, wrong, in any order."""

import functools
import os
import socket
import struct
import tempfile
import threading
import time
import unittest
from typing import Any, Callable, Dict, List, Optional

from memcloud import MemCloud, MemCloudError, _msgpack

Message = Dict[str, Any]


class FakeDaemon:
    """Takes connections and leaves each message to ``answer``."""

    def __init__(self, answer: Callable[["FakeDaemon", socket.socket, Message], None]) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="mc-py-")
        self.path = os.path.join(self.folder.name, "s")
        self.answer = answer
        self.messages: List[Message] = []
        self.clients: List[socket.socket] = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(8)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.clients.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        reader = client.makefile("rb")
        try:
            while True:
                header = reader.read(4)
                if len(header) < 4:
                    return
                message = _msgpack.decode(reader.read(struct.unpack(">I", header)[0]))
                self.messages.append(message)
                self.answer(self, client, message)
        except (OSError, _msgpack.DecodeError):
            pass

    def close(self) -> None:
        self.listener.close()
        for client in self.clients:
            client.close()
        self.folder.cleanup()


def send(client: socket.socket, message: Any) -> None:
    body = _msgpack.encode(message)
    client.sendall(struct.pack(">I", len(body)) + body)


def echo(_daemon: FakeDaemon, client: socket.socket, message: Message) -> None:
    if "method" in message:
        send(client, {"id": message["id"], "result": message["params"]})


def eventually(check: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not check():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


class ConnectionTest(unittest.TestCase):
    def daemon(
        self, answer: Callable[[FakeDaemon, socket.socket, Message], None] = echo
    ) -> FakeDaemon:
        daemon = FakeDaemon(answer)
        self.addCleanup(daemon.close)
        return daemon

    def client(self, daemon: FakeDaemon, timeout: float = 10) -> MemCloud:
        cloud = MemCloud(daemon.path, timeout=timeout)
        self.addCleanup(cloud.close)
        return cloud

    def refused(self, code: str, work: Callable[[], Any]) -> MemCloudError:
        with self.assertRaises(MemCloudError) as caught:
            work()
        self.assertEqual(caught.exception.code, code)
        return caught.exception

    def test_nobody_there(self) -> None:
        error = self.refused("ERR_DAEMON_UNREACHABLE", lambda: MemCloud("/tmp/mc-py-absent"))
        self.assertIn("/tmp/mc-py-absent", str(error))
        self.refused("ERR_USAGE", lambda: MemCloud("/tmp/" + "x" * 103))
        self.refused("ERR_USAGE", lambda: MemCloud("/tmp/mc-py-absent", timeout=0))
        taken = socket.socket()
        self.addCleanup(taken.close)
        taken.bind(("127.0.0.1", 0))
        self.refused("ERR_DAEMON_UNREACHABLE", lambda: MemCloud(address=taken.getsockname()))

    def test_a_request_is_a_length_and_a_map(self) -> None:
        daemon = self.daemon()
        self.assertEqual(self.client(daemon).call("m", {"a": 1, "b": None}), {"a": 1})
        self.assertEqual(daemon.messages, [{"id": 1, "method": "m", "params": {"a": 1}}])

    def test_answers_are_matched_by_id_in_any_order_from_many_threads(self) -> None:
        held: List[Message] = []
        lock = threading.Lock()

        def answer(_daemon: FakeDaemon, client: socket.socket, message: Message) -> None:
            with lock:
                held.append(message)
                if len(held) == 8:
                    for one in reversed(held):
                        echo(_daemon, client, one)
                    held.clear()

        cloud = self.client(self.daemon(answer))
        got: List[Any] = []

        def work(number: int) -> None:
            for step in range(20):
                wanted = {"n": number, "step": step}
                got.append(cloud.call("m", wanted) == wanted)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        self.assertEqual(got, [True] * 160)

    def test_answers_come_in_pieces_and_together(self) -> None:
        def answer(_daemon: FakeDaemon, client: socket.socket, message: Message) -> None:
            body = _msgpack.encode({"id": message["id"], "result": "x" * 300})
            for byte in struct.pack(">I", len(body)) + body:
                client.sendall(bytes((byte,)))
            send(client, {"id": 999, "result": "nobody asked"})
            send(client, {"event": "peer", "data": {}})

        cloud = self.client(self.daemon(answer))
        self.assertEqual([len(cloud.call("m")) for _ in range(3)], [300] * 3)

    def test_errors_keep_their_code(self) -> None:
        replies: List[Any] = [
            {"error": {"code": "ERR_OBJECT_DENIED", "message": "not yours"}},
            {"error": {"code": 5}},
            {"error": "oh"},
            {},
        ]

        def answer(_daemon: FakeDaemon, client: socket.socket, message: Message) -> None:
            send(client, {"id": message["id"], **replies.pop(0)})

        cloud = self.client(self.daemon(answer))
        error = self.refused("ERR_OBJECT_DENIED", lambda: cloud.call("m"))
        self.assertEqual(str(error), "not yours (ERR_OBJECT_DENIED)")
        self.refused("ERR_INTERNAL", lambda: cloud.call("m"))
        self.refused("ERR_RPC_PROTOCOL", lambda: cloud.call("m"))
        self.refused("ERR_RPC_PROTOCOL", lambda: cloud.call("m"))

    def test_a_call_ends_by_its_time_is_taken_back_and_harms_no_other(self) -> None:
        def answer(_daemon: FakeDaemon, client: socket.socket, message: Message) -> None:
            if message.get("method") == "quick":
                echo(_daemon, client, message)

        daemon = self.daemon(answer)
        cloud = self.client(daemon)
        self.refused("ERR_TIMEOUT", lambda: cloud.call("never", timeout=0.05))
        self.assertTrue(eventually(lambda: {"cancel": 1} in daemon.messages))
        self.assertEqual(cloud.call("quick", {"a": 1}), {"a": 1})
        # A late answer is nobody's.
        send(daemon.clients[0], {"id": 1, "result": "late"})
        self.assertEqual(cloud.call("quick", {"a": 2}), {"a": 2})

    def test_calls_end_with_the_connection_and_the_next_one_connects_again(self) -> None:
        def answer(daemon: FakeDaemon, client: socket.socket, message: Message) -> None:
            if message["method"] == "die":
                client.shutdown(socket.SHUT_RDWR)
            else:
                echo(daemon, client, message)

        daemon = self.daemon(answer)
        cloud = self.client(daemon)
        self.refused("ERR_DAEMON_UNREACHABLE", lambda: cloud.call("die"))
        self.assertEqual(cloud.call("m", {"a": 1}), {"a": 1})
        self.assertEqual(len(daemon.clients), 2)
        cloud.close()
        self.refused("ERR_DAEMON_UNREACHABLE", lambda: cloud.call("m"))

    def test_bytes_that_are_no_answer_end_the_connection(self) -> None:
        for rubbish in (b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\xc1", b"\x00\x00\x00\x01\x90"):

            def answer(
                _daemon: FakeDaemon,
                client: socket.socket,
                _message: Message,
                rubbish: bytes = rubbish,
            ) -> None:
                client.sendall(rubbish)

            cloud = self.client(self.daemon(answer))
            self.refused("ERR_RPC_PROTOCOL", functools.partial(cloud.call, "m"))

    def test_the_last_word_of_a_daemon_that_hangs_up_is_heard(self) -> None:
        def answer(_daemon: FakeDaemon, client: socket.socket, _message: Message) -> None:
            error = {"code": "ERR_RPC_DENIED", "message": "this user may not"}
            send(client, {"id": None, "error": error})
            client.shutdown(socket.SHUT_RDWR)

        cloud = self.client(self.daemon(answer))
        self.refused("ERR_RPC_DENIED", lambda: cloud.call("m"))

    def test_a_daemon_that_does_not_read_is_given_up(self) -> None:
        stop = threading.Event()
        self.addCleanup(stop.set)

        def answer(_daemon: FakeDaemon, _client: socket.socket, _message: Message) -> None:
            stop.wait(30)

        cloud = self.client(self.daemon(answer), timeout=0.3)
        codes = set()
        for _ in range(6):
            with self.assertRaises(MemCloudError) as caught:
                cloud.call("m", {"data": bytes(900_000)})
            codes.add(caught.exception.code)
        self.assertLessEqual(codes, {"ERR_TIMEOUT", "ERR_DAEMON_UNREACHABLE"})

    def test_what_cannot_be_said_is_refused_and_the_connection_goes_on(self) -> None:
        cloud = self.client(self.daemon())
        for params in ({"a": object()}, {"a": 2**60}, {"a": bytes(2**20)}):
            self.refused("ERR_USAGE", functools.partial(cloud.call, "m", params))
        for _ in range(100):
            self.refused("ERR_USAGE", lambda: cloud.call("m", {"a": {1: 2}}))
        self.assertEqual(cloud.call("m", {"a": 1}), {"a": 1})

    def test_a_token_is_shown_first(self) -> None:
        daemon = self.daemon()
        cloud = MemCloud(daemon.path, token="secret")
        self.addCleanup(cloud.close)
        cloud.call("m")
        self.assertEqual(
            daemon.messages[0], {"id": 1, "method": "auth", "params": {"token": "secret"}}
        )

    def test_a_child_process_has_a_connection_of_its_own(self) -> None:
        daemon = self.daemon()
        cloud = self.client(daemon)
        self.assertEqual(cloud.call("m", {"a": 1}), {"a": 1})
        child = os.fork()
        if child == 0:
            good = False
            try:
                good = cloud.call("m", {"a": 2}) == {"a": 2}
                cloud.close()
            finally:
                os._exit(0 if good else 1)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        self.assertEqual(cloud.call("m", {"a": 3}), {"a": 3})
        self.assertEqual(len(daemon.clients), 2)

    def test_closing_wakes_a_call_that_waits(self) -> None:
        cloud = self.client(self.daemon(lambda *_: None), timeout=60)
        failure: List[Optional[str]] = []

        def work() -> None:
            try:
                cloud.call("never")
            except MemCloudError as error:
                failure.append(error.code)

        thread = threading.Thread(target=work)
        thread.start()
        self.assertTrue(eventually(lambda: cloud._connection is not None))
        time.sleep(0.05)
        cloud.close()
        thread.join(10)
        self.assertEqual(failure, ["ERR_DAEMON_UNREACHABLE"])


if __name__ == "__main__":
    unittest.main()
