import { createHash, randomBytes } from 'node:crypto';
import t from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import { decodeInviteToken, encodeInviteToken } from '../../common/invite-token.ts';

const NODE_ID = '000102030405060708090a0b0c0d0e0f';
const SECRET = Uint8Array.from({ length: 16 }, (_, index) => 0xf0 + index);
const ADDRESSES = ['192.168.1.20:7070', '[2001:db8::1]:7070'];
const refused = { code: 'ERR_INVITE' };

t.test('a token says what was put into it', async (t) => {
  const token = encodeInviteToken({ nodeId: NODE_ID, secret: SECRET, addresses: ADDRESSES });
  t.match(token, /^mc1[0-9a-hjkmnp-tv-z]+$/, 'one word, without the letters i, l, o and u');
  t.same(decodeInviteToken(token), { nodeId: NODE_ID, secret: SECRET, addresses: ADDRESSES });
});

t.test('a control node names the others of its control plane', async (t) => {
  const base = { nodeId: NODE_ID, secret: SECRET, addresses: ADDRESSES };
  const other = (digit: string, address: string) => ({ nodeId: digit.repeat(32), address });
  const some = [other('a', '10.0.0.1:7071'), other('b', '[::1]:7071')];
  for (const controlNodes of [[], some, Array.from({ length: 8 }, () => other('c', 'h:1'))]) {
    const token = { ...base, controlNodes };
    t.same(decodeInviteToken(encodeInviteToken(token)), token);
  }
  const nine = Array.from({ length: 9 }, () => other('c', 'h:1'));
  t.throws(() => decodeInviteToken(encodeInviteToken({ ...base, controlNodes: nine })), refused);
  t.notOk('controlNodes' in decodeInviteToken(encodeInviteToken(base)), 'no other node says any');
});

t.test('its bytes are those of the document', async (t) => {
  const body = Buffer.concat([
    Buffer.from([1]),
    Buffer.from(NODE_ID, 'hex'),
    SECRET,
    Buffer.from([1, 6]),
    Buffer.from('h:7070'),
  ]);
  const sum = createHash('sha256').update('memcloud/1 invite token').update(body).digest();
  const bits = [...Buffer.concat([body, sum.subarray(0, 4)])]
    .map((byte) => byte.toString(2).padStart(8, '0'))
    .join('');
  const digits = bits
    .padEnd(Math.ceil(bits.length / 5) * 5, '0')
    .replace(/.{5}/g, (five) => '0123456789abcdefghjkmnpqrstvwxyz'[parseInt(five, 2)] ?? '');
  const token = encodeInviteToken({ nodeId: NODE_ID, secret: SECRET, addresses: ['h:7070'] });
  t.equal(token, `mc1${digits}`);
});

t.test('case, white space, dashes and look-alike letters do not matter', async (t) => {
  const token = encodeInviteToken({ nodeId: NODE_ID, secret: SECRET, addresses: ADDRESSES });
  const spelled = `${token.slice(0, 3)}${token.slice(3).replaceAll('0', 'O').replaceAll('1', 'l')}`;
  const typed = ` ${spelled.toUpperCase().replace(/(.{10})/g, '$1-')}\n`;
  t.same(decodeInviteToken(typed).nodeId, NODE_ID);
});

t.test('every token with one character changed, left out or doubled is refused', async (t) => {
  const token = encodeInviteToken({ nodeId: NODE_ID, secret: SECRET, addresses: ADDRESSES });
  let count = 0;
  for (let at = 0; at < token.length; at += 1) {
    const other = token[at] === 'q' ? 'r' : 'q';
    const changed = token.slice(0, at) + other + token.slice(at + 1);
    const shorter = token.slice(0, at) + token.slice(at + 1);
    const longer = token.slice(0, at) + (token[at] ?? '') + token.slice(at);
    for (const wrong of [changed, shorter, longer]) {
      if (wrong === token) continue;
      t.throws(() => decodeInviteToken(wrong), refused, `at ${at}`);
      count += 1;
    }
  }
  t.ok(count > 300);
});

t.test('any text is a token or is refused, and never repeated in the message', async (t) => {
  const seed = Number(process.env['SEED'] ?? Date.now() % 1e9);
  t.comment(`SEED=${seed}`);
  for (let round = 0; round < 2000; round += 1) {
    const bytes = createHash('sha512').update(`${seed} ${round}`).digest();
    const text = `mc1${bytes.toString(round % 2 === 0 ? 'hex' : 'latin1')}`;
    try {
      decodeInviteToken(text);
      t.fail(`taken: ${JSON.stringify(text)}`);
    } catch (error) {
      if (!(error instanceof MemcloudError)) throw error;
      if (error.message.includes(text.slice(3, 23))) t.fail('the token is in the message');
    }
  }
  for (const text of ['', 'mc', 'mc1', 'hello', `mc1${'0'.repeat(10_000)}`]) {
    t.throws(() => decodeInviteToken(text), refused);
  }
});

t.test('eight addresses fit; a token of none or of nine is refused', async (t) => {
  const of = (count: number): string =>
    encodeInviteToken({
      nodeId: NODE_ID,
      secret: Uint8Array.from(randomBytes(16)),
      addresses: Array.from({ length: count }, (_, index) => `10.0.0.${index}:7070`),
    });
  t.equal(decodeInviteToken(of(8)).addresses.length, 8);
  t.throws(() => decodeInviteToken(of(0)), refused);
  t.throws(() => decodeInviteToken(of(9)), refused);
});
