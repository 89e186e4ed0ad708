/**
 * A volume with two copies, one of them in the hands of a provider that lies about every second page,
 * in each way that it can: flipped bits, a neighbour's page, a page cut short, an older version,
 * another volume's page, a write that it acknowledged and forgot. Held throughout: every page served
 * that was not what was stored is noticed (the volume's count of forged pages equals the liar's own
 * count), no wrong byte reaches the client, and no read fails.
 *
 * `FAULTS=1000000` is the long form. The two providers and the volume are of this process, so that a
 * million lies take a minute; the same liar behind a real session is in test/e2e/hostile-donor.test.ts.
 */
import t from 'tap';
import { monotonicClock } from '../../common/clock.ts';
import { silentLogger } from '../../common/log.ts';
import { NativeMemory } from '../../common/native-memory.ts';
import { IoStatus, type IoStatusValue } from '../../common/ports.ts';
import { PAGE_SIZE_BYTES, SLAB_PAGE_COUNT } from '../../common/units.ts';
import { LocalSlabSource } from '../../provider/local-source.ts';
import { VOLUME_TICK_MS, Volume } from '../../tier/volume.ts';
import { HostileSlabs, LIES } from '../helpers/hostile/hostile-slabs.ts';
import { MemorySlabs } from '../helpers/memory-slabs.ts';
import { seededRandom } from '../helpers/sim-world.ts';

const FAULTS = Number(process.env['FAULTS'] ?? 50_000);
const SEED = Number(process.env['SEED'] ?? 1);
/** Slabs of the volume, and of each the pages that are used. */
const SLABS = 6;
const PAGES = 512;
const RUN = 16;
const DEPTH = 8;
/** Reads of everything between two rounds of writes. */
const READS_PER_WRITE = 4;
/** Rounds without a fault after which the liar is not asked any more. */
const BARREN_ROUNDS = 20;

/** A volume over both, and what its client saw. */
class Client {
  readonly volume: Volume;
  wrongPages = 0;
  failedRequests = 0;
  readonly #queue: number;
  readonly #buffers = Array.from({ length: DEPTH }, () => new NativeMemory(RUN * PAGE_SIZE_BYTES));
  readonly #twin = new NativeMemory(PAGE_SIZE_BYTES);
  readonly #waiting = new Map<number, (status: IoStatusValue) => void>();
  readonly #name: number;
  #tag = 0;
  #round = 0;

  constructor(name: number, sources: readonly LocalSlabSource[], random: () => number) {
    this.#name = name;
    const sizeBytes = SLABS * SLAB_PAGE_COUNT * PAGE_SIZE_BYTES;
    this.volume = new Volume(
      {
        ...{ name: `v${name}`, sizeBytes, copies: 2, ringSizeBytes: 4 * 2 ** 20 },
        ...{ leaseTtlMs: 120_000, requestDeadlineMs: 15_000 },
      },
      {
        clock: monotonicClock,
        defer: (task) => process.nextTick(task),
        random,
        sources: { list: () => sources },
        logger: silentLogger,
      },
    );
    this.#queue = this.volume.openQueue({
      onVolumeDone: (tag, status) => {
        const done = this.#waiting.get(tag);
        this.#waiting.delete(tag);
        done?.(status);
      },
    });
  }

  /** Writes every page anew and waits until both providers have said that they keep them. */
  async write(): Promise<void> {
    this.#round += 1;
    await this.#everyRun(async (page, buffer) => {
      for (let index = 0; index < RUN; index += 1) this.#fill(buffer, index, page + index);
      const { volume } = this;
      await this.#request((tag) => volume.write(this.#queue, tag, page, RUN, buffer, 0, false));
    });
    await this.#request((tag) => this.volume.flush(this.#queue, tag));
  }

  /** Reads every page and compares. */
  async read(): Promise<void> {
    await this.#everyRun(async (page, buffer) => {
      buffer.bytes.fill(0xa5);
      const { volume } = this;
      await this.#request((tag) => volume.read(this.#queue, tag, page, RUN, buffer, 0));
      for (let index = 0; index < RUN; index += 1) {
        this.#fill(this.#twin, 0, page + index);
        const start = index * PAGE_SIZE_BYTES;
        const got = buffer.bytes.subarray(start, start + PAGE_SIZE_BYTES);
        if (!got.equals(this.#twin.bytes)) this.wrongPages += 1;
      }
    });
  }

  async close(): Promise<void> {
    await this.volume.close();
    for (const buffer of [...this.#buffers, this.#twin]) buffer.free();
  }

  /** The bytes of a page in this round, of this volume: no two are equal. */
  #fill(buffer: NativeMemory, slot: number, page: number): void {
    const words = new Uint32Array(
      buffer.bytes.buffer,
      buffer.bytes.byteOffset + slot * PAGE_SIZE_BYTES,
      PAGE_SIZE_BYTES / 4,
    );
    const seed = Math.imul(page + 1, 2654435761) + this.#round * 40503 + this.#name;
    for (let at = 0; at < words.length; at += 1) words[at] = seed + Math.imul(at, 2246822519);
    words[0] = page;
    words[1] = this.#round;
    words[2] = this.#name;
  }

  async #everyRun(one: (page: number, buffer: NativeMemory) => Promise<void>): Promise<void> {
    const runs: number[] = [];
    for (let slab = 0; slab < SLABS; slab += 1) {
      for (let page = 0; page < PAGES; page += RUN) runs.push(slab * SLAB_PAGE_COUNT + page);
    }
    await Promise.all(
      this.#buffers.map(async (buffer) => {
        for (let page = runs.pop(); page !== undefined; page = runs.pop()) await one(page, buffer);
      }),
    );
  }

  async #request(make: (tag: number) => void): Promise<void> {
    this.#tag += 1;
    const tag = this.#tag;
    const status = await new Promise<IoStatusValue>((resolve) => {
      this.#waiting.set(tag, resolve);
      make(tag);
    });
    if (status !== IoStatus.OK) this.failedRequests += 1;
  }
}

