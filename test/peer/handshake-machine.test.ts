import t from 'tap';
import { HandshakeMachine } from '../../peer/handshake-machine.ts';
import { Identity } from '../../peer/identity.ts';

const alice = Identity.ephemeral();
const bob = Identity.ephemeral();
let fill = 1;

function machine(
  role: 'initiator' | 'responder',
  identity = role === 'initiator' ? alice : bob,
): HandshakeMachine {
  const secrets = new Uint8Array(64).fill(fill, 0, 32).fill(fill + 1, 32);
  fill += 2;
  return new HandshakeMachine({ role, identity, name: role, secrets });
}

function pair(): [HandshakeMachine, HandshakeMachine] {
  return [machine('initiator'), machine('responder')];
}

t.test('both sides learn who the other is, by its key, and share the keys', async (t) => {
  const [a, b] = pair();
  const second = b.onMessage(a.begin())!;
  t.equal(a.peer, undefined);
  t.equal(a.onMessage(second), undefined, 'the third message waits for a decision');
  t.match(a.peer, { nodeId: bob.nodeId, name: 'responder' });
  t.equal(b.peer, undefined, 'the responder does not know yet');
  t.notOk(a.done);
  t.equal(b.onMessage(a.proceed()), undefined);
  t.match(b.peer, { nodeId: alice.nodeId, name: 'initiator' });
  t.ok(a.done && b.done);
  const [ours, theirs] = [a.takeKeys(), b.takeKeys()];
  t.same(ours.send, theirs.receive);
  t.same(ours.receive, theirs.send);
  t.notSame(ours.send, ours.receive);
});

t.test('the messages have the sizes of the protocol document', async (t) => {
  const [a, b] = pair();
  const first = a.begin();
  const second = b.onMessage(first)!;
  a.onMessage(second);
  // Credentials are 98 bytes and the name, here 9 bytes each.
  t.same(
    [first.length, second.length, a.proceed().length],
    [32, 32 + 48 + 107 + 16, 48 + 107 + 16],
  );
});

t.test('names and identities do not travel in the clear', async (t) => {
  const [a, b] = pair();
  const first = a.begin();
  const second = b.onMessage(first)!;
  a.onMessage(second);
  const all = Buffer.concat([first, second, a.proceed()]);
  for (const secret of [
    alice.publicKey,
    bob.publicKey,
    Buffer.from('initiator'),
    Buffer.from('responder'),
  ]) {
    t.equal(all.indexOf(secret), -1);
  }
});

t.test('a replayed first message leads nowhere: the third cannot be made', async (t) => {
  const [a, b] = pair();
  const first = a.begin();
  const second = b.onMessage(first)!;
  a.onMessage(second);
  const third = a.proceed();
  b.onMessage(third);
  const fresh = machine('responder');
  fresh.onMessage(first);
  t.throws(() => fresh.onMessage(third), { code: 'ERR_PEER_AUTHENTICATION' });
});

t.test('a replayed second message does not verify in another handshake', async (t) => {
  const [a, b] = pair();
  const second = b.onMessage(a.begin())!;
  const other = machine('initiator');
  other.begin();
  t.throws(() => other.onMessage(second), { code: 'ERR_PEER_AUTHENTICATION' });
});

t.test('a message reflected to its sender is refused', async (t) => {
  const [a] = pair();
  const first = a.begin();
  t.throws(() => a.onMessage(first), { code: /ERR_PEER_(HANDSHAKE|AUTHENTICATION)/ });
});

t.test('a node that reaches itself is refused on both sides', async (t) => {
  const a = machine('initiator', alice);
  const b = machine('responder', alice);
  const second = b.onMessage(a.begin())!;
  t.throws(() => a.onMessage(second), { code: 'ERR_PEER_HANDSHAKE', message: /itself/ });
});

t.test('a man in the middle is known by his own key, not another', async (t) => {
  const mallory = Identity.ephemeral();
  const a = machine('initiator');
  const m = machine('responder', mallory);
  a.onMessage(m.onMessage(a.begin())!);
  t.equal(a.peer?.nodeId, mallory.nodeId);
});

t.test('a payload in the first message is refused', async (t) => {
  const [a, b] = pair();
  t.throws(() => b.onMessage(Buffer.concat([a.begin(), Buffer.from('x')])), {
    code: 'ERR_PEER_HANDSHAKE',
  });
});

t.test('every truncation of every message is refused', async (t) => {
  for (let length = 1; length < 203; length += 13) {
    const [a, b] = pair();
    const first = a.begin();
    if (length < 32) t.throws(() => machine('responder').onMessage(first.subarray(0, length)));
    const second = b.onMessage(first)!;
    t.throws(() => a.onMessage(second.subarray(0, length)), {
      code: /ERR_PEER_(HANDSHAKE|AUTHENTICATION)/,
    });
    const [c, d] = pair();
    c.onMessage(d.onMessage(c.begin())!);
    const third = c.proceed();
    if (length < third.length) {
      t.throws(() => d.onMessage(third.subarray(0, length)), {
        code: /ERR_PEER_(HANDSHAKE|AUTHENTICATION)/,
      });
    }
  }
});

t.test('after a failure nothing goes on', async (t) => {
  const [a, b] = pair();
  a.begin();
  t.throws(() => a.onMessage(new Uint8Array(200)));
  t.throws(() => a.onMessage(b.onMessage(machine('initiator').begin())!), {
    code: 'ERR_PEER_HANDSHAKE',
  });
  t.throws(() => a.proceed(), { code: 'ERR_INTERNAL' });
  t.throws(() => a.takeKeys(), { code: 'ERR_INTERNAL' });
});

t.test('events out of turn are refused and change nothing', async (t) => {
  const [a, b] = pair();
  t.throws(() => a.proceed(), { code: 'ERR_INTERNAL' });
  t.throws(() => b.begin(), { code: 'ERR_INTERNAL' });
  t.throws(() => a.takeKeys(), { code: 'ERR_INTERNAL' });
  a.onMessage(b.onMessage(a.begin())!);
  b.onMessage(a.proceed());
  t.ok(a.done && b.done);
});
