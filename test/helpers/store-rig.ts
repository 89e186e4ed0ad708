/**
 * A file store over an unruly device, driven by hand, and a model of it in plain buffers. The model keeps
 * for each file every image that its bytes may have: after a failed change the old and the new one, while
 * calls are under way those before and after. A read must consist of bytes of such images, or be EIO.
 */
import { NativeMemory } from '../../common/native-memory.ts';
import { IoStatus } from '../../common/ports.ts';
import { PageFileStore } from '../../fuse-fs/page-file-store.ts';
import { seededRandom } from './sim-world.ts';
import { UnrulyDevice, type UnrulyOptions } from './unruly-device.ts';

const PAGE = 4096;
const MODEL_FILE_SIZE = 24 * PAGE;
const BUFFER_SIZE = 2 ** 23;

/** Added to the changes of a file for each copy from it. */
const COPY_SOURCE = 100;

/** What to build. */
export interface StoreRigOptions {
  readonly pages: number;
  readonly seed: number;
  readonly atOnce?: number;
  readonly failure?: NonNullable<UnrulyOptions['failure']>;
  /** Chance of a device request to fail, with a status drawn at random. */
  readonly failureRate?: number;
  /** Small files have pages of their own. */
  readonly unpacked?: boolean;
}

/** How a run of the model goes. */
export interface ModelOptions {
  readonly steps: number;
  readonly files: number;
  /** Changes of one file under way at most; with more than one nothing may fail. */
  readonly changesAtOnce: number;
  readonly removes: boolean;
}

interface ModelFile {
  /** What the bytes may be while nothing is under way. */
  images: Buffer[];
  /** What they may have been since something was. */
  history: Buffer[];
  size: number;
  changeCount: number;
  readCount: number;
}

const WRITE_FAILURES = [IoStatus.NO_SPACE, IoStatus.UNREACHABLE] as const;
const READ_FAILURES = [IoStatus.LOST, IoStatus.UNREACHABLE] as const;

/** See the top of the file. */
export class StoreRig {
  readonly random: () => number;
  readonly device: UnrulyDevice;
  readonly store: PageFileStore;
  readonly buffer = new NativeMemory(BUFFER_SIZE);
  readonly #options: StoreRigOptions;
  readonly #ends = new Map<number, (result: number) => void>();
  readonly #timers: (() => void)[] = [];
  readonly #freeBuffers: NativeMemory[] = [];
  #tag = 0;
  #files: ModelFile[] = [];

