/** A volume goes on in another process: the same pages, versions, leases; nothing but sound images. */
import t from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import { NativeMemory } from '../../common/native-memory.ts';
import { IoStatus } from '../../common/ports.ts';
import { PAGE_SIZE_BYTES, SLAB_PAGE_COUNT, VOLUME_SECRETS_SIZE_BYTES } from '../../common/units.ts';
import { decodeVolumeImage } from '../../tier/volume-image.ts';
import { VOLUME_TICK_MS, Volume } from '../../tier/volume.ts';
import { Random } from '../helpers/fuzz.ts';
import { VolumeRig, contentOf, fillContent } from '../helpers/volume-rig.ts';

interface Taken {
  image: NativeMemory;
  bytes: Buffer;
  secrets: Buffer;
}

/** What a frozen volume leaves behind. */
function take(volume: Volume): Taken {
  volume.freeze();
  const capture = volume.capture();
  const image = new NativeMemory(capture.sizeBytes);
  capture.writeTo({ bytes: image.bytes.subarray(0, capture.sizeBytes), address: image.address });
  const secrets = Buffer.alloc(VOLUME_SECRETS_SIZE_BYTES);
  volume.exportSecrets(secrets);
  return { image, bytes: image.bytes.subarray(0, capture.sizeBytes), secrets };
}

function decode({ image, bytes }: Taken): ReturnType<typeof decodeVolumeImage> {
  return decodeVolumeImage({ bytes, address: image.address });
}

/** A client of the volume that came out of an image. */
class Successor {
  readonly volume: Volume;
  readonly #rig: VolumeRig;
  readonly #queue: number;
  readonly #ends = new Map<number, number>();
  #tag = 0;

