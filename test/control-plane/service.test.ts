/** A control node as its clients, providers and admins see it. */
import t from 'tap';
import { brokenAuditLine } from '../../common/audit-chain.ts';
import { fingerprintOf, nodeIdOf } from '../../common/fingerprint.ts';
import { verifyToken } from '../../control-plane/tokens.ts';
import { ControlRig, makeNode, turns, type TestLeadership } from '../helpers/control-rig.ts';

const MIB = 2 ** 20;
const AUDIT_BEGIN = { sequence: 0, hash: '0'.repeat(64) };
const id = (digit: string): string => digit.repeat(32);

t.test('a grant: placed, let in, and answered with a token for its provider', async (t) => {
  const rig = await ControlRig.start(t);
  const provider = await rig.provider('p1');
  const client = await rig.client();
  const { leases, epoch } = await rig.request(client, { sizeBytes: 8 * MIB });
  t.equal(epoch, 1);
  const [grant] = leases;
  t.same(grant!.provider, {
    nodeId: provider.nodeId,
    publicKey: provider.node.publicKey.toString('hex'),
    name: 'p1',
    address: '10.0.0.9:7070',
    hostId: 'host-p1',
    zone: '',
  });
  t.same(provider.admitted, [client.publicKey.toString('hex')], 'before the answer');
  const claims = await verifyToken(grant!.token, {
    keyOf: () => rig.control.node.publicKey,
    provider: provider.nodeId,
    client: client.nodeId,
    clientKey: client.publicKey,
    epochMin: 1,
  });
  t.match(claims, { leaseId: grant!.leaseId, sizeBytes: 8 * MIB, ttlMs: 60_000, epoch: 1 });

  const redeemed = await provider.redeem(grant!.token, client.nodeId);
  t.same(redeemed, { leaseId: grant!.leaseId, sizeBytes: 8 * MIB, ttlMs: 60_000, epoch: 1 });
  await t.rejects(provider.redeem(grant!.token, client.nodeId), { code: 'ERR_TOKEN' }, 'once');
  const { rows } = await rig.ask(client, 'lease.list', {});
  t.match(rows, [{ state: 'active', sizeBytes: 8 * MIB, endsInMs: 60_000, providerName: 'p1' }]);
  const events = (await rig.audit()).map(({ event }) => event);
  t.same(
    events.filter((event) => /lease|token/.test(event)),
    ['lease.granted', 'lease.active', 'token.refused'],
  );
});

t.test('the same request again has the same leases and fresh tokens', async (t) => {
  const rig = await ControlRig.start(t);
  const provider = await rig.provider('p1');
  const client = await rig.client();
  const wish = { requestId: id('7') };
  const [first, second] = await Promise.all([rig.request(client, wish), rig.request(client, wish)]);
  t.equal(first.leases[0]!.leaseId, second.leases[0]!.leaseId);
  t.not(first.leases[0]!.token, second.leases[0]!.token);
  await provider.redeem(first.leases[0]!.token, client.nodeId);
  await t.rejects(provider.redeem(second.leases[0]!.token, client.nodeId), { code: 'ERR_TOKEN' });
  await t.rejects(rig.request(client, wish), { code: 'ERR_LEASE_INVALID' }, 'it is in use');
  const other = await rig.client('other');
  await t.rejects(rig.request(other, wish), { code: 'ERR_CONTROL_DENIED' });
  await t.rejects(rig.request(client, { ...wish, sizeBytes: 1 }), { code: 'ERR_LEASE_INVALID' });
});

