/**
 * The provider against a naive twin of Maps, under any order of leases, writes, reads, trims,
 * renewals, releases, revocations, managed leases and time. After each step every number of the provider equals the
 * twin's, the resident bytes equal the blocks of the backing files, and after a trim or release every
 * byte of the files that no live page covers is zero.
 *
 * SEED=n repeats a run; FUZZ_SECONDS=n lengthens it.
 */
import fs from 'node:fs';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { NativeMemory } from '../../common/native-memory.ts';
import type { SlabAccess } from '../../common/ports.ts';
import { RamProvider } from '../../provider/service.ts';
import { SEALED, allocatedBytes, fileBytes, tmpfsBase } from '../helpers/tmpfs.ts';

const firstSeed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
const seconds = Number(process.env['FUZZ_SECONDS'] ?? 3);
t.comment(`SEED=${firstSeed}`);
t.setTimeout((seconds + 60) * 1000);

const OFFERED = 2_000_000;
const HOLDER_QUOTA = 1_500_000;
const HOLDERS = ['a'.repeat(32), 'b'.repeat(32)];

const ratio = fc.double({ min: 0, max: 1, noNaN: true });
const holder = fc.integer({ min: 0, max: 1 });
const range = { lease: fc.nat(), holder, at: ratio, count: fc.integer({ min: 0, max: 64 }) };
const step = fc.oneof(
  fc.record({
    op: fc.constant('lease' as const),
    holder,
    pageCount: fc.oneof(fc.integer({ min: 0, max: 200 }), fc.constant(5000)),
    ttlMs: fc.constantFrom(999, 1000, 2000, 5000, 86_400_001),
    under: fc.option(fc.nat({ max: 3 }), { nil: undefined }),
  }),
  fc.record({
    op: fc.constant('reserve' as const),
    holder,
    managed: fc.nat({ max: 3 }),
    sizeBytes: fc.constantFrom(0, 9000, 300_000, 900_000, 5_000_000),
    ttlMs: fc.constantFrom(0, 300, 1000, 4000),
  }),
  fc.record({
    op: fc.constantFrom('extend' as const, 'end' as const),
    managed: fc.nat({ max: 3 }),
  }),
  fc.record({ op: fc.constant('write' as const), ...range }),
  fc.record({ op: fc.constant('write' as const), ...range }),
  fc.record({ op: fc.constant('read' as const), ...range }),
  fc.record({ op: fc.constant('trim' as const), ...range }),
  fc.record({ op: fc.constant('renew' as const), lease: fc.nat(), holder }),
  fc.record({ op: fc.constant('release' as const), lease: fc.nat(), holder }),
  fc.record({ op: fc.constant('tick' as const), ms: fc.constantFrom(1, 250, 500, 1000) }),
  fc.record({ op: fc.constant('revoke' as const), holder, rarely: fc.integer({ min: 0, max: 9 }) }),
);
type Step = typeof step extends fc.Arbitrary<infer Value> ? Value : never;

interface TwinLease {
  id: string;
  handle: number;
  holder: number;
  pageCount: number;
  expiresAtMs: number;
  pages: Map<number, number>;
  under: TwinManaged | undefined;
}

interface TwinManaged {
  holder: number;
  sizeBytes: number;
  expiresAtMs: number;
}

function chargeOf(pageCount: number): number {
  const filePages = Math.ceil((pageCount * 4112) / 4096);
  return filePages * 4096 + Math.ceil(pageCount / 32) * 4 + 1024;
}

function residentOf(lease: TwinLease): number {
  const filePages = new Set<number>();
  for (const page of lease.pages.keys()) {
    filePages.add(Math.floor((page * 4112) / 4096));
    filePages.add(Math.floor((page * 4112 + 4111) / 4096));
  }
  return filePages.size * 4096;
}

/** One provider and its twin. A wrong step throws. */
class Run {
  readonly #base: string;
  readonly #provider: RamProvider;
  readonly #accesses: SlabAccess[];
  readonly #buffer = new NativeMemory(64 * SEALED);
  readonly #leases = new Map<string, TwinLease>();
  readonly #dead: TwinLease[] = [];
  readonly #managed = new Map<number, TwinManaged>();
  readonly #ended: string[] = [];
  #nowMs = 0;
  #fill = 0;

