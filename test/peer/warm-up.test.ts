import t from 'tap';
import { Identity } from '../../peer/identity.ts';
import { warmUpHandshake } from '../../peer/warm-up.ts';

t.test('a handshake with nobody runs to its end and leaves the identity usable', (t) => {
  const identity = Identity.ephemeral();
  const { nodeId } = identity;
  warmUpHandshake(identity);
  warmUpHandshake(identity);
  t.equal(identity.nodeId, nodeId);
  t.end();
});
