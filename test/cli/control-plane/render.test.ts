/** The control plane as people read it (cli/control-plane/render.ts). */
import t from 'tap';
import {
  renderAuditLine,
  renderControlStatus,
  renderDetail,
  renderLeases,
  renderMembers,
  renderProviders,
  renderUsage,
  usageCsv,
} from '../../../cli/control-plane/render.ts';

const ID = 'ab'.repeat(16);
const MIB = 2 ** 20;

t.test('the control plane at a glance', (t) => {
  const text = renderControlStatus({
    cluster: '0'.repeat(32),
    store: 'etcd://10.0.0.1:2379',
    controlNodes: [
      { nodeId: ID, name: 'one', leads: true, address: '10.0.0.1:7071' },
      { nodeId: 'cd'.repeat(16), name: 'two', leads: false, address: '' },
    ],
    epoch: 7,
    providers: { up: 2, known: 3 },
    ...{ members: 5, leaseCount: 4, offeredBytes: 512 * MIB, reservedBytes: 64 * MIB },
    ...{ grantedLastMinute: 9, deniedLastMinute: 1 },
  });
  for (const part of ['leads, term 7', 'providers 2 of 3 up; 5 members', '64 MiB of 512 MiB']) {
    t.ok(text.includes(part), part);
  }
  t.match(text, /two +- /);
  t.end();
});

t.test('rows of tables, and words for none', (t) => {
  const provider = {
    ...{ nodeId: ID, name: 'alpha', address: '10.0.0.2:7070', hostId: 'h', zone: '' },
    ...{ state: 'draining', offeredBytes: MIB, reservedBytes: 0, leaseCount: 0, seenMsAgo: 1500 },
  };
  t.match(renderProviders([provider]), /alpha +abababababab +10\.0\.0\.2:7070 +- +draining/);
  const member = {
    ...{ nodeId: '', publicKey: '', name: '', roles: ['client', 'admin'] as const },
    ...{ quotaBytes: null, quotaLeases: 3, usedBytes: 0, usedLeases: 0, connected: false },
  };
  t.match(renderMembers([member]), /- +not seen yet +client admin +0 B +- +0 +3 +no/);
  const lease = {
    ...{ leaseId: ID, client: ID, clientName: 'worker', provider: ID, providerName: '' },
    ...{ sizeBytes: MIB, state: 'active', endsInMs: 90_000, purpose: 'volume a' },
  };
  t.match(renderLeases([lease]), /worker +abababababab +1 MiB +active +1 min 30 s +volume a/);
  for (const render of [renderProviders, renderMembers, renderLeases, renderUsage]) {
    t.match(render([]), /^[A-Z].*/);
  }
  t.end();
});

const USAGE = {
  ...{ client: ID, name: 'worker', usedBytes: MIB, usedLeases: 2, quotaBytes: null },
  ...{ byteSeconds: 2 ** 30 * 1800, leasesGranted: 3, leasesDenied: 1, peakBytes: 4 * MIB },
};

t.test('usage for people is in GiB hours', (t) => {
  t.match(renderUsage([USAGE]), /worker +1 MiB +- +4 MiB +0\.500 +3 +1/);
  t.end();
});

t.test('usage as a sheet is what RFC 4180 says, number for number', (t) => {
  const odd = { ...USAGE, name: 'a "b", c', quotaBytes: 5 };
  t.equal(
    usageCsv([USAGE, odd]),
    'client,name,used_bytes,used_leases,quota_bytes,peak_bytes,byte_seconds,leases_granted,leases_denied\r\n' +
      `${ID},worker,1048576,2,,4194304,1932735283200,3,1\r\n` +
      `${ID},"a ""b"", c",1048576,2,5,4194304,1932735283200,3,1\r\n`,
  );
  t.equal(usageCsv([]).split('\r\n').length, 2, 'a header and nothing');
  t.end();
});

t.test('a line of the log is one line, whatever is in it', (t) => {
  const detail = {
    client: 'a b',
    sizeBytes: 4096,
    list: [1, 'x'],
    deep: { a: 1 },
    evil: 'x\ny\u001b[2J',
    eq: 'a=b',
  };
  const text = renderDetail(detail);
  t.equal(
    text,
    'client="a b" sizeBytes=4096 list=1,x deep="{\\"a\\":1}" evil="x\\ny\\u001b[2J" eq="a=b"',
  );
  const line = { sequence: 12, at: '2026-01-02T03:04:05.000Z', event: 'lease.granted', epoch: 1 };
  const rest = { controlNode: ID, hash: '0'.repeat(64) };
  t.equal(
    renderAuditLine({ ...line, ...rest, detail: { a: 1 } }),
    '12  2026-01-02T03:04:05.000Z  lease.granted  a=1',
  );
  t.notMatch(renderAuditLine({ ...line, ...rest, event: 'x\ny', detail: {} }), /\n/);
  t.end();
});
