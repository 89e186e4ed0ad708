/** Files in memory: shared and private mappings, and what fsync and its kin promise. */
import { spawnSync } from 'node:child_process';
import { MMAN, mmap, munmap, viewMemory } from '../../../common/libc.ts';
import * as sys from '../../helpers/posix-calls.ts';
import {
  done,
  equal,
  holds,
  refused,
  type PosixCase,
  type PosixGroup,
  type Room,
} from '../case.ts';

const { O } = sys;
const READ_WRITE = MMAN.PROT_READ | MMAN.PROT_WRITE;

/** Runs `body` with a mapping of the first `length` bytes. */
function mapped(
  fd: number,
  length: number,
  flags: number,
  body: (bytes: Buffer, address: number) => void,
  protection: number = READ_WRITE,
): void {
  const address = mmap({ length, protection, flags, fd, offset: 0 });
  try {
    body(viewMemory(address, length), address);
  } finally {
    munmap(address, length);
  }
}

const mapping: readonly PosixCase[] = [
  {
    name: 'a shared mapping shows what was written, and what it changes is read',
    run: (room: Room): void => {
      const fd = room.open(room.file('f', Buffer.alloc(3 * 4096, 'a')), O.RDWR);
      mapped(fd, 3 * 4096, MMAN.MAP_SHARED, (bytes, address) => {
        equal(bytes.toString('latin1', 4094, 4098), 'aaaa');
        equal(sys.pwrite(fd, 'written', 4093), 7);
        equal(bytes.toString('latin1', 4093, 4100), 'written');
        bytes.write('mapped', 8189);
        const into = Buffer.alloc(6);
        equal(sys.pread(fd, into, 8189), 6);
        equal(into.toString(), 'mapped');
        done(sys.msync(address, 3 * 4096));
      });
      sys.close(fd);
      equal(room.contents(room.at('f')).slice(8189, 8195), 'mapped');
    },
  },
  {
    name: 'what a mapping wrote stays after it and the file are closed',
    run: (room: Room): void => {
      const fd = room.open(room.file('f', Buffer.alloc(1 << 20)), O.RDWR);
      mapped(fd, 1 << 20, MMAN.MAP_SHARED, (bytes) => {
        for (let at = 0; at < bytes.length; at += 4096) bytes.writeUInt32LE(at, at);
      });
      sys.close(fd);
      const reader = room.open(room.at('f'), O.RDONLY);
      const into = Buffer.alloc(1 << 20);
      equal(sys.pread(reader, into, 0), 1 << 20);
      for (let at = 0; at < into.length; at += 4096) equal(into.readUInt32LE(at), at);
      sys.close(reader);
    },
  },
  {
    name: 'a mapping lives on after its descriptor and its name are gone',
    run: (room: Room): void => {
      const fd = room.open(room.file('f', Buffer.alloc(8192, 'k')), O.RDWR);
      mapped(fd, 8192, MMAN.MAP_SHARED, (bytes, address) => {
        sys.close(fd);
        done(sys.unlink(room.at('f')));
        equal(bytes.toString('latin1', 4095, 4097), 'kk');
        bytes.write('still', 4094);
        equal(bytes.toString('latin1', 4094, 4099), 'still');
        done(sys.msync(address, 8192));
      });
    },
  },
  {
    name: 'a private mapping keeps its changes to itself',
    run: (room: Room): void => {
      const fd = room.open(room.file('f', Buffer.alloc(4096, 'p')), O.RDONLY);
      mapped(fd, 4096, MMAN.MAP_PRIVATE, (bytes) => {
        bytes.write('changed');
        equal(bytes.toString('latin1', 0, 8), 'changedp');
      });
      sys.close(fd);
      equal(room.contents(room.at('f')), 'p'.repeat(4096));
    },
  },
  {
    name: 'behind the end of the file a mapped page is zero, and stays out of the file',
    run: (room: Room): void => {
      const fd = room.open(room.file('f', 'short'), O.RDWR);
      mapped(fd, 4096, MMAN.MAP_SHARED, (bytes) => {
        equal(bytes.toString('latin1', 0, 8), 'short\0\0\0');
        bytes.write('junk', 100);
      });
      equal(room.contents(room.at('f')), 'short');
      sys.close(fd);
    },
  },
  {
    name: 'two mappings of one file are one memory',
    run: (room: Room): void => {
      const fd = room.open(room.file('f', Buffer.alloc(4096)), O.RDWR);
      mapped(fd, 4096, MMAN.MAP_SHARED, (first) => {
        mapped(fd, 4096, MMAN.MAP_SHARED, (second) => {
          first.write('here', 10);
          equal(second.toString('latin1', 10, 14), 'here');
        });
      });
      sys.close(fd);
    },
  },
  {
    name: 'a hole in a file that is mapped can be written',
    run: (room: Room): void => {
      const fd = room.open(room.at('f'), O.CREAT | O.RDWR);
      done(sys.ftruncate(fd, 1 << 20));
      mapped(fd, 1 << 20, MMAN.MAP_SHARED, (bytes) => {
        equal(bytes.readUInt32LE(500_000), 0);
        bytes.write('filled', 500_000);
      });
      equal(room.contents(room.at('f')).slice(500_000, 500_006), 'filled');
      sys.close(fd);
    },
  },
  {
    name: 'cutting a mapped file takes its pages away: touching them is SIGBUS',
    run: (room: Room): void => {
      room.file('f', Buffer.alloc(8192, 'b'));
      const worker = new URL('../../helpers/posix-worker/main.js', import.meta.url).pathname;
      const run = spawnSync(process.execPath, [worker, 'touch-beyond', room.at('f')]);
      equal(run.signal, 'SIGBUS');
    },
  },
  {
    name: 'mapping for shared writing needs a descriptor that may write',
    run: (room: Room): void => {
      const fd = room.open(room.file('f', 'x'), O.RDONLY);
      let message = '';
      try {
        mapped(fd, 4096, MMAN.MAP_SHARED, () => undefined);
      } catch (error) {
        message = (error as Error).message;
      }
      holds(message.includes('EACCES'), message);
      mapped(fd, 4096, MMAN.MAP_SHARED, () => undefined, MMAN.PROT_READ);
      sys.close(fd);
    },
  },
  {
    name: 'writing through a mapping moves mtime by the time it is synced',
    run: (room: Room): void => {
      const path = room.file('f', Buffer.alloc(4096, 'x'));
      done(sys.utimens(path, [5, 0], [5, 0]));
      const fd = room.open(path, O.RDWR);
      mapped(fd, 4096, MMAN.MAP_SHARED, (bytes, address) => {
        bytes.write('y');
        done(sys.msync(address, 4096));
      });
      holds(room.status(path).mtime[0] > 1_000_000, 'mtime');
      sys.close(fd);
    },
  },
];

