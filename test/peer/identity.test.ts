import { createHash, sign } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { nodeIdOf } from '../../common/fingerprint.ts';
import { Identity, IDENTITY_FILE_NAME, verifySignature } from '../../peer/identity.ts';

const refused = { code: 'ERR_IDENTITY' };
const file = (directory: string): string => path.join(directory, IDENTITY_FILE_NAME);

t.test('an identity is made once and is the same after a restart', async (t) => {
  const directory = path.join(t.testdir({}), 'state');
  const first = Identity.load(directory);
  const second = Identity.load(directory);
  t.same(first.publicKey, second.publicKey);
  t.equal(fs.statSync(file(directory)).mode & 0o777, 0o600);
  t.equal(fs.statSync(directory).mode & 0o777, 0o700);
  t.same(fs.readdirSync(directory), ['identity.json'], 'no temporary file is left');
});

t.test('two identities differ', async (t) => {
  t.not(Identity.ephemeral().nodeId, Identity.ephemeral().nodeId);
});

t.test('the node id is the first 16 bytes of SHA-256 of the public key', async (t) => {
  const { publicKey, nodeId } = Identity.ephemeral();
  t.equal(nodeId, createHash('sha256').update(publicKey).digest('hex').slice(0, 32));
  t.equal(nodeIdOf(publicKey), nodeId);
});

t.test('RFC 8032 test 2: key, message and signature', async (t) => {
  const hex = (text: string): Buffer => Buffer.from(text, 'hex');
  const identity = new Identity(
    hex('4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb'),
  );
  t.same(
    Buffer.from(identity.publicKey),
    hex('3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c'),
  );
  const signature = hex(
    '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da' +
      '085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
  );
  t.same(Buffer.from(identity.sign(hex('72'))), signature);
  t.ok(verifySignature(signature, hex('72'), identity.publicKey));
  t.notOk(verifySignature(signature, hex('73'), identity.publicKey));
});

t.test('a signature by a key of small order, or that is malformed, does not verify', async (t) => {
  const zeroKey = new Uint8Array(32);
  const identityPoint = Uint8Array.of(1, ...new Array<number>(31).fill(0));
  // R = identity, S = 0 "signs" every message under the identity point in lax verifiers.
  const forged = Uint8Array.of(...identityPoint, ...zeroKey);
  t.notOk(verifySignature(forged, Buffer.from('any'), identityPoint));
  t.notOk(verifySignature(new Uint8Array(63), Buffer.from('any'), zeroKey));
  t.notOk(verifySignature(new Uint8Array(64).fill(255), Buffer.from('any'), zeroKey));
});

t.test('the key as a KeyObject signs what the identity signs', async (t) => {
  const identity = Identity.ephemeral();
  const { signingKey } = identity;
  t.equal(signingKey.asymmetricKeyType, 'ed25519');
  t.equal(signingKey.type, 'private');
  const message = Buffer.from('a message');
  const signature = sign(null, message, signingKey);
  t.same(signature, Buffer.from(identity.sign(message)), 'RFC 8032 signatures are deterministic');
  t.ok(verifySignature(signature, message, identity.publicKey));
  identity.destroy();
  t.ok(sign(null, message, signingKey).equals(signature), 'it holds a copy of its own');
});

t.test('destroy zeroes the secret key', async (t) => {
  const secret = new Uint8Array(32).fill(9);
  new Identity(secret).destroy();
  t.same(secret, new Uint8Array(32));
});

for (const mode of [0o640, 0o604, 0o644, 0o660, 0o601]) {
  t.test(`a file of mode ${mode.toString(8)} is refused, and not replaced`, async (t) => {
    const directory = t.testdir({});
    const { publicKey } = Identity.load(directory);
    fs.chmodSync(file(directory), mode);
    t.throws(() => Identity.load(directory), { ...refused, message: /others may read it/ });
    fs.chmodSync(file(directory), 0o600);
    t.same(Identity.load(directory).publicKey, publicKey);
  });
}

const GOOD = {
  format: 'memcloud-identity/1',
  publicKey: '3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c',
  secretKey: '4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb',
};
const DAMAGED: Record<string, string> = {
  'an empty file': '',
  'half a file': JSON.stringify(GOOD).slice(0, 60),
  null: 'null',
  'a number': '5',
  'another format': JSON.stringify({ ...GOOD, format: 'memcloud-identity/2' }),
  'no secret key': JSON.stringify({ ...GOOD, secretKey: undefined }),
  'a short secret key': JSON.stringify({ ...GOOD, secretKey: 'ff' }),
  'a secret key with a bit changed': JSON.stringify({
    ...GOOD,
    secretKey: `5${GOOD.secretKey.slice(1)}`,
  }),
  'a public key with a bit changed': JSON.stringify({
    ...GOOD,
    publicKey: `4${GOOD.publicKey.slice(1)}`,
  }),
  'far too many bytes': ' '.repeat(5000),
};
for (const [name, text] of Object.entries(DAMAGED)) {
  t.test(`${name} is refused, kept, and the message has no key in it`, async (t) => {
    const directory = t.testdir({});
    fs.writeFileSync(file(directory), text, { mode: 0o600 });
    let message = '';
    try {
      Identity.load(directory);
    } catch (error) {
      t.match(error, refused);
      message = (error as Error).message;
    }
    t.match(message, /restore it from a backup/);
    t.notMatch(message, /[0-9a-f]{32}/);
    t.equal(fs.readFileSync(file(directory), 'utf8'), text);
  });
}

t.test('the good file of these cases is read', async (t) => {
  const directory = t.testdir({});
  fs.writeFileSync(file(directory), JSON.stringify(GOOD), { mode: 0o600 });
  t.equal(Buffer.from(Identity.load(directory).publicKey).toString('hex'), GOOD.publicKey);
});

t.test('a symbolic link and a directory are refused', async (t) => {
  const directory = t.testdir({ real: JSON.stringify(GOOD), other: {} });
  fs.chmodSync(path.join(directory, 'real'), 0o600);
  fs.symlinkSync(path.join(directory, 'real'), file(directory));
  t.throws(() => Identity.load(directory), refused);
  fs.mkdirSync(file(path.join(directory, 'other')));
  t.throws(() => Identity.load(path.join(directory, 'other')), refused);
});
