/** The verdicts of both sides, HELLO by HELLO, with a gatekeeper that answers what a test says. */
import t from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import type { ConnectionContext } from '../../peer/connection-context.ts';
import type { AcceptedHello, Hello } from '../../peer/control.ts';
import { HelloExchange, type HelloExchangeOptions } from '../../peer/hello-exchange.ts';

const PEER = { nodeId: 'b'.repeat(32), name: 'bert' };
const PROTOCOL = { code: 'ERR_PEER_PROTOCOL' };
const DENIED = new MemcloudError('ERR_PEER_UNTRUSTED', 'denied');

type Decide = (refusal: MemcloudError | undefined) => void;

interface Rig {
  exchange: HelloExchange;
  said: string[];
  accepted: AcceptedHello[];
  /** What the human says, once asked. */
  answer: () => Decide;
  cancelled: () => number;
}

function rig(verdict: 'trusted' | 'unknown' | 'denied', lane = ''): Rig {
  const said: string[] = [];
  const accepted: AcceptedHello[] = [];
  let decide: Decide | undefined;
  let cancelled = 0;
  const gatekeeper = {
    check: () => {
      if (verdict === 'denied') throw DENIED;
      return verdict;
    },
    admit: (_peer: unknown, _origin: unknown, then: Decide) => {
      decide = then;
      return () => (cancelled += 1);
    },
    requireTrusted: () => {
      if (verdict !== 'trusted') throw DENIED;
    },
  };
  const context = {
    ...{ lane, gatekeeper, name: 'anna', hostId: '', zone: '', objects: true },
    ...{ exchangesPeers: false, usage: () => ({}), accepting: () => true, port: () => 0 },
  } as unknown as ConnectionContext;
  const options = {
    ...{ context, peer: PEER, origin: { dialled: true, address: 'b:1' } },
    ...{ expected: {}, handshakeHash: new Uint8Array(32) },
  } as unknown as HelloExchangeOptions;
  const exchange = new HelloExchange(options, {
    send: (hello) => said.push(`send ${hello.verdict}`),
    onStep: () => undefined,
    onPending: (side) => said.push(`pending ${side}`),
    onAdmitted: () => said.push('admitted'),
    onRefused: ({ code }) => said.push(`refused ${code}`),
    onAccepted: (hello) => accepted.push(hello),
  });
  const answer = (): Decide => {
    if (decide === undefined) throw new Error('nobody was asked');
    return decide;
  };
  return { exchange, said, accepted, answer, cancelled: () => cancelled };
}

function hello(verdict: 'accepted', features: string[] = []): Hello {
  return { verdict, features, lane: '', port: 0 } as unknown as Hello;
}

t.test('two nodes that trust each other need one HELLO each', (t) => {
  const { exchange, said, accepted } = rig('trusted');
  exchange.begin();
  t.same(said, ['admitted', 'send accepted']);
  t.equal(accepted.length, 0, 'the peer has said nothing yet');
  exchange.onHello(hello('accepted'));
  t.equal(accepted.length, 1);
  t.throws(() => exchange.onHello(hello('accepted')), PROTOCOL, 'a second one is a breach');
  t.end();
});

t.test('a human is asked, and both answers are told', (t) => {
  for (const isLetIn of [true, false]) {
    const { exchange, said, accepted, answer } = rig('unknown');
    exchange.begin();
    t.same(said.splice(0), ['send pending', 'pending local']);
    t.equal(exchange.waitsForHuman, true);
    exchange.onHello(hello('accepted'));
    t.equal(accepted.length, 0, 'the peer’s word is not enough');
    answer()(isLetIn ? undefined : DENIED);
    const expected = isLetIn
      ? ['admitted', 'send accepted']
      : ['send refused', 'refused ERR_PEER_UNTRUSTED'];
    t.same(said, expected);
    t.equal(accepted.length, isLetIn ? 1 : 0);
  }
  t.end();
});

t.test('a node that is denied hears so, and nothing more is asked', (t) => {
  const { exchange, said } = rig('denied');
  exchange.begin();
  t.same(said, ['send refused', 'refused ERR_PEER_UNTRUSTED']);
  t.end();
});

t.test('an end takes the question back, and a late answer is not told', (t) => {
  const { exchange, said, answer, cancelled } = rig('unknown');
  exchange.begin();
  const late = answer();
  exchange.end();
  t.equal(cancelled(), 1);
  said.splice(0);
  late(undefined);
  t.same(said, []);
  t.end();
});

t.test('what the peer may not say ends the connection', (t) => {
  const refused = rig('trusted');
  refused.exchange.begin();
  t.throws(() => refused.exchange.onHello({ verdict: 'refused' }), { code: 'ERR_PEER_UNTRUSTED' });
  const pending = rig('trusted');
  pending.exchange.begin();
  pending.exchange.onHello({ verdict: 'pending', lane: '' });
  t.equal(pending.exchange.waitsForHuman, true, 'somebody is asked there');
  t.throws(() => pending.exchange.onHello({ verdict: 'pending', lane: '' }), PROTOCOL, 'twice');
  const dialled = rig('trusted');
  dialled.exchange.begin();
  t.throws(() => dialled.exchange.onHello({ verdict: 'pending', lane: 'm' }), PROTOCOL, 'a lane');
  t.end();
});

t.test('a lane waits for the node, and needs one that takes lanes', (t) => {
  const { exchange, said } = rig('trusted', 'mount');
  exchange.begin();
  t.same(said, ['send pending'], 'an older node must not take it for the node itself');
  t.throws(() => exchange.onHello(hello('accepted')), { code: 'ERR_UNSUPPORTED' });
  const other = rig('trusted', 'mount');
  other.exchange.begin();
  t.throws(() => other.exchange.onHello({ verdict: 'pending', lane: '' }), {
    code: 'ERR_PEER_UNTRUSTED',
  });
  t.end();
});
