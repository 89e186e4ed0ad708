/**
 * A simulated run of a volume, from a scenario and a seed: one client with many requests at once over
 * providers that delay, cut, restart, lie and run dry. Throws when a page reads as other bytes than
 * the last acknowledged, when a request ends twice or never, when slots, leases or queues are left.
 */
import { NativeMemory } from '../../common/native-memory.ts';
import { IoStatus, type IoStatusValue } from '../../common/ports.ts';
import { PAGE_SIZE_BYTES, SLAB_PAGE_COUNT } from '../../common/units.ts';
import type { VolumeOptions } from '../../tier/volume-state.ts';
import { Volume } from '../../tier/volume.ts';
import { NO_FAULTS, SimSource, SimWorld, type SimFaults } from './sim-world.ts';

const PAGES = 96;
const SLOTS = 64;

/** What goes wrong in a run. */
export interface VolumeScenario {
  name: string;
  copies: number;
  providers: number;
  faults: Partial<SimFaults>;
  /** Chance of a provider going down or coming back at each step. */
  churn: number;
  /** A provider that comes back has forgotten everything. */
  restarts: boolean;
  /** Errors of reads that the scenario may cause. */
  mayLose: boolean;
  /** The faults are those of so many providers; of all by default. */
  faulty?: number;
  /** Close the volume with requests in flight instead of looking at what is left. */
  closeUnderLoad?: boolean;
  /** The first provider dies for good in the middle of the run. */
  dies?: boolean;
  /** Chance of a provider standing still, or going on, at each step; one at a time. */
  stops?: number;
  /** Chance, at each step, of a provider of the first half asking a lease back; it ends it 5 s later. */
  recalls?: number;
  /** At the end every slab must have all its copies. */
  heals?: boolean;
  /** Canary: chance of a write that the model hears of and the volume does not. */
  lostWrite?: number;
}

/** What may be read from a page: contents by number, 0 for zeroes. */
class Model {
  readonly allowed: Set<number>[] = Array.from({ length: PAGES }, () => new Set([0]));
  readonly busy = new Uint8Array(PAGES);
}

/** Page contents that name themselves: content n of page p is a stream that starts from both. */
function fill(buffer: NativeMemory, slot: number, page: number, content: number): void {
  const base = slot * PAGE_SIZE_BYTES;
  if (content === 0) {
    buffer.bytes.fill(0, base, base + PAGE_SIZE_BYTES);
    return;
  }
  // Every fifth content is same-filled, to go through elision.
  if (content % 5 === 0) {
    for (let at = 0; at < PAGE_SIZE_BYTES; at += 8) {
      buffer.bytes.writeUInt32LE(content, base + at);
      buffer.bytes.writeUInt32LE(page + 1, base + at + 4);
    }
    return;
  }
  for (let at = 0; at < PAGE_SIZE_BYTES; at += 8) {
    buffer.bytes.writeUInt32LE(content, base + at);
    buffer.bytes.writeUInt32LE((page + 1) * 4099 + at, base + at + 4);
  }
}

const buffers: NativeMemory[] = [];
const expected = new NativeMemory(PAGE_SIZE_BYTES);

