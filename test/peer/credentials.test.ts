import { ed25519 } from '@noble/curves/ed25519.js';
import t from 'tap';
import { decodeCredentials, encodeCredentials, isNodeName } from '../../peer/credentials.ts';
import { Identity } from '../../peer/identity.ts';

const SECRET = new Uint8Array(32).fill(3);
const identity = new Identity(Uint8Array.from(SECRET));
const HASH = new Uint8Array(32).fill(0x11);
const encoded = (name = 'node-1'): Uint8Array =>
  encodeCredentials(identity, name, 'responder', HASH);
const malformed = { code: 'ERR_PEER_HANDSHAKE' };

t.test('credentials are version, key, signature, length and name', async (t) => {
  const signed = Buffer.concat([Buffer.from('memcloud/1 responder'), HASH]);
  t.same(
    encoded(),
    Buffer.concat([
      Buffer.from([1]),
      ed25519.getPublicKey(SECRET),
      ed25519.sign(signed, SECRET),
      Buffer.from([6]),
      Buffer.from('node-1'),
    ]),
  );
  t.match(decodeCredentials(encoded(), 'responder', HASH), {
    nodeId: identity.nodeId,
    name: 'node-1',
  });
});

t.test('credentials of another role or another handshake do not verify', async (t) => {
  const refused = { code: 'ERR_PEER_AUTHENTICATION' };
  t.throws(() => decodeCredentials(encoded(), 'initiator', HASH), refused);
  t.throws(() => decodeCredentials(encoded(), 'responder', new Uint8Array(32)), refused);
});

t.test('a changed bit in key or signature does not verify', async (t) => {
  for (let at = 1; at < 97; at += 1) {
    const bytes = Uint8Array.from(encoded());
    bytes[at]! ^= 1 << (at % 8);
    t.throws(() => decodeCredentials(bytes, 'responder', HASH), {
      code: 'ERR_PEER_AUTHENTICATION',
    });
  }
});

t.test('every truncation and one byte more is malformed', async (t) => {
  for (let length = 0; length < encoded().length; length += 1) {
    t.throws(() => decodeCredentials(encoded().subarray(0, length), 'responder', HASH), malformed);
  }
  const longer = Buffer.concat([encoded(), Buffer.from([0])]);
  t.throws(() => decodeCredentials(longer, 'responder', HASH), malformed);
});

t.test('another version is malformed', async (t) => {
  for (const version of [0, 2, 255]) {
    const bytes = Uint8Array.from(encoded());
    bytes[0] = version;
    t.throws(() => decodeCredentials(bytes, 'responder', HASH), malformed);
  }
});

const BAD_NAMES = {
  nothing: '',
  'a terminal escape': 'a\u001b[2Jb',
  'a C1 escape': 'a\u009b2Jb',
  'a line feed': 'a\nb',
  'a NUL': 'a\0b',
  'a backspace': 'ab\b',
  'a right-to-left override': 'a\u202eb',
  'a letter outside ASCII': 'n\u00f6de',
  'a slash': '../x',
  'a space at the end': 'node ',
  'a space at the start': ' node',
  '65 characters': 'x'.repeat(65),
};
for (const [what, name] of Object.entries(BAD_NAMES)) {
  t.test(`a name with ${what} is refused, though signed`, async (t) => {
    t.notOk(isNodeName(name));
    const text = Buffer.from(name, what === 'a C1 escape' ? 'latin1' : 'utf8');
    const bytes = Buffer.concat([encoded().subarray(0, 97), Buffer.from([text.length]), text]);
    t.throws(() => decodeCredentials(bytes, 'responder', HASH), malformed);
  });
}

for (const name of ['a', 'Z9', 'My Node', 'host-1.lan', 'a_b', 'x'.repeat(64)]) {
  t.test(`the name "${name}" is taken`, async (t) => {
    t.equal(decodeCredentials(encoded(name), 'responder', HASH).name, name);
  });
}
