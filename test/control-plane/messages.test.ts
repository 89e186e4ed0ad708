/** Bodies of MANAGE messages, by their bytes; what is none is fuzzed in test/fuzz/managed-messages.test.ts. */
import t from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import {
  decodeManagedCall,
  decodeManagedReply,
  encodeManagedCall,
  encodeManagedError,
  encodeManagedResult,
} from '../../control-plane/messages.ts';

const text = (body: Uint8Array): string => Buffer.from(body).toString();
const LEASE_ID = '0123456789abcdef0123456789abcdef';

t.test('a call, an answer and a refusal', async (t) => {
  const call = encodeManagedCall('lease.token', { leaseId: LEASE_ID });
  t.equal(text(call), `{"call":"lease.token","params":{"leaseId":"${LEASE_ID}"}}`);
  t.same(decodeManagedCall(call), { call: 'lease.token', params: { leaseId: LEASE_ID } });
  const answer = encodeManagedResult('manage.end', { unknown: [] });
  t.equal(text(answer), '{"result":{"unknown":[]}}');
  t.same(decodeManagedReply('manage.end', answer), { unknown: [] });
  const refusal = encodeManagedError(new MemcloudError('ERR_TOKEN', 'no'));
  t.equal(text(refusal), '{"error":{"code":"ERR_TOKEN","message":"no"}}');
  t.throws(() => decodeManagedReply('manage.end', refusal), { code: 'ERR_TOKEN', message: 'no' });
});

t.test('a refusal with a code that is unknown here, or a long message', async (t) => {
  const body = Buffer.from('{"error":{"code":"ERR_LATER","message":"why"}}');
  t.throws(() => decodeManagedReply('manage.end', body), {
    code: 'ERR_CONTROL_PROTOCOL',
    message: 'why',
  });
  const long = encodeManagedError(new MemcloudError('ERR_TOKEN', 'x'.repeat(5000)));
  t.ok(long.length < 1100);
});

t.test('what a call does not take is named', async (t) => {
  const bad: [string, RegExp][] = [
    [`{"call":"lease.token","params":{"leaseId":"x"}}`, /lease\.token\.leaseId: expected 32 hex/],
    [`{"call":"lease.token","params":{"leaseId":"${LEASE_ID}","more":1}}`, /more/],
    [`{"call":"lease.token","params":{}}`, /leaseId/],
    [`{"call":"lease.token"}`, /params/],
    [`{"call":"lease.token","params":{},"more":1}`, /more/],
    ['[]', /body/],
    ['', /not JSON/],
    ['{"call":"lease.renew","params":{"leaseIds":[],"ttlMs":86400001}}', /at most 86400000/],
    ['{"call":"lease.renew","params":{"leaseIds":[],"ttlMs":1.5}}', /whole number/],
  ];
  for (const [body, message] of bad) {
    t.throws(
      () => decodeManagedCall(Buffer.from(body)),
      { code: 'ERR_CONTROL_PROTOCOL', message },
      body,
    );
  }
  t.throws(() => decodeManagedCall(Buffer.from([0xff, 0xfe])), { code: 'ERR_CONTROL_PROTOCOL' });
});

t.test('a body is 60 000 bytes at most', async (t) => {
  const unknown = Array<string>(1750).fill(LEASE_ID);
  t.throws(() => encodeManagedResult('manage.end', { unknown }), { code: 'ERR_CONTROL_PROTOCOL' });
});