  constructor(rig: VolumeRig, taken: Taken) {
    this.#rig = rig;
    this.volume = Volume.fromImage(
      decode(taken),
      taken.secrets,
      rig.world.volumeWorld,
      (nodeId) => {
        const found = rig.world.sources.find((source) => source.nodeId === nodeId);
        if (found === undefined) throw new Error(`no provider ${nodeId}`);
        return found;
      },
    );
    this.#queue = this.volume.openQueue({
      onVolumeDone: (tag, status) => this.#ends.set(tag, status),
    });
    const tick = (): void => {
      this.volume.tick();
      rig.world.after(VOLUME_TICK_MS, tick);
    };
    rig.world.after(VOLUME_TICK_MS, tick);
  }

  async #ended(): Promise<number> {
    for (let ms = 0; !this.#ends.has(this.#tag) && ms < 20_000; ms += 100) {
      await this.#rig.advance(100);
    }
    return this.#ends.get(this.#tag) ?? 1000;
  }

  async contentAt(page: number): Promise<number> {
    const buffer = new NativeMemory(PAGE_SIZE_BYTES);
    this.#tag += 1;
    this.volume.read(this.#queue, this.#tag, page, 1, buffer, 0);
    const status = await this.#ended();
    return status === IoStatus.OK ? contentOf(buffer, 0) : -status;
  }

  async write(page: number, content: number): Promise<number> {
    const buffer = new NativeMemory(PAGE_SIZE_BYTES);
    fillContent(buffer, 0, content);
    this.#tag += 1;
    this.volume.write(this.#queue, this.#tag, page, 1, buffer, 0, false);
    return this.#ended();
  }

  async flush(): Promise<number> {
    this.#tag += 1;
    this.volume.flush(this.#queue, this.#tag);
    return this.#ended();
  }
}

t.test('every page, wherever it was, is there in the successor', async (t) => {
  const rig = new VolumeRig({
    pages: SLAB_PAGE_COUNT * 3 + 5,
    copies: 2,
    offers: [2 ** 30, 2 ** 30],
  });
  rig.write(0, 20, 100);
  rig.write(SLAB_PAGE_COUNT * 3, 5, 500);
  await rig.advance(1000);
  rig.volume.zero(7, 1);
  rig.volume.trim(8, 1);
  const word = new NativeMemory(PAGE_SIZE_BYTES);
  word.bytes.fill(0x5a);
  t.ok(rig.volume.tryWrite(9, 1, word, 0), 'a same-filled page');
  await rig.advance(1000);
  // These stay in the ring: nobody takes them before the image is made.
  rig.source(0).up = false;
  rig.source(1).up = false;
  rig.write(3, 2, 900);
  rig.write(30, 2, 930);
  const before = { ...rig.volume.counters };
  const taken = take(rig.volume);
  t.equal(decode(taken).ringPages.join(), '3,4,30,31', 'what was not on the providers');
  rig.volume.abandon();
  rig.source(0).up = true;
  rig.source(1).up = true;

  const successor = new Successor(rig, taken);
  t.ok(taken.secrets.equals(Buffer.alloc(VOLUME_SECRETS_SIZE_BYTES)), 'the key was zeroed');
  t.same({ ...successor.volume.counters }, before, 'counters go on');
  t.equal(await successor.contentAt(3), 900, 'from the ring, frozen as it is');
  successor.volume.thaw();
  const expected = [100, 101, 102, 900, 901, 105, 106, 0, 0, undefined, 110];
  for (const [page, content] of expected.entries()) {
    if (content !== undefined) t.equal(await successor.contentAt(page), content, `page ${page}`);
  }
  t.equal(await successor.contentAt(31), 931);
  t.equal(await successor.contentAt(SLAB_PAGE_COUNT * 3 + 4), 504, 'the last, short slab');
  t.equal(await successor.contentAt(1000), 0, 'never written');
  t.equal(await successor.flush(), IoStatus.OK, 'the ring drains');
  t.equal(successor.volume.status().ringUsedPages, 0);
  t.equal(successor.volume.counters.forgedPages + successor.volume.counters.lostPages, 0);
  const { leasedSlabs, sealedPages } = successor.volume.status();
  t.equal(leasedSlabs, 2);
  t.equal(sealedPages, 17 + 2 + 5);

  t.equal(await successor.write(3, 77), IoStatus.OK);
  t.equal(await successor.flush(), IoStatus.OK);
  t.equal(await successor.contentAt(3), 77, 'it goes on');
});

t.test(
  'a successor that never confirmed changes nothing: thawed, the volume goes on',
  async (t) => {
    const rig = new VolumeRig({ pages: 64 });
    rig.write(0, 8, 50);
    await rig.advance(500);
    rig.source(0).up = false;
    rig.write(0, 8, 100);
    const taken = take(rig.volume);
    rig.source(0).up = true;
    await rig.advance(2000);
    t.equal(rig.volume.status().ringUsedPages, 8, 'frozen, nothing is sent');
    t.ok(decode(taken).ringPages.length === 8);
    rig.volume.thaw();
    await rig.advance(2000);
    t.equal(rig.volume.status().ringUsedPages, 0);
    for (let page = 0; page < 8; page += 1) t.equal(await rig.contentAt(page), 100 + page);
    await rig.close();
  },
);

t.test('frozen, a volume is idle once its providers have answered', async (t) => {
  const rig = new VolumeRig({ pages: 64 });
  rig.write(0, 1, 5);
  await rig.advance(100);
  rig.write(0, 8, 100);
  await rig.world.settle();
  rig.volume.freeze();
  t.equal(rig.volume.idle, false, 'writes are on their way');
  await rig.advance(100);
  t.equal(rig.volume.idle, true);
  await rig.close();
});

t.test('versions go on from where they were, beyond 2^32 too', async (t) => {
  const rig = new VolumeRig({ pages: 16, firstVersion: 2 ** 32 + 5 });
  rig.write(0, 3, 40);
  await rig.advance(500);
  const taken = take(rig.volume);
  t.equal(decode(taken).version, 2 ** 32 + 8);
  rig.volume.abandon();
  const successor = new Successor(rig, taken);
  successor.volume.thaw();
  t.equal(await successor.contentAt(2), 42);
});

t.test('what is cut, stretched or changed gives a sound image or ERR_HANDOVER', async (t) => {
  const rig = new VolumeRig({ pages: 40, copies: 2, offers: [2 ** 30, 2 ** 30] });
  rig.write(0, 20, 100);
  await rig.advance(1000);
  rig.source(0).up = false;
  rig.source(1).up = false;
  rig.write(3, 2, 900);
  const { bytes } = take(rig.volume);
  const attempt = (changed: Buffer): string => {
    const memory = new NativeMemory(Math.max(1, changed.length));
    memory.bytes.set(changed);
    try {
      decodeVolumeImage({
        bytes: memory.bytes.subarray(0, changed.length),
        address: memory.address,
      });
      return 'sound';
    } catch (error) {
      return error instanceof MemcloudError ? error.code : String(error);
    } finally {
      memory.free();
    }
  };
  t.equal(attempt(bytes), 'sound');
  for (let length = 0; length < bytes.length; length += 7) {
    if (attempt(bytes.subarray(0, length)) !== 'ERR_HANDOVER') t.fail(`cut to ${length} bytes`);
  }
  const random = new Random(Number(process.env['SEED'] ?? 1));
  const counts = new Map<string, number>();
  // Most bytes of an image are sealed pages, of which any are sound: the head is changed more often.
  const head = bytes.length - 2 * (PAGE_SIZE_BYTES + 16);
  for (let index = 0; index < 20_000; index += 1) {
    const changed = Buffer.concat([random.mutate(bytes.subarray(0, head)), bytes.subarray(head)]);
    const outcome = attempt(changed);
    counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
  }
  t.comment(Object.fromEntries(counts));
  counts.delete('sound');
  t.same([...counts.keys()], ['ERR_HANDOVER']);
});

t.test('another format is refused by name', (t) => {
  const rig = new VolumeRig({ pages: 4 });
  const taken = take(rig.volume);
  taken.bytes.writeUInt32LE(1, 4);
  t.throws(() => decode(taken), { code: 'ERR_HANDOVER', message: /expected format 2, got 1/ });
  t.end();
});

t.test('a copy that is behind catches up in the successor, with what it missed', async (t) => {
  const rig = new VolumeRig({ pages: 4096, copies: 2, offers: [2 ** 30, 2 ** 30] });
  rig.write(0, 40, 1);
  await rig.advance(500);
  rig.source(0).goDown();
  rig.write(10, 4, 700);
  await rig.advance(500);
  t.equal(rig.volume.status().ringUsedPages, 0);
  const written = rig.source(0).pagesWritten;
  const taken = take(rig.volume);
  rig.volume.abandon();
  const successor = new Successor(rig, taken);
  successor.volume.thaw();
  rig.source(0).comeBack(false);
  await rig.advance(2_000);
  t.equal(successor.volume.status().degradedSlabs, 0);
  t.equal(rig.source(0).pagesWritten - written, 4);
  rig.source(1).goDown();
  t.equal(await successor.contentAt(12), 702);
  t.equal(await successor.contentAt(9), 10);
});
