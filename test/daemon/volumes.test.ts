import t from 'tap';
import { createLogger } from '../../common/log.ts';
import type { BlockDevice, SlabSource } from '../../common/ports.ts';
import {
  Volumes,
  type AttachRequest,
  type Attachment,
  type ExportService,
  type VolumeParts,
  type VolumeRequest,
} from '../../daemon/volumes.ts';
import type { Volume } from '../../tier/volume.ts';

const REQUEST: VolumeRequest = {
  name: 'v',
  sizeBytes: 8192,
  copies: 1,
  ringSizeBytes: 4096,
  providers: undefined,
  overcommit: false,
};
const SERVE = { address: { unixPath: '/nowhere' }, readOnly: false };
const ATTACH: AttachRequest = { connections: 1, via: 'netlink', timeoutS: 0 };

function source(nodeId: string, change: Partial<SlabSource> = {}): SlabSource {
  const usage = { offeredBytes: 100, usedBytes: 40, residentBytes: 0, leaseCount: 1 };
  const place = { hostId: `host-${nodeId}`, up: true, accepting: true };
  return { nodeId, usage, ...place, ...change } as unknown as SlabSource;
}

const SOURCES = [
  source('id'),
  source('free'),
  source('down', { up: false }),
  source('drained', { accepting: false }),
  source('liar', { quarantineReason: 'a tag failed' }),
];

interface World {
  volumes: Volumes;
  log: string[];
  lostPages: { value: number };
  populated: { count: number };
  /** Called while a server or device is being made. */
  meanwhile: { run: () => Promise<unknown> };
}

/** Volumes over parts that only note what is done with them. */
function world(): World {
  const log: string[] = [];
  const lostPages = { value: 0 };
  const populated = { count: 0 };
  const meanwhile = { run: (): Promise<unknown> => Promise.resolve() };
  const parts: VolumeParts = {
    createVolume: (options) => {
      const status = {
        sealedPages: 2,
        leasedSlabs: 1,
        degradedSlabs: 0,
        ringUsedPages: 0,
        ringPages: 64,
        ringLocked: true,
        providers: [
          {
            nodeId: 'id',
            nodeName: 'alpha',
            leasedBytes: 10,
            leaseEndsInMs: 1234.5,
            leaseTtlMs: 2000,
          },
        ],
      };
      const volume = {
        options,
        counters: {
          get lostPages() {
            return lostPages.value;
          },
        },
        status: () => status,
        tick: () => log.push('tick'),
        populate: () => (populated.count += 1),
        evacuate: ({ nodeId }: SlabSource) => log.push(`leave ${nodeId}`),
        close: async () => log.push('volume closed'),
      };
      return volume as unknown as Volume;
    },
    sourcesFor: () => ({ list: () => SOURCES }),
    createDevice: (volume) => ({ name: volume.options.name }) as unknown as BlockDevice,
    serve: async (): Promise<ExportService> => {
      await meanwhile.run();
      const close = async (): Promise<void> => void log.push('server closed');
      return { uri: 'nbd://x/v', close } as unknown as ExportService;
    },
    attach: async (): Promise<Attachment> => {
      await meanwhile.run();
      const info = { device: '/dev/nbd0', volume: 'v', connections: 1, via: 'netlink' };
      const detach = async (): Promise<void> => void log.push('detached');
      return { info, detach } as unknown as Attachment;
    },
  };
  return {
    volumes: new Volumes(parts, createLogger('silent')),
    log,
    lostPages,
    populated,
    meanwhile,
  };
}

t.test('a volume is described by what it is and where it is used', async (t) => {
  const { volumes, lostPages } = world();
  t.match(volumes.create(REQUEST), {
    name: 'v',
    sizeBytes: 8192,
    copies: 1,
    storedBytes: 8192,
    leasedBytes: 10,
    health: 'ok',
    servedAt: [],
    devices: [],
  });
  t.throws(() => volumes.create(REQUEST), { code: 'ERR_VOLUME_EXISTS' });
  t.equal(await volumes.serve('v', SERVE), 'nbd://x/v');
  await volumes.attach('v', ATTACH);
  lostPages.value = 1;
  t.match(volumes.list(), [{ servedAt: ['nbd://x/v'], devices: ['/dev/nbd0'], health: 'lost' }]);
  const { providers, ring } = volumes.inspect('v');
  const share = { nodeId: 'id', name: 'alpha', leasedBytes: 10, leaseTtlMs: 2000 };
  t.strictSame(providers, [{ ...share, leaseEndsInMs: 1235 }], 'whole milliseconds');
  t.equal(ring.size, 64);
  t.match(volumes.attachments(), [{ device: '/dev/nbd0' }]);
});

