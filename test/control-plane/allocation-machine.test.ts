/** How leases are granted and taken into use. */
import t from 'tap';
import {
  freshToken,
  redeemToken,
  replaceLeases,
  requestLeases,
  type Grant,
} from '../../control-plane/allocation-machine.ts';
import { putMember } from '../../control-plane/member-machine.ts';
import { CLIENT, LedgerRig, LIFE, nodeId } from '../helpers/ledger-rig.ts';

const presented = (grant: Grant, changes: object = {}): Parameters<typeof redeemToken>[2] => ({
  ...{ provider: grant.lease.provider, client: grant.lease.client, leaseId: grant.lease.leaseId },
  ...{ jti: grant.jti, life: LIFE, ...changes },
});

t.test('quotas at n and n + 1', async (t) => {
  const rig = new LedgerRig();
  rig.provider('p');
  const limits = { key: CLIENT, quotaBytes: 300, quotaLeases: 2 };
  rig.take(putMember(rig.state, 0, limits));
  t.throws(() => rig.request({ sizeBytes: 301 }), {
    code: 'ERR_CONTROL_QUOTA',
    message: /asked for 301 B; of the quota of 300 B, 0 B are leased and 300 B/,
  });
  rig.request({ sizeBytes: 150 });
  rig.request({ sizeBytes: 150 });
  t.throws(() => rig.request({ sizeBytes: 1 }), { code: 'ERR_CONTROL_QUOTA' });
  rig.take(putMember(rig.state, 0, { ...limits, quotaBytes: null }));
  t.throws(() => rig.request({ sizeBytes: 1 }), {
    code: 'ERR_CONTROL_QUOTA',
    message: /of the quota of 2, 2 are in use/,
  });
  const meter = rig.state.meter(CLIENT, rig.nowMs);
  t.match(meter, { leasesGranted: 2, leasesDenied: 3, usedBytes: 300 });
});

t.test('the last byte of an offer can be leased, and no more', async (t) => {
  const rig = new LedgerRig();
  rig.provider('p', { otherBytes: 400 });
  rig.request({ sizeBytes: 600 });
  t.throws(() => rig.request({ sizeBytes: 1 }), { code: 'ERR_LEASE_CAPACITY' });
});

t.test('a client that is a provider is not given its own machine', async (t) => {
  const rig = new LedgerRig();
  rig.take(putMember(rig.state, 0, { key: CLIENT, roles: ['client', 'provider'] }));
  rig.provider('c');
  t.throws(() => rig.request(), { code: 'ERR_LEASE_CAPACITY' });
  t.equal(rig.request({ include: [CLIENT] })[0]!.lease.provider, CLIENT);
  rig.provider('p', { hostId: 'elsewhere' });
  t.throws(() => rig.request({ hostId: 'elsewhere', exclude: [CLIENT] }), {
    code: 'ERR_LEASE_CAPACITY',
  });
});

t.test('a time to live that is too short', async (t) => {
  const rig = new LedgerRig();
  rig.provider('p');
  t.throws(() => rig.request({ ttlMs: 4999 }), { code: 'ERR_LEASE_INVALID' });
  rig.request({ ttlMs: 5000 });
});

t.test(
  'a token counts once, for its client at its provider, in its life, for a minute',
  async (t) => {
    const rig = new LedgerRig();
    rig.provider('p');
    rig.provider('q');
    const [grant] = rig.request({ include: [nodeId('p')] });
    const redeem = (changes: object = {}, ms = 0): unknown =>
      rig.take(redeemToken(rig.state, rig.nowMs + ms, presented(grant!, changes)));
    const bad: Record<string, [object, number, RegExp]> = {
      'another provider': [{ provider: nodeId('q') }, 0, /another client or provider/],
      'another client': [{ client: nodeId('x') }, 0, /another client or provider/],
      'another life': [{ life: '2'.repeat(32) }, 0, /has not registered/],
      'a provider that is none': [{ provider: nodeId('x') }, 0, /has not registered/],
      'another id': [{ jti: 'f'.repeat(32) }, 0, /used already/],
      'another lease': [{ leaseId: 'f'.repeat(32) }, 0, /used already/],
      'too late': [{}, 60_000, /older than a minute/],
    };
    for (const [name, [changes, ms, message]] of Object.entries(bad)) {
      t.throws(() => redeem(changes, ms), { code: 'ERR_TOKEN', message }, name);
    }
    t.match(redeem({}, 59_999), { state: 'active' }, 'nothing was burnt');
    t.throws(() => redeem(), { code: 'ERR_TOKEN', message: /used already/ });
    t.equal(rig.lines.filter((line) => line === 'token.refused').length, 8);
  },
);

t.test('four tokens of a lease at a time', async (t) => {
  const rig = new LedgerRig();
  rig.provider('p');
  const [grant] = rig.request();
  const { leaseId } = grant!.lease;
  for (let n = 0; n < 4; n += 1) rig.take(freshToken(rig.state, rig.nowMs, CLIENT, leaseId));
  t.equal(rig.state.tokens.size, 4);
  t.throws(() => rig.take(redeemToken(rig.state, rig.nowMs, presented(grant!))), {
    code: 'ERR_TOKEN',
  });
  t.throws(() => rig.take(freshToken(rig.state, rig.nowMs, nodeId('x'), leaseId)), {
    code: 'ERR_LEASE_UNKNOWN',
  });
  t.throws(() => rig.take(freshToken(rig.state, rig.nowMs + 60_001, CLIENT, leaseId)), {
    code: 'ERR_LEASE_UNKNOWN',
  });
});

t.test(
  'a lease that a provider did not take is placed on another machine, or all is taken back',
  async (t) => {
    const rig = new LedgerRig();
    for (const name of ['p', 'q', 'r']) rig.provider(name);
    const request = {
      requestId: 'e'.repeat(32),
      sizeBytes: 10,
      ttlMs: 60_000,
      count: 2,
      purpose: '',
    };
    const grants = rig.take(requestLeases(rig.state, rig.nowMs, CLIENT, request));
    const [kept, failed] = grants.map(({ lease }) => lease);
    const again = replaceLeases(rig.state, rig.nowMs, CLIENT, request, [failed!.leaseId], true);
    const [instead] = rig.take(again);
    t.notOk([kept!.provider, failed!.provider].includes(instead!.lease.provider));
    t.equal(rig.state.leases.size, 2);
    t.same(rig.state.requests.get(request.requestId)!.leaseIds, [
      kept!.leaseId,
      instead!.lease.leaseId,
    ]);
    const last = replaceLeases(
      rig.state,
      rig.nowMs,
      CLIENT,
      request,
      [instead!.lease.leaseId],
      false,
    );
    t.throws(() => rig.take(last), { code: 'ERR_LEASE_CAPACITY' });
    t.same([rig.state.leases.size, rig.state.requests.size, rig.state.tokens.size], [0, 0, 0]);
    t.match(rig.state.meter(CLIENT, rig.nowMs), { leasesGranted: 0, usedBytes: 0 });
  },
);
