/** How a configuration names a control node. */
import t from 'tap';
import { parseControlTarget } from '../../common/control-target.ts';
import { fingerprintOf, nodeIdOf } from '../../common/fingerprint.ts';

const publicKey = Buffer.alloc(32, 7);
const nodeId = nodeIdOf(publicKey);
const otherId = nodeIdOf(Buffer.alloc(32, 8));

t.test('an address alone fits every node', (t) => {
  t.same(parseControlTarget('tower:7071'), { address: 'tower:7071', fits: undefined });
  t.same(parseControlTarget('[fe80::1]:7071').address, '[fe80::1]:7071');
  t.end();
});

t.test('with a key, one node', (t) => {
  const keys = [nodeId, nodeId.toUpperCase(), publicKey.toString('hex'), fingerprintOf(nodeId)];
  for (const key of keys) {
    const { address, fits } = parseControlTarget(`${key}@[::1]:7071`);
    t.equal(address, '[::1]:7071');
    t.equal(fits?.(nodeId), true, key);
    t.equal(fits?.(otherId), false, key);
  }
  t.end();
});

t.test('what is neither is refused', (t) => {
  const wrong = ['', 'tower', '@tower:7071', 'bob@tower:7071', `${nodeId}@`, `${nodeId}@tower`];
  wrong.push(`${nodeId}0@tower:7071`, `tower:7071@${nodeId}`, `${nodeId}@${nodeId}@tower:7071`);
  for (const text of wrong) {
    t.throws(() => parseControlTarget(text), { code: 'ERR_USAGE_ADDRESS' }, text);
  }
  t.end();
});