t.test(
  '1 000 requests at once: exactly the quota is granted, refusals say the numbers',
  async (t) => {
    const rig = await ControlRig.start(t);
    for (const name of ['p1', 'p2', 'p3']) await rig.provider(name);
    const client = await rig.client('greedy', { quotaBytes: 300 * MIB, quotaLeases: 1000 });
    const other = await rig.client('modest');
    const wishes = Array.from({ length: 1000 }, () => rig.request(client));
    let isModestDone = false;
    const modest = rig.request(other).then(() => (isModestDone = true));
    const answers = await Promise.allSettled([...wishes, modest]);
    const granted = answers.filter(({ status }) => status === 'fulfilled');
    t.equal(granted.length, 301);
    t.ok(isModestDone);
    for (const answer of answers) {
      if (answer.status === 'rejected') {
        t.match(answer.reason, {
          code: 'ERR_CONTROL_QUOTA',
          message: /quota of 300 MiB, 300 MiB are/,
        });
      }
    }
    const { rows } = await rig.local('admin.usage', {});
    const usage = rows.find(({ client: node }) => node === client.nodeId);
    t.match(usage, {
      usedBytes: 300 * MIB,
      usedLeases: 300,
      leasesGranted: 300,
      leasesDenied: 700,
    });
    const { reservedBytes, leaseCount } = await rig.local('admin.status', {});
    t.same([reservedBytes, leaseCount], [301 * MIB, 301]);
    t.ok(rig.memory.opCountMax <= 100, `${rig.memory.opCountMax} changes in a transaction`);
    t.ok(rig.memory.transactionCount < 200, `${rig.memory.transactionCount} transactions`);
  },
);

t.test('one client does not keep others waiting', async (t) => {
  const rig = await ControlRig.start(t);
  await rig.provider('p1');
  const greedy = await rig.client('greedy');
  const modest = await rig.client('modest');
  const done: string[] = [];
  const many = Array.from({ length: 1000 }, () =>
    rig.request(greedy).then(() => done.push('greedy')),
  );
  await rig.request(modest).then(() => done.push('modest'));
  t.ok(done.length < 500, `it was number ${done.length}`);
  await Promise.all(many);
});

t.test('who may do what', async (t) => {
  const rig = await ControlRig.start(t);
  const provider = await rig.provider('p1');
  const client = await rig.client();
  const admin = await rig.client('admin', {}, ['admin']);
  const stranger = makeNode();
  rig.connect(stranger, 'stranger');
  const denied = { code: 'ERR_CONTROL_DENIED' };
  await t.rejects(rig.request(stranger), denied);
  await t.rejects(rig.request(admin), denied);
  await t.rejects(rig.request(provider.node), denied);
  await t.rejects(rig.ask(client, 'admin.status', {}), denied);
  await t.rejects(rig.ask(client, 'lease.list', { all: true }), denied);
  await t.rejects(rig.ask(client, 'provider.ended', { life: id('1'), endings: [] }), denied);
  t.match(await rig.ask(admin, 'admin.status', {}), { providers: { up: 1, known: 1 }, members: 3 });
  t.match(await rig.ask(admin, 'lease.list', { all: true }), { rows: [] });
  t.match(await rig.ask(stranger, 'control.hello', {}), { roles: [], leads: true });
  t.match(await rig.ask(client, 'control.hello', {}), { roles: ['client'], epoch: 1 });
  const params = { token: 'x' };
  await t.rejects(rig.ask(client, 'lease.present', params), { code: 'ERR_UNSUPPORTED' });
  const lease = await rig.lease(client);
  const thief = await rig.client('thief');
  const { unknown } = await rig.ask(thief, 'lease.release', { leaseIds: [lease.leaseId] });
  t.same(unknown, [lease.leaseId]);
  const renewal = await rig.ask(thief, 'lease.renew', { leaseIds: [lease.leaseId], ttlMs: 60_000 });
  t.match(renewal, { renewed: [], refused: [{ leaseId: lease.leaseId, why: 'unknown' }] });
});

t.test('a provider that does not let the client in is passed over, once', async (t) => {
  const rig = await ControlRig.start(t);
  const bad = await rig.provider('bad', { mood: 'refuses', offeredBytes: 2 ** 40 });
  const good = await rig.provider('good', { offeredBytes: 2 ** 30 });
  const client = await rig.client();
  for (let round = 0; round < 8; round += 1) {
    const { leases } = await rig.request(client);
    t.equal(leases[0]!.provider.nodeId, good.nodeId);
  }
  const { rows } = await rig.local('admin.usage', {});
  t.match(rows, [{ usedLeases: 8, leasesGranted: 8 }]);
  good.mood = 'refuses';
  await t.rejects(rig.request(client), { code: 'ERR_LEASE_CAPACITY' });
  await t.rejects(rig.request(client, { count: 2 }), { code: 'ERR_LEASE_CAPACITY' });
  t.match(await rig.local('admin.status', {}), { leaseCount: 8 });
  t.ok(bad.calls.length > 0);
});