/** Runs a scenario to its end. @throws Error that names the scenario, the seed and what was wrong */
export async function simulateVolume(scenario: VolumeScenario, seed: number): Promise<void> {
  const world = new SimWorld(seed);
  const { random } = world;
  for (let index = 0; index < scenario.providers; index += 1) {
    const source = new SimSource(world, `p${index}`, 2 ** 26);
    const faulty = index < (scenario.faulty ?? scenario.providers);
    source.faults = faulty ? { ...NO_FAULTS, ...scenario.faults } : NO_FAULTS;
    source.latencyMs = 1 + random() * 20;
  }
  // Every other seed has its pages on both sides of a slab border.
  const base = seed % 2 === 0 ? SLAB_PAGE_COUNT - PAGES / 2 : 0;
  const options: VolumeOptions = {
    name: 'sim',
    sizeBytes: (base + PAGES) * PAGE_SIZE_BYTES,
    copies: scenario.copies,
    ringSizeBytes: SLOTS * PAGE_SIZE_BYTES,
    leaseTtlMs: 20_000,
    requestDeadlineMs: 5_000,
  };
  const volume = new Volume(options, world.volumeWorld);
  const model = new Model();
  const fail = (message: string): never => {
    throw new Error(`${scenario.name}, SEED=${seed}: ${message}`);
  };
  const ends = new Map<number, (status: IoStatusValue) => void>();
  let tag = 0;
  let content = 0;
  let reads = 0;
  let readErrors = 0;
  let busyClient = true;
  const queue = volume.openQueue({
    onVolumeDone: (done, status) => {
      const end = ends.get(done);
      if (end === undefined) return fail(`request ${done} ended twice`);
      ends.delete(done);
      end(status);
      // Clients make their next request from inside the end of the last one.
      if (busyClient && random() < 0.3) act();
    },
  });
  const tick = (): void => {
    volume.tick();
    world.after(250, tick);
  };
  world.after(250, tick);

  const startRead = (first: number, count: number): void => {
    const buffer = buffers.pop() ?? new NativeMemory(12 * PAGE_SIZE_BYTES);
    tag += 1;
    reads += 1;
    ends.set(tag, (status) => {
      if (status !== IoStatus.OK) readErrors += 1;
      for (let index = 0; index < count; index += 1) {
        const page = first + index;
        model.busy[page] = 0;
        if (status !== IoStatus.OK) continue;
        const got = buffer.bytes.subarray(index * PAGE_SIZE_BYTES, (index + 1) * PAGE_SIZE_BYTES);
        const match = [...(model.allowed[page] ?? [])].some((candidate) => {
          fill(expected, 0, page, candidate);
          return expected.bytes.equals(got);
        });
        if (!match) fail(`page ${page} read other bytes: ${got.subarray(0, 16).toString('hex')}`);
      }
      buffers.push(buffer);
    });
    volume.read(queue, tag, base + first, count, buffer, 0);
  };

  const startWrite = (first: number, count: number, forceUnitAccess: boolean): void => {
    const buffer = buffers.pop() ?? new NativeMemory(12 * PAGE_SIZE_BYTES);
    const contents: number[] = [];
    for (let index = 0; index < count; index += 1) {
      content += 1;
      const chosen = random() < 0.1 ? 0 : content;
      contents.push(chosen);
      fill(buffer, index, first + index, chosen);
    }
    const settle = (status: IoStatusValue): void => {
      for (let index = 0; index < count; index += 1) {
        const page = first + index;
        model.busy[page] = 0;
        const written = contents[index] as number;
        if (status === IoStatus.OK) model.allowed[page] = new Set([written]);
        else model.allowed[page]?.add(written);
      }
      buffers.push(buffer);
    };
    if (scenario.lostWrite !== undefined && random() < scenario.lostWrite) {
      settle(IoStatus.OK);
      return;
    }
    if (!forceUnitAccess && volume.tryWrite(base + first, count, buffer, 0)) {
      settle(IoStatus.OK);
      return;
    }
    tag += 1;
    ends.set(tag, settle);
    volume.write(queue, tag, base + first, count, buffer, 0, forceUnitAccess);
  };

  const act = (): void => {
    const first = Math.floor(random() * PAGES);
    const count = Math.min(PAGES - first, 1 + Math.floor(random() * 12));
    let free = true;
    for (let page = first; page < first + count; page += 1)
      if (model.busy[page] === 1) free = false;
    const action = random();
    if (free && action < 0.9) {
      const mark = (): void => {
        model.busy.fill(1, first, first + count);
      };
      if (action < 0.4) {
        mark();
        startRead(first, count);
      } else if (action < 0.75) {
        mark();
        startWrite(first, count, action > 0.72);
      } else if (action < 0.83) {
        volume.trim(base + first, count);
        for (let page = first; page < first + count; page += 1) model.allowed[page] = new Set([0]);
      } else {
        volume.zero(base + first, count);
        for (let page = first; page < first + count; page += 1) model.allowed[page] = new Set([0]);
      }
    } else if (action < 0.93) {
      tag += 1;
      ends.set(tag, () => undefined);
      volume.flush(queue, tag);
    }
  };
  const disturb = (step: number): void => {
    const pick = world.sources[Math.floor(random() * world.sources.length)];
    if (scenario.dies === true && step === 200) world.sources[0]?.goDown();
    if (random() < (scenario.stops ?? 0)) {
      const stopped = world.sources.find((source) => source.stopped);
      if (stopped === undefined) pick?.stop();
      else stopped.resume();
    }
    if (random() < (scenario.recalls ?? 0)) {
      // The other half has room, and keeps what it has.
      const asking = world.sources[Math.floor((random() * world.sources.length) / 2)];
      const [handle] = asking?.slabs.keys() ?? [];
      if (handle !== undefined) asking?.recall(handle, 5_000);
    }
  };
  for (let step = 0; step < 400; step += 1) {
    act();
    disturb(step);
    if (random() < scenario.churn) {
      const source = world.sources[Math.floor(random() * world.sources.length)];
      if (source?.up === true) source.goDown();
      else source?.comeBack(scenario.restarts);
    }
    if (random() < 0.5) await world.advance(random() * 10);
    else await world.settle();
  }
  busyClient = scenario.closeUnderLoad === true;
  if (scenario.closeUnderLoad === true) {
    const closing = volume.close();
    for (let page = 0; page < PAGES; page += 8) startRead(page, 8);
    await world.advance(10_000);
    await closing;
    busyClient = false;
    if (ends.size > 0) fail(`${ends.size} requests outlived the volume`);
    if (world.sources.some((source) => source.openQueueCount > 0)) fail('a page queue stayed open');
    return;
  }
  for (const source of world.sources) {
    source.faults = NO_FAULTS;
    source.resume();
    const dead = scenario.dies === true && source === world.sources[0];
    if (!source.up && !dead) source.comeBack(scenario.restarts);
  }
  if (scenario.heals !== true) world.believeAll();
  await world.advance(12_000);
  if (ends.size > 0) fail(`${ends.size} requests never ended`);
  if (readErrors > 0 && !scenario.mayLose && scenario.churn === 0) {
    fail(`${readErrors} of ${reads} reads failed although no copy was lost`);
  }
  // Everything that is still there reads right, and a drained volume keeps nothing in the ring.
  const errorsBefore = readErrors;
  for (let page = 0; page < PAGES; page += 8) startRead(page, 8);
  await world.advance(12_000);
  if (ends.size > 0) fail(`${ends.size} reads never ended`);
  if (!scenario.mayLose && readErrors > errorsBefore) fail('pages were lost');
  const { ringUsedPages, degradedSlabs } = volume.status();
  if (scenario.heals === true && degradedSlabs > 0) fail(`${degradedSlabs} slabs stay degraded`);
  if (ringUsedPages !== 0) fail(`${ringUsedPages} pages are stuck in the ring`);
  volume.trim(base, PAGES);
  await world.advance(2_000);
  if (volume.status().leasedSlabs !== 0) fail('an empty slab was not given back');
  const closing = volume.close();
  await world.advance(2_000);
  await closing;
  // A provider that is away, has restarted, or said NO_LEASE falsely, ends leases by their time.
  const steady = !scenario.restarts && scenario.churn === 0 && scenario.stops === undefined;
  const answering = steady && !(scenario.faults.oddStatus ?? 0);
  for (const source of world.sources) {
    if (answering && source.up && source.slabs.size > 0) {
      fail('a lease was not given back');
    }
  }
}
