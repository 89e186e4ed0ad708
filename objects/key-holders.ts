/**
 * Where the keys that this node wrote elsewhere are, as far as it remembers: a bounded table, the oldest
 * makes room. It spares a search and, where the holder is not connected, turns "there is none" into the
 * truth; it is never the only way to a key. Pure.
 */
import type { NodeId } from '../common/ports.ts';

/** Keys remembered at most. */
export const KEY_HOLDER_COUNT_MAX = 65_536;
/** Characters of the keys remembered at most. */
export const KEY_HOLDER_LENGTH_MAX = 4 * 2 ** 20;

/** Keys and the nodes that hold them. */
export class KeyHolders {
  readonly #holders = new Map<string, NodeId>();
  #length = 0;

  /** Keys that are remembered. */
  get count(): number {
    return this.#holders.size;
  }

  /** Who holds a key. */
  get(key: string): NodeId | undefined {
    return this.#holders.size === 0 ? undefined : this.#holders.get(key);
  }

  /** This node wrote a key there. */
  set(key: string, holder: NodeId): void {
    this.delete(key);
    this.#holders.set(key, holder);
    this.#length += key.length;
    for (const [oldest] of this.#holders) {
      if (this.count <= KEY_HOLDER_COUNT_MAX && this.#length <= KEY_HOLDER_LENGTH_MAX) return;
      this.delete(oldest);
    }
  }

  /** The key is not there any more, or here. */
  delete(key: string): void {
    if (this.#holders.size > 0 && this.#holders.delete(key)) this.#length -= key.length;
  }

  /** Everything of this node is gone there. */
  deleteHolder(holder: NodeId): void {
    for (const [key, node] of this.#holders) if (node === holder) this.delete(key);
  }
}
