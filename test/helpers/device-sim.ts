/**
 * A simulated run of the block device, from a scenario and a seed: several clients with requests of
 * any alignment, all at once. A twin knows, for each byte, which values may be read. Throws when a
 * byte is another one, when a request ends twice, at another client, or never.
 */
import { NativeMemory } from '../../common/native-memory.ts';
import { IoStatus, type BlockQueue, type IoStatusValue } from '../../common/ports.ts';
import { PAGE_SIZE_BYTES, SLAB_PAGE_COUNT } from '../../common/units.ts';
import { VolumeBlockDevice } from '../../tier/block-device.ts';
import { VOLUME_TICK_MS, Volume } from '../../tier/volume.ts';
import { NO_FAULTS, SimSource, SimWorld, type SimFaults } from './sim-world.ts';

const SIZE_BYTES = 80 * PAGE_SIZE_BYTES;
const LENGTH_MAX_BYTES = 24 * PAGE_SIZE_BYTES;
const CLIENTS = 3;
const LEASE_TTL_MS = 60_000;

/** What goes wrong in a run. */
export interface DeviceScenario {
  name: string;
  copies: number;
  providers: number;
  faults: Partial<SimFaults>;
  /** Chance of a provider going down or coming back at each step. */
  churn: number;
  /** Chance of a client leaving, and another coming, at each step. */
  leaving: number;
  /** Close the volume with requests in flight. */
  closeUnderLoad: boolean;
  /** Requests may fail. */
  mayFail: boolean;
}

/** A byte of value `value` (1 to 7) at `offset`: names its place, so that bytes of elsewhere show. */
function byteOf(offset: number, value: number): number {
  if (value === 0) return 0;
  const place = 1 + ((Math.imul(offset + 1, 0x9e3779b1) >>> 8) % 31);
  return (place << 3) | value;
}

/** The value of a byte read at `offset`, or -1 when no write ever put it there. */
function valueOf(offset: number, byte: number): number {
  const value = byte & 7;
  return byteOf(offset, value) === byte ? value : -1;
}

interface Change {
  readonly start: number;
  readonly end: number;
  readonly value: number;
  /** Values that others wrote while this one was in flight, as bits, for each byte. */
  readonly others: Uint8Array;
}

interface Reading {
  readonly start: number;
  readonly end: number;
  /** Values that may be read, as bits, for each byte. */
  readonly allowed: Uint8Array;
}

/** What each byte may be. */
class Twin {
  readonly #possible = new Uint8Array(SIZE_BYTES).fill(1);
  readonly #changes = new Set<Change>();
  readonly #readings = new Set<Reading>();

  startChange(start: number, end: number, value: number): Change {
    const change = { start, end, value, others: new Uint8Array(end - start) };
    for (const other of this.#changes) {
      const from = Math.max(start, other.start);
      const to = Math.min(end, other.end);
      for (let at = from; at < to; at += 1) {
        change.others[at - start] = (change.others[at - start] ?? 0) | (1 << other.value);
        other.others[at - other.start] = (other.others[at - other.start] ?? 0) | (1 << value);
      }
    }
    for (let at = start; at < end; at += 1) {
      this.#possible[at] = (this.#possible[at] ?? 0) | (1 << value);
    }
    for (const reading of this.#readings) {
      const from = Math.max(start, reading.start);
      const to = Math.min(end, reading.end);
      for (let at = from; at < to; at += 1) {
        const index = at - reading.start;
        reading.allowed[index] = (reading.allowed[index] ?? 0) | (1 << value);
      }
    }
    this.#changes.add(change);
    return change;
  }

  endChange(change: Change, done: boolean): void {
    this.#changes.delete(change);
    if (!done) return;
    for (let at = change.start; at < change.end; at += 1) {
      this.#possible[at] = (1 << change.value) | (change.others[at - change.start] ?? 0);
    }
  }

