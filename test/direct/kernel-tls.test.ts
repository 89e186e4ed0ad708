/** What can be shown without a kernel that has TLS; the rest is test/e2e/direct.test.ts. */
import { once } from 'node:events';
import fs from 'node:fs';
import t from 'tap';
import { beginDirectConnection, encodePreface, kernelTlsSupport } from '../../direct/kernel-tls.ts';
import { startRecords } from '../helpers/record-pair.ts';

const credentials = {
  ticketId: '0f'.repeat(16),
  secret: '1e'.repeat(32),
  consumerNonce: '2d'.repeat(32),
};

t.test('the preface is the magic and the ticket', async (t) => {
  const preface = encodePreface(Buffer.from(credentials.ticketId, 'hex'));
  t.equal(preface.toString('hex'), `4d43444952454354${'0f'.repeat(16)}`);
  t.ok(preface.readUInt16BE(0) > 1024, 'it cannot be taken for the length of a Noise message');
});

t.test(
  'credentials that are no hex of the right length are refused before anything is sent',
  async (t) => {
    const cases: [string, Partial<typeof credentials>, RegExp][] = [
      ['short', { ticketId: '0f' }, /ticket id: expected 32/],
      ['upper case', { secret: '1E'.repeat(32) }, /secret: expected 64/],
      ['no hex', { consumerNonce: 'zz'.repeat(32) }, /nonce: expected 64/],
    ];
    for (const [name, wrong, message] of cases) {
      const begin = (): void => beginDirectConnection(-1, { ...credentials, ...wrong });
      t.throws(begin, { code: 'ERR_USAGE', message }, name);
    }
  },
);

t.test('a connection that is gone is told apart from a kernel that lacks something', async (t) => {
  t.throws(() => beginDirectConnection(-1, credentials), {
    code: 'ERR_NBD_CLOSED',
    message: /EBADF/,
  });
});

t.test('the probe answers, leaves no descriptor, and agrees with a real socket', async (t) => {
  const openCount = (): number => fs.readdirSync('/proc/self/fd').length;
  kernelTlsSupport();
  const before = openCount();
  const support = kernelTlsSupport();
  t.equal(openCount(), before);
  const { below, socket } = await startRecords(t);
  const received = once(socket, 'data') as Promise<[Buffer]>;
  let refusal: string | undefined;
  try {
    beginDirectConnection(below.fd, credentials);
  } catch (error) {
    refusal = (error as Error).message;
    t.match(error, { code: 'ERR_UNSUPPORTED' });
  }
  t.same((await received)[0], encodePreface(Buffer.from(credentials.ticketId, 'hex')));
  t.same(
    support,
    refusal === undefined ? { supported: true } : { supported: false, reason: refusal },
  );
  t.comment(`this kernel: ${refusal ?? 'supported'}`);
});

t.test(
  'what the kernel refuses is said, with what to do',
  { skip: kernelTlsSupport().supported && 'this kernel has TLS' },
  async (t) => {
    t.match(kernelTlsSupport(), { supported: false, reason: /modprobe|Linux 5\.11|refused/ });
  },
);
