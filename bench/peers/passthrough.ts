#!/usr/bin/env node
/**
 * What FUSE passthrough would give (Linux 6.9): our file system, in which each regular file that is open has its
 * bytes in a memfd of this process, and the kernel reads and writes that without asking us. `passthrough DIR`
 * serves until DIR is unmounted. Real root only. A trial of the path, not a file system: bytes stay in their
 * memfd as long as the file is known, whatever it grows to, and never reach a pool.
 */
import fs from 'node:fs';
import koffi from 'koffi';
import { monotonicClock } from '../../common/clock.ts';
import { throwErrno } from '../../common/libc.ts';
import { silentLogger } from '../../common/log.ts';
import type { NativeBuffer } from '../../common/native-memory.ts';
import { makeProcessSpin } from '../../common/process-spin.ts';
import { FuseInit2, FuseOpenReply, FuseOutSize } from '../../fuse-fs/constants.ts';
import { FuseDevice } from '../../fuse-fs/device.ts';
import { FileSystem } from '../../fuse-fs/file-system.ts';
import { mountFuse } from '../../fuse-fs/mounting.ts';
import {
  AttributeBit,
  type AttributeChange,
  type Attributes,
  type Caller,
} from '../../fuse-fs/operations.ts';
import { PageFileStore } from '../../fuse-fs/page-file-store.ts';
import { KernelClock } from '../../fuse-fs/wall-clock.ts';
import { MemoryBlockDevice } from '../../provider/memory-device.ts';
import { RamProvider } from '../../provider/service.ts';

const libc = koffi.load(null);
const ioctlCall = libc.func('int ioctl(int fd, unsigned long request, void *argument)');
const memfdCall = libc.func('int memfd_create(const char *name, unsigned int flags)');

/** fuse.h: `_IOW(229, 1, struct fuse_backing_map)` and `_IOW(229, 2, uint32_t)`. */
const FUSE_DEV_IOC_BACKING_OPEN = 0x4010e501;
const FUSE_DEV_IOC_BACKING_CLOSE = 0x4004e502;
const MFD_CLOEXEC = 1;
/** `fuse_init_out`: the words of `flags2` and `max_stack_depth`, behind the header. */
const INIT_FLAGS2_WORD = 4 + 8;
const INIT_STACK_DEPTH_WORD = 4 + 9;
const PROFILE = { writebackCache: false, extendedAttributes: false, openless: false } as const;
const SIZE_BYTES = 4 * 2 ** 30;

interface Backing {
  readonly fd: number;
  /** What the kernel calls it while a handle is open. */
  id: number;
  handleCount: number;
}

/** Files whose bytes lie in a memfd each, once they were opened. */
class BackedFiles extends FileSystem {
  /** The backing of the file that was opened last, until its reply is made. */
  opened: Backing | undefined;
  deviceFd = -1;
  readonly #backings = new Map<number, Backing>();
  readonly #nodeids = new Map<number, number>();

  override open(nodeid: number, flags: number): number {
    const fh = super.open(nodeid, flags);
    if (fh < 0) return fh;
    const backing = this.#backings.get(nodeid) ?? this.#make(nodeid);
    if (backing.handleCount === 0) {
      const map = Buffer.alloc(16);
      map.writeInt32LE(backing.fd, 0);
      backing.id = ioctlCall(this.deviceFd, FUSE_DEV_IOC_BACKING_OPEN, map) as number;
      if (backing.id < 0) throwErrno('ioctl(FUSE_DEV_IOC_BACKING_OPEN)');
    }
    backing.handleCount += 1;
    this.#nodeids.set(fh, nodeid);
    this.opened = backing;
    return fh;
  }

  override release(fh: number): void {
    super.release(fh);
    const backing = this.#backings.get(this.#nodeids.get(fh) ?? 0);
    this.#nodeids.delete(fh);
    if (backing === undefined) return;
    backing.handleCount -= 1;
    if (backing.handleCount > 0) return;
    const id = Buffer.alloc(4);
    id.writeUInt32LE(backing.id, 0);
    ioctlCall(this.deviceFd, FUSE_DEV_IOC_BACKING_CLOSE, id);
  }

