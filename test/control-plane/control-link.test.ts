/** Calls to whoever leads: over links in the hands of a test, and over real sessions. */
import t, { type Test } from 'tap';
import { monotonicClock, type Clock } from '../../common/clock.ts';
import { asMemcloudError, MemcloudError } from '../../common/errors.ts';
import { parseControlTarget } from '../../common/control-target.ts';
import { silentLogger } from '../../common/log.ts';
import type { ManagedLink, ManagedLinks, ManagedService } from '../../common/managed.ts';
import { ControlLink } from '../../control-plane/control-link.ts';
import {
  decodeManagedCall,
  encodeManagedError,
  encodeManagedResult,
  type DecodedCall,
} from '../../control-plane/messages.ts';
import { testNode, until } from '../helpers/peer-node.ts';

const CLUSTER = 'c'.repeat(32);
const A = 'a'.repeat(32);
const B = 'b'.repeat(32);
const USAGE = { rows: [], cursor: null };

/** Whose term it is. */
interface Term {
  leader: string | null;
  epoch: number;
}

/** One control node: answers hello, refuses all else unless it leads, and then does what the test says. */
class Control implements ManagedService {
  readonly seen: string[] = [];
  answer: (call: DecodedCall) => Promise<Uint8Array> = () =>
    Promise.resolve(encodeManagedResult('admin.usage', USAGE));
  readonly #nodeId: string;
  readonly #term: Term;

  constructor(nodeId: string, term: Term) {
    this.#nodeId = nodeId;
    this.#term = term;
  }

  async serveManaged(_from: string, body: Buffer): Promise<Uint8Array> {
    const call = decodeManagedCall(body);
    const { leader, epoch } = this.#term;
    const leads = leader === this.#nodeId;
    if (call.call === 'control.hello') {
      const identity = { cluster: CLUSTER, controlNode: this.#nodeId, name: 'control' };
      const standing = { roles: ['admin' as const], quotaBytes: null };
      return encodeManagedResult('control.hello', {
        ...identity,
        leads,
        leader,
        epoch,
        ...standing,
      });
    }
    this.seen.push(call.call);
    if (leads) return this.answer(call);
    return encodeManagedError(new MemcloudError('ERR_CONTROL_NOT_LEADER', 'another leads'));
  }
}

/** Links to control nodes without anything between; `A:1` and `B:1` are their addresses. */
class MemoryLinks implements ManagedLinks {
  readonly nodes = new Map<string, { control: Control; up: boolean }>();
  readonly #listeners = new Set<(link: ManagedLink) => void>();

  find(nodeId: string): ManagedLink | undefined {
    const node = this.nodes.get(nodeId);
    if (node === undefined) return undefined;
    const request = async (body: Uint8Array, signal?: AbortSignal): Promise<Buffer> => {
      if (!node.up) throw new MemcloudError('ERR_PEER_UNREACHABLE', 'down');
      const reply = node.control.serveManaged('me', Buffer.from(body));
      const aborted = new Promise<never>((_resolve, reject) => {
        signal?.addEventListener('abort', () => reject(new Error('aborted')), { once: true });
      });
      return Buffer.from(await Promise.race([reply, aborted]));
    };
    const { up } = node;
    return { nodeId, name: nodeId.slice(0, 4), up, connected: up, request };
  }

  at(address: string): ManagedLink | undefined {
    return this.find(address === 'a:1' ? A : B);
  }

