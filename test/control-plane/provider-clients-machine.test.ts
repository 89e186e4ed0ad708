/** Who is let in, and until when. */
import t from 'tap';
import { ProviderClients } from '../../control-plane/provider-clients-machine.ts';

const A = 'a'.repeat(32);
const B = 'b'.repeat(32);
const KEY = new Uint8Array(32);

t.test('a client that presents nothing is due when its time is over', async (t) => {
  const clients = new ProviderClients();
  t.equal(clients.admit(A, KEY, 1000, 100), true);
  t.equal(clients.keyOf(A), KEY);
  t.strictSame(clients.due(1099), []);
  clients.admit(A, KEY, 500, 200);
  t.strictSame(clients.due(1099), [], 'never earlier than it was');
  t.strictSame(clients.due(1100), [A]);
  t.strictSame(clients.due(1100), [A], 'until it is dismissed');
  clients.forget(A);
  t.strictSame(clients.due(9999), []);
  t.equal(clients.keyOf(A), undefined);
});

t.test('a client with leases stays, and a minute after the last', async (t) => {
  const clients = new ProviderClients();
  clients.admit(A, KEY, 1000, 0);
  clients.begin('1', A, KEY);
  clients.begin('2', A, KEY);
  clients.begin('3', B, KEY);
  t.strictSame(
    [clients.leaseCount, clients.clientOf('1'), clients.clientOf('9')],
    [3, A, undefined],
  );
  t.equal(clients.hasLeases(B), true, 'one that was not admitted, for it is trusted');
  clients.end('1', 5000);
  t.strictSame(clients.due(900_000), []);
  clients.end('2', 10_000);
  clients.end('2', 90_000);
  t.equal(clients.hasLeases(A), false);
  t.strictSame(clients.due(69_999), []);
  t.strictSame(clients.due(70_000), [A]);
  t.equal(clients.leaseCount, 1);
});

t.test('there is a most', async (t) => {
  const clients = new ProviderClients();
  for (let n = 0; n < 4096; n += 1) clients.admit(`${n}`, KEY, 1000, 0);
  t.equal(clients.admit('one more', KEY, 1000, 0), false);
  t.equal(clients.admit('7', KEY, 1000, 0), true);
});
