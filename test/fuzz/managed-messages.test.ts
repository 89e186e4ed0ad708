/**
 * Bodies of MANAGE messages from whoever has a session: a value or the protocol's error, never a crash;
 * and a control node that is asked anything by everybody keeps exact books.
 */
import t from 'tap';
import { isErrorCode, MemcloudError } from '../../common/errors.ts';
import {
  decodeManagedCall,
  decodeManagedReply,
  encodeManagedCall,
  encodeManagedError,
} from '../../control-plane/messages.ts';
import { MANAGED_CALLS, type ManagedCall, type ManagedResult } from '../../control-plane/schema.ts';
import { ControlRig, turns, type KeyedNode } from '../helpers/control-rig.ts';
import { fuzz, type Random } from '../helpers/fuzz.ts';

const CALLS = Object.keys(MANAGED_CALLS) as ManagedCall[];
const ALLOWED = ['ERR_CONTROL_PROTOCOL', 'ERR_UNSUPPORTED'];

/** A value of any kind, also such as break careless readers. */
function anything(random: Random, depth = 0): unknown {
  const leaves: unknown[] = [
    ...[null, true, 0, -1, 1.5, 1e308, 2 ** 53, Number.MAX_SAFE_INTEGER, 60_000, 1 << 20],
    ...[
      '',
      'a',
      '0'.repeat(32),
      'f'.repeat(64),
      'x'.repeat(3000),
      '__proto__',
      'constructor',
      '\u0000',
    ],
    ...['expired', 'client', 'lease.request', [], {}],
  ];
  const kind = random.below(depth > 3 ? 6 : 10);
  if (kind < 6) return random.pick(leaves);
  if (kind < 8) return Array.from({ length: random.below(4) }, () => anything(random, depth + 1));
  const names = ['leaseIds', 'client', '__proto__', 'constructor', 'ttlMs', 'toString', 'key'];
  const entries = Array.from(
    { length: random.below(4) },
    () => [random.pick(names), anything(random, depth + 1)] as const,
  );
  return JSON.parse(
    `{${entries.map(([k, v]) => `${JSON.stringify(k)}:${JSON.stringify(v)}`).join()}}`,
  );
}

/** Parameters that a call takes, out of ids that mean something. */
function goodParams(random: Random, call: ManagedCall, ids: readonly string[]): object {
  const id = (): string => random.pick(ids);
  const leaseIds = Array.from({ length: random.below(4) }, id);
  const ttlMs = random.pick([0, 5_000, 60_000, 86_400_000]);
  const bytes = (): number => random.pick([0, 1, 4096, 1 << 20, 1 << 30, 2 ** 45, 2 ** 53 - 1]);
  const life = '1'.repeat(32);
  const provider = {
    life,
    offeredBytes: bytes(),
    otherBytes: bytes(),
    accepting: true,
    draining: false,
  };
  const lease = { leaseId: id(), client: id(), sizeBytes: bytes() };
  const params: Record<ManagedCall, object> = {
    'control.hello': {},
    'lease.request': {
      ...{ requestId: id(), sizeBytes: Math.max(1, bytes()), ttlMs, count: 1 + random.below(8) },
      ...{ purpose: 'fuzz', ...(random.below(3) === 0 ? { include: leaseIds } : {}) },
    },
    'lease.token': { leaseId: id() },
    'lease.renew': { leaseIds, ttlMs },
    'lease.release': { leaseIds },
    'lease.list': { all: random.below(2) === 0, countMax: 1 + random.below(500) },
    'provider.register': {
      ...{ ...provider, hostId: id(), zone: '', port: 1 + random.below(65_535) },
      ...{ leases: [{ ...lease, ttlMs }], more: random.below(4) === 0 },
    },
    'provider.heartbeat': { ...provider, load: random.below(2) },
    'provider.redeem': { life, token: 'x'.repeat(random.below(2048)), client: id() },
    'provider.ended': {
      life,
      endings: [{ ...lease, reason: 'expired', wipedBytes: bytes(), wipeMs: 1, receipt: 'x.y.z' }],
    },
    'manage.admit': { epoch: 1, publicKey: 'a'.repeat(64), name: 'n', ttlMs },
    'manage.extend': { epoch: 1, leases: leaseIds.map((leaseId) => ({ leaseId, ttlMs })) },
    'manage.end': { epoch: 1, leaseIds, reason: 'revoked' },
    'manage.ending': { epoch: 1, leaseIds, reason: 'revoked', endsInMs: 0 },
    'lease.present': { token: 'x' },
    'lease.return': { leaseIds },
    'admin.status': {},
    'admin.providers': { countMax: 1 + random.below(500) },
    'admin.members': { cursor: id() },
    'admin.member-put': {
      ...{ key: id(), name: 'm', roles: [random.pick(['client', 'provider'])] },
      ...{ quotaBytes: random.pick([null, 1 << 30]), quotaLeases: random.pick([null, 5]) },
    },
    'admin.member-remove': { key: id() },
    'admin.revoke': random.pick([{}, { leaseIds }, { client: id() }, { provider: id() }]),
    'admin.drain': { provider: id(), draining: random.below(2) === 0 },
    'admin.usage': {},
    'admin.audit': { after: random.below(100) },
    'admin.watch': { cursor: random.pick(['', '1:1', 'x'.repeat(500)]), waitMs: 0 },
  };
  return params[call];
}

