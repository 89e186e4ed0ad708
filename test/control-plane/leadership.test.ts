import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { monotonicClock } from '../../common/clock.ts';
import { silentLogger } from '../../common/log.ts';
import { Leadership, type Term } from '../../control-plane/leadership.ts';
import { openLmdbStore } from '../../control-plane/lmdb-store.ts';
import type { MetaStore } from '../../control-plane/meta-store.ts';
import { openMetaStore } from '../../control-plane/open-store.ts';
import { requiresEtcd, startEtcd } from '../helpers/etcd.ts';
import { until } from './meta-store-conformance.ts';

const CANDIDATE = fileURLToPath(import.meta.resolve('../helpers/control-candidate/main.js'));

interface Said {
  readonly atMs: number;
  readonly name: string;
  readonly elected?: number;
  readonly deposed?: number;
  readonly epoch?: number;
  readonly count?: number;
  readonly refused?: number;
  readonly failed?: string;
  readonly closed?: boolean;
  readonly leader?: { name: string; epoch: number } | null;
}

/** Candidates as processes, and all that they say, in the order in which it came. */
class Race {
  readonly said: Said[] = [];
  readonly #children = new Map<string, ChildProcess>();
  readonly #t: Test;
  readonly #address: string;

  constructor(t: Test, address: string) {
    this.#t = t;
    this.#address = address;
  }

