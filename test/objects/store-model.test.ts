/**
 * The store against a naive twin of a Map, under any order of puts, reads, uploads, deletions, evictions,
 * time, drains, short machines and revocations, by three nodes. A read gives the bytes of the last write
 * that was acknowledged, or a miss where that is due; never other bytes. After each step what is charged is
 * the sum over the objects and uploads; a write that is refused for want of room was right to be, and evicted
 * nothing; at the end everything is wiped and given back.
 *
 * SEED=n repeats a run; FUZZ_SECONDS=n lengthens it.
 */
import assert from 'node:assert/strict';
import t from 'tap';
import { isErrorCode, MemcloudError } from '../../common/errors.ts';
import type { ObjectInfo, ObjectName, ObjectOptions, ObjectReaders } from '../../common/objects.ts';
import type { LocalHolder } from '../../objects/holder.ts';
import { fuzz, type Random } from '../helpers/fuzz.ts';
import { ANNA, BERT, CARL, makeStore, type ObjectRig } from '../helpers/object-rig.ts';

const STEPS = 500;
const NODES = [ANNA, BERT, CARL];
const KEYS = ['a', 'a/b', 'a/c', 'b', 'ba', 'log/1', 'log/2', 'ü', '€uro', '😀', 'z*', 'z?'];
const SIZES = [0, 1, 63, 64, 65, 100, 1000, 1024, 4095, 4096, 5000, 20_000, 49_152];
const KIB = 1024;

interface TwinObject {
  owner: string;
  bytes: Buffer;
  meta: Buffer;
  version: number;
  readers: ObjectReaders;
  mode: string;
  endMs: number;
}

interface TwinUpload {
  id: string;
  owner: string;
  key: string | undefined;
  options: ObjectOptions;
  bytes: Buffer;
  lastMs: number;
}

/** Slots as the documentation says: powers of two and the quarters between, from 64 B to 64 KiB. */
function slotted(bytes: number): number {
  if (bytes > 65_536) {
    const rest = bytes % 65_536;
    const pieces = Math.ceil(bytes / 65_536);
    return bytes - rest + slotted(rest) + 256 + 8 * pieces;
  }
  if (bytes === 0) return 0;
  for (let power = 64; ; power *= 2) {
    for (const size of [power, power * 1.25, power * 1.5, power * 1.75]) {
      if (bytes <= size) return size;
    }
  }
}

function charge(name: string, readers: ObjectReaders, stored: number): number {
  const isBlock = /^[0-9]{10,}$/.test(name);
  const isWide = Array.from(name).some((character) => character.codePointAt(0)! > 0xff);
  const nameBytes = isBlock ? 0 : name.length * (isWide ? 2 : 1);
  const list = typeof readers === 'string' ? 0 : 128 + 384 * new Set(readers).size;
  return 256 + nameBytes + list + slotted(stored);
}

const chargeOf = (name: string, object: TwinObject): number =>
  charge(name, object.readers, object.bytes.length + object.meta.length);

class Run {
  readonly #random: Random;
  readonly #rig: ObjectRig;
  readonly #holders: Map<string, LocalHolder>;
  readonly #objects = new Map<string, TwinObject>();
  readonly #lastVersions = new Map<string, number>();
  readonly #uploads: TwinUpload[] = [];
  #evictedCount = 0;

