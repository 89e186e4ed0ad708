/**
 * Wall clocks that jump by an hour, at each party while leases run: nothing ends early, nothing lives
 * longer, and grants go on. libfaketime changes what the processes read as the time of day, while they run,
 * and leaves their monotonic clock alone, as a kernel does when somebody sets the time.
 */
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { patternBytes } from '../helpers/judges.ts';
import { eventually, memcloud, type LabNode } from '../helpers/lab-node.ts';
import { CHUNK, readBack, write } from '../helpers/lab.ts';
import {
  LentMemory,
  MIB,
  ManagedLab,
  auditOf,
  deadlineOf,
  leasesOf,
} from '../helpers/managed-lab.ts';
import { managedDisk } from '../helpers/managed-disk.ts';

const LIBRARY = '/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1';
const skip = fs.existsSync(LIBRARY) ? false : 'libfaketime is not installed';
const HOUR = '1h';
/** Three times as long as a clock is left at one time: a renewal that it hinders would show. */
const TTL_MS = 12_000;
const PARTIES = ['control', 'alpha', 'client'] as const;
type Party = (typeof PARTIES)[number];

/** What the library shares between processes; one that is killed, or becomes another program, leaves that behind. */
const SHARED = '/dev/shm';
const sharedFiles = (): string[] =>
  fs.readdirSync(SHARED).filter((name) => name.includes('faketime_'));

/** The time of day of some processes. */
class WallClocks {
  readonly #folder: string;
  readonly #sharedBefore = new Set(sharedFiles());

  constructor(folder: string) {
    this.#folder = folder;
    fs.mkdirSync(folder);
    for (const party of PARTIES) this.set(party, '+0');
  }

  /** Sets how far a clock is off: `+1h`, `-1h`, `+0`. */
  set(party: Party, offset: string): void {
    const file = this.#file(party);
    // In one step: the library reads the file at any moment.
    fs.writeFileSync(`${file}.new`, `${offset}\n`);
    fs.renameSync(`${file}.new`, file);
  }

  /** The environment of a process that lives by a clock. */
  env(party: Party): NodeJS.ProcessEnv {
    return {
      ...{ LD_PRELOAD: LIBRARY, FAKETIME_TIMESTAMP_FILE: this.#file(party) },
      ...{ FAKETIME_DONT_FAKE_MONOTONIC: '1', FAKETIME_NO_CACHE: '1' },
    };
  }

  /** Removes every trace; the processes have ended. */
  remove(): void {
    fs.rmSync(this.#folder, { recursive: true });
    for (const name of sharedFiles()) {
      if (!this.#sharedBefore.has(name)) fs.rmSync(path.join(SHARED, name), { force: true });
    }
  }

  #file(party: Party): string {
    return path.join(this.#folder, party);
  }
}

async function labWithClocks(t: Test): Promise<{ lab: ManagedLab; clocks: WallClocks }> {
  const clocks = new WallClocks(`/tmp/mc-clocks-${process.pid}-${Date.now()}`);
  t.teardown(() => clocks.remove());
  const lab = await ManagedLab.start(t, {
    providers: ['alpha'],
    control: { env: clocks.env('control') },
    node: (name) => ({ env: clocks.env(name as Party) }),
  });
  return { lab, clocks };
}

const managedOf = async (node: LabNode) =>
  (await node.use((rpc) => rpc.call('status', {}))).provider.managed;

t.test('the clock of each party jumps, forth and back', { skip, timeout: 170_000 }, async (t) => {
  const { lab, clocks } = await labWithClocks(t);
  const [client, alpha] = [lab.node('client'), lab.node('alpha')];
  const nbd = await managedDisk(t, lab, { copies: 1, ttlMs: TTL_MS });
  const bytes = patternBytes(16 * CHUNK, 1);
  await write(nbd, bytes);

  for (const party of PARTIES) {
    for (const offset of [`+${HOUR}`, `-${HOUR}`, '+0']) {
      const before = (await leasesOf(lab.control)).map(({ leaseId }) => leaseId).sort();
      clocks.set(party, offset);
      // Renewed, read and granted under the new time.
      await new Promise((resolve) => setTimeout(resolve, 3000));
      const who = `${party} at ${offset}`;
      t.same(await readBack(nbd, bytes), { right: 16, wrong: 0, errors: [] }, `${who}: served`);
      const rows = await leasesOf(lab.control);
      t.same(rows.map(({ leaseId }) => leaseId).sort(), before, `${who}: no lease ended`);
      for (const { endsInMs } of [...rows, ...(await managedOf(alpha))]) {
        t.ok(endsInMs > 0 && endsInMs <= TTL_MS, `${who}: ${endsInMs} ms to go`);
      }
      const asked = await memcloud(client.socketPath, '--json', 'lease', 'request', '4M');
      t.equal(asked.code, 0, `${who}: grants go on ${asked.stderr}`);
      const [lease] = JSON.parse(asked.stdout) as { leaseId: string }[];
      t.match(await memcloud(client.socketPath, 'lease', 'release', lease!.leaseId), { code: 0 });
      await eventually(`${who}: the leader is told of it`, async () => {
        const left = await leasesOf(lab.control);
        return left.every(({ leaseId }) => leaseId !== lease!.leaseId);
      });
    }
  }
  if (!t.passing()) t.comment(JSON.stringify(await auditOf(lab.control), null, 1));
  const times = (await auditOf(lab.control)).map(({ at }) => Date.parse(at));
  t.ok(Math.max(...times) - Math.min(...times) > 3_000_000, 'the clocks did jump');
});

t.test(
  'a lease that nobody renews ends by its time, whatever the clocks say',
  { skip, timeout: 120_000 },
  async (t) => {
    const { lab, clocks } = await labWithClocks(t);
    const [client, alpha] = [lab.node('client'), lab.node('alpha')];
    const nbd = await managedDisk(t, lab, { copies: 1, ttlMs: 10_000 });
    await write(nbd, patternBytes(16 * CHUNK, 1));
    const memory = await LentMemory.of(alpha);
    await client.end('SIGKILL');
    const { earliestMs, latestMs } = await deadlineOf(alpha);
    t.ok(memory.residentBytes >= 4 * MIB - 1, 'pages are held');
    // Backwards: must not live longer. Forwards, at the control node: must not end early.
    clocks.set('alpha', `-${HOUR}`);
    clocks.set('control', `+${HOUR}`);
    await eventually('wiped', () => memory.residentBytes === 0, 20_000);
    const emptyMs = performance.now();
    t.ok(emptyMs > earliestMs - 150, `${Math.round(emptyMs - earliestMs)} ms after its deadline`);
    t.ok(emptyMs < latestMs + 1100, `${Math.round(emptyMs - latestMs)} ms after its deadline`);
    t.equal(memory.nonZeroBytes, 0);
    await eventually(
      'the control plane agrees',
      async () => (await leasesOf(lab.control)).length === 0,
    );
  },
);
