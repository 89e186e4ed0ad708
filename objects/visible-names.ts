/**
 * Which names a node can list. Names that every trusted node may read are in one sorted row; others in one
 * for each node that may read them. So a listing meets no name that is hidden from the one who asks: it is
 * not slower for them, and where it stops says nothing about them. Pure.
 */
import type { ObjectReaders } from '../common/objects.ts';
import type { NodeId } from '../common/ports.ts';
import { SortedNames } from './sorted-names.ts';

/** Keys and blocks, apart. */
class Names {
  #keys: SortedNames<string> | undefined;
  #blocks: SortedNames<number> | undefined;

  /** Sorted keys. */
  get keys(): SortedNames<string> {
    return (this.#keys ??= new SortedNames<string>());
  }

  /** Sorted own bits of blocks. */
  get blocks(): SortedNames<number> {
    return (this.#blocks ??= new SortedNames<number>());
  }

  add(name: string | number): void {
    if (typeof name === 'string') this.keys.add(name);
    else this.blocks.add(name);
  }

  remove(name: string | number): void {
    if (typeof name === 'string') this.keys.remove(name);
    else this.blocks.remove(name);
  }

  get isEmpty(): boolean {
    return (this.#keys?.count ?? 0) + (this.#blocks?.count ?? 0) === 0;
  }
}

/** The names of one store, by who sees them. */
export class VisibleNames {
  readonly #trusted = new Names();
  readonly #byNode = new Map<NodeId, Names>();

  /** Adds a name that is new. */
  add(name: string | number, owner: NodeId, readers: ObjectReaders): void {
    if (readers === 'trusted') {
      this.#trusted.add(name);
      return;
    }
    for (const node of nodesOf(owner, readers)) {
      let names = this.#byNode.get(node);
      if (names === undefined) {
        names = new Names();
        this.#byNode.set(node, names);
      }
      names.add(name);
    }
  }

  /** Removes a name as it was added. */
  remove(name: string | number, owner: NodeId, readers: ObjectReaders): void {
    if (readers === 'trusted') {
      this.#trusted.remove(name);
      return;
    }
    for (const node of nodesOf(owner, readers)) {
      const names = this.#byNode.get(node);
      names?.remove(name);
      if (names?.isEmpty === true) this.#byNode.delete(node);
    }
  }

  /** Keys that `node` may read, in one or two sorted rows. */
  keys(node: NodeId): SortedNames<string>[] {
    const own = this.#byNode.get(node);
    return own === undefined ? [this.#trusted.keys] : [this.#trusted.keys, own.keys];
  }

  /** The same of blocks. */
  blocks(node: NodeId): SortedNames<number>[] {
    const own = this.#byNode.get(node);
    return own === undefined ? [this.#trusted.blocks] : [this.#trusted.blocks, own.blocks];
  }
}

function nodesOf(owner: NodeId, readers: Exclude<ObjectReaders, 'trusted'>): Iterable<NodeId> {
  return readers === 'private' ? [owner] : new Set([owner, ...readers]);
}