  constructor(random: Random) {
    this.#random = random;
    this.#rig = makeStore((node) => node !== CARL, random.below(2 ** 30));
    const { anna, bert, carl } = this.#rig;
    this.#holders = new Map([
      [ANNA, anna],
      [BERT, bert],
      [CARL, carl],
    ]);
    this.#rig.memory.allowedBytes = 300 * KIB;
    this.#rig.memory.offeredBytes = 600 * KIB;
  }

  all(): void {
    try {
      for (let step = 0; step < STEPS; step += 1) this.#step();
      for (const upload of this.#uploads.splice(0)) this.#holder(upload.owner).abort(upload.id);
      for (const holder of this.#holders.values()) holder.flush();
      assert.equal(this.#rig.memory.chargedBytes, 0, 'all charges went back before the end');
      assert.equal(this.#rig.memory.dirtyByteCount(), 0, 'every byte is wiped');
      this.#rig.end();
    } finally {
      this.#rig.memory.close();
    }
  }

  #step(): void {
    const { time, memory } = this.#rig;
    const kind = this.#random.below(100);
    if (kind < 34) this.#put();
    else if (kind < 50) this.#get();
    else if (kind < 56) this.#delete();
    else if (kind < 62) this.#begin();
    else if (kind < 78) this.#append();
    else if (kind < 84) this.#endUpload();
    else if (kind < 88) this.#list();
    else if (kind < 93) time.nowMs += this.#random.pick([1, 100, 1000, 30_000]);
    else if (kind < 95) memory.press(this.#random.below(100 * KIB));
    else if (kind < 96) memory.accepting = this.#random.below(3) > 0;
    else if (kind < 97) memory.pageCountMax = this.#random.pick([40, 100, Infinity, Infinity]);
    else if (kind < 98) memory.allowedBytes = this.#random.pick([100, 300, 300, 700]) * KIB;
    else if (kind < 99) this.#flush();
    else this.#revoke();
    if (this.#random.below(2) === 0) this.#tick();
    this.#compare();
  }

  #tick(): void {
    const { store, time } = this.#rig;
    store.tick(time.nowMs);
    this.#keepUploads((upload) => time.nowMs - upload.lastMs < 60_000);
  }

  #node(): string {
    return this.#random.pick(NODES);
  }

  #holder(node: string): LocalHolder {
    return this.#holders.get(node)!;
  }

  #name(): string {
    const blocks = Array.from(this.#objects.keys()).filter((name) => /^[0-9]{10,}$/.test(name));
    return blocks.length > 0 && this.#random.below(3) === 0
      ? this.#random.pick(blocks)
      : this.#random.pick(KEYS);
  }

  #options(): ObjectOptions {
    const random = this.#random;
    return {
      ...(random.below(2) === 0
        ? { mode: random.pick(['pinned', 'cache', 'cache'] as const) }
        : {}),
      ...(random.below(4) === 0 ? { ttlMs: random.pick([1, 500, 60_000, 2 ** 40]) } : {}),
      ...(random.below(2) === 0
        ? { readers: random.pick(['private', 'trusted', [BERT], [CARL, ANNA, CARL]] as const) }
        : {}),
      ...(random.below(6) === 0 ? { ifVersion: random.below(4) } : {}),
      ...(random.below(4) === 0 ? { meta: random.bytes(random.pick([0, 3, 256])) } : {}),
    };
  }

  #live(name: string): TwinObject | undefined {
    const object = this.#objects.get(name);
    return object !== undefined && object.endMs > this.#rig.time.nowMs ? object : undefined;
  }

  #mayRead(object: TwinObject, node: string): boolean {
    if (object.owner === node) return true;
    if (object.readers === 'trusted') return node !== CARL;
    return object.readers !== 'private' && object.readers.includes(node);
  }

  /** Calls, and tells the code of the refusal; others are no answers. */
  #call<T>(call: () => T): { value: T } | { code: string } {
    try {
      return { value: call() };
    } catch (error) {
      if (error instanceof MemcloudError && isErrorCode(error.code)) return { code: error.code };
      throw error;
    }
  }

  /** The refusal that a write of this name deserves before room is looked at. */
  #writeCode(node: string, key: string | undefined, options: ObjectOptions): string | undefined {
    const there = key === undefined ? undefined : this.#live(key);
    if (there !== undefined && there.owner !== node) return 'ERR_OBJECT_DENIED';
    const { ifVersion } = options;
    if (ifVersion !== undefined && ifVersion !== (there?.version ?? 0)) {
      return 'ERR_OBJECT_CONFLICT';
    }
    return undefined;
  }

  #wrote(
    node: string,
    key: string | undefined,
    options: ObjectOptions,
    bytes: Buffer,
    info: ObjectInfo,
  ): void {
    const name = nameText(info.name);
    if (key !== undefined) assert.equal(name, key);
    const before = this.#live(name);
    const last = this.#lastVersions.get(name) ?? 0;
    if (before !== undefined) assert.equal(info.version, last + 1);
    else assert(info.version > last, 'a version never goes back');
    assert.equal(info.sizeBytes, bytes.length);
    assert.equal(info.owner, node);
    this.#lastVersions.set(name, info.version);
    this.#objects.set(name, {
      owner: node,
      bytes,
      meta: Buffer.from(options.meta ?? []),
      version: info.version,
      readers: options.readers ?? 'trusted',
      mode: options.mode ?? 'pinned',
      endMs: this.#rig.time.nowMs + (options.ttlMs ?? Infinity),
    });
  }

  /** Whether a refusal for want of room was right: not even evicting all that may go would do. */
  #checkFull(node: string, more: number, kept: string | undefined, evictedBefore: number): void {
    const { memory, store, time } = this.#rig;
    if (!memory.accepting || memory.pageCountMax !== Infinity) return;
    assert.equal(store.counters.evicted, evictedBefore, 'nothing was evicted for nothing');
    this.#tick();
    let own = 0;
    let all = 0;
    for (const [name, object] of this.#objects) {
      if (object.mode !== 'cache' || object.endMs <= time.nowMs || name === kept) continue;
      all += chargeOf(name, object);
      if (object.owner === node) own += chargeOf(name, object);
    }
    const { ownerFreeBytes, providerFreeBytes } = memory.room(node);
    assert(more > ownerFreeBytes + own || more > providerFreeBytes + all, 'there was room');
  }

  #put(): void {
    const node = this.#node();
    const key = this.#random.below(5) === 0 ? undefined : this.#random.pick(KEYS);
    const options = this.#options();
    const bytes = this.#random.bytes(this.#random.pick(SIZES));
    const expected = this.#writeCode(node, key, options);
    const stored = bytes.length + (options.meta?.length ?? 0);
    const old = key === undefined ? undefined : this.#live(key);
    const oldCharge = old === undefined ? 0 : chargeOf(key!, old);
    const more = charge(key ?? '0000000000', options.readers ?? 'trusted', stored) - oldCharge;
    const evicted = this.#rig.store.counters.evicted;
    const result = this.#call(() => this.#holder(node).put(key, bytes, options));
    if ('value' in result) {
      assert.equal(expected, undefined);
      this.#wrote(node, key, options, bytes, result.value);
    } else if (result.code === 'ERR_LEASE_CAPACITY') {
      assert.equal(expected, undefined);
      this.#checkFull(node, more, old === undefined ? undefined : key, evicted);
    } else {
      assert.equal(result.code, expected);
    }
  }

  #get(): void {
    const node = this.#node();
    const name = this.#name();
    const object = this.#live(name);
    const offset = this.#random.pick([0, 0, 1, 64, 1000, 65_536, 100_000]);
    const length = this.#random.pick([0, 1, 1000, 49_152, 10 ** 9]);
    const ifVersion = this.#random.below(5) === 0 ? this.#random.below(4) : undefined;
    const result = this.#call(() =>
      this.#holder(node).get(nameOf(name), offset, length, ifVersion),
    );
    if (object === undefined || !this.#mayRead(object, node)) {
      assert.deepEqual(result, { value: undefined }, 'a miss');
      return;
    }
    if (ifVersion !== undefined && ifVersion !== object.version) {
      assert.deepEqual(result, { code: 'ERR_OBJECT_CONFLICT' });
      return;
    }
    assert('value' in result && result.value !== undefined, 'a hit');
    const end = offset + Math.min(length, 49_152);
    assert(object.bytes.subarray(offset, end).equals(result.value.bytes), 'the bytes written last');
    assert(object.meta.equals(result.value.info.meta));
    assert.equal(result.value.info.version, object.version);
  }

  #delete(): void {
    const node = this.#node();
    const name = this.#name();
    const object = this.#live(name);
    const result = this.#call(() => this.#holder(node).delete(nameOf(name)));
    if (object === undefined || !this.#mayRead(object, node)) {
      assert.deepEqual(result, { value: false });
    } else if (object.owner !== node) {
      assert.deepEqual(result, { code: 'ERR_OBJECT_DENIED' });
    } else {
      assert.deepEqual(result, { value: true });
      this.#objects.delete(name);
    }
  }

  #begin(): void {
    const node = this.#node();
    const key = this.#random.below(5) === 0 ? undefined : this.#random.pick(KEYS);
    const options = this.#options();
    const sizeHint = this.#random.pick([undefined, 0, 1000, 2 ** 40]);
    const expected = this.#writeCode(node, key, options);
    const evicted = this.#rig.store.counters.evicted;
    const result = this.#call(() => this.#holder(node).begin(key, options, sizeHint));
    if ('value' in result) {
      assert.equal(expected, undefined);
      assert.notEqual(sizeHint, 2 ** 40, 'what can never fit is refused at once');
      const { nowMs } = this.#rig.time;
      const bytes = Buffer.alloc(0);
      this.#uploads.push({ id: result.value, owner: node, key, options, bytes, lastMs: nowMs });
    } else if (expected !== undefined) {
      assert.equal(result.code, expected);
    } else {
      assert.equal(result.code, 'ERR_LEASE_CAPACITY');
      const stored = (options.meta?.length ?? 0) + (sizeHint ?? 0);
      const more = charge(key ?? '0000000000', options.readers ?? 'trusted', stored);
      this.#checkFull(node, more, undefined, evicted);
    }
  }

  #append(): void {
    if (this.#uploads.length === 0) return;
    const upload = this.#random.pick(this.#uploads);
    const piece = this.#random.bytes(this.#random.pick(SIZES));
    const holder = this.#holder(upload.owner);
    const wrong = this.#random.below(5);
    if (wrong === 0) {
      const other = this.#holder(NODES.find((node) => node !== upload.owner)!);
      const result = this.#call(() => other.append(upload.id, upload.bytes.length, piece));
      assert.deepEqual(result, { code: 'ERR_OBJECT_UNKNOWN' }, "nobody else's");
    } else if (wrong === 1) {
      const result = this.#call(() => holder.append(upload.id, upload.bytes.length + 1, piece));
      assert.deepEqual(result, { code: 'ERR_USAGE' }, 'only at the end');
    } else {
      const result = this.#call(() => holder.append(upload.id, upload.bytes.length, piece));
      if ('value' in result) {
        upload.bytes = Buffer.concat([upload.bytes, piece]);
        upload.lastMs = this.#rig.time.nowMs;
      } else {
        assert.equal(result.code, 'ERR_LEASE_CAPACITY');
      }
    }
  }

  #endUpload(): void {
    if (this.#uploads.length === 0) return;
    const index = this.#random.below(this.#uploads.length);
    const [upload] = this.#uploads.splice(index, 1) as [TwinUpload];
    const { id, owner, key, options, bytes } = upload;
    const holder = this.#holder(owner);
    if (this.#random.below(4) === 0) {
      holder.abort(id);
    } else {
      const expected = this.#writeCode(owner, key, options);
      const result = this.#call(() => holder.commit(id));
      if ('value' in result) {
        assert.equal(expected, undefined);
        this.#wrote(owner, key, options, bytes, result.value);
      } else {
        assert.equal(result.code, expected, 'a commit needs no room');
      }
    }
    assert.deepEqual(
      this.#call(() => holder.commit(id)),
      { code: 'ERR_OBJECT_UNKNOWN' },
    );
  }

  #list(): void {
    const node = this.#node();
    const countMax = 1 + this.#random.below(5);
    const names: string[] = [];
    for (let cursor: string | null = 'k'; cursor !== null;) {
      const page = this.#holder(node).list({ kind: 'all', countMax, cursor });
      assert(page.objects.length <= countMax);
      names.push(...page.objects.map((info) => nameText(info.name)));
      cursor = page.cursor;
    }
    const expected = Array.from(this.#objects.keys()).filter((name) => {
      const object = this.#live(name);
      return object !== undefined && this.#mayRead(object, node);
    });
    assert.deepEqual(names.toSorted(), expected.toSorted(), 'what it may read, each once');
  }

  #flush(): void {
    const node = this.#node();
    this.#holder(node).flush();
    this.#forget((object) => object.owner === node);
  }

  #revoke(): void {
    const node = this.#node();
    const isRevoked = this.#random.below(2) === 0;
    if (isRevoked) this.#rig.store.deleteOwnedBy(node);
    else this.#rig.store.dropUploads(node);
    if (isRevoked) this.#forget((object) => object.owner === node);
    this.#keepUploads((upload) => upload.owner !== node);
  }

  #forget(isGone: (object: TwinObject) => boolean): void {
    for (const [name, object] of this.#objects) if (isGone(object)) this.#objects.delete(name);
  }

  #keepUploads(isKept: (upload: TwinUpload) => boolean): void {
    const kept = this.#uploads.filter(isKept);
    this.#uploads.splice(0, Infinity, ...kept);
  }

  #compare(): void {
    const { store, memory, time } = this.#rig;
    for (const [name, object] of this.#objects) {
      if (object.endMs <= time.nowMs) continue;
      if (this.#holder(object.owner).stat(nameOf(name)) !== undefined) continue;
      assert.equal(object.mode, 'cache', `${name} is pinned`);
      this.#evictedCount += 1;
      this.#objects.delete(name);
    }
    // Evictions may meet what is over as well, which is nobody's loss.
    assert(this.#evictedCount <= store.counters.evicted, 'what is gone was evicted');
    const isSwept = this.#random.below(2) === 0;
    if (!isSwept) return;
    this.#tick();
    this.#forget((object) => object.endMs <= time.nowMs);
    for (const node of NODES) {
      let bytes = 0;
      let count = 0;
      for (const [name, object] of this.#objects) {
        if (object.owner !== node) continue;
        bytes += chargeOf(name, object);
        count += 1;
      }
      const uploads = this.#uploads.filter((upload) => upload.owner === node);
      for (const { key, options, bytes: value } of uploads) {
        const stored = value.length + (options.meta?.length ?? 0);
        bytes += charge(key ?? '0000000000', options.readers ?? 'trusted', stored);
      }
      const usage = this.#holder(node).usage();
      assert.equal(usage.chargedBytes, bytes, 'charged is the sum');
      assert.equal(memory.chargedTo(node), bytes);
      assert.equal(usage.objectCount, count);
      assert.equal(usage.uploadCount, uploads.length);
    }
  }
}

function nameOf(name: string): ObjectName {
  return /^[0-9]{10,}$/.test(name) ? { kind: 'block', id: name } : { kind: 'key', key: name };
}

function nameText(name: ObjectName): string {
  return name.kind === 'key' ? name.key : name.id;
}

t.test('10 000 calls and more do what a Map would', async (t) => {
  await fuzz(t, (random) => {
    for (let count = 0; count < 20; count += 1) new Run(random).all();
  });
});