  constructor(options: StoreRigOptions) {
    this.#options = options;
    this.random = seededRandom(options.seed);
    const rate = options.failureRate ?? 0;
    const failAtRandom: NonNullable<UnrulyOptions['failure']> = (operation) => {
      if (this.random() >= rate) return IoStatus.OK;
      const statuses = operation === 'write' ? WRITE_FAILURES : READ_FAILURES;
      return statuses[this.#pick(2)] ?? IoStatus.OK;
    };
    this.device = new UnrulyDevice(options.pages, {
      random: this.random,
      failure: options.failure ?? failAtRandom,
      ...(options.atOnce === undefined ? {} : { atOnce: options.atOnce }),
    });
    const sink = { onFileDone: (tag: number, result: number) => this.#onDone(tag, result) };
    const after = (_: number, task: () => void): void => void this.#timers.push(task);
    this.store = new PageFileStore(this.device, sink, {
      after,
      packsSmallFiles: options.unpacked !== true,
    });
  }

  /** Bytes that are hardly elsewhere. */
  bytes(length: number): Buffer {
    const bytes = Buffer.alloc(length);
    for (let at = 0; at < length; at += 1) bytes[at] = 1 + Math.floor(this.random() * 255);
    return bytes;
  }

  /** Makes a call. */
  begin(call: (tag: number) => void, onEnd: (result: number) => void): void {
    this.#tag += 1;
    this.#ends.set(this.#tag, onEnd);
    call(this.#tag);
  }

  /** Makes a call and lets the device work until it ends. */
  run(call: (tag: number) => void): number {
    let result = NaN;
    this.begin(call, (value) => (result = value));
    while (Number.isNaN(result)) if (!this.#step()) throw new Error('a call never ends');
    return result;
  }

  write(file: number, offset: number, data: Buffer, size: number): number {
    data.copy(this.buffer.bytes);
    return this.run((tag) =>
      this.store.write(tag, file, offset, data.length, this.buffer, 0, size),
    );
  }

  readResult(file: number, offset: number, length: number): number {
    this.buffer.bytes.fill(0xdd, 0, length);
    return this.run((tag) => this.store.read(tag, file, offset, length, this.buffer, 0));
  }

  read(file: number, offset: number, length: number): Buffer {
    const result = this.readResult(file, offset, length);
    if (result !== length) throw new Error(`read: ${result}`);
    return Buffer.from(this.buffer.bytes.subarray(0, length));
  }

  truncate(file: number, size: number): number {
    return this.run((tag) => this.store.truncate(tag, file, size));
  }

  punch(file: number, offset: number, length: number): number {
    return this.run((tag) => this.store.punch(tag, file, offset, length));
  }

  copy(file: number, offset: number, to: number, toOffset: number, length: number): number {
    return this.run((tag) => this.store.copy(tag, file, offset, to, toOffset, length));
  }

  /** Lets everything end that is under way, timers too. */
  settle(): void {
    while (this.#step());
    if (this.#ends.size > 0) this.#fail(`${this.#ends.size} calls never end`);
  }

  /** Ends the rig; nothing may be under way. */
  close(): void {
    this.settle();
    this.store.close();
    this.settle();
    this.buffer.free();
    for (const buffer of this.#freeBuffers) buffer.free();
    this.device.memory.free();
  }

  /** Makes calls at random. @throws Error at the first read of other bytes, or page that leaks */
  runModel(options: ModelOptions): void {
    this.#files = Array.from({ length: options.files }, () => this.#newFile());
    for (let step = 0; step < options.steps; step += 1) {
      this.#act(options);
      while (this.random() < 0.6) if (!this.#step()) break;
      if (step % 100 === 99) this.#checkAll();
    }
    this.#checkAll();
    for (let file = 0; file < options.files; file += 1) this.store.remove(file);
    this.settle();
    const { usedPageCount } = this.store.room();
    if (usedPageCount !== 0) this.#fail(`${usedPageCount} pages leaked`);
    const present = this.device.presentCount;
    if (!this.#mayFail && present > 0) this.#fail(`${present} pages were not trimmed`);
    const { pages } = this.#options;
    if (this.store.reserve(0, 0, pages * PAGE) !== 0) this.#fail('not all pages came back');
    this.store.remove(0);
  }

  get #mayFail(): boolean {
    return (this.#options.failureRate ?? 0) > 0;
  }

  #newFile(): ModelFile {
    const image = Buffer.alloc(MODEL_FILE_SIZE);
    return { images: [image], history: [image], size: 0, changeCount: 0, readCount: 0 };
  }

  /** One device request ends, or a timer fires when there is none (and now and then). */
  #step(): boolean {
    if (this.random() < 0.1 || this.device.pendingCount === 0) {
      const timer = this.#timers.shift();
      if (timer !== undefined) {
        timer();
        return true;
      }
    }
    return this.device.step();
  }

  #onDone(tag: number, result: number): void {
    const end = this.#ends.get(tag);
    if (end === undefined) throw new Error(`call ${tag} ended twice`);
    this.#ends.delete(tag);
    end(result);
  }

  #fail(message: string): never {
    throw new Error(`SEED=${this.#options.seed}: ${message}`);
  }

  #pick(countBelow: number): number {
    return Math.floor(this.random() * countBelow);
  }

  /** A range; every other one begins and ends at pages. */
  #range(): { offset: number; length: number } {
    if (this.random() < 0.5) {
      const first = this.#pick(23);
      return { offset: first * PAGE, length: (1 + this.#pick(Math.min(8, 24 - first))) * PAGE };
    }
    const offset = this.#pick(MODEL_FILE_SIZE - 1);
    const most = Math.min(this.random() < 0.5 ? 300 : 20_000, MODEL_FILE_SIZE - offset);
    return { offset, length: 1 + this.#pick(most) };
  }

  #act(options: ModelOptions): void {
    const number = this.#pick(options.files);
    const file = this.#files[number] as ModelFile;
    const { offset, length } = this.#range();
    const dice = this.random();
    if (dice < 0.3) {
      this.#startRead(number, file, offset, length);
    } else if (dice > 0.97) {
      // The file system holds the source of a copy.
      if (!options.removes || file.changeCount >= COPY_SOURCE) return;
      this.#files[number] = this.#newFile();
      this.store.remove(number);
    } else if (dice > 0.94) {
      this.begin(
        (tag) => this.store.sync(tag),
        (result) => {
          if (result !== 0 && !this.#mayFail) this.#fail(`sync: ${result}`);
        },
      );
    } else if (dice > 0.9) {
      this.#checkSeek(number, file, offset);
    } else if (dice > 0.87) {
      this.store.reserve(number, offset, length);
    } else if (file.changeCount < options.changesAtOnce) {
      this.#startChange(number, file, { offset, length }, (dice - 0.3) / 0.57);
    }
    if (file.images.length > 8 && file.changeCount < COPY_SOURCE) {
      this.#files[number] = this.#newFile();
      this.store.remove(number);
    }
  }

  #startRead(number: number, file: ModelFile, offset: number, length: number): void {
    const into = this.#freeBuffers.pop() ?? new NativeMemory(MODEL_FILE_SIZE);
    const at = this.#pick(MODEL_FILE_SIZE - length + 1);
    into.bytes.fill(0xdd);
    file.readCount += 1;
    this.begin(
      (tag) => this.store.read(tag, number, offset, length, into, at),
      (result) => {
        const got = into.bytes.subarray(at, at + length);
        if (result === length) this.#checkBytes(number, file, offset, got);
        else if (result !== -5 || !(this.#mayFail || this.#files[number] !== file)) {
          this.#fail(`read: ${result}`);
        }
        if (into.bytes.subarray(0, at).some((byte) => byte !== 0xdd)) this.#fail('a read before');
        if (into.bytes.subarray(at + length).some((byte) => byte !== 0xdd))
          this.#fail('a read behind');
        this.#freeBuffers.push(into);
        file.readCount -= 1;
        this.#quiet(file);
      },
    );
  }

  #checkBytes(number: number, file: ModelFile, offset: number, got: Buffer): void {
    const length = got.length;
    if (file.history.some((image) => got.equals(image.subarray(offset, offset + length)))) return;
    for (let at = 0; at < length; at += 1) {
      if (file.history.some((image) => image[offset + at] === got[at])) continue;
      this.#fail(`file ${number}: byte ${offset + at} is ${String(got[at])}`);
    }
  }

  #startChange(
    number: number,
    file: ModelFile,
    range: { offset: number; length: number },
    dice: number,
  ): void {
    const { offset, length } = range;
    const end = offset + length;
    if (dice < 0.3 && this.random() < 0.5) {
      this.#startWrite(number, file, 0, Math.max(1, this.#pick(2500)));
    } else if (dice < 0.6) {
      this.#startWrite(number, file, offset, length);
    } else if (dice < 0.75) {
      this.#change(file, (image) => image.fill(0, offset), 0, {
        call: (tag) => this.store.truncate(tag, number, offset),
        onEnd: (result) => {
          if (result === 0 && file.changeCount === 0) file.size = Math.min(file.size, offset);
        },
      });
    } else if (dice < 0.9) {
      this.#change(file, (image) => image.fill(0, offset, end), 0, {
        call: (tag) => this.store.punch(tag, number, offset, length),
        onEnd: () => undefined,
      });
    } else {
      this.#startCopy(number, file, offset, length);
    }
  }

