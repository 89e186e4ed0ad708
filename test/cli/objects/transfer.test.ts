/** Values in pieces, against a holder in memory that answers late and out of order. */
import t from 'tap';
import { MemcloudError } from '../../../common/errors.ts';
import type { ObjectRow } from '../../../common/rpc-objects.ts';
import type { RpcMethod, RpcParams, RpcResults } from '../../../common/rpc-schema.ts';
import { download } from '../../../cli/objects/download.ts';
import { upload } from '../../../cli/objects/upload.ts';
import type { Caller } from '../../../sdk/client.ts';

const PIECE = 48 * 1024;

function row(value: Uint8Array, version: number): ObjectRow {
  return {
    ...{
      key: 'k',
      id: null,
      holder: 'h'.repeat(32),
      holderName: 'alpha',
      owner: 'o',
      mode: 'pinned',
    },
    ...{ sizeBytes: value.length, version, readers: 'trusted', expiresInMs: null },
    meta: new Uint8Array(),
  };
}

/** A holder with room for one value. */
class Holder implements Caller {
  value: Buffer = Buffer.alloc(0);
  version = 1;
  coming: Buffer | undefined;
  underWay = 0;
  mostUnderWay = 0;
  readonly methods: string[] = [];
  /** Called before each answer; throws instead of one. */
  beforeAnswer: (method: RpcMethod, params: Record<string, unknown>) => void = () => undefined;

  async call<M extends RpcMethod>(method: M, params: RpcParams<M>): Promise<RpcResults[M]> {
    this.methods.push(method);
    this.underWay += 1;
    this.mostUnderWay = Math.max(this.mostUnderWay, this.underWay);
    try {
      this.beforeAnswer(method, params);
      const result = this.#answer(method, params as Record<string, never>);
      await new Promise(setImmediate);
      return result as RpcResults[M];
    } finally {
      this.underWay -= 1;
    }
  }

  #answer(method: RpcMethod, params: Record<string, never>): unknown {
    const {
      data,
      offset = 0,
      length = PIECE,
      ifVersion,
    } = params as {
      data?: Buffer;
      offset?: number;
      length?: number;
      ifVersion?: number;
    };
    switch (method) {
      case 'object.put':
        this.value = Buffer.from(data ?? []);
        return row(this.value, this.version);
      case 'object.begin':
        this.coming = Buffer.alloc(0);
        return { upload: '7', holder: 'h', holderName: 'alpha' };
      case 'object.append':
        if (offset !== this.coming?.length) throw new MemcloudError('ERR_USAGE', 'a gap');
        this.coming = Buffer.concat([this.coming, data ?? Buffer.alloc(0)]);
        return { offset: this.coming.length };
      case 'object.commit':
        this.value = this.coming ?? this.value;
        this.coming = undefined;
        return row(this.value, this.version);
      case 'object.abort':
        this.coming = undefined;
        return null;
      case 'object.get':
        if (ifVersion !== undefined && ifVersion !== this.version) {
          throw new MemcloudError('ERR_OBJECT_CONFLICT', 'another version');
        }
        return {
          found: true,
          object: row(this.value, this.version),
          data: this.value.subarray(offset, offset + length),
        };
      default:
        throw new Error(method);
    }
  }
}

function bytesOf(length: number): Buffer {
  return Buffer.from(Array.from({ length }, (_, index) => (index * 31 + (index >> 8)) & 255));
}

async function* chunks(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size)
    yield await Promise.resolve(bytes.subarray(at, at + size));
}

async function all(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of source) parts.push(part);
  return Buffer.concat(parts);
}

t.test('a stream is cut at the same places however it arrives', async (t) => {
  const bytes = bytesOf(3 * PIECE + 5);
  for (const size of [7_001, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 1, bytes.length]) {
    const holder = new Holder();
    const lengths: number[] = [];
    holder.beforeAnswer = (method, { data }) => {
      if (method === 'object.append') lengths.push((data as Buffer).length);
    };
    await upload(holder, chunks(bytes, size), {});
    t.same(lengths, [PIECE, PIECE, PIECE, 5], `chunks of ${size}`);
    t.ok(holder.value.equals(bytes), 'pieces stay what they were while later ones come');
  }
});

