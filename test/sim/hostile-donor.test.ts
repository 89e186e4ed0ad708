/**
 * A volume in the hands of a provider that lies about every second page, in each way that it can:
 * flipped bits, a neighbour's page, a page cut short, an older version, another volume's page, a write
 * that it acknowledged and forgot. Held throughout: every page served that was not what was stored is
 * noticed (the volume's count of forged pages equals the liar's own count, and so does the number of
 * reads that failed), and no wrong byte reaches the client.
 *
 * With two copies a liar is disbelieved at its first lie, so that it would not get to a million; here
 * it holds the only copy, and every page is read alone, so that each lie is one failed read. What
 * becomes of a lie where there is another copy is in test/sim/volume.test.ts and, behind a real session,
 * in test/e2e/hostile-donor.test.ts. `FAULTS=1000000` is the long form.
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
import { seededRandom } from '../helpers/sim-world.ts';

const FAULTS = Number(process.env['FAULTS'] ?? 50_000);
const SEED = Number(process.env['SEED'] ?? 1);
/** Slabs of the volume, and of each the pages that are used. */
const SLABS = 2;
const PAGES = 1024;
const DEPTH = 64;
/** Reads of everything between two rounds of writes. */
const READS_PER_WRITE = 4;
/** Rounds without a fault after which the liar is not asked any more. */
const BARREN_ROUNDS = 20;

/** A volume over both, and what its client saw. */
class Client {
  readonly volume: Volume;
  wrongPages = 0;
  failedReads = 0;
  failedWrites = 0;
  readonly #queue: number;
  readonly #buffers = Array.from({ length: DEPTH }, () => new NativeMemory(PAGE_SIZE_BYTES));
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
        ...{ name: `v${name}`, sizeBytes, copies: 1, ringSizeBytes: 4 * 2 ** 20 },
        ...{ leaseTtlMs: 120_000, requestDeadlineMs: 15_000 },
      },
      {
        clock: monotonicClock,
        defer: (task) => process.nextTick(task),
        after: (delayMs, task) => setTimeout(task, delayMs).unref(),
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

  /** Writes every page anew and waits until the provider has said that it keeps them. */
  async write(): Promise<void> {
    this.#round += 1;
    const { volume } = this;
    await this.#everyPage(async (page, buffer) => {
      this.#fill(buffer, page);
      const write = (tag: number): void =>
        volume.write(this.#queue, tag, page, 1, buffer, 0, false);
      if ((await this.#request(write)) !== IoStatus.OK) this.failedWrites += 1;
    });
    const flushed = await this.#request((tag) => volume.flush(this.#queue, tag));
    if (flushed !== IoStatus.OK) this.failedWrites += 1;
  }

  /** Reads every page and compares. */
  async read(): Promise<void> {
    const { volume } = this;
    await this.#everyPage(async (page, buffer) => {
      buffer.bytes.fill(0xa5);
      const status = await this.#request((tag) => {
        volume.read(this.#queue, tag, page, 1, buffer, 0);
      });
      this.#fill(this.#twin, page);
      if (status !== IoStatus.OK) this.failedReads += 1;
      else if (!buffer.bytes.equals(this.#twin.bytes)) this.wrongPages += 1;
    });
  }

  async close(): Promise<void> {
    await this.volume.close();
    for (const buffer of [...this.#buffers, this.#twin]) buffer.free();
  }

  /** The bytes of a page in this round, of this volume: no two are equal. */
  #fill(buffer: NativeMemory, page: number): void {
    const { bytes } = buffer;
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset, PAGE_SIZE_BYTES / 4);
    const seed = Math.imul(page + 1, 2654435761) + this.#round * 40503 + this.#name;
    for (let at = 0; at < words.length; at += 1) words[at] = seed + Math.imul(at, 2246822519);
    words[0] = page;
    words[1] = this.#round;
    words[2] = this.#name;
  }

  async #everyPage(one: (page: number, buffer: NativeMemory) => Promise<void>): Promise<void> {
    let next = 0;
    await Promise.all(
      this.#buffers.map(async (buffer) => {
        while (next < SLABS * PAGES) {
          const at = next;
          next += 1;
          await one(Math.floor(at / PAGES) * SLAB_PAGE_COUNT + (at % PAGES), buffer);
        }
      }),
    );
  }

  #request(make: (tag: number) => void): Promise<IoStatusValue> {
    this.#tag += 1;
    const tag = this.#tag;
    return new Promise<IoStatusValue>((resolve) => {
      this.#waiting.set(tag, resolve);
      make(tag);
    });
  }
}

t.test(`${FAULTS} lies are noticed, SEED=${SEED}`, { timeout: 60_000 + FAULTS }, async (t) => {
  const random = seededRandom(SEED);
  const hostile = new HostileSlabs(2 ** 40, SEED);
  // A source of this process does not remember a quarantine: it is asked again and again.
  const source = new LocalSlabSource({
    nodeId: 'c'.repeat(32),
    nodeName: 'hostile',
    access: hostile.openAccess('a'.repeat(32)),
  });
  const clients = [1, 2].map((name) => new Client(name, [source], random));
  const timer = setInterval(() => clients.forEach(({ volume }) => volume.tick()), VOLUME_TICK_MS);
  t.teardown(async () => {
    clearInterval(timer);
    for (const client of clients) await client.close();
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
    sum(({ failedReads }) => failedReads),
    forged,
    'each is one failed read',
  );
  t.equal(
    sum(({ failedWrites }) => failedWrites),
    0,
    'no failed write',
  );
});
