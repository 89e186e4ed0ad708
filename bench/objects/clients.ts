/** The clients that are compared, each as programs would use it, behind one shape. */
import { createRequire } from 'node:module';
import { Redis } from 'ioredis';
import { MemCloud, type TargetOptions } from '../../sdk/memcloud.ts';

/** A connection to a store. */
export interface StoreClient {
  /** Stores a value. @returns by what it is loaded */
  put(index: number, value: Buffer): Promise<string>;
  /** Loads it. @returns undefined when there is none */
  get(name: string): Promise<Buffer | undefined>;
  /** Stores under one key, again and again. */
  overwrite(key: string, value: Buffer): Promise<unknown>;
  /** Removes everything. */
  clear(): Promise<unknown>;
  /** Ends. */
  close(): void;
}

/** Which client. */
export type ClientKind = 'memcloud' | 'redis' | 'memcached';

/** Blocks by `store` and `load`, as the benchmark of the first MemCloud has it; what is overwritten is a key. */
async function openMemcloud(address: string, peer: string | undefined): Promise<StoreClient> {
  const cloud = new MemCloud(address);
  await cloud.connect();
  const options: TargetOptions = peer === undefined ? {} : { target: peer };
  return {
    put: async (_index, value) => (await cloud.store(value, options)).id,
    get: (name) =>
      name.startsWith('key:') ? cloud.find(name.slice(4), options) : cloud.load(name, options),
    overwrite: (key, value) => cloud.set(key, value, options),
    clear: () => cloud.flush(options),
    close: () => cloud.close(),
  };
}

function openRedis(address: string): StoreClient {
  const redis = new Redis({ path: address });
  return {
    put: async (index, value) => {
      const name = `key:${index}`;
      await redis.set(name, value);
      return name;
    },
    get: async (name) => (await redis.getBuffer(name)) ?? undefined,
    overwrite: (key, value) => redis.set(key, value),
    clear: () => redis.flushall(),
    close: () => redis.disconnect(),
  };
}

/** The part of memjs, which has no types, that is used. */
interface Memjs {
  Client: {
    create(
      servers: string,
      options: { timeout: number },
    ): {
      readonly servers: { port: string }[];
      set(key: string, value: Buffer, options: { expires: number }): Promise<boolean>;
      get(key: string): Promise<{ value: Buffer | null }>;
      flush(): Promise<unknown>;
      close(): void;
    };
  };
}

const MEMJS_TIMEOUT_S = 30;

function openMemcached(address: string): StoreClient {
  const memjs = createRequire(import.meta.url)('memjs') as Memjs;
  const client = memjs.Client.create('127.0.0.1:1', { timeout: MEMJS_TIMEOUT_S });
  // It knows hosts and ports only, and hands the port to Node, which takes a path there as well.
  for (const server of client.servers) server.port = address;
  const noEnd = { expires: 0 };
  return {
    put: async (index, value) => {
      const name = `key:${index}`;
      await client.set(name, value, noEnd);
      return name;
    },
    get: async (name) => (await client.get(name)).value ?? undefined,
    overwrite: (key, value) => client.set(key, value, noEnd),
    clear: () => client.flush(),
    close: () => client.close(),
  };
}

/**
 * Opens a client.
 *
 * @param address - the path of a Unix socket
 * @param peer - of ours: where the values go instead of the daemon itself
 */
export async function openClient(
  kind: ClientKind,
  address: string,
  peer: string | undefined,
): Promise<StoreClient> {
  if (kind === 'memcloud') return openMemcloud(address, peer);
  return kind === 'redis' ? openRedis(address) : openMemcached(address);
}