  override forget(nodeid: number, count: number): void {
    super.forget(nodeid, count);
    const backing = this.#backings.get(nodeid);
    if (backing === undefined || super.attributes(nodeid, this.#scratch) === 0) return;
    fs.closeSync(backing.fd);
    this.#backings.delete(nodeid);
  }

  override attributes(nodeid: number, into: Attributes): number {
    const result = super.attributes(nodeid, into);
    const backing = this.#backings.get(nodeid);
    if (result === 0 && backing !== undefined) {
      const { size, blocks } = fs.fstatSync(backing.fd);
      into.size = size;
      into.blocks = blocks;
    }
    return result;
  }

  override changeAttributes(
    tag: number,
    caller: Caller,
    nodeid: number,
    change: AttributeChange,
  ): void {
    const backing = this.#backings.get(nodeid);
    if (backing !== undefined && (change.valid & AttributeBit.SIZE) !== 0) {
      fs.ftruncateSync(backing.fd, change.size);
    }
    super.changeAttributes(tag, caller, nodeid, change);
  }

  readonly #scratch = {} as Attributes;

  #make(nodeid: number): Backing {
    const fd = memfdCall('passthrough', MFD_CLOEXEC) as number;
    if (fd < 0) throwErrno('memfd_create');
    const backing = { fd, id: 0, handleCount: 0 };
    this.#backings.set(nodeid, backing);
    return backing;
  }
}

/** Adds to replies what our session does not negotiate. */
class PassthroughDevice extends FuseDevice {
  readonly #files: BackedFiles;
  #initialized = false;

  constructor(files: BackedFiles, options: ConstructorParameters<typeof FuseDevice>[0]) {
    super(options);
    this.#files = files;
  }

  override reply(from: NativeBuffer, offset: number, length: number): void {
    const { bytes } = from;
    if (!this.#initialized) {
      this.#initialized = true;
      const flags2 = bytes.readUInt32LE(offset + INIT_FLAGS2_WORD * 4);
      bytes.writeUInt32LE(flags2 | FuseInit2.FUSE_PASSTHROUGH, offset + INIT_FLAGS2_WORD * 4);
      bytes.writeUInt32LE(1, offset + INIT_STACK_DEPTH_WORD * 4);
    }
    const backing = this.#files.opened;
    if (backing !== undefined) {
      this.#files.opened = undefined;
      // `fuse_open_out` is the end of the replies to OPEN and CREATE.
      const at = offset + length - FuseOutSize.fuse_open_out;
      const flags = FuseOpenReply.FOPEN_PASSTHROUGH | FuseOpenReply.FOPEN_NOFLUSH;
      bytes.writeUInt32LE(flags, at + 8);
      bytes.writeInt32LE(backing.id, at + 12);
    }
    super.reply(from, offset, length);
  }
}

const directory = process.argv[2] ?? '';
const provider = RamProvider.open({ offeredBytes: SIZE_BYTES, noswap: 'off' });
// Whoever measures ends it with a signal once it is unmounted.
process.once('exit', () => provider.close());
process.once('SIGTERM', () => process.exit(0));
const memory = provider.openObjectMemory();
const pages = { name: 'passthrough', sizeBytes: SIZE_BYTES, memory, owner: '0'.repeat(32) };
const files = new BackedFiles({
  openStore: (sink) => new PageFileStore(new MemoryBlockDevice(pages), sink),
  clock: new KernelClock(),
  ...{ sizeBytes: SIZE_BYTES, uid: 0, gid: 0, mode: 0o755, hashSeed: 1 },
});
const fd = await mountFuse({ directory, allowOther: true });
files.deviceFd = fd;
const device = new PassthroughDevice(files, {
  ...{ fd, profile: PROFILE, clock: monotonicClock, log: silentLogger },
  spin: makeProcessSpin(),
  onEnd: () => {
    device.close();
    process.exit(0);
  },
});
files.connect(device.session);
device.serve(files);
process.stdout.write('mounted\n');
