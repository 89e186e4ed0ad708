import t from 'tap';
import { MemcloudError, type ErrorCode } from '../../common/errors.ts';
import { FoundDial, foundDialEnd } from '../../peer/found-dial.ts';

t.test(
  'what failed for another key, for want of trust and for want of an answer are told apart',
  (t) => {
    const ends: [ErrorCode, string][] = [
      ['ERR_PEER_KEY_CHANGED', 'impostor'],
      ['ERR_PEER_HANDSHAKE', 'impostor'],
      ['ERR_PEER_AUTHENTICATION', 'impostor'],
      ['ERR_PEER_PROTOCOL', 'impostor'],
      ['ERR_PEER_UNTRUSTED', 'refused'],
      ['ERR_PEER_UNREACHABLE', 'unreachable'],
      ['ERR_TIMEOUT', 'unreachable'],
    ];
    for (const [code, end] of ends) t.equal(foundDialEnd(new MemcloudError(code, 'x')), end, code);
    t.end();
  },
);

t.test('an attempt ends once', (t) => {
  const ends: unknown[] = [];
  const found = { address: '10.0.0.1:1', nodeId: undefined };
  const dial = new FoundDial(found, (end, nodeId) => ends.push([end, nodeId]));
  t.equal(dial.state, 'connecting');
  dial.onPending();
  t.equal(dial.state, 'pending');
  dial.onUp('a'.repeat(32));
  dial.onFailed(new MemcloudError('ERR_TIMEOUT', 'late'));
  dial.onPending();
  t.equal(dial.state, 'up');
  t.same(ends, [['up', 'a'.repeat(32)]]);
  t.end();
});
