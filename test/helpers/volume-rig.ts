/**
 * A volume over simulated providers with one client, for tests that tell a story: write this, cut
 * that, let time pass, see how each request ended. A request that ends twice, or an end that nobody
 * asked for, throws.
 */
import { NativeMemory } from '../../common/native-memory.ts';
import { IoStatus, type IoStatusValue } from '../../common/ports.ts';
import { PAGE_SIZE_BYTES, SEALED_PAGE_SIZE_BYTES, SLAB_PAGE_COUNT } from '../../common/units.ts';
import type { VolumeOptions } from '../../tier/volume-state.ts';
import { VOLUME_TICK_MS, Volume } from '../../tier/volume.ts';
import { SimSource, SimWorld } from './sim-world.ts';

/** Bytes that a provider must offer to hold one slab. */
export const SLAB_SIZE_BYTES = SLAB_PAGE_COUNT * SEALED_PAGE_SIZE_BYTES;

/** How a request stands: undefined while it has not ended. */
export interface Outcome {
  status: IoStatusValue | undefined;
  /** Read: the buffer that was read into. Write: the buffer written from. */
  readonly buffer: NativeMemory;
}

/** Fills page `slot` of a buffer with bytes that only `content` has; 0 is zeroes. */
export function fillContent(buffer: NativeMemory, slot: number, content: number): void {
  const base = slot * PAGE_SIZE_BYTES;
  if (content === 0) {
    buffer.bytes.fill(0, base, base + PAGE_SIZE_BYTES);
    return;
  }
  for (let at = 0; at < PAGE_SIZE_BYTES; at += 8) {
    buffer.bytes.writeUInt32LE(content, base + at);
    buffer.bytes.writeUInt32LE(at, base + at + 4);
  }
}

/** The content that page `slot` of a buffer was filled with, or -1 when it is no whole content. */
export function contentOf(buffer: NativeMemory, slot: number): number {
  const base = slot * PAGE_SIZE_BYTES;
  const content = buffer.bytes.readUInt32LE(base);
  const twin = new NativeMemory(PAGE_SIZE_BYTES);
  fillContent(twin, 0, content);
  const same = twin.bytes.equals(buffer.bytes.subarray(base, base + PAGE_SIZE_BYTES));
  twin.free();
  return same ? content : -1;
}

/** What to build. */
export interface RigOptions extends Partial<VolumeOptions> {
  readonly seed?: number;
  /** Pages of the volume. */
  readonly pages?: number;
  /** Bytes that each provider offers, one entry for each. */
  readonly offers?: readonly number[];
  /** Bytes of a place of last resort; none without. */
  readonly spillBytes?: number;
}

/** The volume, its providers and its client. */
export class VolumeRig {
  readonly world: SimWorld;
  readonly volume: Volume;
  readonly queue: number;
  /** Called at each end, inside the volume's call of the sink. */
  onEnd: ((tag: number, status: IoStatusValue) => void) | undefined;
  readonly #open = new Map<number, Outcome>();
  #tag = 0;

  constructor(options: RigOptions = {}) {
    const { seed = 1, pages = 256, offers = [2 ** 30], spillBytes, ...rest } = options;
    this.world = new SimWorld(seed);
    offers.forEach((offer, index) => new SimSource(this.world, `p${index}`, offer));
    if (spillBytes !== undefined) {
      this.world.spill = new SimSource(this.world, 'spill', spillBytes, false);
    }
    this.volume = new Volume(
      {
        name: 'rig',
        sizeBytes: pages * PAGE_SIZE_BYTES,
        copies: 1,
        ringSizeBytes: 64 * PAGE_SIZE_BYTES,
        leaseTtlMs: 20_000,
        requestDeadlineMs: 5_000,
        ...rest,
      },
      this.world.volumeWorld,
    );
    this.queue = this.volume.openQueue({ onVolumeDone: (tag, status) => this.#end(tag, status) });
    const tick = (): void => {
      this.volume.tick();
      this.world.after(VOLUME_TICK_MS, tick);
    };
    this.world.after(VOLUME_TICK_MS, tick);
  }

  /** Provider `index`. */
  source(index: number): SimSource {
    const source = this.world.sources[index];
    if (source === undefined) throw new Error(`no provider ${index}`);
    return source;
  }

  /** Requests that have not ended. */
  get openCount(): number {
    return this.#open.size;
  }

  /** Writes one content to each page of a run; page n of the run gets `content + n`, or 0 for 0. */
  write(page: number, count: number, content: number, forceUnitAccess = false): Outcome {
    const outcome = this.#outcome(count);
    for (let index = 0; index < count; index += 1) {
      fillContent(outcome.buffer, index, content === 0 ? 0 : content + index);
    }
    if (!forceUnitAccess && this.volume.tryWrite(page, count, outcome.buffer, 0)) {
      outcome.status = IoStatus.OK;
      return outcome;
    }
    this.#tag += 1;
    this.#open.set(this.#tag, outcome);
    this.volume.write(this.queue, this.#tag, page, count, outcome.buffer, 0, forceUnitAccess);
    return outcome;
  }

  read(page: number, count = 1): Outcome {
    const outcome = this.#outcome(count);
    this.#tag += 1;
    this.#open.set(this.#tag, outcome);
    this.volume.read(this.queue, this.#tag, page, count, outcome.buffer, 0);
    return outcome;
  }

  flush(): Outcome {
    const outcome = this.#outcome(1);
    this.#tag += 1;
    this.#open.set(this.#tag, outcome);
    this.volume.flush(this.queue, this.#tag);
    return outcome;
  }

  /** Lets time pass. */
  advance(ms: number): Promise<void> {
    return this.world.advance(ms);
  }

  /** Reads a page to its end: its content, or the status as a negative number. */
  async contentAt(page: number): Promise<number> {
    const outcome = this.read(page);
    for (let ms = 0; outcome.status === undefined && ms < 20_000; ms += 100) {
      await this.advance(100);
    }
    return outcome.status === IoStatus.OK
      ? contentOf(outcome.buffer, 0)
      : -(outcome.status ?? 1000);
  }

  /** Closes the volume; afterwards nothing may be open. */
  async close(): Promise<void> {
    const closing = this.volume.close();
    await this.advance(10_000);
    await closing;
    if (this.#open.size > 0) throw new Error(`${this.#open.size} requests outlived the volume`);
  }

  #outcome(count: number): Outcome {
    return { status: undefined, buffer: new NativeMemory(count * PAGE_SIZE_BYTES) };
  }

  #end(tag: number, status: IoStatusValue): void {
    const outcome = this.#open.get(tag);
    if (outcome === undefined) throw new Error(`request ${tag} ended twice`);
    this.#open.delete(tag);
    outcome.status = status;
    this.onEnd?.(tag, status);
  }
}