  onChange(listener: (link: ManagedLink) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  set(nodeId: string, control: Control, up = true): void {
    this.nodes.set(nodeId, { control, up });
    const link = this.find(nodeId);
    if (link !== undefined) for (const listener of this.#listeners) listener(link);
  }
}

function rig(t: Test, clock: Clock = { nowMs: () => 0 }, addresses = ['a:1', 'b:1']) {
  const term: Term = { leader: A, epoch: 1 };
  const [a, b] = [new Control(A, term), new Control(B, term)];
  const links = new MemoryLinks();
  const link = new ControlLink({
    ...{ links, clock, logger: silentLogger },
    targets: addresses.map(parseControlTarget),
  });
  // The link's own timer keeps no process alive.
  const alive = setInterval(() => undefined, 1000);
  t.teardown(() => {
    clearInterval(alive);
    link.close();
  });
  return { term, a, b, links, link };
}

t.test('who answers at an address with another key than its own is not asked', async (t) => {
  const { term, a, b, links, link } = rig(t, monotonicClock, [`${B}@a:1`, `${B}@b:1`]);
  links.set(A, a);
  links.set(B, b);
  await t.rejects(link.call('admin.usage', {}, { timeoutMs: 300 }), {
    code: 'ERR_CONTROL_UNREACHABLE',
    message:
      'the control nodes at a:1, b:1 answer, and none of them leads; leases that run go on to their end',
  });
  t.notOk(link.isControlNode(A));
  t.ok(link.isControlNode(B));
  term.leader = B;
  t.same(await link.call('admin.usage', {}), USAGE);
  t.same(a.seen, []);
});

t.test('a call is made by the leader, and its result is checked', async (t) => {
  const { a, b, links, link } = rig(t);
  t.equal(link.heardMsAgo, null);
  t.equal(link.cluster, '');
  const told: (string | undefined)[] = [];
  link.onLeader(() => told.push(link.leader?.nodeId));
  const early = link.call('admin.usage', {});
  links.set(B, b);
  links.set(A, a);
  t.same(await early, USAGE);
  t.same(told, [A]);
  t.equal(link.heardMsAgo, 0);
  t.equal(link.cluster, CLUSTER);
  t.same(link.roles, ['admin']);
  t.ok(link.isControlNode(B), 'followers are control nodes as well');
  t.notOk(link.isControlNode('e'.repeat(32)));
  t.same([a.seen, b.seen], [['admin.usage'], []]);
  a.answer = () => Promise.resolve(Buffer.from('{"result": {"rows": 7}}'));
  await t.rejects(link.call('admin.usage', {}), { code: 'ERR_CONTROL_PROTOCOL' });
});

t.test("refusals are the caller's, also those that sound like a lost peer", async (t) => {
  const { a, links, link } = rig(t);
  links.set(A, a);
  for (const code of ['ERR_CONTROL_QUOTA', 'ERR_PEER_UNREACHABLE', 'ERR_TIMEOUT'] as const) {
    a.answer = () => Promise.resolve(encodeManagedError(new MemcloudError(code, 'no')));
    await t.rejects(link.call('admin.usage', {}), { code, message: 'no' });
  }
  t.equal(a.seen.length, 3, 'each was asked once');
  t.equal(link.leader?.nodeId, A);
});

t.test('a call goes on at the next leader', async (t) => {
  const time = { nowMs: () => performance.now() };
  const { term, a, b, links, link } = rig(t, time);
  links.set(A, a);
  links.set(B, b);
  t.same(await link.call('admin.usage', {}), USAGE);
  // It is deposed while the call is on its way.
  a.answer = () => {
    term.leader = B;
    term.epoch = 2;
    return Promise.resolve(encodeManagedError(new MemcloudError('ERR_CONTROL_NOT_LEADER', 'no')));
  };
  t.same(await link.call('admin.usage', {}), USAGE);
  t.same(link.leader, { nodeId: B, name: 'bbbb', epoch: 2 });
  // It dies while the call is on its way.
  b.answer = () => {
    term.leader = A;
    term.epoch = 3;
    links.set(B, b, false);
    return Promise.reject(new MemcloudError('ERR_PEER_UNREACHABLE', 'gone'));
  };
  a.answer = () => Promise.resolve(encodeManagedResult('admin.usage', USAGE));
  t.same(await link.call('admin.usage', {}), USAGE);
  t.match(link.leader, { nodeId: A, epoch: 3 });
});

t.test('what is made once is not made again when its answer is lost', async (t) => {
  const { a, links, link } = rig(t);
  links.set(A, a);
  a.answer = () => Promise.reject(new MemcloudError('ERR_PEER_UNREACHABLE', 'gone'));
  await t.rejects(link.call('admin.revoke', {}), {
    code: 'ERR_CONTROL_UNREACHABLE',
    message: /lost before it answered; whether it did what was asked is not known/,
  });
  t.same(a.seen, ['admin.revoke']);
});

t.test(
  'without a leader a call fails by its deadline, with one sentence that says where',
  async (t) => {
    let nowMs = 0;
    const { a, term, links, link } = rig(t, { nowMs: () => nowMs });
    const failed = link.call('admin.usage', {}, { timeoutMs: 500 }).catch(asMemcloudError);
    nowMs = 500;
    const error = (await failed) as MemcloudError;
    t.equal(error.code, 'ERR_CONTROL_UNREACHABLE');
    t.equal(
      error.message,
      'no control node answers at a:1, b:1; leases that run go on to their end',
    );
    term.leader = null;
    links.set(A, a);
    const second = link.call('admin.usage', {}).catch(asMemcloudError);
    // Its hello has to be answered before time goes on.
    await new Promise((resolve) => setImmediate(resolve));
    nowMs = 8500;
    t.match(await second, { code: 'ERR_CONTROL_UNREACHABLE', message: /none of them leads/ });
  },
);

t.test('callers may give up, and the owner may end it', async (t) => {
  const { a, links, link } = rig(t);
  links.set(A, a);
  const never = new Promise<Uint8Array>(() => undefined);
  a.answer = () => never;
  const abort = new AbortController();
  const given = link.call('admin.usage', {}, { signal: abort.signal });
  abort.abort();
  await t.rejects(given, { code: 'ERR_CANCELLED' });
  await t.rejects(link.call('admin.usage', {}, { signal: abort.signal }), {
    code: 'ERR_CANCELLED',
  });
  const waiting = link.call('admin.usage', {});
  link.close();
  link.close();
  await t.rejects(waiting, { code: 'ERR_CANCELLED' });
  await t.rejects(link.call('admin.usage', {}), { code: 'ERR_CANCELLED' });
});

t.test('over real sessions: finds the leader, follows it, and hears of new sessions', async (t) => {
  const term: Term = { leader: null, epoch: 1 };
  const nodes = ['one', 'two'].map((name) => {
    const services: Control[] = [];
    const managed: ManagedService = {
      serveManaged: (from, body) => services[0]!.serveManaged(from, body),
    };
    const node = testNode(t, name, { managed });
    services.push(new Control(node.identity.nodeId, term));
    return { ...node, control: services[0]! };
  });
  const [one, two] = [nodes[0]!, nodes[1]!];
  const client = testNode(t, 'client');
  const addresses = [await one.listen(), await two.listen()];
  for (const address of addresses) client.peers.connect(address);
  const link = new ControlLink({
    ...{ links: client.peers.managedLinks, clock: monotonicClock, logger: silentLogger },
    targets: addresses.map(parseControlTarget),
  });
  t.teardown(() => link.close());
  let leaders = 0;
  link.onLeader(() => (leaders += 1));
  term.leader = one.identity.nodeId;
  t.same(await link.call('admin.usage', {}), USAGE);
  t.match(link.leader, { name: 'one', epoch: 1 });
  // The leader goes; the other one is elected a little later.
  await one.peers.close();
  await until(() => link.leader === undefined, 'the loss of the leader');
  const call = link.call('admin.usage', {});
  term.leader = two.identity.nodeId;
  term.epoch = 2;
  t.same(await call, USAGE);
  t.match(link.leader, { name: 'two', epoch: 2 });
  t.same(two.control.seen, ['admin.usage']);
  const before = leaders;
  // A session that is replaced by a newer one: the same leader, told anew.
  two.peers.disconnect(client.identity.nodeId);
  await until(() => link.leader === undefined, 'the end of the session');
  two.peers.connect(await client.listen());
  await until(() => leaders > before, 'the leader over a new session');
  t.match(link.leader, { name: 'two' });
  t.same(await link.call('admin.usage', {}), USAGE);
});
