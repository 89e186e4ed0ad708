/** The way to a peer in words. */
import t from 'tap';
import type { DirectDeviceInfo } from '../../../common/rpc-schema.ts';
import { pathTo } from '../../../daemon/peers/path.ts';

const ALPHA = 'a'.repeat(32);
const BETA = 'b'.repeat(32);
const SESSION = 'session over TCP to 10.0.0.2:7070, ChaCha20-Poly1305';

function device(
  name: string,
  legs: [string, string, 'tls' | 'wireguard' | 'plain'][],
): DirectDeviceInfo {
  return {
    ...{ device: name, sizeBytes: 4096, copies: legs.length, health: 'ok', managed: false },
    legs: legs.map(([nodeId, state, connection]) => ({
      ...{ device: '/dev/nbd0', nodeId, name: 'x', state, connection },
    })),
  };
}

t.test('session, tunnel, and direct devices of this peer alone', async (t) => {
  const at = { nodeId: ALPHA, address: '10.0.0.2:7070', wireGuard: undefined };
  const cases: [Parameters<typeof pathTo>[0], string][] = [
    [{ ...at, devices: [] }, SESSION],
    [{ ...at, wireGuard: 'wg0', devices: [] }, `${SESSION}, inside WireGuard (wg0)`],
    [
      { ...at, devices: [device('/dev/dm-0', [[ALPHA, 'live', 'tls']])] },
      `${SESSION}; direct swap on /dev/dm-0 by kernel TLS`,
    ],
    [{ ...at, devices: [device('/dev/dm-0', [[BETA, 'live', 'tls']])] }, SESSION],
    [{ ...at, devices: [device('/dev/dm-0', [[ALPHA, 'lost', 'tls']])] }, SESSION],
    [
      {
        ...{ ...at, wireGuard: 'wg0' },
        devices: [
          device('/dev/md7', [
            [BETA, 'live', 'tls'],
            [ALPHA, 'reconnecting', 'wireguard'],
          ]),
          device('/dev/dm-3', [[ALPHA, 'live', 'plain']]),
        ],
      },
      `${SESSION}, inside WireGuard (wg0); direct swap on /dev/md7 by WireGuard; ` +
        'direct swap on /dev/dm-3 by bare TCP, unprotected',
    ],
  ];
  for (const [parts, words] of cases) t.equal(pathTo(parts), words);
});
