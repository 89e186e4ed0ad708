import t from 'tap';
import * as pool from '../../../cli/doctor/checks-pool.ts';
import type { MachineFacts } from '../../../cli/doctor/facts.ts';
import type { PeerInfo, VolumeDetails } from '../../../common/rpc-schema.ts';
import { daemonFacts, healthyFacts, peerInfo, volumeDetails } from '../../helpers/machine-facts.ts';

const HEALTHY = healthyFacts();
const ABSENT = { ...HEALTHY, daemon: { reason: 'no memnode answers on /x (ENOENT)' } };

function withPeers(peers: PeerInfo[], volumes: VolumeDetails[] = []): MachineFacts {
  return { ...HEALTHY, daemon: daemonFacts({ peers }, volumes) };
}

t.test('no daemon: one warning that says what was not looked at', async (t) => {
  t.match(pool.checkDaemon({ ...ABSENT, socketPath: '/x/memcloud.sock' }), [
    {
      level: 'warning',
      finding: 'no memnode answers on /x (ENOENT); peers, volumes and leases were not looked at',
      fix: 'memcloud --socket /x/memcloud.sock node start',
    },
  ]);
  const rest = [pool.checkPeers, pool.checkConsent, pool.checkVolumes, pool.checkLeases];
  for (const check of rest) t.strictSame(check(ABSENT), [], check.name);
  t.match(pool.checkDaemon(HEALTHY), [{ level: 'ok', finding: 'memnode 0.1.0 answers as self' }]);
});

t.test('each peer: up, or why not and what to do', async (t) => {
  const cases: [Partial<PeerInfo>, string, RegExp, RegExp][] = [
    [{}, 'ok', /^up at/, /^$/],
    [{ state: 'pending' }, 'warning', /a human has to answer/, /^memcloud consent ls$/],
    [{ state: 'refused', reason: 'denied' }, 'warning', /^refused: denied$/, /memcloud trust/],
    [{ state: 'connecting' }, 'warning', /^connecting$/, /memcloud peer ls/],
    [
      { state: 'down', name: '', reason: 'connect ECONNREFUSED\n\x1b' },
      'warning',
      /^down: connect ECONNREFUSED\?\?$/,
      /^memcloud peer connect alpha\.example:7070$/,
    ],
  ];
  for (const [change, level, finding, fix] of cases) {
    const results = pool.checkPeers(withPeers([peerInfo('alpha', change)]));
    t.match(results, [{ check: /^peer alpha/, level, finding, fix }]);
  }
  t.match(pool.checkPeers(withPeers([peerInfo('alpha', { quarantine: 'a page\u001b failed' })])), [
    {
      ...{ level: 'problem', finding: 'in quarantine: a page? failed' },
      fix: 'memcloud peer pardon alpha',
    },
  ]);
  t.match(pool.checkPeers(withPeers([peerInfo('alpha', { accepting: false })])), [
    { level: 'warning', finding: /^takes no pages/ },
  ]);
  for (const state of ['up', 'down']) {
    t.match(pool.checkPeers(withPeers([peerInfo('alpha', { state, guest: true })])), [
      { level: 'ok', finding: /^a guest/ },
    ]);
  }
  t.match(pool.checkPeers(withPeers([])), [{ level: 'warning', finding: /^none is known/ }]);
});

t.test('consents that wait', async (t) => {
  t.match(pool.checkConsent(HEALTHY), [{ level: 'ok' }]);
  const facts = { ...HEALTHY, daemon: daemonFacts({ consentPending: 2 }) };
  t.match(pool.checkConsent(facts), [
    { level: 'warning', finding: '2 waiting for an answer', fix: 'memcloud consent ls' },
  ]);
});

t.test('volumes: copies against the lenders that are up', async (t) => {
  const up = peerInfo('alpha');
  const down = peerInfo('beta', { state: 'down' });
  const borrower = peerInfo('gamma', {
    usage: { offeredBytes: 0, usedBytes: 0, residentBytes: 0, leaseCount: 0 },
  });
  const unknown = peerInfo('delta', { usage: null });
  const share = { leasedBytes: 1, leaseEndsInMs: 60_000, leaseTtlMs: 60_000 };
  const self = { nodeId: 'id-self', name: 'self', ...share };
  const swapped = { devices: ['/dev/nbd0'] };
  const cases: [string, PeerInfo[], Partial<VolumeDetails>, string, RegExp][] = [
    ['as many as copies', [up, peerInfo('beta')], {}, 'ok', /^2 copies, 2 lenders up$/],
    ['a guest is no lender', [up, peerInfo('beta', { guest: true })], {}, 'warning', /1 is up/],
    ['one is down', [up, down], {}, 'warning', /2 copies need as many lenders, 1 is up/],
    ['the same under swap', [up, down], swapped, 'problem', /no room for new pages/],
    ['borrowers lend nothing', [up, borrower, unknown], {}, 'warning', /1 is up/],
    ['this machine itself counts', [up], { providers: [self] }, 'ok', /2 lenders up/],
    ['none is up', [down], { copies: 1 }, 'warning', /0 are up/],
    ['degraded', [up, peerInfo('beta')], { health: 'degraded' }, 'warning', /fewer copies/],
    ['lost', [up, peerInfo('beta')], { health: 'lost' }, 'problem', /pages were lost/],
  ];
  for (const [fact, peers, change, level, finding] of cases) {
    const results = pool.checkVolumes(withPeers(peers, [volumeDetails(change)]));
    t.match(results, [{ check: 'volume disk', level, finding }], fact);
  }
});

t.test('leases: with half of their time left, renewals have failed', async (t) => {
  for (const [leaseEndsInMs, finding] of [
    [30_001, undefined],
    [30_000, /beta was not reached for renewal: it wipes its pages in 30\.0 s/],
    [0, /its leases are over/],
    [-5_000, /its leases are over/],
  ] as const) {
    const fine = { nodeId: 'a', name: 'alpha', leasedBytes: 1, leaseTtlMs: 60_000 };
    const providers = [
      { ...fine, leaseEndsInMs: 59_000 },
      { ...fine, name: 'beta', leaseEndsInMs },
    ];
    const results = pool.checkLeases(withPeers([], [volumeDetails({ providers })]));
    if (finding === undefined) t.strictSame(results, []);
    else t.match(results, [{ check: 'leases of disk', level: 'problem', finding }]);
    t.ok(results.length <= 1);
  }
});