t.test('a provider that says nothing holds a grant up for less than 2 s', async (t) => {
  const rig = await ControlRig.start(t);
  const mute = await rig.provider('mute', { mood: 'silent', offeredBytes: 2 ** 40 });
  await rig.provider('good');
  const client = await rig.client();
  const answer = rig.request(client, { exclude: [] });
  await rig.until(
    async () => mute.calls.length > 0 || rig.providers.get(mute.nodeId)!.calls.length > 0,
  );
  rig.time.advance(1750);
  t.match((await answer).leases, [{ provider: { name: 'good' } }]);
});

t.test('a token dies after a minute, and its lease with it', async (t) => {
  const rig = await ControlRig.start(t);
  const provider = await rig.provider('p1');
  const client = await rig.client();
  const { leases } = await rig.request(client, { ttlMs: 3_600_000 });
  const { leaseId, token } = leases[0]!;
  await rig.pass(50_000);
  const fresh = await rig.ask(client, 'lease.token', { leaseId });
  await rig.pass(15_000);
  const late = provider.redeem(token, client.nodeId);
  await t.rejects(late, { code: 'ERR_TOKEN', message: /older than a minute/ });
  await rig.pass(44_000);
  t.match(await rig.ask(client, 'lease.list', {}), { rows: [{ leaseId, state: 'granted' }] });
  await rig.pass(2_000);
  t.same((await rig.ask(client, 'lease.list', {})).rows, []);
  await t.rejects(provider.redeem(fresh.lease.token, client.nodeId), { code: 'ERR_TOKEN' });
  await t.rejects(rig.ask(client, 'lease.token', { leaseId }), { code: 'ERR_LEASE_UNKNOWN' });
  t.same(rig.told, [{ to: client.nodeId, leaseIds: [leaseId], reason: 'unused' }]);
});

t.test('tokens of others are refused and leave the lease as it was', async (t) => {
  const rig = await ControlRig.start(t);
  const provider = await rig.provider('p1');
  const other = await rig.provider('p2');
  const client = await rig.client();
  const thief = await rig.client('thief');
  const { leases } = await rig.request(client, { include: [provider.nodeId] });
  const { token } = leases[0]!;
  const refused = { code: 'ERR_TOKEN' };
  await t.rejects(other.redeem(token, client.nodeId), { ...refused, message: /another provider/ });
  await t.rejects(provider.redeem(token, thief.nodeId), { ...refused, message: /another client/ });
  await t.rejects(
    provider.redeem(
      token.replace(/.$/, (last) => (last === 'A' ? 'Q' : 'A')),
      client.nodeId,
    ),
    refused,
  );
  await t.rejects(provider.redeem('x', client.nodeId), refused);
  await provider.redeem(token, client.nodeId);
  const lines = (await rig.audit()).filter(({ event }) => event === 'token.refused');
  t.equal(lines.length, 4);
  t.notOk(JSON.stringify(lines).includes(token.slice(0, 40)), 'no token in the log');
});

t.test('a renewal is stored, then told to the provider, then answered', async (t) => {
  const rig = await ControlRig.start(t);
  const client = await rig.client();
  await rig.provider('p1');
  const { leaseId, provider } = await rig.lease(client);
  await rig.pass(30_000);
  const wish = { leaseIds: [leaseId], ttlMs: 90_000 };
  t.match(await rig.ask(client, 'lease.renew', wish), { renewed: [{ leaseId, ttlMs: 90_000 }] });
  t.equal(provider.leases.get(leaseId)!.endMs, rig.time.nowMs + 90_000);
  await rig.pass(60_000);
  t.match(await rig.ask(client, 'lease.list', {}), {
    rows: [{ state: 'active', endsInMs: 30_000 }],
  });
  provider.mood = 'refuses';
  const refused = await rig.ask(client, 'lease.renew', wish);
  t.match(refused, { renewed: [], refused: [{ leaseId, why: /was not told/ }] });
  provider.mood = 'well';
  rig.disconnect(provider.nodeId);
  const down = await rig.ask(client, 'lease.renew', wish);
  t.match(down, { renewed: [], refused: [{ leaseId, why: /p1 is down/ }] });
});

