/** S3-FIFO: who goes, at what price, and that it keeps what LRU keeps. */
import t from 'tap';
import { Ghosts } from '../../objects/ghost-machine.ts';
import { S3Fifo, countUse, type FifoLinks } from '../../objects/s3-fifo-machine.ts';
import { LruPolicy, cacheTraces, hitPercent, type CachePolicy } from '../helpers/cache-traces.ts';
import { Random } from '../helpers/fuzz.ts';

function makeLinks(count: number): FifoLinks {
  return {
    newer: new Uint32Array(count),
    older: new Uint32Array(count),
    state: new Uint8Array(count),
  };
}

/** The machines as a cache of objects of one size, joined as the store joins them. */
class FifoPolicy implements CachePolicy {
  readonly #links: FifoLinks;
  readonly #cache: S3Fifo;
  readonly #ghosts = new Ghosts();
  readonly #rows = new Map<number, number>();
  readonly #objects: number[] = [];
  readonly #countMax: number;
  #forgottenCount = 0;

  constructor(countMax: number) {
    this.#countMax = countMax;
    this.#links = makeLinks(countMax);
    this.#cache = new S3Fifo(this.#links);
  }

  request(object: number): boolean {
    const row = this.#rows.get(object);
    if (row !== undefined) {
      countUse(this.#links, row);
      return true;
    }
    let free = this.#cache.count;
    if (free === this.#countMax) {
      free = this.#cache.victim()!;
      if (!this.#cache.isMain(free)) {
        this.#forgottenCount += 1;
        this.#ghosts.add(hash(this.#objects[free]!), this.#forgottenCount);
      }
      this.#cache.remove(free);
      this.#rows.delete(this.#objects[free]!);
    }
    this.#objects[free] = object;
    this.#rows.set(object, free);
    const span = this.#cache.mainCount;
    this.#cache.add(free, this.#ghosts.has(hash(object), this.#forgottenCount, span));
    return false;
  }
}

function hash(object: number): number {
  return Math.imul(object + 1, 0x9e3779b1) >>> 0;
}

t.test('what is used once moves on; what is not goes first, in order', async (t) => {
  const links = makeLinks(8);
  const cache = new S3Fifo(links);
  for (const object of [0, 1, 2, 3]) cache.add(object, false);
  countUse(links, 0);
  countUse(links, 2);
  const gone: number[] = [];
  for (let victim = cache.victim(); victim !== undefined; victim = cache.victim()) {
    cache.remove(victim);
    gone.push(victim);
  }
  t.strictSame(gone, [1, 3, 0, 2]);
  t.equal(cache.count, 0);
});

t.test('an object of the main queue has a round for each of its last three uses', async (t) => {
  const links = makeLinks(4);
  const cache = new S3Fifo(links);
  for (const object of [0, 1, 2]) cache.add(object, true);
  for (let use = 0; use < 9; use += 1) countUse(links, 0);
  countUse(links, 1);
  countUse(links, 1);
  const gone: number[] = [];
  for (let fresh = 0; fresh < 3; fresh += 1) {
    const victim = cache.victim()!;
    cache.remove(victim);
    gone.push(victim);
  }
  t.strictSame(gone, [2, 1, 0]);
});

t.test('what is kept does not go, wherever it is, even when it is alone', async (t) => {
  for (const isKnown of [false, true]) {
    const cache = new S3Fifo(makeLinks(4));
    cache.add(1, isKnown);
    t.equal(cache.victim(1), undefined);
    cache.add(2, false);
    t.equal(cache.victim(1), 2);
  }
});

t.test('names are remembered for as many evictions as were asked for', async (t) => {
  const ghosts = new Ghosts();
  t.equal(ghosts.has(77, 5, 100), false);
  ghosts.add(77, 5);
  t.equal(ghosts.has(77, 15, 10), true);
  t.equal(ghosts.has(77, 16, 10), false);
  t.equal(ghosts.has(77 + 2 ** 18, 5, 100), false, 'another name on the same place');
  ghosts.add(99, 0xffff_ffff);
  t.equal(ghosts.has(99, 3, 4), true, 'the count begins anew after 2^32');
});

t.test('hits at least as often as LRU, within 2 points, on every trace', async (t) => {
  for (const trace of cacheTraces(20240416)) {
    for (const countMax of [100, 1000]) {
      const lru = hitPercent(new LruPolicy(countMax), trace);
      const fifo = hitPercent(new FifoPolicy(countMax), trace);
      const numbers = `S3-FIFO ${fifo.toFixed(1)} %, LRU ${lru.toFixed(1)} %`;
      t.ok(fifo >= lru - 2, `${trace.name}, room for ${countMax}: ${numbers}`);
    }
  }
});

t.test('a victim costs a few steps, among a thousand objects or a hundred thousand', async (t) => {
  for (const count of [1000, 100_000]) {
    const random = new Random(7);
    const links = makeLinks(count);
    let looks = 0;
    const state = new Proxy(links.state, {
      get: (target, name) => {
        looks += 1;
        return target[Number(name)];
      },
      set: (target, name, value: number) => {
        target[Number(name)] = value;
        return true;
      },
    });
    const cache = new S3Fifo({ ...links, state });
    for (let object = 0; object < count; object += 1) cache.add(object, false);
    let uses = 0;
    looks = 0;
    for (let round = 0; round < count; round += 1) {
      const victim = cache.victim()!;
      cache.remove(victim);
      cache.add(victim, random.below(2) === 0);
      if (random.below(2) > 0) continue;
      countUse(links, random.below(count));
      uses += 1;
    }
    t.ok(looks <= 6 * count + 4 * uses, `${(looks / count).toFixed(1)} looks for each of ${count}`);
  }
});

t.test('the queues hold what came and did not leave, each once', async (t) => {
  const random = new Random(Number(process.env['SEED'] ?? 1));
  const links = makeLinks(64);
  const cache = new S3Fifo(links);
  const members = new Set<number>();
  for (let step = 0; step < 20_000; step += 1) {
    const object = random.below(64);
    if (random.below(3) === 0 && members.size > 0) {
      const victim = cache.victim()!;
      if (!members.has(victim)) t.fail('a victim is a member');
      if (random.below(2) === 0) {
        cache.remove(victim);
        members.delete(victim);
      }
    } else if (!members.has(object)) {
      cache.add(object, random.below(4) === 0);
      members.add(object);
    } else if (random.below(2) === 0) {
      countUse(links, object);
    } else {
      cache.remove(object);
      members.delete(object);
    }
    if (cache.count !== members.size) t.fail('the count is that of the members');
  }
  for (let victim = cache.victim(); victim !== undefined; victim = cache.victim()) {
    cache.remove(victim);
    if (!members.delete(victim)) t.fail('each goes once');
  }
  t.equal(members.size, 0);
});