  startReading(start: number, end: number): Reading {
    const reading = { start, end, allowed: this.#possible.slice(start, end) };
    this.#readings.add(reading);
    return reading;
  }

  /** Ends a reading; returns what is wrong with the bytes, or undefined. */
  endReading(reading: Reading, bytes: Uint8Array | undefined): string | undefined {
    this.#readings.delete(reading);
    if (bytes === undefined) return undefined;
    for (let at = reading.start; at < reading.end; at += 1) {
      const byte = bytes[at - reading.start] ?? 0;
      const value = valueOf(at, byte);
      if (value === -1) return `byte ${at} is ${byte}, which nobody wrote there`;
      const allowed = reading.allowed[at - reading.start] ?? 0;
      if (((allowed >> value) & 1) === 0) return `byte ${at} has value ${value} of ${allowed}`;
    }
    return undefined;
  }
}

interface Client {
  queue: BlockQueue;
  open: Map<number, (status: IoStatusValue) => void>;
}

class Run {
  readonly world: SimWorld;
  readonly volume: Volume;
  readonly device: VolumeBlockDevice;
  readonly twin = new Twin();
  readonly clients: Client[] = [];
  /** Clients that left with requests in flight. */
  readonly left: Client[] = [];
  readonly #scenario: DeviceScenario;
  readonly #seed: number;
  /** Where the bytes of the twin begin: every other seed has a slab border amid them. */
  readonly #base: number;
  readonly #buffers: NativeMemory[] = [];
  #tag = 0;
  closed = false;

  constructor(scenario: DeviceScenario, seed: number) {
    this.#scenario = scenario;
    this.#seed = seed;
    this.#base = seed % 2 === 0 ? SLAB_PAGE_COUNT * PAGE_SIZE_BYTES - SIZE_BYTES / 2 : 0;
    this.world = new SimWorld(seed);
    for (let index = 0; index < scenario.providers; index += 1) {
      const source = new SimSource(this.world, `p${index}`, 2 ** 26);
      source.faults = { ...NO_FAULTS, ...scenario.faults };
      source.latencyMs = 1 + this.world.random() * 10;
    }
    const options = {
      name: 'sim',
      sizeBytes: this.#base + SIZE_BYTES,
      copies: scenario.copies,
      ringSizeBytes: 64 * PAGE_SIZE_BYTES,
      leaseTtlMs: LEASE_TTL_MS,
      requestDeadlineMs: 5_000,
    };
    this.volume = new Volume(options, this.world.volumeWorld);
    this.device = new VolumeBlockDevice(this.volume);
    const tick = (): void => {
      this.volume.tick();
      this.world.after(VOLUME_TICK_MS, tick);
    };
    this.world.after(VOLUME_TICK_MS, tick);
    for (let index = 0; index < CLIENTS; index += 1) this.clients.push(this.#newClient());
  }

  get openCount(): number {
    return [...this.clients, ...this.left].reduce((sum, { open }) => sum + open.size, 0);
  }

  fail(message: string): never {
    throw new Error(`${this.#scenario.name}, SEED=${this.#seed}: ${message}`);
  }

  /** One step: a request of a random client, or a fault. */
  step(): void {
    const { random } = this.world;
    const client = this.clients[Math.floor(random() * CLIENTS)];
    if (client !== undefined && client.open.size < 6) this.#request(client);
    if (random() < this.#scenario.churn) this.#churn();
    if (random() < this.#scenario.leaving) {
      const index = Math.floor(random() * CLIENTS);
      const leaving = this.clients[index];
      if (leaving === undefined) return;
      leaving.queue.close();
      this.left.push(leaving);
      this.clients[index] = this.#newClient();
    }
  }

  read(client: Client, start: number, end: number): void {
    const buffer = this.#buffers.pop() ?? new NativeMemory(LENGTH_MAX_BYTES);
    const reading = this.twin.startReading(start, end);
    const tag = this.#open(client, (status) => {
      const read = status === IoStatus.OK ? buffer.bytes.subarray(0, end - start) : undefined;
      const wrong = this.twin.endReading(reading, read);
      if (wrong !== undefined) this.fail(wrong);
      this.#buffers.push(buffer);
    });
    client.queue.read(tag, this.#base + start, end - start, buffer, 0);
  }

  #newClient(): Client {
    const open = new Map<number, (status: IoStatusValue) => void>();
    const queue = this.device.openQueue({
      onBlockDone: (tag, status) => {
        const end = open.get(tag);
        if (end === undefined) return this.fail(`request ${tag} ended twice or at another client`);
        open.delete(tag);
        if (status === IoStatus.SHUTDOWN && !this.closed) this.fail('SHUTDOWN of an open volume');
        if (status !== IoStatus.OK && !this.#scenario.mayFail) this.fail(`status ${status}`);
        end(status);
      },
    });
    return { queue, open };
  }

  #open(client: Client, end: (status: IoStatusValue) => void): number {
    this.#tag += 1;
    client.open.set(this.#tag, end);
    return this.#tag;
  }

  #request(client: Client): void {
    const { random } = this.world;
    const aligned = random() < 0.5;
    const unit = aligned ? PAGE_SIZE_BYTES : random() < 0.5 ? 512 : 1;
    const long = random() < 0.2 ? LENGTH_MAX_BYTES : 3 * PAGE_SIZE_BYTES;
    const start = Math.floor((random() * SIZE_BYTES) / unit) * unit;
    const length = Math.max(unit, Math.floor((random() * long) / unit) * unit);
    const end = Math.min(SIZE_BYTES, start + length);
    const action = random();
    if (action < 0.4) this.read(client, start, end);
    else if (action < 0.8) this.#write(client, start, end, action < 0.43);
    else if (action < 0.9) this.#trim(client, start, end);
    else if (action < 0.96) this.#writeZeroes(client, start, end, action < 0.91);
    else client.queue.flush(this.#open(client, () => undefined));
  }

  #write(client: Client, start: number, end: number, forceUnitAccess: boolean): void {
    const buffer = this.#buffers.pop() ?? new NativeMemory(LENGTH_MAX_BYTES);
    const value = 1 + Math.floor(this.world.random() * 7);
    for (let at = start; at < end; at += 1) buffer.bytes[at - start] = byteOf(at, value);
    const change = this.twin.startChange(start, end, value);
    const tag = this.#open(client, (status) => {
      this.twin.endChange(change, status === IoStatus.OK);
      this.#buffers.push(buffer);
    });
    const { queue } = client;
    if (queue.tryWrite(tag, this.#base + start, end - start, buffer, 0, forceUnitAccess)) return;
    queue.write(tag, this.#base + start, end - start, buffer, 0, forceUnitAccess);
  }

  #trim(client: Client, start: number, end: number): void {
    const firstByte = Math.ceil(start / PAGE_SIZE_BYTES) * PAGE_SIZE_BYTES;
    const lastByte = Math.floor(end / PAGE_SIZE_BYTES) * PAGE_SIZE_BYTES;
    const change = this.twin.startChange(firstByte, Math.max(firstByte, lastByte), 0);
    const tag = this.#open(client, (status) => {
      this.twin.endChange(change, status === IoStatus.OK);
    });
    client.queue.trim(tag, this.#base + start, end - start);
  }

