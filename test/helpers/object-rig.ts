/** A store of objects on test memory, with a time that stands still, and two nodes that use it. */
import assert from 'node:assert/strict';
import type { Test } from 'tap';
import type { LocalHolder } from '../../objects/holder.ts';
import { ObjectStore } from '../../objects/store.ts';
import type { ObjectName } from '../../common/objects.ts';
import { Random } from './fuzz.ts';
import { TestObjectMemory } from './object-memory.ts';

/** The node that holds. */
export const HOLDER = 'abcdef0123456789abcdef0123456789';
/** Nodes that use it. */
export const ANNA = 'a'.repeat(32);
export const BERT = 'b'.repeat(32);
export const CARL = 'c'.repeat(32);

/** The name of a key. */
export const key = (text: string): ObjectName => ({ kind: 'key', key: text });

/** What {@link openStore} makes. */
export interface ObjectRig {
  readonly memory: TestObjectMemory;
  readonly time: { nowMs: number };
  readonly store: ObjectStore;
  readonly anna: LocalHolder;
  readonly bert: LocalHolder;
  readonly carl: LocalHolder;
  /** Closes the store and throws unless everything was wiped and given back. */
  end(): void;
}

/** Makes a rig that the caller ends. */
export function makeStore(isTrusted?: (nodeId: string) => boolean, seed = 7): ObjectRig {
  const memory = new TestObjectMemory();
  const time = { nowMs: 1000 };
  const random = new Random(seed);
  const store = new ObjectStore({
    nodeId: HOLDER,
    memory,
    clock: { nowMs: () => time.nowMs },
    random: () => random.below(2 ** 30) / 2 ** 30,
    ...(isTrusted === undefined ? {} : { isTrusted }),
  });
  const [anna, bert, carl] = [ANNA, BERT, CARL].map((node) => store.openHolder(node));
  const end = (): void => {
    store.close();
    assert.equal(memory.chargedBytes, 0, 'every charge went back');
    assert.equal(memory.arenas.size, 0, 'every arena went back');
    assert.equal(memory.pageCount, 0, 'every page went back');
  };
  return { memory, time, store, anna: anna!, bert: bert!, carl: carl!, end };
}

/** Makes a rig that ends with the test. */
export function openStore(t: Test, isTrusted?: (nodeId: string) => boolean): ObjectRig {
  const rig = makeStore(isTrusted);
  t.teardown(() => {
    try {
      rig.end();
    } finally {
      rig.memory.close();
    }
  });
  return rig;
}