t.test('a lease that is over is wiped by its provider, with a receipt in the log', async (t) => {
  const rig = await ControlRig.start(t);
  const client = await rig.client();
  await rig.provider('p1');
  const { leaseId } = await rig.lease(client, { ttlMs: 10_000 });
  await rig.pass(11_000);
  t.same((await rig.ask(client, 'lease.list', {})).rows, []);
  const line = (await rig.audit()).find(({ event }) => event === 'lease.wiped');
  t.match(line!.detail, { leaseId, reason: 'expired', receiptValid: true, wipedBytes: MIB });
  t.same(rig.told, [{ to: client.nodeId, leaseIds: [leaseId], reason: 'expired' }]);
});

t.test('a revocation reaches the provider at once', async (t) => {
  const rig = await ControlRig.start(t);
  const client = await rig.client();
  await rig.provider('p1');
  const { leaseId, provider } = await rig.lease(client);
  const unpresented = (await rig.request(client)).leases[0]!;
  t.match(await rig.local('admin.revoke', { client: 'client' }), { revoked: 2, unknown: [] });
  await rig.until(async () => (await rig.local('admin.status', {})).leaseCount === 0);
  t.equal(provider.leases.size, 0, 'no time has passed');
  t.match(await rig.local('admin.status', {}), { leaseCount: 0, reservedBytes: 0 });
  await t.rejects(provider.redeem(unpresented.token, client.nodeId), { code: 'ERR_TOKEN' });
  const told = rig.told.flatMap(({ leaseIds }) => leaseIds).sort();
  t.same(told, [leaseId, unpresented.leaseId].sort());
  await t.rejects(rig.local('admin.revoke', {}), { code: 'ERR_USAGE' });
  await t.rejects(rig.local('admin.revoke', { client: 'nobody' }), { code: 'ERR_PEER_UNKNOWN' });
  const unknown = await rig.local('admin.revoke', { leaseIds: [leaseId] });
  t.same(unknown, { revoked: 0, unknown: [leaseId] });
});

t.test('a member that is removed loses its leases', async (t) => {
  const rig = await ControlRig.start(t);
  const client = await rig.client();
  await rig.provider('p1');
  const { provider } = await rig.lease(client);
  const removed = await rig.local('admin.member-remove', { key: client.nodeId });
  t.same(removed, { revokedLeases: 1 });
  await turns();
  t.equal(provider.leases.size, 0);
  await t.rejects(rig.request(client), { code: 'ERR_CONTROL_DENIED' });
  await t.rejects(rig.local('admin.member-remove', { key: 'client' }), {
    code: 'ERR_PEER_UNKNOWN',
  });
});

t.test('a provider without a session or a heartbeat is down', async (t) => {
  const rig = await ControlRig.start(t);
  const client = await rig.client();
  const provider = await rig.provider('p1');
  const { leaseId } = await rig.lease(client);
  const stateOf = async (): Promise<string> =>
    (await rig.local('admin.providers', {})).rows[0]!.state;
  t.equal(await stateOf(), 'up');
  provider.mood = 'silent';
  await rig.pass(3_000);
  t.equal(await stateOf(), 'up');
  await rig.pass(500);
  t.equal(await stateOf(), 'down');
  await t.rejects(rig.request(client), { code: 'ERR_LEASE_CAPACITY', message: /0 lend now/ });
  provider.mood = 'well';
  await rig.pass(500);
  t.equal(await stateOf(), 'up', 'its session lived on');
  rig.disconnect(provider.nodeId);
  t.equal(await stateOf(), 'down', 'at once');
  rig.connect(provider.node, 'p1');
  t.match(await provider.beat(), { register: true });
  t.match(await provider.register(), { end: [], heartbeatMs: 1000 });
  t.equal(await stateOf(), 'up');
  t.match(await rig.ask(client, 'lease.list', {}), { rows: [{ leaseId, state: 'active' }] });
});

