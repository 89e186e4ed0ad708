/** Nodes with objects of their own, joined by links that a test can count, cut, silence and forge. */
import type { Test } from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import type { ObjectLink } from '../../common/objects.ts';
import { ObjectPool } from '../../objects/pool.ts';
import { ObjectServer } from '../../objects/service.ts';
import { ObjectStore } from '../../objects/store.ts';
import { Random } from './fuzz.ts';
import { TestObjectMemory } from './object-memory.ts';

/** A link to a node in the same process. */
export class MemoryLink implements ObjectLink {
  readonly nodeId: string;
  readonly nodeName: string;
  up = true;
  freeBytes = 2 ** 20;
  /** Requests sent over it. */
  count = 0;
  /** `down`: they fail at once; `silent`: they wait for their signal. */
  state: 'good' | 'down' | 'silent' = 'good';
  /** Changes a reply. */
  forge: ((reply: Buffer) => Buffer) | undefined;
  readonly #serve: (body: Buffer) => Buffer;

  constructor(nodeId: string, nodeName: string, serve: (body: Buffer) => Buffer) {
    this.nodeId = nodeId;
    this.nodeName = nodeName;
    this.#serve = serve;
  }

  request(body: Uint8Array, signal?: AbortSignal, replySizeMax = 60_000): Promise<Buffer> {
    this.count += 1;
    if (this.state === 'down') {
      return Promise.reject(new MemcloudError('ERR_PEER_UNREACHABLE', 'it is not connected'));
    }
    if (this.state === 'silent') {
      return new Promise((_resolve, reject) => {
        signal?.addEventListener('abort', () =>
          reject(new MemcloudError('ERR_CANCELLED', 'the request was cancelled')),
        );
      });
    }
    const reply = this.#serve(Buffer.from(body));
    if (reply.length > replySizeMax) throw new Error(`${reply.length} bytes for ${replySizeMax}`);
    return new Promise((resolve) =>
      setImmediate(() => resolve(this.forge === undefined ? reply : this.forge(reply))),
    );
  }
}

/** One node. */
export interface PoolNode {
  readonly store: ObjectStore;
  readonly server: ObjectServer;
  readonly memory: TestObjectMemory;
}

/** A node, its links to others, and its pool. */
export interface PoolRig {
  readonly pool: ObjectPool;
  readonly here: PoolNode;
  readonly nodeId: string;
  readonly links: MemoryLink[];
  readonly nodes: PoolNode[];
}

/** The id of the node with a number. */
export function idOf(number: number): string {
  return Buffer.alloc(16, 0x11 * number).toString('hex');
}

function makeNode(t: Test, nodeId: string): PoolNode {
  const memory = new TestObjectMemory();
  const random = new Random(5);
  const store = new ObjectStore({
    nodeId,
    memory,
    clock: { nowMs: () => performance.now() },
    random: () => random.below(2 ** 30) / 2 ** 30,
  });
  t.teardown(() => {
    store.close();
    memory.close();
  });
  const server = new ObjectServer(store, (error) => t.fail(String(error.stack)));
  return { store, server, memory };
}

/** A node `self` (id 5555...) and others `n1`, `n2`, ... (ids 1111..., 2222..., without 5). */
export function poolRig(t: Test, count: number, seed = 3): PoolRig {
  const nodeId = idOf(5);
  const here = makeNode(t, nodeId);
  const numbers = [1, 2, 3, 4, 6, 7, 8, 9].slice(0, count);
  const nodes = numbers.map((number) => makeNode(t, idOf(number)));
  const links = nodes.map(
    ({ server }, index) =>
      new MemoryLink(idOf(numbers[index]!), `n${numbers[index]}`, (body) =>
        server.serveObject(nodeId, body),
      ),
  );
  const random = new Random(seed);
  const pool = new ObjectPool({
    ...{ nodeId, nodeName: 'self', local: here.store.openHolder(nodeId) },
    usageHere: () => here.store.usage(),
    links: {
      list: () => links,
      find: (wanted) => {
        const link = links.find((each) => each.nodeId === wanted || each.nodeName === wanted);
        if (link === undefined) throw new MemcloudError('ERR_PEER_UNKNOWN', `no ${wanted}`);
        return link;
      },
    },
    random: () => random.below(2 ** 20) / 2 ** 20,
  });
  return { pool, here, nodeId, links, nodes };
}
