/**
 * The handshake machine over mutated, swapped, repeated and random messages: it ends with the right
 * peer on both sides, or with the handshake's error, never with keys that differ.
 */
import t from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import { HandshakeMachine } from '../../peer/handshake-machine.ts';
import { Identity } from '../../peer/identity.ts';
import { fuzz } from '../helpers/fuzz.ts';

const alice = Identity.ephemeral();
const bob = Identity.ephemeral();

t.test('any interference', async (t) => {
  let agreed = 0;
  let failed = 0;
  await fuzz(t, (random) => {
    const secrets = (): Uint8Array => random.bytes(64);
    const a = new HandshakeMachine({
      role: 'initiator',
      identity: alice,
      name: 'a',
      secrets: secrets(),
    });
    const b = new HandshakeMachine({
      role: 'responder',
      identity: bob,
      name: 'b',
      secrets: secrets(),
    });
    const seen: Uint8Array[] = [];
    const wire = (message: Uint8Array): Uint8Array => {
      seen.push(message);
      const kind = random.below(12);
      if (kind === 0) return random.mutate(message);
      if (kind === 1) return random.bytes(random.below(300));
      if (kind === 2) return random.pick(seen);
      return message;
    };
    try {
      const second = b.onMessage(wire(a.begin()));
      if (second === undefined) throw new Error('no second message');
      a.onMessage(wire(second));
      b.onMessage(wire(a.proceed()));
      const [ours, theirs] = [a.takeKeys(), b.takeKeys()];
      if (!Buffer.from(ours.send).equals(theirs.receive)) throw new Error('keys differ');
      if (a.peer?.nodeId !== bob.nodeId || b.peer?.nodeId !== alice.nodeId)
        throw new Error('wrong peer');
      agreed += 1;
    } catch (error) {
      const code = error instanceof MemcloudError ? error.code : '';
      if (code !== 'ERR_PEER_HANDSHAKE' && code !== 'ERR_PEER_AUTHENTICATION') throw error;
      failed += 1;
    }
    a.destroy();
    b.destroy();
  });
  t.comment(`${agreed} agreed, ${failed} failed`);
});