  constructor(base: string) {
    this.#base = base;
    this.#provider = RamProvider.open({
      offeredBytes: OFFERED,
      directory: base,
      noswap: 'off',
      allowedBytes: () => HOLDER_QUOTA,
      reserveBytes: 0,
      clock: { nowMs: () => this.#nowMs },
    });
    this.#provider.openManaged().onEnded(({ leaseId }) => this.#ended.push(leaseId));
    this.#accesses = HOLDERS.map((each) => this.#provider.openAccess(each));
  }

  step(step: Step): void {
    switch (step.op) {
      case 'lease':
        this.#lease(step.holder, step.pageCount, step.ttlMs, step.under);
        break;
      case 'reserve':
        this.#reserve(step);
        break;
      case 'extend': {
        const known = this.#liveManaged(step.managed);
        const done = this.#provider.openManaged().extend(managedId(step.managed), 2000);
        expectEqual('extend', done, known !== undefined);
        if (known !== undefined) {
          known.expiresAtMs = Math.max(known.expiresAtMs, this.#nowMs + 2000);
        }
        break;
      }
      case 'end': {
        const known = this.#liveManaged(step.managed);
        const done = this.#provider.openManaged().end(managedId(step.managed), 'revoked');
        expectEqual('end', done, known !== undefined);
        if (known !== undefined) this.#dropManaged(step.managed, known);
        break;
      }
      case 'write':
      case 'read':
      case 'trim':
        this.#pages(step);
        break;
      case 'renew': {
        const lease = this.#pick(step.lease);
        if (lease === undefined) return;
        const failed = this.#accesses[step.holder]!.renew([lease.id], 3000);
        const alive = this.#isAlive(lease, step.holder);
        if (alive) lease.expiresAtMs = this.#nowMs + 3000;
        expectEqual('renew', failed.length === 0, alive);
        break;
      }
      case 'release': {
        const lease = this.#pick(step.lease);
        if (lease === undefined) return;
        const alive = this.#isAlive(lease, step.holder);
        const code = codeOf(() => this.#accesses[step.holder]!.release(lease.id));
        expectEqual('release', code, alive ? 'OK' : 'ERR_LEASE_UNKNOWN');
        if (alive) this.#drop(lease);
        break;
      }
      case 'tick':
        this.#nowMs += step.ms;
        this.#provider.sweep();
        for (const [number, managed] of this.#managed) {
          if (this.#nowMs >= managed.expiresAtMs) this.#dropManaged(number, managed);
        }
        for (const lease of this.#leases.values()) {
          if (this.#nowMs >= lease.expiresAtMs) this.#drop(lease);
        }
        break;
      case 'revoke':
        if (step.rarely > 0) return;
        this.#provider.revoke(HOLDERS[step.holder]!);
        for (const lease of this.#leases.values()) {
          if (lease.holder === step.holder) this.#drop(lease);
        }
        break;
    }
    this.#compare();
    if (step.op === 'trim' || step.op === 'release') this.#compareFiles();
  }

  free(): void {
    this.#provider.close();
    this.#buffer.free();
    expectEqual('files left', fs.readdirSync(this.#base).length, 0);
  }

  #reserve(step: { holder: number; managed: number; sizeBytes: number; ttlMs: number }): void {
    const { holder, managed, sizeBytes, ttlMs } = step;
    let expected = 'OK';
    if (sizeBytes < 1 || ttlMs < 1 || this.#managed.has(managed)) expected = 'ERR_LEASE_INVALID';
    else if (this.#used() + sizeBytes > OFFERED) expected = 'ERR_LEASE_CAPACITY';
    const code = codeOf(() => {
      const client = HOLDERS[holder] ?? '';
      const leaseId = managedId(managed);
      this.#provider.openManaged().reserve({ leaseId, client, sizeBytes, ttlMs });
    });
    expectEqual('reserve', code, expected);
    if (expected !== 'OK') return;
    this.#managed.set(managed, { holder, sizeBytes, expiresAtMs: this.#nowMs + ttlMs });
  }

  #liveManaged(number: number): TwinManaged | undefined {
    const managed = this.#managed.get(number);
    return managed !== undefined && this.#nowMs < managed.expiresAtMs ? managed : undefined;
  }

  /** One that is over, with all its slabs; it was told. */
  #dropManaged(number: number, managed: TwinManaged): void {
    this.#managed.delete(number);
    for (const lease of this.#leases.values()) if (lease.under === managed) this.#drop(lease);
    const at = this.#ended.indexOf(managedId(number));
    expectEqual('told', at >= 0, true);
    this.#ended.splice(at, 1);
  }

  /** What is lent: what is set aside, and leases that lie in none of it. */
  #used(): number {
    let used = 0;
    for (const { sizeBytes } of this.#managed.values()) used += sizeBytes;
    for (const lease of this.#leases.values()) {
      if (lease.under === undefined) used += chargeOf(lease.pageCount);
    }
    return used;
  }

  #lease(holder: number, pageCount: number, ttlMs: number, wanted: number | undefined): void {
    const charge = chargeOf(pageCount);
    const used = this.#used();
    let usedByHolder = 0;
    let usedUnder = 0;
    const found = wanted === undefined ? undefined : this.#liveManaged(wanted);
    const under = found?.holder === holder ? found : undefined;
    for (const lease of this.#leases.values()) {
      if (lease.under === undefined && lease.holder === holder) {
        usedByHolder += chargeOf(lease.pageCount);
      }
      if (lease.under !== undefined && lease.under === under)
        usedUnder += chargeOf(lease.pageCount);
    }
    let expected = 'OK';
    if (pageCount < 1 || ttlMs < 1000 || ttlMs > 86_400_000) expected = 'ERR_LEASE_INVALID';
    else if (wanted !== undefined && under === undefined) expected = 'ERR_LEASE_UNKNOWN';
    else if (under !== undefined) {
      if (usedUnder + charge > under.sizeBytes) expected = 'ERR_LEASE_CAPACITY';
    } else if (used + charge > OFFERED || usedByHolder + charge > HOLDER_QUOTA) {
      expected = 'ERR_LEASE_CAPACITY';
    }
    const code = codeOf(() => {
      const grant = this.#accesses[holder]!.lease({
        ...{ pageCount, ttlMs },
        ...(wanted === undefined ? {} : { under: managedId(wanted) }),
      });
      const [id, handle] = [grant.leaseId, grant.slabHandle];
      for (const lease of [...this.#leases.values(), ...this.#dead]) {
        if (lease.id === id || lease.handle === handle) throw new Error('a name was used again');
      }
      const expiresAtMs = this.#nowMs + ttlMs;
      this.#leases.set(id, { id, handle, holder, pageCount, expiresAtMs, pages: new Map(), under });
    });
    expectEqual('lease', code, expected);
  }

  #pages(step: {
    op: 'write' | 'read' | 'trim';
    lease: number;
    holder: number;
    at: number;
    count: number;
  }): void {
    const lease = this.#pick(step.lease);
    if (lease === undefined) return;
    const first = Math.floor(step.at * (lease.pageCount + 1));
    const { count } = step;
    const access = this.#accesses[step.holder]!;
    const { bytes } = this.#buffer;
    let expected = 0;
    if (!this.#isAlive(lease, step.holder)) expected = 6;
    else if (count < 1 || first + count > lease.pageCount) expected = 1;
    this.#fill = (this.#fill % 255) + 1;
    bytes.fill(this.#fill);
    let status: number;
    if (step.op === 'write')
      status = access.writePages(lease.handle, first, count, this.#buffer, 0);
    else if (step.op === 'read')
      status = access.readPages(lease.handle, first, count, this.#buffer, 0);
    else status = access.trimPages(lease.handle, first, count);
    expectEqual(step.op, status, expected);
    if (status !== 0) return;
    for (let page = first; page < first + count; page += 1) {
      if (step.op === 'write') lease.pages.set(page, this.#fill);
      else if (step.op === 'trim') lease.pages.delete(page);
      else {
        const at = (page - first) * SEALED;
        const same = bytes
          .subarray(at, at + SEALED)
          .equals(Buffer.alloc(SEALED, lease.pages.get(page) ?? 0));
        expectEqual(`bytes of page ${page}`, same, true);
      }
    }
  }

  #compare(): void {
    const twin = {
      offeredBytes: OFFERED,
      usedBytes: this.#used(),
      residentBytes: 0,
      leaseCount: this.#leases.size,
    };
    for (const lease of this.#leases.values()) {
      twin.residentBytes += residentOf(lease);
    }
    const usage = this.#provider.usage();
    expectEqual('usage', JSON.stringify(usage), JSON.stringify(twin));
    let reservedBytes = 0;
    for (const { sizeBytes } of this.#managed.values()) reservedBytes += sizeBytes;
    expectEqual('set aside', this.#provider.reservedBytes, reservedBytes);
    expectEqual('told too early', this.#ended.length, 0);
    const { files, leases } = this.#provider.status();
    const blocks = files.reduce((sum, file) => sum + allocatedBytes(file), 0);
    expectEqual('blocks', blocks, twin.residentBytes);
    for (const status of leases) {
      const lease = this.#leases.get(status.leaseId);
      expectEqual('holder', status.holder, HOLDERS[lease?.holder ?? -1]);
      const endsAtMs = Math.min(lease?.expiresAtMs ?? 0, lease?.under?.expiresAtMs ?? Infinity);
      expectEqual('deadline', status.expiresInMs, endsAtMs - this.#nowMs);
      expectEqual('resident', status.residentBytes, lease === undefined ? -1 : residentOf(lease));
    }
  }

  /** Every byte that is not zero belongs to a live page: fill bytes are 1 to 255. */
  #compareFiles(): void {
    const file = this.#provider.status().files[0];
    if (file === undefined) return;
    let livePages = 0;
    for (const lease of this.#leases.values()) livePages += lease.pages.size;
    let nonZeroWords = 0;
    const bytes = fileBytes(file, 0, 2 * OFFERED);
    for (const word of new Float64Array(bytes.buffer, 0, bytes.length / 8)) {
      if (word !== 0) nonZeroWords += 1;
    }
    expectEqual('bytes that are not zero', nonZeroWords * 8, livePages * SEALED);
  }

  /** A living lease, or sometimes a dead one. */
  #pick(index: number): TwinLease | undefined {
    const all = [...this.#leases.values(), ...this.#dead.slice(-2)];
    return all[index % Math.max(1, all.length)];
  }

  #isAlive(lease: TwinLease, holder: number): boolean {
    return this.#leases.has(lease.id) && lease.holder === holder;
  }

  #drop(lease: TwinLease): void {
    this.#leases.delete(lease.id);
    this.#dead.push(lease);
  }
}

function managedId(number: number): string {
  return number.toString(16).padStart(32, '0');
}

function expectEqual(what: string, got: unknown, expected: unknown): void {
  if (got !== expected)
    throw new Error(`${what}: expected ${String(expected)}, got ${String(got)}`);
}

function codeOf(call: () => void): string {
  try {
    call();
    return 'OK';
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === undefined) throw error;
    return code;
  }
}

function runOnce(base: string, steps: Step[]): void {
  const run = new Run(base);
  try {
    for (const each of steps) run.step(each);
  } finally {
    run.free();
  }
}

t.test('the provider equals its twin after every step', async (t: Test) => {
  const base = tmpfsBase(t);
  const endMs = Date.now() + seconds * 1000;
  let seed = firstSeed;
  let runs = 0;
  do {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 60, size: 'max' }), (steps) => {
        runOnce(base, steps);
      }),
      { seed, numRuns: 20 },
    );
    runs += 20;
    seed += 1;
  } while (Date.now() < endMs);
  t.pass(`${runs} runs`);
  t.comment(`${runs} runs, last SEED=${seed - 1}`);
});
