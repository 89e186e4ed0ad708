import t from 'tap';
import {
  LeadershipMachine,
  type LeadershipAction,
  type LeadershipEvent,
} from '../../control-plane/leadership-machine.ts';
import { Random } from '../helpers/fuzz.ts';

const TTL_MS = 3000;

/** A machine and a clock that the test turns. */
class Node {
  readonly machine = new LeadershipMachine({ ttlMs: TTL_MS });
  nowMs = 1000;

  on(event: LeadershipEvent): string[] {
    return this.machine.handle(event, this.nowMs).map((action) => action.do);
  }

  /** Looks, finds nothing, campaigns and wins at revision 7. */
  lead(): void {
    this.on({ on: 'tick' });
    this.on({ on: 'seen', revision: 0 });
    this.on({ on: 'won', revision: 7, sentAtMs: this.nowMs, ttlMs: TTL_MS });
  }
}

t.test('who finds no leader campaigns, and leads when it has won', async (t) => {
  const node = new Node();
  t.equal(node.machine.state, 'following');
  t.same(node.on({ on: 'tick' }), ['look']);
  t.same(node.on({ on: 'tick' }), [], 'one look at a time');
  t.same(node.on({ on: 'seen', revision: 0 }), ['campaign']);
  t.equal(node.machine.state, 'campaigning');
  t.same(node.on({ on: 'seen', revision: 0 }), [], 'one campaign at a time');
  t.same(node.on({ on: 'won', revision: 7, sentAtMs: 1000, ttlMs: TTL_MS }), ['elected']);
  t.equal(node.machine.state, 'leading');
  t.ok(node.machine.leadsAt(1000));
});

t.test('who finds a leader looks again, and campaigns when that is gone', async (t) => {
  const node = new Node();
  node.on({ on: 'tick' });
  t.same(node.on({ on: 'seen', revision: 3 }), []);
  t.equal(node.machine.wakeAtMs, 2000, 'after a third of the lease');
  t.same(node.on({ on: 'seen', revision: 0 }), ['campaign'], 'or as soon as it is told');
  t.same(node.on({ on: 'not-won' }), []);
  t.equal(node.machine.state, 'following');
  t.equal(node.machine.wakeAtMs, 1200);
});

t.test('a term ends by the own clock before the lease can be over elsewhere', async (t) => {
  const node = new Node();
  node.lead();
  t.equal(node.machine.wakeAtMs, 1750, 'the first keepalive');
  node.nowMs = 1750;
  t.same(node.on({ on: 'tick' }), ['keep']);
  t.equal(node.machine.wakeAtMs, 3500, 'a sixth of the lease before its end');
  node.nowMs = 3499;
  t.same(node.on({ on: 'tick' }), []);
  t.ok(node.machine.leadsAt(3499));
  t.notOk(node.machine.leadsAt(3500), 'also before the timer fired');
  node.nowMs = 3500;
  t.same(node.on({ on: 'tick' }), ['deposed', 'revoke']);
  t.same(node.on({ on: 'kept', sentAtMs: 1750 }), [], 'an answer that late changes nothing');
  t.equal(node.machine.state, 'following');
});

t.test('a keepalive counts from when it was sent', async (t) => {
  const node = new Node();
  node.lead();
  node.nowMs = 1750;
  node.on({ on: 'tick' });
  node.nowMs = 3400;
  t.same(node.on({ on: 'kept', sentAtMs: 1750 }), []);
  t.ok(node.machine.leadsAt(4249));
  t.notOk(node.machine.leadsAt(4250));
  t.same(node.on({ on: 'tick' }), ['keep'], 'the next one is due at once');
});

t.test('a keepalive that fails is tried again, to the end', async (t) => {
  const node = new Node();
  node.lead();
  let tries = 0;
  let deposedAtMs = 0;
  while (deposedAtMs === 0) {
    node.nowMs = node.machine.wakeAtMs;
    const actions = node.on({ on: 'tick' });
    if (actions.includes('deposed')) deposedAtMs = node.nowMs;
    if (!actions.includes('keep')) continue;
    tries += 1;
    t.same(node.on({ on: 'keep-failed' }), []);
  }
  t.equal(deposedAtMs, 3500);
  t.equal(tries, 9);
});

t.test('a lease that the store says is over ends the term at once', async (t) => {
  const node = new Node();
  node.lead();
  t.same(node.on({ on: 'lease-over' }), ['deposed', 'revoke']);
  t.same(node.on({ on: 'lease-over' }), []);
});

t.test('another entry, or none, ends the term; its own does not', async (t) => {
  for (const revision of [0, 8]) {
    const node = new Node();
    node.lead();
    t.same(node.on({ on: 'seen', revision: 7 }), []);
    t.same(node.on({ on: 'seen', revision }), ['deposed', 'revoke']);
  }
});

t.test('a win that was heard of too late is given back', async (t) => {
  const node = new Node();
  node.on({ on: 'tick' });
  node.on({ on: 'seen', revision: 0 });
  node.nowMs = 3500;
  t.same(node.on({ on: 'won', revision: 7, sentAtMs: 1000, ttlMs: TTL_MS }), ['revoke']);
  t.equal(node.machine.state, 'following');
});

