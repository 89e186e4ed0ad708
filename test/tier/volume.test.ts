/** What a volume is made with, what it says of itself, and what its end leaves behind. */
import t from 'tap';
import { IoStatus } from '../../common/ports.ts';
import { PAGE_MAP_BYTES_PER_PAGE } from '../../tier/page-map.ts';
import { VolumeRig } from '../helpers/volume-rig.ts';

t.test('wrong sizes are refused in one sentence', (t) => {
  const cases: { options: Record<string, number>; code: string; message: RegExp }[] = [
    { options: { sizeBytes: 0 }, code: 'ERR_VOLUME_SIZE', message: /volume size/ },
    { options: { sizeBytes: 4095 }, code: 'ERR_VOLUME_SIZE', message: /volume size/ },
    { options: { sizeBytes: 4097 }, code: 'ERR_VOLUME_SIZE', message: /volume size/ },
    { options: { sizeBytes: -4096 }, code: 'ERR_VOLUME_SIZE', message: /volume size/ },
    { options: { sizeBytes: NaN }, code: 'ERR_VOLUME_SIZE', message: /volume size/ },
    { options: { sizeBytes: 2 ** 44 }, code: 'ERR_VOLUME_SIZE', message: /volume size/ },
    { options: { ringSizeBytes: 2 ** 30 + 4096 }, code: 'ERR_VOLUME_SIZE', message: /ring size/ },
    { options: { ringSizeBytes: 2 ** 52 }, code: 'ERR_VOLUME_SIZE', message: /ring size/ },
    { options: { ringSizeBytes: NaN }, code: 'ERR_VOLUME_SIZE', message: /ring size/ },
    { options: { copies: 0 }, code: 'ERR_USAGE', message: /copies/ },
    { options: { copies: 9 }, code: 'ERR_USAGE', message: /copies/ },
    { options: { copies: 1.5 }, code: 'ERR_USAGE', message: /copies/ },
  ];
  for (const { options, code, message } of cases) {
    t.throws(() => new VolumeRig(options), { code, message }, JSON.stringify(options));
  }
  t.end();
});

t.test('a page costs at most 16 bytes of metadata', (t) => {
  t.equal(PAGE_MAP_BYTES_PER_PAGE, 13);
  t.end();
});

t.test('a volume with page numbers just below 2^32 works at its far end', async (t) => {
  const pages = 2 ** 32 - 1;
  let rig: VolumeRig;
  try {
    rig = new VolumeRig({ pages });
  } catch (error) {
    // The page map of 16 TiB is 52 GiB of address space, which this machine may refuse.
    t.match(error, { code: 'ERR_VOLUME_SIZE', message: /memory/ });
    return;
  }
  rig.write(pages - 3, 3, 50);
  await rig.advance(500);
  t.equal(rig.volume.status().ringUsedPages, 0);
  t.equal(await rig.contentAt(pages - 1), 52);
  t.equal(await rig.contentAt(pages - 3), 50);
  t.same(rig.volume.extent(pages - 3, pages), { end: pages, hole: false, zero: false });
  rig.volume.trim(pages - 3, 3);
  await rig.advance(500);
  t.equal(rig.source(0).slabs.size, 0);
  await rig.close();
});

t.test('the status counts slabs, pages, ring and providers', async (t) => {
  const rig = new VolumeRig({ pages: 4096 * 2, offers: [2 ** 30, 2 ** 30, 0], copies: 2 });
  t.match(rig.volume.status(), { sealedPages: 0, leasedSlabs: 0, ringUsedPages: 0, ringPages: 64 });
  rig.write(0, 10, 1);
  rig.write(4096, 5, 1);
  await rig.advance(500);
  rig.source(0).goDown();
  rig.source(1).goDown();
  rig.write(20, 4, 1);
  const status = rig.volume.status();
  t.match(status, { sealedPages: 19, leasedSlabs: 2, degradedSlabs: 2, ringUsedPages: 4 });
  rig.source(0).comeBack(false);
  rig.source(1).comeBack(false);
  t.equal(rig.volume.status().degradedSlabs, 0, 'providers that are back keep their promise');
  t.same(status.providers.map(({ nodeName, leasedBytes }) => [nodeName, leasedBytes]).sort(), [
    ['p0', 2 * 4096 * 4112],
    ['p1', 2 * 4096 * 4112],
  ]);
  await rig.close();
});

t.test(
  'a number of a client that left is not given to another while requests are under way',
  async (t) => {
    const rig = new VolumeRig();
    rig.write(0, 4, 1);
    await rig.advance(100);
    const told: string[] = [];
    const first = rig.volume.openQueue({ onVolumeDone: (tag) => told.push(`first ${tag}`) });
    const buffer = rig.write(9, 1, 5).buffer;
    rig.volume.read(first, 77, 2, 1, buffer, 0);
    rig.volume.closeQueue(first);
    const second = rig.volume.openQueue({ onVolumeDone: (tag) => told.push(`second ${tag}`) });
    t.not(first, second);
    await rig.advance(100);
    t.same(told, ['first 77']);
    const third = rig.volume.openQueue({ onVolumeDone: () => undefined });
    t.equal(third, first, 'afterwards the number is used again');
    await rig.close();
  },
);

t.test(
  'close ends every kind of request, gives leases and queues back, and can be called twice',
  async (t) => {
    const rig = new VolumeRig({ pages: 4096 * 3, offers: [2 ** 30, 2 ** 30] });
    rig.write(0, 40, 1);
    await rig.advance(200);
    const outcomes = [rig.read(0, 4)];
    for (const source of rig.world.sources) source.faults = { ...source.faults, noCredit: 1 };
    outcomes.push(rig.read(8, 4));
    rig.write(100, 60, 1);
    outcomes.push(rig.write(200, 60, 1), rig.write(300, 1, 1, true), rig.write(8192, 1, 1));
    outcomes.push(rig.flush());
    t.same(
      outcomes.map(({ status }) => status),
      outcomes.map(() => undefined),
    );
    const first = rig.volume.close();
    const second = rig.volume.close();
    await rig.advance(10_000);
    await Promise.all([first, second]);
    for (const { status } of outcomes) t.equal(status, IoStatus.SHUTDOWN);
    for (const source of rig.world.sources) {
      t.equal(source.slabs.size, 0);
      t.equal(source.openQueueCount, 0);
    }
    rig.volume.tick();
    t.equal(rig.write(0, 1, 1).status, IoStatus.SHUTDOWN);
  },
);
