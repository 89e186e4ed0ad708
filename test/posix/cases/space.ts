/** Room in files: fallocate, holes, copies inside the kernel, the ends of the number range, statfs. */
import { spawnSync } from 'node:child_process';
import * as sys from '../../helpers/posix-calls.ts';
import {
  done,
  equal,
  holds,
  letTimePass,
  refused,
  type PosixCase,
  type PosixGroup,
  type Room,
} from '../case.ts';

const { O, SEEK, FALLOCATE } = sys;
const { KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, COLLAPSE_RANGE, INSERT_RANGE } = FALLOCATE;
const MIB = 1 << 20;
/** Looks at a count of room, 25 ms apart, that must agree. */
const SETTLED_LOOKS = 4;

/** What an uncommon mode of fallocate may answer where it is not offered, as tmpfs does. */
const NOT_OFFERED = 'EOPNOTSUPP';

function filled(room: Room, size: number): number {
  const fd = room.open(room.at('f'), O.CREAT | O.RDWR);
  equal(sys.pwrite(fd, Buffer.alloc(size, 'x'), 0), size);
  return fd;
}

const allocation: readonly PosixCase[] = [
  {
    name: 'fallocate makes the file longer, reads zeroes, and takes room',
    run: (room: Room): void => {
      const fd = room.open(room.at('f'), O.CREAT | O.RDWR);
      done(sys.fallocate(fd, 0, 0, MIB));
      const status = room.status(room.at('f'));
      equal(status.size, MIB);
      holds(status.blocks >= 2048, `blocks: at least 2048, got ${status.blocks}`);
      equal(room.contents(room.at('f')), '\0'.repeat(MIB));
      sys.close(fd);
    },
  },
  {
    name: 'fallocate leaves bytes that are there, and a longer file, as they are',
    run: (room: Room): void => {
      const fd = filled(room, 10_000);
      done(sys.fallocate(fd, 0, 100, 50));
      done(sys.fallocate(fd, 0, 5000, 10_000));
      equal(room.contents(room.at('f')), 'x'.repeat(10_000) + '\0'.repeat(5000));
      sys.close(fd);
    },
  },
  {
    name: 'with KEEP_SIZE the size stays, also behind the end',
    run: (room: Room): void => {
      const fd = filled(room, 100);
      done(sys.fallocate(fd, KEEP_SIZE, 0, MIB));
      equal(room.status(room.at('f')).size, 100);
      holds(room.status(room.at('f')).blocks >= 2048, 'room is promised');
      equal(room.contents(room.at('f')), 'x'.repeat(100));
      sys.close(fd);
    },
  },
  {
    name: 'punched ranges read zeroes, whole pages of them give room back, the size stays',
    run: (room: Room): void => {
      for (const [offset, length] of [
        [0, 4096],
        [4096, 8192],
        [100, 200],
        [4000, 200],
        [3000, 20_000],
        [60_000, 10_000],
        [65_536, 4096],
      ] as const) {
        const fd = filled(room, 65_536);
        done(sys.fallocate(fd, PUNCH_HOLE | KEEP_SIZE, offset, length));
        const model = Buffer.alloc(65_536, 'x').fill(0, offset, Math.min(offset + length, 65_536));
        equal(room.contents(room.at('f')), model.toString('latin1'), `punch ${offset}+${length}`);
        sys.close(fd);
        done(sys.unlink(room.at('f')));
      }
      const fd = filled(room, MIB);
      done(sys.fsync(fd));
      done(sys.fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 0, MIB));
      equal(room.status(room.at('f')).size, MIB);
      equal(room.status(room.at('f')).blocks, 0);
      sys.close(fd);
    },
  },
  {
    name: 'a zeroed range reads zeroes; with KEEP_SIZE the size stays; or it is not offered',
    run: (room: Room): void => {
      const fd = filled(room, 20_000);
      const result = sys.fallocate(fd, ZERO_RANGE, 5000, 6000);
      if (sys.outcome(result) === NOT_OFFERED) return void sys.close(fd);
      done(result);
      const model = Buffer.alloc(20_000, 'x').fill(0, 5000, 11_000);
      equal(room.contents(room.at('f')), model.toString('latin1'));
      done(sys.fallocate(fd, ZERO_RANGE | KEEP_SIZE, 19_000, 5000));
      equal(room.status(room.at('f')).size, 20_000);
      done(sys.fallocate(fd, ZERO_RANGE, 19_000, 5000));
      equal(room.status(room.at('f')).size, 24_000);
      equal(room.contents(room.at('f')).slice(19_000), '\0'.repeat(5000));
      sys.close(fd);
    },
  },
  {
    name: 'collapsing, inserting, and punching without KEEP_SIZE are refused',
    run: (room: Room): void => {
      const fd = filled(room, 65_536);
      refused(sys.fallocate(fd, COLLAPSE_RANGE, 0, 4096), NOT_OFFERED);
      refused(sys.fallocate(fd, INSERT_RANGE, 0, 4096), NOT_OFFERED);
      refused(sys.fallocate(fd, PUNCH_HOLE, 0, 4096), NOT_OFFERED);
      equal(room.status(room.at('f')).size, 65_536);
      sys.close(fd);
    },
  },
  {
    name: 'fallocate refuses ranges without length, descriptors for reading, and what is no file',
    run: (room: Room): void => {
      const fd = filled(room, 10);
      refused(sys.fallocate(fd, 0, 0, 0), 'EINVAL');
      refused(sys.fallocate(fd, 0, -1, 10), 'EINVAL');
      refused(sys.fallocate(fd, 0, 0, -1), 'EINVAL');
      sys.close(fd);
      const reader = room.open(room.at('f'), O.RDONLY);
      refused(sys.fallocate(reader, 0, 0, 10), 'EBADF');
      sys.close(reader);
      done(sys.mknod(room.at('p'), sys.S_IF.FIFO | 0o600));
      const pipe = room.open(room.at('p'), O.RDWR);
      refused(sys.fallocate(pipe, 0, 0, 10), 'ESPIPE');
      sys.close(pipe);
    },
  },
  {
    name: 'more than the whole file system is ENOSPC or EFBIG, and leaves the room as it was',
    run: (room: Room): void => {
      const before = sys.statfs(room.path);
      if (typeof before === 'number') return void done(before);
      const fd = room.open(room.at('f'), O.CREAT | O.RDWR);
      const all = before.blocks * before.blockSize;
      refused(sys.fallocate(fd, 0, 0, all + (64 << 20)), 'ENOSPC', 'EFBIG');
      equal(room.status(room.at('f')).size, 0);
      equal(room.status(room.at('f')).blocks, 0);
      sys.close(fd);
    },
  },
];