t.test('who resigned rests for the length of a lease', async (t) => {
  const node = new Node();
  node.lead();
  t.same(node.on({ on: 'resign' }), ['deposed', 'revoke']);
  t.same(node.on({ on: 'seen', revision: 0 }), []);
  node.nowMs = 3999;
  t.same(node.on({ on: 'seen', revision: 0 }), []);
  t.equal(node.machine.wakeAtMs, 4000);
  node.nowMs = 4000;
  t.same(node.on({ on: 'tick' }), ['look']);
  t.same(node.on({ on: 'seen', revision: 0 }), ['campaign']);
});

t.test('a resignation in the middle of a campaign gives back what is won', async (t) => {
  const node = new Node();
  node.on({ on: 'tick' });
  node.on({ on: 'seen', revision: 0 });
  t.same(node.on({ on: 'resign' }), []);
  t.same(node.on({ on: 'won', revision: 7, sentAtMs: 1000, ttlMs: TTL_MS }), ['revoke']);
});

t.test('what is closed does nothing more, and keeps nothing', async (t) => {
  const node = new Node();
  node.lead();
  t.same(node.on({ on: 'close' }), ['deposed', 'revoke']);
  t.equal(node.machine.wakeAtMs, Infinity);
  const events: LeadershipEvent[] = [
    { on: 'tick' },
    { on: 'seen', revision: 0 },
    { on: 'look-failed' },
    { on: 'kept', sentAtMs: 1000 },
    { on: 'lease-over' },
    { on: 'not-won' },
    { on: 'resign' },
    { on: 'close' },
  ];
  for (const event of events) t.same(node.on(event), [], event.on);
  t.same(node.on({ on: 'won', revision: 9, sentAtMs: 1000, ttlMs: TTL_MS }), ['revoke']);
});

// --- Several nodes, one store, and a network that loses and delays, from one seed ---------------------

interface Arrival {
  readonly atMs: number;
  readonly deliver: () => void;
}

/** A store with one entry, whose leases end by its own clock. */
class World {
  readonly random: Random;
  readonly queue: Arrival[] = [];
  readonly nodes: SimNode[] = [];
  nowMs = 0;
  revision = 0;
  epoch = 0;
  entry: { owner: SimNode; revision: number; lease: number } | undefined;
  readonly leases = new Map<number, number>();
  leaseCount = 0;
  /** While true, the network loses everything of these nodes. */
  readonly cut = new Set<SimNode>();
  /** While true, nothing is lost, late or stalled any more. */
  calm = false;

  constructor(seed: number, nodeCount: number) {
    this.random = new Random(seed);
    for (let index = 0; index < nodeCount; index += 1) this.nodes.push(new SimNode(this));
  }

  after(delayMs: number, deliver: () => void): void {
    this.queue.push({ atMs: this.nowMs + delayMs, deliver });
  }

  /** A call to the store and its answer; either may be lost, and is then said to have failed after a while. */
  call<T>(node: SimNode, work: () => T, answer: (result: T) => void, failed: () => void): void {
    const slow = !this.calm && this.random.below(20) === 0;
    const delay = (): number => this.random.below(slow ? 4000 : 60);
    const lost = (): boolean => !this.calm && (this.cut.has(node) || this.random.below(40) === 0);
    if (lost()) {
      this.after(1000, failed);
      return;
    }
    this.after(delay(), () => {
      this.expire();
      const result = work();
      if (lost()) this.after(1000, failed);
      else this.after(delay(), () => answer(result));
    });
  }

  expire(): void {
    for (const [lease, endsAtMs] of this.leases) {
      if (this.nowMs < endsAtMs) continue;
      this.leases.delete(lease);
      if (this.entry?.lease === lease) this.drop();
    }
  }

  drop(): void {
    this.entry = undefined;
    this.revision += 1;
    for (const node of this.nodes) {
      // A watch: told late, and now and then not at all.
      if (this.random.below(10) > 0) this.after(this.random.below(300), () => node.see(0));
    }
  }

  run(untilMs: number, check: () => void): void {
    while (this.nowMs < untilMs) {
      const times = [
        ...this.queue.map(({ atMs }) => atMs),
        ...this.nodes.map((node) => node.wakeAtMs),
        ...this.leases.values(),
      ];
      this.nowMs = Math.max(this.nowMs, Math.min(...times, untilMs));
      this.expire();
      const due = this.queue.filter(({ atMs }) => atMs <= this.nowMs);
      for (const arrival of due) {
        this.queue.splice(this.queue.indexOf(arrival), 1);
        arrival.deliver();
        check();
      }
      for (const node of this.nodes) {
        if (node.wakeAtMs > this.nowMs) continue;
        // A process that does not run: its timer fires late.
        if (!this.calm && this.random.below(200) === 0)
          node.stalledUntilMs = this.nowMs + this.random.below(6000);
        else node.handle({ on: 'tick' });
        check();
      }
    }
  }
}

