import t from 'tap';
import type { DirectDeviceInfo, DirectExportInfo } from '../../../common/rpc-schema.ts';
import { directUse } from '../../../daemon/direct/peer-use.ts';

const PEER = 'ab'.repeat(16);
const OTHER = 'cd'.repeat(16);

function device(nodeId: string, state: string): DirectDeviceInfo {
  const leg = { device: '/dev/nbd0', nodeId, name: 'x', state, connection: 'tls' as const };
  return {
    device: '/dev/dm-0',
    sizeBytes: 4096,
    copies: 1,
    health: 'ok',
    managed: false,
    legs: [leg],
  };
}

function held(holder: string, residentBytes: number, connected: boolean): DirectExportInfo {
  return { exportId: '01', holder, sizeBytes: 2 ** 30, residentBytes, connected };
}

t.test('a peer that swap needs, on either side, is not to be disconnected', async (t) => {
  const cases: [string, DirectDeviceInfo[], DirectExportInfo[], RegExp | undefined][] = [
    ['nothing', [], [], undefined],
    ['others', [device(OTHER, 'live')], [held(OTHER, 4096, true)], undefined],
    ['our swap', [device(PEER, 'live')], [], /^pages of this machine lie there \(\/dev\/dm-0\)/],
    ['our swap that mends', [device(PEER, 'reconnecting')], [], /swap move/],
    ['our swap that is lost already', [device(PEER, 'lost')], [], undefined],
    ['its swap', [], [held(PEER, 8 * 2 ** 20, true)], /^8 MiB of its swap lie here/],
    ['its swap, cut off for the moment', [], [held(PEER, 4096, false)], /would be wiped/],
    ['an export that is empty and left', [], [held(PEER, 0, false)], undefined],
    ['both', [device(PEER, 'live')], [held(PEER, 0, true)], /lie there .*; .* lie here/],
  ];
  for (const [name, devices, exports, expected] of cases) {
    const found = directUse(PEER, devices, exports);
    if (expected === undefined) t.equal(found, undefined, name);
    else t.match(found, expected, name);
  }
});