  #startWrite(number: number, file: ModelFile, offset: number, length: number): void {
    const data = this.bytes(length);
    const from = this.#freeBuffers.pop() ?? new NativeMemory(MODEL_FILE_SIZE);
    const at = this.#pick(MODEL_FILE_SIZE - length + 1);
    data.copy(from.bytes, at);
    this.#change(file, (image) => data.copy(image, offset), length, {
      call: (tag) => this.store.write(tag, number, offset, length, from, at, file.size),
      onEnd: (result) => {
        from.bytes.fill(0xcc);
        this.#freeBuffers.push(from);
        // What failed may have written behind the end.
        if (result > 0 || this.#mayFail) file.size = Math.max(file.size, offset + length);
      },
    });
  }

  #startCopy(number: number, file: ModelFile, offset: number, length: number): void {
    const to = this.#pick(this.#files.length);
    const target = this.#files[to] as ModelFile;
    const [image] = file.images;
    const isBusy = file.changeCount > 0 || target.changeCount > 0;
    if (to === number || isBusy || file.images.length > 1 || image === undefined) return;
    const toOffset = this.random() < 0.5 ? offset : this.#pick(MODEL_FILE_SIZE - length);
    const source = Buffer.from(image.subarray(offset, offset + length));
    // No change of the source meanwhile.
    file.changeCount += COPY_SOURCE;
    this.#change(target, (bytes) => source.copy(bytes, toOffset), length, {
      call: (tag) => this.store.copy(tag, number, offset, to, toOffset, length),
      onEnd: (result) => {
        file.changeCount -= COPY_SOURCE;
        if (result > 0 || this.#mayFail) target.size = Math.max(target.size, toOffset + length);
      },
      mayBeShort: true,
    });
  }

  #change(
    file: ModelFile,
    apply: (image: Buffer) => void,
    expected: number,
    call: {
      call: (tag: number) => void;
      onEnd: (result: number) => void;
      mayBeShort?: boolean;
    },
  ): void {
    const before = file.images;
    const changed = before.map((image) => {
      const copy = Buffer.from(image);
      apply(copy);
      return copy;
    });
    file.changeCount += 1;
    file.images = changed;
    file.history = [...file.history, ...changed];
    const isRemoved = (): boolean => !this.#files.includes(file);
    this.begin(call.call, (result) => {
      file.changeCount -= 1;
      call.onEnd(result);
      const isShort = call.mayBeShort === true && result > 0 && result < expected;
      if (result !== expected) {
        const mayBeError = this.#mayFail || isRemoved();
        if (!isShort && result !== -28 && !(result === -5 && mayBeError)) {
          this.#fail(`a change: expected ${expected}, got ${result}`);
        }
        const isUnchanged = result === -28 && !this.#mayFail && call.mayBeShort !== true;
        file.images = isUnchanged ? before : [...before, ...changed];
      }
      this.#quiet(file);
    });
  }

  #quiet(file: ModelFile): void {
    if (file.changeCount === 0 && file.readCount === 0) file.history = file.images;
  }

  #checkSeek(number: number, file: ModelFile, offset: number): void {
    const [image] = file.images;
    if (image === undefined || file.images.length > 1 || file.changeCount > 0) return;
    if (offset >= file.size) return;
    const data = this.store.seekData(number, offset, file.size);
    if (data < offset || data > file.size) this.#fail(`seekData: ${data}`);
    if (image.subarray(offset, data).some((byte) => byte !== 0)) this.#fail('seekData: over data');
    const hole = this.store.seekHole(number, offset, file.size);
    if (hole < offset || hole > file.size) this.#fail(`seekHole: ${hole}`);
    const end = Math.min(file.size, (Math.floor(hole / PAGE) + 1) * PAGE);
    if (image.subarray(hole, end).some((byte) => byte !== 0)) this.#fail('seekHole: in data');
  }

  /** Waits for everything, reads every file whole, counts pages. */
  #checkAll(): void {
    this.settle();
    let pages = 0;
    this.#files.forEach((file, number) => {
      this.#startRead(number, file, 0, MODEL_FILE_SIZE);
      pages += this.store.blocks(number) / 8;
    });
    this.settle();
    const used = this.store.room().usedPageCount;
    if (this.#options.unpacked === true ? used !== pages : used < pages)
      this.#fail(`files have ${pages} pages, the store says ${used}`);
  }
}
