/**
 * A provider's agent between a leader that a test plays, clients with tokens that are really signed, and the
 * memory of a real provider. Nothing is set aside unless the leader said yes, in time, in this registration.
 */
import t, { type Test } from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import { silentLogger } from '../../common/log.ts';
import type { DecodedCall } from '../../control-plane/messages.ts';
import { ProviderAgent } from '../../control-plane/provider-agent.ts';
import { verifyReceipt } from '../../common/receipts.ts';
import type { ManagedCall, ManagedParams, ManagedResult } from '../../control-plane/schema.ts';
import { signToken, type TokenClaims } from '../../control-plane/tokens.ts';
import { Identity } from '../../peer/identity.ts';
import { RamProvider } from '../../provider/service.ts';
import { ScriptedLeader, settle, settled, until } from '../helpers/scripted-leader.ts';
import { tmpfsBase } from '../helpers/tmpfs.ts';

const MIB = 2 ** 20;
const LEASE = '1'.repeat(32);

function hexKey(identity: Identity): string {
  return Buffer.from(identity.publicKey).toString('hex');
}

function begin(t: Test) {
  const clock = { ms: 1000, nowMs: () => clock.ms };
  const provider = RamProvider.open({
    ...{ offeredBytes: 64 * MIB, directory: tmpfsBase(t), noswap: 'off', clock, reserveBytes: 0 },
  });
  t.teardown(() => provider.close());
  const memory = provider.openManaged();
  const [self, control, client, stranger] = [1, 2, 3, 4].map(() => Identity.ephemeral()) as [
    Identity,
    Identity,
    Identity,
    Identity,
  ];
  const leader = new ScriptedLeader();
  leader.controlNodes.add(control.nodeId);
  leader.answers['provider.register'] = () => ({ epoch: 3, end: [], heartbeatMs: 1000 });
  leader.answers['provider.heartbeat'] = () => ({ epoch: 3 });
  leader.answers['provider.ended'] = () => ({});
  leader.answers['provider.redeem'] = () => granted();
  const letIn: [string, number][] = [];
  const dismissed: string[] = [];
  const needed = new Set<string>();
  const agent = new ProviderAgent({
    link: leader,
    memory,
    admissions: {
      admit: (key, ttlMs) => letIn.push([Buffer.from(key).toString('hex'), ttlMs]),
      dismiss: (nodeId) => dismissed.push(nodeId),
      isGuest: () => true,
    },
    identity: self,
    trustedKeyOf: (nodeId) => (nodeId === control.nodeId ? control.publicKey : undefined),
    isNeeded: (nodeId) => needed.has(nodeId),
    usage: () => ({
      ...{ offeredBytes: 64 * MIB, otherBytes: 0, accepting: true, draining: false, load: 0 },
    }),
    port: () => 7070,
    ...{ hostId: '', zone: '', clock, logger: silentLogger },
  });
  t.teardown(() => agent.close());
  const ask = <C extends ManagedCall>(
    from: Identity,
    call: C,
    params: ManagedParams<C>,
  ): Promise<ManagedResult<C>> => {
    const answer = agent.answer(from.nodeId, { call, params } as DecodedCall);
    if (answer === undefined) throw new Error(`${call} is not of this half`);
    return answer;
  };
  const granted = (): ManagedResult<'provider.redeem'> => {
    return { leaseId: LEASE, sizeBytes: MIB, ttlMs: 60_000, epoch: 3 };
  };
  const claims = (): TokenClaims => ({
    ...{ jti: 'e'.repeat(32), leaseId: LEASE, sizeBytes: MIB, ttlMs: 60_000, epoch: 3 },
    ...{ provider: self.nodeId, client: client.nodeId, clientKey: hexKey(client) },
  });
  const token = (other: Partial<TokenClaims> = {}, by = control): Promise<string> => {
    const { nodeId, signingKey: privateKey } = by;
    return signToken({ nodeId, privateKey }, { ...claims(), ...other }, 60_000);
  };
  const admit = (): Promise<unknown> => {
    const who = { publicKey: hexKey(client), name: 'client' };
    return ask(control, 'manage.admit', { epoch: 3, ...who, ttlMs: 30_000 });
  };
  const parts = { clock, provider, memory, leader, agent, self, control, client, stranger };
  return { ...parts, letIn, dismissed, needed, ask, granted, token, admit };
}

/** Registered, and the client let in. */
async function ready(t: Test) {
  const world = begin(t);
  world.leader.lead(3);
  await settle();
  await world.admit();
  world.leader.said.length = 0;
  return world;
}