const syncing: readonly PosixCase[] = [
  {
    name: 'fsync, fdatasync and syncfs succeed on files and directories',
    run: (room: Room): void => {
      const fd = room.open(room.file('f', 'x'), O.RDWR);
      equal(sys.pwrite(fd, 'dirty', 0), 5);
      for (const call of [sys.fsync, sys.fdatasync, sys.syncfs]) equal(call(fd), 0);
      sys.close(fd);
      const directory = room.open(room.path, O.RDONLY | O.DIRECTORY);
      for (const call of [sys.fsync, sys.fdatasync, sys.syncfs]) equal(call(directory), 0);
      sys.close(directory);
      const reader = room.open(room.at('f'), O.RDONLY);
      equal(sys.fsync(reader), 0);
      sys.close(reader);
      refused(sys.fsync(reader), 'EBADF');
    },
  },
  {
    name: 'close reports no error, and the bytes are there for the next to open',
    run: (room: Room): void => {
      for (let i = 0; i < 100; i += 1) {
        const fd = room.open(room.at('f'), O.CREAT | O.WRONLY | O.TRUNC);
        equal(sys.write(fd, `turn ${i}`), `turn ${i}`.length);
        equal(sys.close(fd), 0);
        equal(room.contents(room.at('f')), `turn ${i}`);
      }
    },
  },
];

/** Files in memory. */
export const memory: PosixGroup[] = [
  { name: 'mmap', cases: mapping },
  { name: 'fsync', cases: syncing },
];