  start(name: string): void {
    const child = spawn(process.execPath, [CANDIDATE, this.#address, name], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#t.teardown(() => child.kill('SIGKILL'));
    readline.createInterface({ input: child.stdout }).on('line', (line) => {
      this.said.push({ atMs: performance.now(), ...(JSON.parse(line) as Omit<Said, 'atMs'>) });
    });
    this.#children.set(name, child);
  }

  child(name: string): ChildProcess {
    return this.#children.get(name)!;
  }

  async kill(name: string): Promise<void> {
    const child = this.child(name);
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  }

  /** The term that was said last to have begun, when it is at least `epochMin`. */
  async elected(epochMin: number): Promise<Said> {
    const find = (): Said | undefined =>
      this.said.find(({ elected }) => elected !== undefined && elected >= epochMin);
    await until(() => find() !== undefined);
    return find()!;
  }

  /** Waits until `count` more counts are durable in terms from `epochMin` on. */
  async works(epochMin: number, count: number): Promise<void> {
    await until(
      () =>
        this.said.filter(({ epoch = 0, count }) => epoch >= epochMin && count !== undefined)
          .length >= count,
    );
  }

  /** Every count is there once, and none is of a term that is over. */
  check(t: Test): void {
    const elected = this.said.flatMap(({ elected }) => (elected === undefined ? [] : [elected]));
    t.same(
      elected,
      elected.toSorted((left, right) => left - right),
      'terms have growing numbers',
    );
    t.equal(new Set(elected).size, elected.length, 'each has its own');
    const counted = this.said
      .flatMap(({ epoch = 0, count }) => (count === undefined ? [] : [{ epoch, count }]))
      .toSorted((left, right) => left.count - right.count);
    t.equal(new Set(counted.map(({ count }) => count)).size, counted.length, 'each count once');
    t.ok(
      counted.every(({ epoch }, index) => index === 0 || epoch >= counted[index - 1]!.epoch),
      'what is written in a term is written before all that is in later ones',
    );
  }
}

function lead(
  store: MetaStore,
  name: string,
): { leadership: Leadership; events: string[]; terms: Term[] } {
  const events: string[] = [];
  const terms: Term[] = [];
  const leadership = new Leadership({
    store,
    nodeId: name.padEnd(32, '0'),
    name,
    address: () => `${name}:7946`,
    clock: monotonicClock,
    logger: silentLogger,
  });
  leadership.start({
    onElected: (term) => {
      events.push(`elected ${term.epoch}`);
      terms.push(term);
    },
    onDeposed: () => {
      events.push('deposed');
    },
  });
  return { leadership, events, terms };
}

t.test('on the embedded store its node leads at once, in a new term each time', async (t) => {
  const directory = fs.mkdtempSync(path.join(tmpdir(), 'mc-lead-'));
  t.teardown(() => {
    fs.rmSync(directory, { recursive: true, force: true });
  });
  for (const epoch of [1, 2, 3]) {
    const store = await openLmdbStore(directory);
    const startMs = performance.now();
    const { leadership, events, terms } = lead(store, 'a');
    t.equal(leadership.leader, undefined);
    await until(() => terms.length === 1);
    t.ok(performance.now() - startMs < 1500, 'at once');
    const leader = { nodeId: 'a'.padEnd(32, '0'), name: 'a', epoch };
    t.same(leadership.leader, leader);
    t.same(leadership.term, terms[0]);
    t.equal(terms[0]!.epoch, epoch);
    t.equal((await store.get('/memcloud/v1/epoch'))?.value, String(epoch));
    const entry = await store.get('/memcloud/v1/leader');
    t.same(JSON.parse(entry!.value), leader);
    t.same(terms[0]!.fence, { key: '/memcloud/v1/leader', revision: entry!.revision });
    t.ok(await store.transact([terms[0]!.fence], [{ put: '/memcloud/v1/x', value: '1' }]));
    await until(async () => (await store.list('/memcloud/v1/control/')).entries.length === 1);
    const [control] = (await store.list('/memcloud/v1/control/')).entries;
    t.equal(control!.key, `/memcloud/v1/control/${leader.nodeId}`);
    t.same(JSON.parse(control!.value), { nodeId: leader.nodeId, name: 'a', address: 'a:7946' });
    if (epoch === 3) {
      await leadership.close();
      t.same(events, ['elected 3', 'deposed']);
      t.equal(leadership.leader, undefined);
      const left = await store.list('/memcloud/v1/');
      t.same(
        left.entries.map(({ key }) => key),
        ['/memcloud/v1/epoch', '/memcloud/v1/x'],
      );
      t.equal(await store.transact([terms[0]!.fence], []), undefined, 'its fence holds no more');
      await leadership.close();
    }
    await store.close();
    await leadership.close();
  }
});

t.test('who resigns is followed at once', requiresEtcd(), async (t) => {
  const { address } = await startEtcd(t);
  const stores = [await openMetaStore(address), await openMetaStore(address)];
  for (const store of stores) t.teardown(() => store.close());
  const one = lead(stores[0]!, 'a');
  await until(() => one.terms.length === 1);
  const two = lead(stores[1]!, 'b');
  await until(() => two.leadership.leader?.name === 'a');
  t.equal(two.terms.length, 0);
  const startMs = performance.now();
  await one.leadership.resign();
  await until(() => two.terms.length === 1);
  const tookMs = performance.now() - startMs;
  t.ok(tookMs < 1500, `${Math.round(tookMs)} ms`);
  t.same(one.events, ['elected 1', 'deposed']);
  await until(() => one.leadership.leader?.name === 'b');
  t.same(two.leadership.leader?.epoch, 2);
  t.equal(await stores[0]!.transact([one.terms[0]!.fence], [{ put: '/x', value: '1' }]), undefined);
  await two.leadership.close();
  await until(() => one.terms.length === 2);
  t.equal(one.terms[1]!.epoch, 3);
  await one.leadership.close();
});

t.test('an entry that an admin removes deposes at once', requiresEtcd(), async (t) => {
  const { address } = await startEtcd(t);
  const store = await openMetaStore(address);
  t.teardown(() => store.close());
  const { leadership, events, terms } = lead(store, 'a');
  await until(() => terms.length === 1);
  await store.cas('/memcloud/v1/leader', terms[0]!.fence.revision, undefined);
  await until(() => terms.length === 2);
  t.same(events, ['elected 1', 'deposed', 'elected 2']);
  await leadership.close();
});

t.test(
  'a leader that is killed is followed within 5 s, of three on three etcds',
  requiresEtcd(),
  async (t) => {
    const { address } = await startEtcd(t, { memberCount: 3 });
    const race = new Race(t, address);
    for (const name of ['a', 'b', 'c']) race.start(name);
    const times: number[] = [];
    let { name, elected: epoch = 0 } = await race.elected(1);
    for (let round = 0; round < 3; round += 1) {
      await race.works(epoch, 20);
      const killedAtMs = performance.now();
      await race.kill(name);
      const next = await race.elected(epoch + 1);
      times.push(Math.round(next.atMs - killedAtMs));
      t.equal(next.elected, epoch + 1, 'the next term has the next number');
      t.not(next.name, name);
      race.start(name);
      ({ name, elected: epoch = 0 } = next);
    }
    t.ok(Math.max(...times) < 5000, `${times.join(', ')} ms`);
    await race.works(epoch, 20);
    race.check(t);
  },
);

t.test(
  'a leader that is stopped is deposed; what it wakes up to write is refused',
  requiresEtcd(),
  async (t) => {
    const { address } = await startEtcd(t);
    const race = new Race(t, address);
    race.start('a');
    race.start('b');
    const first = await race.elected(1);
    await race.works(1, 20);
    race.child(first.name).kill('SIGSTOP');
    const second = await race.elected(2);
    t.not(second.name, first.name);
    await race.works(2, 20);
    race.child(first.name).kill('SIGCONT');
    await until(() => race.said.some(({ name, deposed }) => name === first.name && deposed === 1));
    await race.works(2, 60);
    race.check(t);
    // What it had written before it was stopped it says only now: `check` orders by count, not by time.
  },
);

t.test(
  'a leader whose store is cut off deposes itself before another one leads',
  requiresEtcd(),
  async (t) => {
    const { members, leader } = await startEtcd(t, { memberCount: 3 });
    const led = await leader();
    const follower = members.find((member) => member !== led)!;
    const others = members.filter((member) => member !== follower);
    // One candidate knows only the member that will hang, the other one the rest.
    const race = new Race(t, `etcd://${follower.host}`);
    race.start('a');
    const first = await race.elected(1);
    await race.works(1, 20);
    const rest = new Race(t, `etcd://${others.map(({ host }) => host).join(',')}`);
    rest.start('b');
    follower.freeze();
    t.teardown(() => {
      follower.thaw();
    });
    const frozenAtMs = performance.now();
    await until(() => race.said.some(({ deposed }) => deposed === 1));
    const deposed = race.said.find((event) => event.deposed === 1)!;
    const second = await rest.elected(2);
    t.equal(second.elected, 2);
    t.ok(deposed.atMs < second.atMs, 'no moment had two');
    const times = [deposed.atMs, second.atMs].map((atMs) => Math.round(atMs - frozenAtMs));
    t.ok(times[1]! < 5000, `deposed after ${times[0]} ms, followed after ${times[1]} ms`);
    await rest.works(2, 20);
    follower.thaw();
    rest.child('b').kill('SIGKILL');
    await race.elected(3);
    await race.works(3, 20);
    const all = new Race(t, '');
    all.said.push(
      ...[...race.said, ...rest.said].toSorted((left, right) => left.atMs - right.atMs),
    );
    all.check(t);
    t.equal(first.name, 'a');
  },
);

t.test(
  'an etcd that hangs under its leader does not make two leaders',
  requiresEtcd(),
  async (t) => {
    const { address, leader } = await startEtcd(t, { memberCount: 3 });
    const race = new Race(t, address);
    for (const name of ['a', 'b']) race.start(name);
    await race.elected(1);
    let epoch = 1;
    for (let round = 0; round < 2; round += 1) {
      await race.works(epoch, 20);
      const hit = await leader();
      hit.freeze();
      // Whoever leads then: work goes on, with the others.
      const before = race.said.filter(({ count }) => count !== undefined).length;
      await until(() => race.said.filter(({ count }) => count !== undefined).length > before + 100);
      hit.thaw();
      epoch = Math.max(...race.said.map(({ elected = 0 }) => elected));
    }
    race.check(t);
    const ends = ['a', 'b'].map(async (name) => {
      race.child(name).stdin!.end();
      await until(() => race.said.some((event) => event.name === name && event.closed === true));
      await once(race.child(name), 'exit').catch(() => undefined);
    });
    await Promise.race([
      Promise.all(ends),
      until(() => ['a', 'b'].every((name) => race.child(name).exitCode !== null)),
    ]);
    t.same(
      ['a', 'b'].map((name) => race.child(name).exitCode),
      [0, 0],
      'and they end by themselves',
    );
  },
);