t.test('what was revoked while its provider was away is ended when it comes back', async (t) => {
  const rig = await ControlRig.start(t);
  const client = await rig.client();
  const provider = await rig.provider('p1');
  const { leaseId } = await rig.lease(client);
  const kept = await rig.lease(client);
  rig.disconnect(provider.nodeId);
  await rig.local('admin.revoke', { leaseIds: [leaseId] });
  t.match(
    await rig.local('admin.status', {}),
    { leaseCount: 2 },
    'it is counted until it is wiped',
  );
  t.same((await provider.come()).end, [leaseId]);
  await rig.until(async () => (await rig.local('admin.status', {})).leaseCount === 1);
  t.same([...provider.leases.keys()], [kept.leaseId]);
});

t.test('a provider that stays away: its leases are counted to their deadline', async (t) => {
  const rig = await ControlRig.start(t);
  const client = await rig.client();
  const provider = await rig.provider('p1');
  await rig.lease(client, { ttlMs: 20_000 });
  rig.disconnect(provider.nodeId);
  await rig.pass(19_000);
  t.match(await rig.local('admin.status', {}), { leaseCount: 1 });
  await rig.pass(2_000);
  t.match(await rig.local('admin.status', {}), { leaseCount: 0, reservedBytes: 0 });
  const line = (await rig.audit()).find(({ event }) => event === 'lease.ended');
  t.match(line!.detail, { reason: 'expired', why: /down/ });
});

t.test('a provider in a new life has none of its leases', async (t) => {
  const rig = await ControlRig.start(t);
  const client = await rig.client();
  const provider = await rig.provider('p1');
  const { leaseId } = await rig.lease(client);
  const unpresented = (await rig.request(client)).leases[0]!;
  rig.disconnect(provider.nodeId);
  Object.assign(provider, { life: id('2'), admitted: [] });
  provider.leases.clear();
  await provider.come();
  await turns();
  t.match(await rig.local('lease.list', { all: true }), {
    rows: [{ leaseId: unpresented.leaseId, state: 'granted' }],
  });
  t.same(rig.told, [{ to: client.nodeId, leaseIds: [leaseId], reason: 'provider' }]);
  t.equal(provider.admitted.length, 1, 'it lets in who has a token');
  await provider.redeem(unpresented.token, client.nodeId);
});

t.test('another node leads on with what is stored', async (t) => {
  const rig = await ControlRig.start(t);
  const client = await rig.client('c', { quotaBytes: 10 * MIB });
  const provider = await rig.provider('p1');
  const { leaseId } = await rig.lease(client);
  await rig.pass(20_000);
  const pending = (await rig.request(client, { requestId: id('8') })).leases[0]!;
  const [first] = rig.controls;
  const second = rig.addControl();
  for (const { node, name } of rig.connected.values()) {
    second.service.peerUp(node.nodeId, node.publicKey, name, '10.0.0.9:50000');
  }
  rig.control = second;
  await rig.lead(2);
  await t.rejects(
    rig.ask(client, 'admin.status', {}, first),
    { code: 'ERR_CONTROL_DENIED' },
    'the first one has not noticed',
  );
  const stale = rig.ask(
    client,
    'lease.request',
    { requestId: id('9'), sizeBytes: MIB, ttlMs: 60_000, count: 1, purpose: '' },
    first,
  );
  await t.rejects(stale, { code: 'ERR_CONTROL_NOT_LEADER' }, 'it cannot grant');
  t.match(await rig.ask(client, 'lease.list', {}), { rows: [{}, {}] });
  await t.rejects(rig.request(client), { code: 'ERR_LEASE_CAPACITY' }, 'nobody has registered');
  await provider.register();
  const { rows } = await rig.ask(client, 'lease.list', {});
  t.match(
    rows.find((row) => row.leaseId === leaseId),
    { state: 'active', endsInMs: 40_000 },
    "the deadline is the provider's",
  );
  await t.rejects(provider.redeem(pending.token, client.nodeId), { code: 'ERR_TOKEN' }, 'old term');
  const again = await rig.request(client, { requestId: id('8') });
  t.equal(again.leases[0]!.leaseId, pending.leaseId);
  await provider.redeem(again.leases[0]!.token, client.nodeId);
  const lines = await rig.audit();
  t.equal(brokenAuditLine(lines, AUDIT_BEGIN), undefined);
  t.same([...new Set(lines.map(({ epoch }) => epoch))], [1, 2]);
});