t.test('a token that the leader redeems sets its bytes aside', async (t) => {
  const { ask, client, token, memory, leader, agent, letIn, self } = await ready(t);
  const presented = await token();
  const answer = await ask(client, 'lease.present', { token: presented });
  t.strictSame(answer, { leaseId: LEASE, sizeBytes: MIB, ttlMs: 60_000 });
  t.match(leader.take('provider.redeem'), [{ token: presented, client: client.nodeId }]);
  t.match(memory.list(), [{ leaseId: LEASE, client: client.nodeId, sizeBytes: MIB }]);
  t.equal(agent.leaseCount, 1);
  t.equal(agent.lendsTo(client.nodeId), true);
  t.strictSame(letIn, [
    [hexKey(client), 30_000],
    [hexKey(client), 120_000],
  ]);
  memory.end(LEASE, 'expired');
  const [told] = await leader.next('provider.ended');
  const [ending] = told?.endings ?? [];
  t.match(ending, { leaseId: LEASE, reason: 'expired', wipedBytes: 0 });
  const { receipt, ...fields } = ending!;
  t.strictSame(await verifyReceipt(self.publicKey, receipt), {
    provider: self.nodeId,
    ending: fields,
  });
  t.equal(agent.leaseCount, 0);
});

t.test('a token that is not good here is refused, and the leader sees it', async (t) => {
  const { ask, client, stranger, control, token, memory, leader } = await ready(t);
  const good = await token();
  leader.answers['provider.redeem'] = () => {
    throw new MemcloudError('ERR_TOKEN', 'refused there as well');
  };
  const refused = { code: 'ERR_TOKEN' };
  const none = [
    `${Buffer.from('{"alg":"none"}').toString('base64url')}.${good.split('.')[1]}.`,
    good.slice(0, -4),
    await token({ provider: stranger.nodeId }),
    await token({ client: stranger.nodeId }),
    await token({ clientKey: hexKey(stranger) }),
    await token({ epoch: 2 }),
    await token({}, stranger),
    'x',
  ];
  for (const each of none) {
    await t.rejects(ask(client, 'lease.present', { token: each }), refused, each.slice(0, 20));
  }
  await t.rejects(ask(stranger, 'lease.present', { token: good }), refused, 'by another key');
  t.equal(leader.take('provider.redeem').length, none.length + 1);
  await t.rejects(ask(control, 'lease.present', { token: good }), refused);
  for (let n = 0; n < 50; n += 1) {
    await t.rejects(ask(client, 'lease.present', { token: 'x' }), refused);
  }
  await settle();
  t.equal(leader.take('provider.redeem').length, 1, 'ten a second at most');
  t.strictSame(memory.list(), []);
});