t.test('up and down again, at each size around a piece', async (t) => {
  for (const length of [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 40 * PIECE + 5]) {
    const holder = new Holder();
    const bytes = bytesOf(length);
    const object = await upload(holder, chunks(bytes, 10_000), {});
    t.equal(object.sizeBytes, length);
    t.equal(holder.methods.includes('object.begin'), length > PIECE, `${length}: pieces or not`);
    const found = await download(holder, { key: 'k' });
    t.equal(found.sizeBytes, length);
    t.ok((await all(found.bytes)).equals(bytes), `${length} bytes`);
    t.ok(holder.mostUnderWay <= 8, 'a window bounds what is under way');
  }
});

t.test('many pieces are under way at once', async (t) => {
  const holder = new Holder();
  await upload(holder, chunks(bytesOf(60 * PIECE), PIECE), {});
  t.equal(holder.mostUnderWay, 8);
  holder.mostUnderWay = 0;
  await all((await download(holder, { key: 'k' })).bytes);
  t.equal(holder.mostUnderWay, 8);
});

t.test('a part of a value is that part', async (t) => {
  const holder = new Holder();
  holder.value = bytesOf(3 * PIECE);
  const cases: [number | undefined, number | undefined][] = [
    [0, 1],
    [PIECE - 1, 2],
    [5, PIECE + 5],
    [2 * PIECE, undefined],
    [3 * PIECE, undefined],
    [4 * PIECE, 9],
    [undefined, 2 * PIECE + 1],
  ];
  for (const [offset, length] of cases) {
    const { bytes } = await download(holder, { key: 'k' }, { range: { offset, length } });
    const from = offset ?? 0;
    const expected = holder.value.subarray(from, from + (length ?? Infinity));
    t.ok((await all(bytes)).equals(expected), `${offset} ${length}`);
  }
});

t.test('a value that is replaced while it is read ends the read', async (t) => {
  const holder = new Holder();
  holder.value = bytesOf(30 * PIECE);
  const { bytes } = await download(holder, { key: 'k' });
  const reading = (async () => {
    for await (const piece of bytes) if (piece.length > 0) holder.version = 2;
  })();
  await t.rejects(reading, { code: 'ERR_OBJECT_CONFLICT' });
});

t.test('a piece that is refused fails the upload, and its room is given back', async (t) => {
  const holder = new Holder();
  holder.beforeAnswer = (method, { offset }) => {
    if (method !== 'object.append' || offset !== 5 * PIECE) return;
    throw new MemcloudError('ERR_LEASE_CAPACITY', 'full');
  };
  const failed = upload(holder, chunks(bytesOf(40 * PIECE), PIECE), {});
  await t.rejects(failed, { code: 'ERR_LEASE_CAPACITY' });
  t.equal(holder.methods.at(-1), 'object.abort');
  t.notOk(holder.methods.includes('object.commit'));
  t.equal(holder.coming, undefined);
});

t.test('an interrupted upload stores nothing and gives its room back', async (t) => {
  const holder = new Holder();
  const controller = new AbortController();
  async function* endless(): AsyncGenerator<Buffer> {
    for (;;) {
      await new Promise(setImmediate);
      if (holder.methods.length > 20) controller.abort();
      yield Buffer.alloc(PIECE);
    }
  }
  const { signal } = controller;
  await t.rejects(upload(holder, endless(), {}, { signal }), { code: 'ERR_CANCELLED' });
  t.equal(holder.methods.at(-1), 'object.abort');
  t.notOk(holder.methods.includes('object.commit'));
});

t.test('a miss is an error that names what was asked for', async (t) => {
  const caller: Caller = {
    call: () => Promise.resolve({ found: false, object: null, data: Buffer.alloc(0) } as never),
  };
  await t.rejects(download(caller, { key: 'a\u001bb' }), {
    code: 'ERR_OBJECT_UNKNOWN',
    message: /"a\\u001bb"/,
  });
  await t.rejects(download(caller, { id: '12' }), { message: /block 12 on its holder/ });
});
