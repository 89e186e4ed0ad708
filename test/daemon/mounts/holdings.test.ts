import t from 'tap';
import type { SlabSource, SlabSources } from '../../../common/ports.ts';
import type { MountInfo } from '../../../common/rpc-schema.ts';
import { mountHoldings } from '../../../daemon/mounts/holdings.ts';

function source(nodeId: string, change: Partial<SlabSource> = {}): SlabSource {
  const usage = { offeredBytes: 100, usedBytes: 30, residentBytes: 0, leaseCount: 0 };
  const state = { up: true, accepting: true, quarantineReason: undefined };
  return { nodeId, nodeName: nodeId, hostId: '', usage, ...state, ...change } as SlabSource;
}

function mount(volume: string, copies: number, leased: Record<string, number>): MountInfo {
  const providers = Object.entries(leased).map(([name, leasedBytes]) => {
    return { name, up: true, leasedBytes };
  });
  return { volume, copies, providers } as unknown as MountInfo;
}

t.test('a mount holds what it says, and can go where slabs are taken', async (t) => {
  const sources: SlabSources = {
    list: () => [source('a'), source('b'), source('c', { accepting: false })],
  };
  const mounts = [mount('one', 1, { a: 7, b: 2 }), mount('two', 2, { b: 4 })];
  const candidates = [{ nodeId: 'b', hostId: '', freeBytes: 70 }];
  t.same(mountHoldings(mounts, { nodeId: 'a', nodeName: 'a' }, sources), [
    { name: 'one', copies: 1, heldBytes: 7, candidates },
    { name: 'two', copies: 2, heldBytes: 0, candidates },
  ]);
});