t.test('of one token presented twice at once one wins; later none', async (t) => {
  const { ask, client, token, memory, leader, granted } = await ready(t);
  const presented = await token();
  const answer = settled<ManagedResult<'provider.redeem'>>();
  leader.answers['provider.redeem'] = () => answer.promise;
  const both = Promise.allSettled([
    ask(client, 'lease.present', { token: presented }),
    ask(client, 'lease.present', { token: presented }),
  ]);
  t.equal((await leader.next('provider.redeem')).length, 1);
  answer.resolve(granted());
  const ends = await both;
  t.strictSame(ends.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
  await t.rejects(ask(client, 'lease.present', { token: presented }), { code: 'ERR_TOKEN' });
  await settle();
  t.equal(memory.list().length, 1);
  t.strictSame(leader.take('provider.ended'), [], 'what lives is not told as ended');
});

t.test('without a leader nothing is set aside', async (t) => {
  const { ask, client, token, memory, leader } = await ready(t);
  leader.leader = undefined;
  const away = { code: 'ERR_CONTROL_UNREACHABLE' };
  await t.rejects(ask(client, 'lease.present', { token: await token() }), away);
  t.strictSame(leader.take('provider.redeem'), []);
  t.strictSame(memory.list(), []);
});

t.test('no answer in time is none, whatever it would have been', async (t) => {
  const { ask, client, token, memory, leader, granted } = await ready(t);
  const away = { code: 'ERR_CONTROL_UNREACHABLE' };
  leader.answers['provider.redeem'] = () => {
    throw new MemcloudError('ERR_TIMEOUT', 'no answer within 3 s');
  };
  await t.rejects(ask(client, 'lease.present', { token: await token() }), away);
  const given = { leaseId: LEASE, reason: 'provider', wipedBytes: 0 };
  t.match(await leader.next('provider.ended'), [{ endings: [given] }], 'the leader may count it');

  const answer = settled<ManagedResult<'provider.redeem'>>();
  leader.answers['provider.redeem'] = () => answer.promise;
  const presented = ask(client, 'lease.present', { token: await token() });
  presented.catch(() => undefined);
  leader.take('provider.redeem');
  await leader.next('provider.redeem');
  leader.lead(3);
  answer.resolve(granted());
  await t.rejects(presented, away, 'another registration began meanwhile');
  t.match(await leader.next('provider.ended'), [{ endings: [given] }]);
  t.strictSame(memory.list(), []);
});

t.test('what cannot be set aside is told as ended', async (t) => {
  const { ask, client, token, memory, leader, provider } = await ready(t);
  provider.setDraining(true);
  await t.rejects(ask(client, 'lease.present', { token: await token() }), {
    code: 'ERR_LEASE_CAPACITY',
    message: /being drained/,
  });
  t.match(await leader.next('provider.ended'), [
    { endings: [{ leaseId: LEASE, reason: 'provider' }] },
  ]);
  t.strictSame(memory.list(), []);
});

t.test('only control nodes of the latest term decide about leases', async (t) => {
  const { ask, client, control, token, memory, leader, stranger } = await ready(t);
  await ask(client, 'lease.present', { token: await token() });
  const end = { leaseIds: [LEASE], reason: 'revoked' as const };
  const publicKey = hexKey(stranger);
  const denied = { code: 'ERR_CONTROL_DENIED' };
  await t.rejects(ask(client, 'manage.end', { epoch: 9, ...end }), denied);
  await t.rejects(
    ask(client, 'manage.admit', { epoch: 9, publicKey, name: '', ttlMs: 1000 }),
    denied,
  );
  const over = { code: 'ERR_CONTROL_NOT_LEADER' };
  await t.rejects(ask(control, 'manage.end', { epoch: 2, ...end }), over);
  const leases = [
    { leaseId: LEASE, ttlMs: 90_000 },
    { leaseId: '2'.repeat(32), ttlMs: 90_000 },
  ];
  t.strictSame(await ask(control, 'manage.extend', { epoch: 4, leases }), {
    unknown: ['2'.repeat(32)],
  });
  t.equal(memory.list()[0]?.ttlMs, 90_000);
  await t.rejects(ask(control, 'manage.end', { epoch: 3, ...end }), over, 'term 4 was heard of');
  t.strictSame(await ask(control, 'manage.end', { epoch: 4, ...end }), { unknown: [] });
  t.strictSame(await ask(control, 'manage.end', { epoch: 4, ...end }), { unknown: [LEASE] });
  t.match(await leader.next('provider.ended'), [
    { endings: [{ leaseId: LEASE, reason: 'revoked' }] },
  ]);
});

t.test('a client gives back what is its own', async (t) => {
  const { ask, client, stranger, token, memory, leader } = await ready(t);
  await ask(client, 'lease.present', { token: await token() });
  const leaseIds = [LEASE, '2'.repeat(32)];
  t.strictSame(await ask(stranger, 'lease.return', { leaseIds }), { unknown: leaseIds });
  t.equal(memory.list().length, 1);
  t.strictSame(await ask(client, 'lease.return', { leaseIds }), { unknown: ['2'.repeat(32)] });
  t.match(await leader.next('provider.ended'), [
    { endings: [{ leaseId: LEASE, reason: 'released' }] },
  ]);
});

t.test('leases that a leader disowns are ended', async (t) => {
  const { ask, client, token, memory, leader } = await ready(t);
  await ask(client, 'lease.present', { token: await token() });
  leader.answers['provider.register'] = ({ leases }) => {
    return { epoch: 4, end: leases.map(({ leaseId }) => leaseId), heartbeatMs: 1000 };
  };
  leader.lead(4);
  await until(() => memory.list().length === 0);
  t.match(await leader.next('provider.ended'), [
    { endings: [{ leaseId: LEASE, reason: 'revoked' }] },
  ]);
});

t.test('a client stays let in with its leases, and a while longer', async (t) => {
  const { agent, ask, client, token, clock, memory, dismissed, needed } = await ready(t);
  await ask(client, 'lease.present', { token: await token() });
  clock.ms += 59_000;
  agent.tick();
  t.strictSame(dismissed, []);
  memory.end(LEASE, 'revoked');
  clock.ms += 59_999;
  agent.tick();
  t.strictSame(dismissed, []);
  needed.add(client.nodeId);
  clock.ms += 1;
  agent.tick();
  t.strictSame(dismissed, [], 'this node borrows from it');
  needed.clear();
  agent.tick();
  agent.tick();
  t.strictSame(dismissed, [client.nodeId]);
});

t.test('at its end every lease is ended and told, and nothing begins any more', async (t) => {
  const { agent, ask, client, token, memory, leader } = await ready(t);
  await ask(client, 'lease.present', { token: await token() });
  await agent.close();
  t.strictSame(memory.list(), []);
  t.match(leader.take('provider.ended'), [{ endings: [{ leaseId: LEASE, reason: 'provider' }] }]);
  await t.rejects(
    ask(client, 'lease.present', { token: await token({ leaseId: '2'.repeat(32) }) }),
    { code: 'ERR_CONTROL_UNREACHABLE' },
  );
});

t.test('the end does not wait for a leader that is away', async (t) => {
  const { agent, ask, client, token, memory, leader } = await ready(t);
  await ask(client, 'lease.present', { token: await token() });
  leader.leader = undefined;
  await agent.close();
  t.strictSame(memory.list(), []);
});

t.test('calls of others are not answered here', async (t) => {
  const { agent, client } = begin(t);
  for (const call of ['manage.ending', 'lease.request', 'control.hello'] as const) {
    t.equal(agent.answer(client.nodeId, { call, params: {} } as DecodedCall), undefined, call);
  }
});
