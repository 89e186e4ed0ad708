/**
 * A file system over a memory store, with a clock that tests move, and calls that return what they end with.
 */
import { FileSystem, type FileSystemOptions } from '../../fuse-fs/file-system.ts';
import {
  emptyAttributes,
  emptyChange,
  type AttributeChange,
  type Attributes,
  type Caller,
} from '../../fuse-fs/operations.ts';
import { MemoryFileStore, type MemoryFileStoreOptions } from './memory-file-store.ts';

/** A clock that stands until it is moved. */
export class TestClock {
  seconds = 1_000_000;
  nanoseconds = 5;

  sample(): void {
    // It is what the test made it.
  }
}

/** Root, as a caller. */
export const ROOT: Caller = { uid: 0, gid: 0, pid: 1 };

/** See the top of the file. */
export class FileSystemRig {
  readonly clock = new TestClock();
  readonly fs: FileSystem;
  readonly store: MemoryFileStore;
  /** What each call that has ended ended with. */
  readonly ends = new Map<number, number>();
  #lastTag = 0;

  constructor(
    options: Partial<Omit<FileSystemOptions, 'openStore'>> = {},
    storeOptions: MemoryFileStoreOptions = {},
  ) {
    let store: MemoryFileStore | undefined;
    this.fs = new FileSystem({
      clock: this.clock,
      sizeBytes: 2 ** 32,
      uid: 0,
      gid: 0,
      mode: 0o755,
      hashSeed: 0x1234_5678,
      ...options,
      openStore: (sink) => (store = new MemoryFileStore(sink, storeOptions)),
    });
    this.store = store as unknown as MemoryFileStore;
    this.fs.connect({
      onFileDone: (tag, result) => {
        if (this.ends.has(tag)) throw new Error(`call ${tag} ended twice`);
        this.ends.set(tag, result);
      },
    });
  }

  /** Makes a call that ends before it returns. */
  call(make: (tag: number) => void): number {
    this.#lastTag += 1;
    const tag = this.#lastTag;
    make(tag);
    const end = this.ends.get(tag);
    if (end === undefined) throw new Error('the call has not ended');
    this.ends.delete(tag);
    return end;
  }

  /** A regular file. */
  file(parent: number, name: string, mode = 0o644, caller = ROOT): number {
    return this.fs.makeNode(caller, parent, name, 0o100000 | mode, 0, 0);
  }

  /** A directory. */
  directory(parent: number, name: string, mode = 0o755, caller = ROOT): number {
    return this.fs.makeDirectory(caller, parent, name, mode, 0);
  }

  /** stat(2). */
  stat(nodeid: number): Attributes {
    const attributes = emptyAttributes();
    const error = this.fs.attributes(nodeid, attributes);
    if (error < 0) throw new Error(`attributes of ${nodeid}: ${error}`);
    return attributes;
  }

  /** setattr. */
  change(nodeid: number, change: Partial<AttributeChange>, caller = ROOT): number {
    const whole: AttributeChange = { ...emptyChange(), ...change };
    return this.call((tag) => this.fs.changeAttributes(tag, caller, nodeid, whole));
  }

  /** pwrite(2), past the kernel's cache. */
  write(nodeid: number, offset: number, text: string, killPrivileges = false): number {
    const bytes = Buffer.from(text, 'latin1');
    return this.call((tag) =>
      this.fs.write(
        tag,
        nodeid,
        offset,
        bytes.length,
        { bytes, address: 0 },
        0,
        killPrivileges,
        false,
      ),
    );
  }

  /** pread(2). */
  read(nodeid: number, offset: number, length: number): string | number {
    const bytes = Buffer.alloc(length);
    const end = this.call((tag) =>
      this.fs.read(tag, nodeid, offset, length, { bytes, address: 0 }, 0),
    );
    return end < 0 ? end : bytes.toString('latin1', 0, end);
  }

  /** Names of a directory without `.` and `..`, at most `batch` for each call. */
  names(nodeid: number, batch = Infinity): string[] {
    const fh = this.fs.openDirectory(nodeid);
    if (fh < 0) throw new Error(`openDirectory: ${fh}`);
    const names: string[] = [];
    let cookie = 0;
    for (let more = true; more;) {
      more = false;
      let room = batch;
      const error = this.fs.readDirectory(fh, cookie, {
        onEntry: (_nodeid, name, _mode, next) => {
          if (room === 0) return false;
          room -= 1;
          more = true;
          cookie = next;
          names.push(name);
          return true;
        },
      });
      if (error < 0) throw new Error(`readDirectory: ${error}`);
    }
    this.fs.releaseDirectory(fh);
    return names.filter((name) => name !== '.' && name !== '..');
  }
}