  #writeZeroes(client: Client, start: number, end: number, forceUnitAccess: boolean): void {
    const change = this.twin.startChange(start, end, 0);
    const tag = this.#open(client, (status) => {
      this.twin.endChange(change, status === IoStatus.OK);
    });
    client.queue.writeZeroes(tag, this.#base + start, end - start, forceUnitAccess);
  }

  /** At most one provider is away at a time. */
  #churn(): void {
    const { sources, random } = this.world;
    const down = sources.find((source) => !source.up);
    if (down !== undefined) down.comeBack(false);
    else sources[Math.floor(random() * sources.length)]?.goDown();
  }
}

/** Runs a scenario to its end. @throws Error that names the scenario, the seed and what was wrong */
export async function simulateDevice(scenario: DeviceScenario, seed: number): Promise<void> {
  const run = new Run(scenario, seed);
  const { world } = run;
  for (let step = 0; step < 300; step += 1) {
    run.step();
    if (world.random() < 0.5) await world.advance(world.random() * 6);
    else await world.settle();
  }
  if (scenario.closeUnderLoad) {
    run.closed = true;
    const closing = run.volume.close();
    for (let step = 0; step < 20; step += 1) run.step();
    await world.advance(20_000);
    await closing;
    if (run.openCount > 0) run.fail(`${run.openCount} requests outlived the volume`);
    for (const source of world.sources) {
      if (source.openQueueCount > 0) run.fail('a page queue was left open');
    }
    return;
  }
  for (const source of world.sources) {
    source.faults = NO_FAULTS;
    if (!source.up) source.comeBack(false);
  }
  world.believeAll();
  // A provider that denied a lease and kept it has room for another at the end of that lease.
  await world.advance(LEASE_TTL_MS);
  if (run.openCount > 0) run.fail(`${run.openCount} requests never ended`);
  const client = run.clients[0];
  if (client === undefined) return;
  for (let at = 0; at < SIZE_BYTES; at += LENGTH_MAX_BYTES) {
    run.read(client, at, Math.min(SIZE_BYTES, at + LENGTH_MAX_BYTES));
  }
  await world.advance(10_000);
  if (run.openCount > 0) run.fail('a read never ended');
  const { ringUsedPages } = run.volume.status();
  if (ringUsedPages !== 0) run.fail(`${ringUsedPages} pages are stuck in the ring`);
  const closing = run.volume.close();
  await world.advance(5_000);
  await closing;
}
