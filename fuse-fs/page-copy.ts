/**
 * Copies within the store, step by step through a few buffers of a fixed size: a run of holes makes
 * holes, a run of bytes is read and then written. The steps are calls of the store themselves; the pages
 * that are written belong to the copy until it ends. Steps may end before they return, so a loop and not
 * a chain of calls leads from one to the next.
 */
import { NativeMemory } from '../common/native-memory.ts';
import { PAGE_SIZE_BYTES } from '../common/units.ts';
import { Errno } from './errno.ts';
import { CallKind, NO_FILE } from './store-requests.ts';
import type { StoreState } from './store-state.ts';

/** Copies under way at most. */
export const COPY_ACTIVE_MAX = 2;

/** Bytes of a copy's buffer: what one step moves. */
const COPY_BUFFER_SIZE_BYTES = 262_144;

/** What a copy does next. */
const CopyPhase = {
  /** Looks at what lies at its cursor. */
  LOOK: 0,
  /** Writes what was read. */
  WRITE: 1,
  /** Waits for a step. */
  STEP: 2,
  /** Counts a step that wrote or made a hole. */
  COUNT: 3,
} as const;

/** What copies need of their store. */
export interface CopyHost {
  /** Starts a step of a copy, which ends with {@link PageCopies.onStepDone}. */
  startStep(row: number): void;
  /** The copy ended. */
  onCallDone(row: number, result: number): void;
}

/** The copies under way. */
export class PageCopies {
  readonly #state: StoreState;
  readonly #host: CopyHost;
  readonly #memory: NativeMemory;
  readonly #freeBuffers = Array.from({ length: COPY_ACTIVE_MAX }, (_, index) => index);
  /** The copy whose loop runs, innermost, or -1. */
  #looping = -1;

  /** @param state - what the parts of the store share */
  constructor(state: StoreState, host: CopyHost) {
    this.#state = state;
    this.#host = host;
    this.#memory = new NativeMemory(COPY_ACTIVE_MAX * COPY_BUFFER_SIZE_BYTES, { secret: true });
  }

  /** True when one more copy can start. */
  get hasRoom(): boolean {
    return this.#freeBuffers.length > 0;
  }

  /** Starts a copy; there is room. */
  start(row: number): void {
    const { requests } = this.#state;
    requests.copyBuffer[row] = this.#freeBuffers.pop() as number;
    requests.copyPhase[row] = CopyPhase.LOOK;
    this.#loop(row);
  }

  /** A step of copy `row` ended. */
  onStepDone(row: number, result: number): void {
    const { requests } = this.#state;
    if (result < 0) {
      requests.stepLength[row] = result;
      requests.copyPhase[row] = CopyPhase.COUNT;
    } else {
      // A read is followed by its write; anything else ends the step.
      const wasRead = requests.nextPhase[row] === CopyPhase.WRITE;
      requests.copyPhase[row] = wasRead ? CopyPhase.WRITE : CopyPhase.COUNT;
    }
    if (this.#looping !== row) this.#loop(row);
  }

  /** Frees the buffers; no copy is under way. */
  free(): void {
    this.#memory.free();
  }

  #loop(row: number): void {
    const { requests } = this.#state;
    const outer = this.#looping;
    this.#looping = row;
    let isOver = false;
    while (!isOver && requests.copyPhase[row] !== CopyPhase.STEP) {
      const phase = requests.copyPhase[row];
      requests.copyPhase[row] = CopyPhase.STEP;
      if (phase === CopyPhase.WRITE) this.#write(row);
      else isOver = (phase === CopyPhase.COUNT && this.#count(row)) || this.#look(row);
    }
    this.#looping = outer;
  }

  /** Adds what a step did. @returns true when the copy ended */
  #count(row: number): boolean {
    const { requests } = this.#state;
    const done = requests.stepLength[row] as number;
    if (done < 0) {
      // What was copied stays copied, and is said.
      const cursor = requests.cursor[row] as number;
      return this.#end(row, cursor > 0 ? cursor : done);
    }
    requests.cursor[row] = (requests.cursor[row] as number) + done;
    return false;
  }

  /** Starts the next step. @returns true when there was none and the copy ended */
  #look(row: number): boolean {
    const { requests, table, allocator, small } = this.#state;
    const length = requests.length[row] as number;
    const cursor = requests.cursor[row] as number;
    if (cursor === length) return this.#end(row, length);
    const source = requests.sourceFile[row] as number;
    const file = requests.file[row] as number;
    if (source === NO_FILE || file === NO_FILE) return this.#end(row, -Errno.EIO);
    const at = (requests.sourceOffset[row] as number) + cursor;
    const page = Math.floor(at / PAGE_SIZE_BYTES);
    const endPage = Math.ceil((at + length - cursor) / PAGE_SIZE_BYTES);
    let count = table.run(source, page, endPage);
    const volumePage = table.runPage;
    const isSmall = page === 0 && small?.has(source) === true;
    const isData = isSmall || (volumePage !== -1 && allocator.isWritten(volumePage));
    if (isSmall) {
      count = 1;
    } else if (volumePage !== -1) {
      count = allocator.writtenRunEnd(volumePage, volumePage + count) - volumePage;
    }
    const runLength = Math.min(length - cursor, (page + count) * PAGE_SIZE_BYTES - at);
    if (isData) this.#read(row, at, runLength);
    else this.#punch(row, runLength);
    return false;
  }

  #punch(row: number, length: number): void {
    const { requests } = this.#state;
    requests.stepLength[row] = length;
    requests.nextPhase[row] = CopyPhase.COUNT;
    const offset = (requests.offset[row] as number) + (requests.cursor[row] as number);
    this.#step(row, CallKind.PUNCH, requests.file[row] as number, offset, length);
  }

  #read(row: number, at: number, runLength: number): void {
    const { requests } = this.#state;
    const offset = (requests.offset[row] as number) + (requests.cursor[row] as number);
    // Ends on a page of the new file, so that no page is changed twice.
    const room = COPY_BUFFER_SIZE_BYTES - (offset % PAGE_SIZE_BYTES);
    const length = Math.min(runLength, room);
    requests.stepLength[row] = length;
    requests.nextPhase[row] = CopyPhase.WRITE;
    this.#step(row, CallKind.READ, requests.sourceFile[row] as number, at, length);
  }

  #write(row: number): void {
    const { requests } = this.#state;
    const offset = (requests.offset[row] as number) + (requests.cursor[row] as number);
    const length = requests.stepLength[row] as number;
    requests.nextPhase[row] = CopyPhase.COUNT;
    const file = requests.file[row] as number;
    if (file === NO_FILE) this.onStepDone(row, -Errno.EIO);
    else this.#step(row, CallKind.WRITE, file, offset, length);
  }

  #step(
    row: number,
    kind: typeof CallKind.READ | typeof CallKind.WRITE | typeof CallKind.PUNCH,
    file: number,
    offset: number,
    length: number,
  ): void {
    const { requests } = this.#state;
    const step = requests.take(kind, row, file, offset, length);
    if (step === -1) {
      this.onStepDone(row, -Errno.ENOMEM);
      return;
    }
    requests.parent[step] = row;
    if (kind !== CallKind.PUNCH) {
      requests.buffer[step] = this.#memory;
      const buffer = requests.copyBuffer[row] as number;
      requests.bufferOffset[step] = buffer * COPY_BUFFER_SIZE_BYTES;
    }
    this.#host.startStep(step);
  }

  #end(row: number, result: number): boolean {
    this.#freeBuffers.push(this.#state.requests.copyBuffer[row] as number);
    this.#host.onCallDone(row, result);
    return true;
  }
}