/** SEEK_DATA and SEEK_HOLE; holes are whole blocks, so the layout is in pieces of 64 KiB. */
const seeking: readonly PosixCase[] = [
  {
    name: 'SEEK_DATA and SEEK_HOLE find the edges of holes',
    run: (room: Room): void => {
      const fd = room.open(room.at('f'), O.CREAT | O.RDWR);
      const piece = 65_536;
      for (const index of [2, 3, 7]) {
        equal(sys.pwrite(fd, Buffer.alloc(piece, 'd'), index * piece), piece);
      }
      done(sys.ftruncate(fd, 10 * piece));
      done(sys.fsync(fd));
      for (const [from, data, hole] of [
        [0, 2, 0],
        [1, 2, 1],
        [2, 2, 4],
        [3, 3, 4],
        [4, 7, 4],
        [7, 7, 8],
      ] as const) {
        equal(sys.lseek(fd, from * piece, SEEK.DATA), data * piece, `data from ${from}`);
        equal(sys.lseek(fd, from * piece, SEEK.HOLE), hole * piece, `hole from ${from}`);
      }
      equal(sys.lseek(fd, 2 * piece + 5, SEEK.DATA), 2 * piece + 5);
      equal(sys.lseek(fd, 9 * piece, SEEK.HOLE), 9 * piece);
      refused(sys.lseek(fd, 8 * piece, SEEK.DATA), 'ENXIO');
      refused(sys.lseek(fd, 10 * piece, SEEK.DATA), 'ENXIO');
      refused(sys.lseek(fd, 10 * piece, SEEK.HOLE), 'ENXIO');
      sys.close(fd);
    },
  },
  {
    name: 'data that was just written, not synced, is found; the end is a hole',
    run: (room: Room): void => {
      const fd = filled(room, 10_000);
      equal(sys.lseek(fd, 0, SEEK.DATA), 0);
      equal(sys.lseek(fd, 0, SEEK.HOLE), 10_000);
      equal(sys.lseek(fd, 9_999, SEEK.HOLE), 10_000);
      sys.close(fd);
    },
  },
  {
    name: 'a punched range is a hole',
    run: (room: Room): void => {
      const fd = filled(room, 262_144);
      done(sys.fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 65_536, 65_536));
      equal(sys.lseek(fd, 0, SEEK.HOLE), 65_536);
      equal(sys.lseek(fd, 65_536, SEEK.DATA), 131_072);
      sys.close(fd);
    },
  },
  {
    name: 'an empty file has neither data nor hole; a negative offset is refused',
    run: (room: Room): void => {
      const fd = room.open(room.at('f'), O.CREAT | O.RDWR);
      refused(sys.lseek(fd, 0, SEEK.DATA), 'ENXIO');
      refused(sys.lseek(fd, 0, SEEK.HOLE), 'ENXIO');
      refused(sys.lseek(fd, -1, SEEK.SET), 'EINVAL');
      sys.close(fd);
    },
  },
];