class SimNode {
  readonly #world: World;
  readonly machine = new LeadershipMachine({ ttlMs: TTL_MS });
  /** Clocks differ in what they show, and in how fast they are. */
  readonly #offsetMs: number;
  readonly #rate: number;
  stalledUntilMs = 0;
  lease = 0;
  fence = 0;
  terms: number[] = [];

  constructor(world: World) {
    this.#world = world;
    this.#offsetMs = world.random.below(10_000_000);
    this.#rate = 1 + (world.random.below(2001) - 1000) / 100_000;
  }

  get #localMs(): number {
    return this.#offsetMs + this.#world.nowMs * this.#rate;
  }

  get wakeAtMs(): number {
    // A timer never fires early, not by a rounding either: the machine would be asked again at the same time.
    const wakeMs = (this.machine.wakeAtMs - this.#offsetMs) / this.#rate + 0.001;
    return Math.max(wakeMs, this.stalledUntilMs);
  }

  get leads(): boolean {
    return this.machine.leadsAt(this.#localMs);
  }

  see(revision: number): void {
    if (this.#world.nowMs >= this.stalledUntilMs) this.handle({ on: 'seen', revision });
  }

  handle(event: LeadershipEvent): void {
    for (const action of this.machine.handle(event, this.#localMs)) this.#do(action);
  }

  #do(action: LeadershipAction): void {
    const world = this.#world;
    const sentAtMs = this.#localMs;
    switch (action.do) {
      case 'look':
        world.call(
          this,
          () => world.entry?.revision ?? 0,
          (revision) => this.handle({ on: 'seen', revision }),
          () => this.handle({ on: 'look-failed' }),
        );
        return;
      case 'campaign':
        world.call(
          this,
          () => {
            if (world.entry !== undefined) return undefined;
            world.leaseCount += 1;
            world.revision += 1;
            world.epoch += 1;
            const lease = world.leaseCount;
            world.leases.set(lease, world.nowMs + TTL_MS);
            world.entry = { owner: this, revision: world.revision, lease };
            return { lease, revision: world.revision, epoch: world.epoch };
          },
          (won) => {
            if (won === undefined) {
              this.handle({ on: 'not-won' });
              return;
            }
            this.lease = won.lease;
            this.fence = won.revision;
            this.terms.push(won.epoch);
            this.handle({ on: 'won', revision: won.revision, sentAtMs, ttlMs: TTL_MS });
          },
          () => this.handle({ on: 'not-won' }),
        );
        return;
      case 'keep': {
        const { lease } = this;
        world.call(
          this,
          () => {
            if (!world.leases.has(lease)) return false;
            world.leases.set(lease, world.nowMs + TTL_MS);
            return true;
          },
          (kept) => {
            if (lease !== this.lease) return;
            this.handle(kept ? { on: 'kept', sentAtMs } : { on: 'lease-over' });
          },
          () => lease === this.lease && this.handle({ on: 'keep-failed' }),
        );
        return;
      }
      case 'revoke': {
        const { lease } = this;
        this.lease = 0;
        world.call(
          this,
          () => world.leases.has(lease) && world.leases.set(lease, -Infinity) && world.expire(),
          () => undefined,
          () => undefined,
        );
        return;
      }
      case 'elected':
      case 'deposed':
        return;
    }
  }
}

t.test('of several nodes never two lead, whatever is lost, late, stalled or cut', async (t) => {
  const seeds = Number(process.env['SIM_SEEDS'] ?? 200);
  const first = Number(process.env['SEED'] ?? 1 + Math.floor(Math.random() * 1e9));
  t.comment(`SEED=${first}`);
  let terms = 0;
  let ledMs = 0;
  for (let seed = first; seed < first + seeds; seed += 1) {
    const world = new World(seed, 3);
    const check = (): void => {
      const leading = world.nodes.filter((node) => node.leads);
      if (leading.length > 1) throw new Error(`two nodes lead at ${world.nowMs}, SEED=${seed}`);
      const [leader] = leading;
      // Who believes that it leads has the entry, so that its fence holds, unless an admin removed it.
      if (leader !== undefined && world.entry?.owner !== leader) {
        throw new Error(`a node leads without the entry at ${world.nowMs}, SEED=${seed}`);
      }
    };
    for (let round = 0; round < 12; round += 1) {
      const before = world.nowMs;
      world.run(world.nowMs + 1000 + world.random.below(8000), check);
      if (world.nodes.some((node) => node.leads)) ledMs += world.nowMs - before;
      world.cut.clear();
      if (world.random.below(2) === 0) world.cut.add(world.random.pick(world.nodes));
    }
    // Left in peace, one leads.
    world.calm = true;
    world.run(world.nowMs + 20_000, check);
    const epochs = world.nodes.flatMap((node) => node.terms);
    terms += world.epoch;
    if (new Set(epochs).size !== epochs.length) throw new Error(`a term twice, SEED=${seed}`);
    if (!world.nodes.some((node) => node.leads)) throw new Error(`nobody leads, SEED=${seed}`);
  }
  t.ok(terms > seeds, `${terms} terms in ${seeds} histories`);
  t.ok(ledMs > 0);
});