t.test('a follower says who leads', async (t) => {
  const rig = await ControlRig.start(t);
  const client = await rig.client();
  const follower = rig.addControl('second');
  (follower.leadership as TestLeadership).leader = {
    nodeId: rig.control.node.nodeId,
    name: 'control-0',
    epoch: 1,
  };
  await turns();
  const hello = await rig.ask(client, 'control.hello', {}, follower);
  t.match(hello, { leads: false, leader: rig.control.node.nodeId, epoch: 1, roles: ['client'] });
  t.equal(hello.cluster, (await rig.ask(client, 'control.hello', {})).cluster);
  await t.rejects(rig.ask(client, 'lease.list', {}, follower), {
    code: 'ERR_CONTROL_NOT_LEADER',
    message: new RegExp(rig.control.node.nodeId),
  });
});

t.test('an admin on its machine waits for the next term, a bounded time', async (t) => {
  const rig = await ControlRig.start(t);
  const client = await rig.client();
  rig.elections.depose();
  await t.rejects(rig.ask(client, 'lease.list', {}), { code: 'ERR_CONTROL_NOT_LEADER' });
  let isAnswered = false;
  const waiting = rig.local('admin.status', {}).finally(() => (isAnswered = true));
  await rig.pass(3000);
  t.notOk(isAnswered);
  await rig.lead(2);
  rig.time.advance(50);
  t.match(await waiting, { epoch: 2 });

  rig.elections.depose();
  const early = rig.local('admin.status', {}).catch((error: unknown) => error);
  await rig.pass(5000);
  t.match(await early, { code: 'ERR_CONTROL_NOT_LEADER', message: /no control node leads/ });
  rig.elections.depose({ nodeId: 'f'.repeat(32), name: 'other', epoch: 3 });
  await t.rejects(rig.local('admin.status', {}), { message: /other \(f{32}\) does/ }, 'at once');
});

t.test(
  'a transaction that fails, or whose answer is lost: the grant is whole or absent',
  async (t) => {
    for (const fate of ['failed', 'lost'] as const) {
      await t.test(fate, async (t) => {
        const rig = await ControlRig.start(t);
        const provider = await rig.provider('p1');
        const client = await rig.client();
        rig.memory.fate = () => fate;
        const wish = { requestId: id('5'), count: 1 };
        await t.rejects(rig.request(client, wish), { code: 'ERR_CONTROL_STORE' });
        await t.rejects(rig.request(client, wish), { code: 'ERR_CONTROL_NOT_LEADER' });
        rig.memory.fate = () => 'done';
        rig.time.advance(500);
        await rig.until(async () => (await rig.local('control.hello', {})).leads);
        const { rows } = await rig.local('lease.list', { all: true });
        t.equal(rows.length, fate === 'lost' ? 1 : 0);
        t.match(await provider.beat(), { register: true });
        await provider.register();
        const again = await rig.request(client, wish);
        if (fate === 'lost') t.equal(again.leases[0]!.leaseId, rows[0]!.leaseId);
        await provider.redeem(again.leases[0]!.token, client.nodeId);
        t.match(await rig.local('admin.status', {}), { leaseCount: 1, reservedBytes: MIB });
        t.equal(brokenAuditLine(await rig.audit(), AUDIT_BEGIN), undefined);
      });
    }
  },
);

