"""Scratchpad: short notes that every trusted machine on the LAN can read, and that are gone tomorrow.

    scratchpad.py write NAME < text     keeps a note here for a day
    scratchpad.py append NAME < text    adds to it; two writers at once lose nothing
    scratchpad.py read NAME             from whichever machine has it
    scratchpad.py list                  notes on all machines
    scratchpad.py rm NAME

Run it with PYTHONPATH=sdk/python, or after pip install ./sdk/python. MEMCLOUD_SOCKET chooses the daemon.
"""

import sys

from memcloud import MemCloud, MemCloudError

DAY_S = 24 * 3600
PREFIX = "scratchpad/"


def append(cloud: MemCloud, key: str, text: bytes) -> None:
    """Compare-and-set: when another writer was faster, its note is read again and added to."""
    while True:
        info = cloud.stat(key, peer="local")
        before = b"" if info is None else cloud.get(key, b"", peer="local")
        try:
            version = 0 if info is None else info.version
            cloud.set(key, (before or b"") + text, ttl=DAY_S, if_version=version)
            return
        except MemCloudError as error:
            if error.code != "ERR_OBJECT_CONFLICT":
                raise


def run(command: str, name: str) -> int:
    key = PREFIX + name
    with MemCloud() as cloud:
        if command == "write":
            cloud.set(key, sys.stdin.buffer.read(), ttl=DAY_S)
        elif command == "append":
            append(cloud, key, sys.stdin.buffer.read())
        elif command == "read":
            text = cloud.get(key)
            if text is None:
                print(f"there is no note {name}", file=sys.stderr)
                return 1
            sys.stdout.buffer.write(text)
        elif command == "list":
            for found in cloud.objects(PREFIX + "*", pool=True):
                label = (found.key or "")[len(PREFIX) :]
                print(f"{label}\t{found.size} bytes\ton {found.holder_name}")
        elif command == "rm":
            note = cloud.stat(key)
            if note is None:
                print(f"there is no note {name}", file=sys.stderr)
                return 1
            cloud.delete(key, peer=note.holder)
        else:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    words = [*sys.argv[1:], "", ""]
    try:
        sys.exit(run(words[0], words[1]))
    except MemCloudError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