t.test('names that are not there', async (t) => {
  const { volumes } = world();
  const unknown = { code: 'ERR_VOLUME_UNKNOWN', message: /no volume w; there are: none/ };
  t.throws(() => volumes.inspect('w'), unknown);
  await t.rejects(volumes.remove('w', true), unknown);
  await t.rejects(volumes.serve('w', SERVE), unknown);
  await t.rejects(volumes.stopServing('w'), unknown);
  await t.rejects(volumes.attach('w', ATTACH), unknown);
  await t.rejects(volumes.detach('/dev/nbd0'), { code: 'ERR_NBD_ATTACH' });
});

t.test('a busy volume is removed by force only, device first, pages last', async (t) => {
  const { volumes, log, populated } = world();
  volumes.create(REQUEST);
  await volumes.serve('v', SERVE);
  await volumes.attach('v', ATTACH);
  await t.rejects(volumes.remove('v', false), { code: 'ERR_VOLUME_BUSY' });
  t.same(log, []);
  t.equal(populated.count, 1, 'the ring has all its memory once the kernel has the device');
  await volumes.remove('v', true);
  t.same(log, ['detached', 'server closed', 'volume closed']);
  t.same(volumes.list(), []);
});

t.test('a volume is free again when its server stopped and its device was detached', async (t) => {
  const { volumes, log } = world();
  volumes.create(REQUEST);
  await volumes.serve('v', SERVE);
  await volumes.attach('v', ATTACH);
  await volumes.stopServing('v');
  await volumes.stopServing('v');
  await volumes.detach('/dev/nbd0');
  await volumes.remove('v', false);
  t.same(log, ['server closed', 'detached', 'volume closed']);
});

t.test('what was being made while the volume was removed is undone', async (t) => {
  for (const what of ['serve', 'attach'] as const) {
    const { volumes, log, meanwhile } = world();
    volumes.create(REQUEST);
    meanwhile.run = () => volumes.remove('v', true);
    const making: Promise<unknown> =
      what === 'serve' ? volumes.serve('v', SERVE) : volumes.attach('v', ATTACH);
    await t.rejects(making, { code: 'ERR_CANCELLED', message: /was removed meanwhile/ });
    t.same(log, ['volume closed', what === 'serve' ? 'server closed' : 'detached']);
  }
});

t.test('two removals at once close once', async (t) => {
  const { volumes, log } = world();
  volumes.create(REQUEST);
  const [first, second] = await Promise.allSettled([
    volumes.remove('v', true),
    volumes.remove('v', true),
  ]);
  t.match([first.status, second.status], ['fulfilled', 'rejected']);
  t.same(log, ['volume closed']);
});

t.test('close ends everything and tick reaches each volume', async (t) => {
  const { volumes, log } = world();
  volumes.create(REQUEST);
  volumes.create({ ...REQUEST, name: 'w' });
  volumes.tick();
  await volumes.close();
  t.same(log, ['tick', 'tick', 'volume closed', 'volume closed']);
});

t.test('what a volume has on a provider can go to those that take slabs now', async (t) => {
  const { volumes, log } = world();
  volumes.create(REQUEST);
  const candidates = [{ nodeId: 'free', hostId: 'host-free', freeBytes: 60 }];
  t.same(volumes.holdingsOn('id'), [{ name: 'v', copies: 1, heldBytes: 10, candidates }]);
  t.match(volumes.holdingsOn('free'), [{ heldBytes: 0, candidates: [{ nodeId: 'id' }] }]);
  volumes.evacuate('free');
  volumes.evacuate('unknown');
  t.same(log, [], 'nothing is there');
  volumes.evacuate('id');
  t.same(log, ['leave id']);
});
