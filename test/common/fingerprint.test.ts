/** Fingerprints in words. */
import t from 'tap';
import type { MemcloudError } from '../../common/errors.ts';
import { fingerprintOf, parseKeyPattern } from '../../common/fingerprint.ts';

/** Words of the BIP-39 list by their index, as the published list has them. */
t.test('the words say the first 88 bits of the node id', (t) => {
  t.equal(fingerprintOf('0'.repeat(32)), Array(8).fill('abandon').join('-'));
  t.equal(fingerprintOf('f'.repeat(32)), Array(8).fill('zoo').join('-'));
  // 00000000001 = index 1, 'ability', then zeroes.
  t.equal(fingerprintOf(`0020${'0'.repeat(28)}`), `ability-${Array(7).fill('abandon').join('-')}`);
  // Only bits beyond the 88 differ.
  t.equal(fingerprintOf(`${'0'.repeat(22)}ffffffffff`), fingerprintOf('0'.repeat(32)));
  t.end();
});

t.test('a key is named by words, a node id or a public key', (t) => {
  const nodeId = '0123456789abcdef0123456789abcdef';
  const publicKey = 'ab'.repeat(32);
  const words = fingerprintOf(nodeId);
  for (const text of [
    words,
    words.toUpperCase(),
    ` ${words.replaceAll('-', ' ')} `,
    nodeId,
    nodeId.toUpperCase(),
    publicKey,
  ]) {
    t.equal(parseKeyPattern(text).fits(nodeId, publicKey), true, text);
    t.equal(parseKeyPattern(text).fits('f'.repeat(32), 'cd'.repeat(32)), false, text);
  }
  t.equal(parseKeyPattern(nodeId).nodeId, nodeId);
  t.equal(parseKeyPattern(words).nodeId, undefined);
  t.end();
});

t.test('anything else is refused, and printed safely', (t) => {
  for (const text of [
    '',
    'zoo',
    'xyzzy',
    `${'a'.repeat(31)}`,
    '\x1b[31m',
    'zoo '.repeat(9),
    '0x12',
  ]) {
    try {
      parseKeyPattern(text);
      t.fail(`taken: ${text}`);
    } catch (error) {
      t.equal((error as MemcloudError).code, 'ERR_USAGE');
      t.notMatch((error as MemcloudError).message, /\x1b/);
    }
  }
  t.end();
});