const copying: readonly PosixCase[] = [
  {
    name: 'copy_file_range copies bytes between files and inside one',
    run: (room: Room): void => {
      const all = Buffer.alloc(300_000);
      for (let i = 0; i < all.length; i += 1) all[i] = (i * 7 + (i >> 8)) & 255;
      const from = room.open(room.file('f', all), O.RDWR);
      const to = room.open(room.at('g'), O.CREAT | O.RDWR);
      let copied = 0;
      while (copied < 250_000) {
        copied += done(sys.copyRange(from, 1000 + copied, to, 77 + copied, 250_000 - copied));
      }
      equal(room.status(room.at('g')).size, 250_077);
      const into = Buffer.alloc(250_000);
      equal(sys.pread(to, into, 77), 250_000);
      holds(into.equals(all.subarray(1000, 251_000)), 'the bytes are the same');
      equal(sys.copyRange(from, 0, from, 300_000, 1000), 1000);
      const tail = Buffer.alloc(1000);
      equal(sys.pread(from, tail, 300_000), 1000);
      holds(tail.equals(all.subarray(0, 1000)), 'the copy inside one file');
      sys.close(from);
      sys.close(to);
    },
  },
  {
    name: 'it copies what was just written, and the target shows it through an older mapping of pages',
    run: (room: Room): void => {
      const from = room.open(room.file('f', Buffer.alloc(8192, 'a')), O.RDWR);
      const to = room.open(room.file('g', Buffer.alloc(8192, 'b')), O.RDWR);
      const into = Buffer.alloc(8192);
      equal(sys.pread(to, into, 0), 8192);
      equal(sys.pwrite(from, 'fresh', 0), 5);
      equal(sys.copyRange(from, 0, to, 0, 8192), 8192);
      equal(sys.pread(to, into, 0), 8192);
      equal(into.toString('latin1'), 'fresh' + 'a'.repeat(8187));
      sys.close(from);
      sys.close(to);
    },
  },
  {
    name: 'it stops at the end of the source, and refuses overlap, flags and wrong descriptors',
    run: (room: Room): void => {
      const from = room.open(room.file('f', 'hello'), O.RDWR);
      const to = room.open(room.file('g', ''), O.WRONLY);
      equal(sys.copyRange(from, 3, to, 0, 100), 2);
      equal(sys.copyRange(from, 5, to, 0, 100), 0);
      refused(sys.copyRange(from, 0, from, 2, 4), 'EINVAL');
      refused(sys.copyRange(from, 0, to, 0, 4, 8), 'EINVAL');
      refused(sys.copyRange(to, 0, from, 0, 4), 'EBADF');
      sys.close(from);
      sys.close(to);
    },
  },
];

/** The largest offset of any file system: 2^63 - 1. */
const LARGEST = 2n ** 63n - 1n;