t.test(`${FAULTS} lies are noticed, SEED=${SEED}`, { timeout: 60_000 + FAULTS }, async (t) => {
  const random = seededRandom(SEED);
  const honest = new MemorySlabs(2 ** 34);
  const hostile = new HostileSlabs(2 ** 40, SEED);
  const holder = 'a'.repeat(32);
  const sources = [
    { nodeId: 'b'.repeat(32), nodeName: 'honest', access: honest.openAccess(holder) },
    { nodeId: 'c'.repeat(32), nodeName: 'hostile', access: hostile.openAccess(holder) },
  ].map((options) => new LocalSlabSource(options));
  const clients = [1, 2].map((name) => new Client(name, sources, random));
  const timer = setInterval(() => clients.forEach(({ volume }) => volume.tick()), VOLUME_TICK_MS);
  t.teardown(async () => {
    clearInterval(timer);
    for (const client of clients) await client.close();
    honest.free();
    hostile.free();
  });
  hostile.rates = { flip: 0.1, swap: 0.1, truncate: 0.1, replay: 0.1, foreign: 0.1, forget: 0.1 };
  const startMs = performance.now();
  let barren = 0;
  while (hostile.faultCount < FAULTS && barren < BARREN_ROUNDS) {
    const before = hostile.faultCount;
    for (const client of clients) await client.write();
    for (let round = 0; round < READS_PER_WRITE; round += 1) {
      for (const client of clients) await client.read();
    }
    barren = hostile.faultCount === before ? barren + 1 : 0;
  }
  const seconds = (performance.now() - startMs) / 1000;
  const sum = (of: (client: Client) => number): number =>
    clients.reduce((total, client) => total + of(client), 0);
  const forged = sum(({ volume }) => volume.counters.forgedPages);
  const kinds = LIES.map((lie) => `${lie} ${hostile.counts[lie]}`).join(', ');
  t.comment(`${hostile.faultCount} faults (${kinds}) of ${hostile.pagesServed} pages served`);
  t.comment(
    `${forged} noticed, ${hostile.pagesForgotten} writes forgotten, ${seconds.toFixed(1)} s`,
  );
  t.ok(hostile.faultCount >= FAULTS, 'the liar was asked often enough');
  for (const lie of LIES) t.ok(hostile.counts[lie] > FAULTS / 100, `${lie}: often`);
  t.equal(forged, hostile.faultCount, 'every fault is noticed, and nothing else is called one');
  t.equal(
    sum(({ wrongPages }) => wrongPages),
    0,
    'no wrong page',
  );
  t.equal(
    sum(({ failedRequests }) => failedRequests),
    0,
    'no failed request',
  );
  t.equal(
    sum(({ volume }) => volume.counters.lostPages),
    0,
    'no lost page',
  );
});