t.test('a transaction that is done late does not mix with what came after', async (t) => {
  const rig = await ControlRig.start(t);
  await rig.provider('p1');
  const client = await rig.client();
  // The store does not answer the first transaction, which is done only after the state was read again.
  let late: (() => void) | undefined;
  rig.memory.fate = () => {
    rig.memory.fate = () => 'done';
    return new Promise((resolve) => (late = () => resolve('done')));
  };
  const held = rig.request(client);
  await rig.until(async () => late !== undefined);
  rig.elections.depose();
  await t.rejects(held, { code: 'ERR_CONTROL_NOT_LEADER' });
  // The same fence: only the head of the log tells the two apart.
  rig.elections.leader = { nodeId: rig.control.node.nodeId, name: 'c', epoch: 1 };
  await rig.lead(2);
  late!();
  await turns();
  t.match(await rig.local('admin.status', {}), { leaseCount: 0, epoch: 2 });
  t.equal(brokenAuditLine(await rig.audit(), AUDIT_BEGIN), undefined);
});

t.test('a wall clock that jumps changes nothing but the times in the log', async (t) => {
  const rig = await ControlRig.start(t);
  const client = await rig.client();
  await rig.provider('p1');
  const { now } = Date;
  t.teardown(() => (Date.now = now));
  const { leaseId } = await rig.lease(client, { ttlMs: 20_000 });
  for (const hours of [1, -1]) {
    Date.now = () => now() + hours * 3_600_000;
    await rig.pass(1_000);
    const { rows } = await rig.ask(client, 'lease.list', {});
    t.equal(rows.find((row) => row.leaseId === leaseId)!.state, 'active');
    const { provider } = await rig.lease(client, { ttlMs: 10_000 });
    t.ok(provider.leases.size >= 2, 'a token made now is good');
  }
  await rig.pass(20_000);
  t.same((await rig.ask(client, 'lease.list', {})).rows, []);
});

t.test('members: by node id, public key or fingerprint', async (t) => {
  const rig = await ControlRig.start(t);
  const node = makeNode();
  const key = node.publicKey.toString('hex');
  const words = fingerprintOf(node.nodeId);
  const entered = await rig.local('admin.member-put', { key: words, roles: ['client'] });
  t.match(entered, { nodeId: '', publicKey: '', connected: false });
  rig.connect(node, 'laptop');
  await rig.ask(node, 'lease.list', {});
  const { rows } = await rig.local('admin.members', {});
  t.match(rows, [{ nodeId: node.nodeId, publicKey: key, name: 'laptop', connected: true }]);
  t.equal(rows.length, 1);
  const changes = { quotaBytes: MIB, roles: ['client' as const, 'provider' as const] };
  for (const text of [key, node.nodeId, words, 'laptop']) {
    t.match(await rig.local('admin.member-put', { key: text, ...changes }), changes);
  }
  t.equal((await rig.local('admin.members', {})).rows.length, 1);
  const byKey = await rig.local('admin.member-put', { key: 'ab'.repeat(32) });
  t.match(byKey, { nodeId: nodeIdOf(Buffer.alloc(32, 0xab)), roles: ['client'], quotaBytes: null });
  await t.rejects(rig.local('admin.member-put', { key: 'nobody' }), { code: 'ERR_USAGE' });
  await rig.local('admin.member-put', { key: node.nodeId, name: 'twin' });
  await rig.local('admin.member-put', { key: 'ab'.repeat(32), name: 'twin' });
  await t.rejects(rig.local('admin.member-put', { key: 'twin', quotaBytes: 1 }), {
    code: 'ERR_USAGE',
  });
});

t.test('members are told to whoever lets nodes in, on followers too', async (t) => {
  const rig = await ControlRig.start(t);
  const follower = rig.addControl();
  await turns();
  const seen: string[][] = [];
  follower.service.onMembers((members) => seen.push(members.map(({ name }) => name)));
  await rig.local('admin.member-put', { key: id('a'), name: 'anna' });
  await rig.local('admin.member-put', { key: id('b'), name: 'bert' });
  await rig.local('admin.member-remove', { key: 'anna' });
  await turns();
  t.same(seen, [[], ['anna'], ['anna', 'bert'], ['bert']]);
});