const edges: readonly PosixCase[] = [
  {
    name: 'a write at the largest offset and before 0 is refused',
    run: (room: Room): void => {
      const fd = room.open(room.at('f'), O.CREAT | O.RDWR);
      // The kernel says EINVAL where position and length together leave the range.
      refused(sys.pwrite(fd, 'x', LARGEST), 'EFBIG', 'EINVAL');
      refused(sys.pwrite(fd, 'x', -1), 'EINVAL');
      refused(sys.pread(fd, Buffer.alloc(1), -1), 'EINVAL');
      equal(room.status(room.at('f')).size, 0);
      sys.close(fd);
    },
  },
  {
    name: 'near the largest offset a write is done or EFBIG, never another file, never a hang',
    run: (room: Room): void => {
      const fd = room.open(room.at('f'), O.CREAT | O.RDWR);
      for (const offset of [LARGEST - 1n, LARGEST - 4096n, 2n ** 62n, 2n ** 53n, 2n ** 53n - 1n]) {
        const result = sys.pwrite(fd, 'x', offset);
        if (result === 1) {
          // What was taken must be there.
          const into = Buffer.alloc(1);
          equal(sys.pread(fd, into, offset), 1);
          equal(into.toString(), 'x');
        } else refused(result, 'EFBIG', 'ENOSPC');
        equal(sys.pread(fd, Buffer.alloc(1), LARGEST - 1n) >= 0, true, 'reading near the end');
        done(sys.ftruncate(fd, 0));
      }
      sys.close(fd);
    },
  },
  {
    name: 'sizes near 2^63 are taken or EFBIG, and fallocate there is done or refused',
    run: (room: Room): void => {
      const fd = room.open(room.at('f'), O.CREAT | O.RDWR);
      for (const size of [LARGEST, LARGEST - 4095n, 2n ** 62n, 2n ** 53n, 2n ** 47n]) {
        const result = sys.ftruncate(fd, size);
        if (result === 0) equal(room.status(room.at('f')).size, Number(size));
        else refused(result, 'EFBIG');
        done(sys.ftruncate(fd, 0));
        const promised = sys.fallocate(fd, 0, size, 4096n);
        if (promised !== 0) refused(promised, 'EFBIG', 'ENOSPC');
        done(sys.ftruncate(fd, 0));
      }
      refused(sys.fallocate(fd, 0, LARGEST, LARGEST), 'EFBIG');
      equal(room.status(room.at('f')).size, 0);
      sys.close(fd);
    },
  },
  {
    name: 'a sparse file of 1 TiB holds bytes at both ends',
    run: (room: Room): void => {
      const fd = room.open(room.at('f'), O.CREAT | O.RDWR);
      const end = 2 ** 40;
      equal(sys.pwrite(fd, 'end', end - 3), 3);
      equal(sys.pwrite(fd, 'start', 0), 5);
      const into = Buffer.alloc(5);
      equal(sys.pread(fd, into, end - 5), 5);
      equal(into.toString('latin1'), '\0\0end');
      done(sys.fsync(fd));
      holds(room.status(room.at('f')).blocks <= 256, 'it stays sparse');
      done(sys.ftruncate(fd, 5));
      equal(room.contents(room.at('f')), 'start');
      sys.close(fd);
    },
  },
  {
    name: 'a process with a limit on file size gets EFBIG',
    run: (room: Room): void => {
      // dash counts in blocks of 512 bytes; the limit signals SIGXFSZ, ignored here.
      const script = `trap '' XFSZ; ulimit -f 8; head -c 10000 /dev/zero > "$1"; exit 0`;
      const run = spawnSync('/bin/sh', ['-c', script, 'sh', room.at('f')], { encoding: 'utf8' });
      holds(run.stderr.includes('File too large'), run.stderr);
      equal(room.status(room.at('f')).size, 4096);
    },
  },
];

/**
 * What a count of room comes to: a file system may hear of a file's end behind requests that were made
 * after it, so the count is taken when it has stood still for a while.
 */
function settled(count: () => number): number {
  for (let still = 0, last = count(); ;) {
    letTimePass();
    const now = count();
    still = now === last ? still + 1 : 0;
    last = now;
    if (still === SETTLED_LOOKS) return now;
  }
}

const room: readonly PosixCase[] = [
  {
    name: 'statfs: used and free add up, names have 255 bytes, and df can read it',
    run: (room: Room): void => {
      const status = sys.statfs(room.path);
      if (typeof status === 'number') return void done(status);
      holds(status.blocks > 0 && status.free <= status.blocks, 'blocks');
      holds(status.available <= status.free, 'available');
      holds(status.files > 0 && status.freeFiles < status.files, 'files');
      equal(status.nameLengthMax, 255);
      equal(status.blockSize, 4096);
      const df = spawnSync('df', ['-B1', '--output=size,avail', room.path], { encoding: 'utf8' });
      const [size, available] = (df.stdout.split('\n')[1] ?? '').trim().split(/ +/).map(Number);
      equal([size, available], [status.blocks * 4096, status.available * 4096]);
    },
  },
  {
    name: 'df and du see what is written, and see it go',
    run: (room: Room): void => {
      const free = (): number => {
        const status = sys.statfs(room.path);
        return typeof status === 'number' ? done(status) : status.free * status.blockSize;
      };
      const before = settled(free);
      const fd = filled(room, 8 * MIB);
      done(sys.fsync(fd));
      sys.close(fd);
      const taken = before - free();
      holds(taken >= 8 * MIB && taken < 10 * MIB, `taken: about 8 MiB, got ${taken}`);
      equal(room.status(room.at('f')).blocks, 16_384);
      const du = spawnSync('du', ['-k', room.at('f')], { encoding: 'utf8' });
      equal(du.stdout.split('\t')[0], '8192');
      done(sys.unlink(room.at('f')));
      const missing = before - settled(free);
      holds(missing < MIB, `all but 1 MiB is back, ${missing} is not`);
    },
  },
  {
    name: 'a new file takes one from the free inodes and gives it back',
    run: (room: Room): void => {
      const free = (): number => {
        const status = sys.statfs(room.path);
        return typeof status === 'number' ? done(status) : status.freeFiles;
      };
      const before = settled(free);
      room.file('f');
      equal(before - free(), 1);
      done(sys.unlink(room.at('f')));
      equal(settled(free), before);
    },
  },
];

/** Room. */
export const space: PosixGroup[] = [
  { name: 'fallocate', cases: allocation },
  { name: 'SEEK_DATA and SEEK_HOLE', cases: seeking },
  { name: 'copy_file_range', cases: copying },
  { name: 'large offsets', cases: edges },
  { name: 'statfs', cases: room },
];