/** A body: a good one, one with something else in it, or none at all. */
function anyBody(random: Random, ids: readonly string[]): Buffer {
  const call = random.pick(CALLS);
  const params = goodParams(random, call, ids);
  const kind = random.below(10);
  if (kind < 6) return Buffer.from(encodeManagedCall(call, params as never));
  if (kind === 6) return random.bytes(random.below(200));
  if (kind === 7) return random.mutate(Buffer.from(encodeManagedCall(call, params as never)));
  const field = random.pick([...Object.keys(params), 'more']);
  const changed = kind === 8 ? { ...params, [field]: anything(random) } : anything(random);
  return Buffer.from(JSON.stringify({ call, params: changed }));
}

t.test('any bytes are a call or none', async (t) => {
  await fuzz(t, (random) => {
    for (let round = 0; round < 200; round += 1) {
      const body = anyBody(random, ['0'.repeat(32), 'f'.repeat(64)]);
      try {
        const { call, params } = decodeManagedCall(body);
        const again = decodeManagedCall(Buffer.from(encodeManagedCall(call, params)));
        if (JSON.stringify(again) !== JSON.stringify({ call, params }))
          throw new Error('another call');
      } catch (error) {
        if (!(error instanceof MemcloudError) || !ALLOWED.includes(error.code)) throw error;
      }
    }
  });
});

t.test('any bytes are an answer or none', async (t) => {
  await fuzz(t, (random) => {
    for (let round = 0; round < 200; round += 1) {
      const call = random.pick(CALLS);
      const bodies = [
        (): Buffer => random.bytes(random.below(100)),
        (): Buffer => Buffer.from(JSON.stringify(anything(random))),
        (): Buffer => Buffer.from(JSON.stringify({ result: anything(random) })),
        (): Buffer => Buffer.from(JSON.stringify({ error: anything(random) })),
        (): Buffer => random.mutate(encodeManagedError(new MemcloudError('ERR_TOKEN', 'no'))),
      ];
      try {
        decodeManagedReply(call, random.pick(bodies)());
      } catch (error) {
        if (!(error instanceof MemcloudError) || !isErrorCode(error.code)) throw error;
      }
    }
  });
});