t.test('a drained provider gets nothing more, its leases go on', async (t) => {
  const rig = await ControlRig.start(t);
  const client = await rig.client();
  const provider = await rig.provider('p1');
  const { leaseId } = await rig.lease(client);
  const row = await rig.local('admin.drain', { provider: 'p1', draining: true });
  t.match(row, { state: 'draining', leaseCount: 1 });
  await t.rejects(rig.request(client), { code: 'ERR_LEASE_CAPACITY' });
  const wish = { leaseIds: [leaseId], ttlMs: 60_000 };
  t.match(await rig.ask(client, 'lease.renew', wish), { renewed: [{ leaseId }] });
  await rig.local('admin.drain', { provider: provider.nodeId, draining: false });
  await rig.request(client);
  const unknown = { provider: 'nobody', draining: true };
  await t.rejects(rig.local('admin.drain', unknown), { code: 'ERR_PEER_UNKNOWN' });
});

t.test('sums over as many providers as there can be are exact, whatever they offer', async (t) => {
  const rig = await ControlRig.start(t);
  const client = await rig.client();
  const most = 2 ** 45;
  const error = { code: 'ERR_CONTROL_PROTOCOL', message: /offeredBytes: expected at most/ };
  await t.rejects(rig.provider('liar', { offeredBytes: most + 1 }), error);
  for (let count = 0; count < 255; count += 1) {
    await rig.provider(`p${count}`, { offeredBytes: most });
  }
  for (let count = 0; count < 255; count += 5) {
    await rig.request(client, { count: 5, sizeBytes: most });
  }
  const all = 255 * most;
  t.match(await rig.local('admin.status', {}), { offeredBytes: all, reservedBytes: all });
  t.match(await rig.local('admin.usage', {}), { rows: [{ usedBytes: all, peakBytes: all }] });
  await t.rejects(rig.request(client, { sizeBytes: 1 }), { code: 'ERR_LEASE_CAPACITY' });
});

t.test('events are followed by a cursor', async (t) => {
  const rig = await ControlRig.start(t);
  const start = await rig.local('admin.watch', {});
  t.same(start.events, []);
  const waiting = rig.local('admin.watch', { cursor: start.cursor, waitMs: 4_000 });
  await rig.provider('p1', { zone: 'z' });
  const first = await waiting;
  t.match(first.events[0], {
    event: 'provider.up',
    detail: { name: 'p1', zone: 'z', state: 'up' },
  });
  const client = await rig.client();
  const { leaseId } = await rig.lease(client);
  await rig.pass(1_000);
  const { events, cursor } = await rig.local('admin.watch', { cursor: first.cursor });
  t.same(
    events.map(({ event }) => event),
    ['lease.granted', 'lease.active', 'capacity'],
  );
  t.match(events[1]!.detail, { leaseId, client: client.nodeId, sizeBytes: MIB });
  t.match(events[2]!.detail, { zone: 'z', reservedBytes: MIB, providers: 1 });
  const idle = rig.local('admin.watch', { cursor, waitMs: 2_000 });
  await turns();
  rig.time.advance(2_000);
  t.same(await idle, { events: [], cursor, missed: false });
  t.match(await rig.local('admin.watch', { cursor: 'another:1' }), { missed: true });
});

t.test('listings come in pages that fit a message', async (t) => {
  const rig = await ControlRig.start(t);
  for (let count = 0; count < 700; count += 1) {
    const key = count.toString(16).padStart(32, '0');
    await rig.local('admin.member-put', { key, name: `member ${count} ${'x'.repeat(40)}` });
  }
  const seen = new Set<string>();
  let cursor: string | undefined;
  let pages = 0;
  do {
    const page = await rig.local('admin.members', {
      countMax: 500,
      ...(cursor === undefined ? {} : { cursor }),
    });
    t.ok(JSON.stringify(page).length < 60_000);
    for (const { nodeId } of page.rows) seen.add(nodeId);
    cursor = page.cursor ?? undefined;
    pages += 1;
  } while (cursor !== undefined);
  t.equal(seen.size, 700);
  t.ok(pages > 1);
  t.equal((await rig.audit()).filter(({ event }) => event === 'member.put').length, 700);
});