t.test('nothing that is parsed changes what objects are', async (t) => {
  const text = '{"call":"admin.revoke","params":{"__proto__":{"client":"x"},"constructor":{}}}';
  t.throws(() => decodeManagedCall(Buffer.from(text)), { code: 'ERR_CONTROL_PROTOCOL' });
  for (const call of ['__proto__', 'constructor', 'toString', 'hasOwnProperty', '']) {
    const body = Buffer.from(JSON.stringify({ call, params: {} }));
    t.throws(() => decodeManagedCall(body), { code: 'ERR_UNSUPPORTED' }, call);
  }
  const deep = Buffer.from(`${'['.repeat(30_000)}${']'.repeat(30_000)}`);
  t.throws(() => decodeManagedCall(deep), { code: 'ERR_CONTROL_PROTOCOL' });
  t.equal(({} as Record<string, unknown>)['client'], undefined);
});

/** The books of the leader, from its own listings. */
async function checkBooks(rig: ControlRig): Promise<void> {
  const leases: { client: string; provider: string; sizeBytes: number }[] = [];
  let cursor: string | null = '';
  while (cursor !== null) {
    const wish = { all: true, countMax: 500, cursor };
    const page: ManagedResult<'lease.list'> = await rig.local('lease.list', wish);
    leases.push(...page.rows);
    cursor = page.cursor;
  }
  const sum = (field: 'client' | 'provider', node: string): number =>
    leases.reduce((total, lease) => total + (lease[field] === node ? lease.sizeBytes : 0), 0);
  for (const { nodeId, reservedBytes } of (await rig.local('admin.providers', {})).rows) {
    if (reservedBytes !== sum('provider', nodeId))
      throw new Error('reserved bytes are not the sum');
  }
  for (const { client, usedBytes } of (await rig.local('admin.usage', { countMax: 500 })).rows) {
    if (usedBytes !== sum('client', client)) throw new Error('used bytes are not the sum');
  }
}

/** Makes 10 000 calls, and checks the books after each 100. @returns how many ended how, by code */
async function callAnything(rig: ControlRig, random: Random): Promise<Map<string, number>> {
  await rig.lead();
  const nodes: KeyedNode[] = [];
  for (const name of ['p1', 'p2', 'p3']) nodes.push((await rig.provider(name)).node);
  for (const name of ['c1', 'c2']) nodes.push(await rig.client(name));
  const admin = await rig.client('a', {}, ['admin']);
  nodes.push(admin);
  const nodeIds = [rig.control.node, ...nodes].map(({ nodeId }) => nodeId);
  const codes = new Map<string, number>();
  for (let done = 0; done < 10_000;) {
    // An admin may take its own rights away; nobody could do anything for the others any more.
    await rig.local('admin.member-put', { key: admin.nodeId, name: 'a', roles: ['admin'] });
    const { rows } = await rig.local('lease.list', { all: true });
    const ids = [...nodeIds, ...rows.map(({ leaseId }) => leaseId), '0'.repeat(32)];
    const round = Array.from({ length: 100 }, async () => {
      const from = random.pick(nodes);
      const body = await rig.control.service.serveManaged(from.nodeId, anyBody(random, ids));
      if (body.length > 60_000) throw new Error(`an answer of ${body.length} bytes`);
      const { error } = JSON.parse(Buffer.from(body).toString()) as { error?: { code: string } };
      if (error !== undefined && !isErrorCode(error.code))
        throw new Error('an answer that is none');
      if (error?.code === 'ERR_INTERNAL') throw new Error(JSON.stringify(error));
      codes.set(error?.code ?? 'ok', (codes.get(error?.code ?? 'ok') ?? 0) + 1);
    });
    // Providers of the rig that are told nonsense say nothing; their deadline is the rig's.
    const all = Promise.all(round);
    while (!(await Promise.race([all.then(() => true), turns(5).then(() => false)]))) {
      rig.time.advance(500);
    }
    done += round.length;
    for (const { service } of rig.controls) service.tick();
    await checkBooks(rig);
  }
  return codes;
}

t.test('10 000 calls of anybody at a control node', async (t) => {
  await fuzz(t, async (random) => {
    const rig = new ControlRig(undefined, random.below(2 ** 30));
    try {
      const codes = await callAnything(rig, random);
      t.ok((codes.get('ok') ?? 0) > 500, JSON.stringify(Object.fromEntries(codes)));
    } finally {
      await rig.close();
    }
  });
});
