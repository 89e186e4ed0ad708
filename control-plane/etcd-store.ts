/**
 * The store of a control plane with several control nodes: etcd, version 3. Revisions, store leases and
 * watches are etcd's own; keys are given whole, so that a cluster can be shared with others who keep to
 * other prefixes. Every call ends within 5 s. `etcd-endpoints.ts` says what happens when members fail.
 */
import {
  castGrpcError,
  CompareResult,
  CompareTarget,
  EtcdInvalidAuthTokenError,
  EtcdLeaseInvalidError,
  GRPCUnavailableError,
  SortOrder,
  SortTarget,
  type Etcd3,
  type ICompare,
  type ILeaseKeepAliveResponse,
  type IKeyValue,
  type IRequestOp,
} from 'etcd3';
import { EtcdEndpoints, type CallDeadline, type EtcdAddress } from './etcd-endpoints.ts';
import { EtcdWatch } from './etcd-watch.ts';
import {
  encodeTransaction,
  keyBytes,
  prefixBytes,
  prefixEnd,
  type EncodedOp,
} from './meta-checks.ts';
import type {
  MetaCompare,
  MetaEntry,
  MetaLease,
  MetaOp,
  MetaStore,
  MetaWatcher,
} from './meta-store.ts';
import { SingleChanges } from './single-changes.ts';

/** Entries in one answer of etcd: with the largest values 32 MiB. */
const PAGE_COUNT_MAX = 500;
/** etcd's way to say "no end". */
const NO_END = Buffer.of(0);

/** Opens a store on etcd; whether etcd answers shows with the first call. */
export function openEtcdStore(address: EtcdAddress): MetaStore {
  return new EtcdStore(address);
}

function entryOf({ key, value, mod_revision }: IKeyValue): MetaEntry {
  return { key: key.toString(), value: value.toString(), revision: Number(mod_revision) };
}

function requestOf({ key, op, value }: EncodedOp): IRequestOp {
  if (value === undefined) return { request_delete_range: { key } };
  const lease = 'put' in op ? op.lease : undefined;
  return { request_put: { key, value, ...(lease !== undefined && { lease: lease.id }) } };
}

/** Asks once, on a stream of its own. @returns the seconds that are left, 0 when it is over */
async function keepAliveOnce(
  client: Etcd3,
  id: string,
  { deadline }: CallDeadline,
): Promise<number> {
  const stream = await client.leaseClient.leaseKeepAlive({ deadline });
  return new Promise<number>((resolve, reject) => {
    stream.on('error', (error: Error) => {
      reject(castGrpcError(error));
    });
    stream.on('end', () => {
      reject(new GRPCUnavailableError('the stream ended without an answer'));
    });
    stream.on('data', (answer: ILeaseKeepAliveResponse) => {
      resolve(Number(answer.TTL));
      stream.end();
    });
    stream.write({ ID: id });
  });
}

class EtcdStore extends SingleChanges implements MetaStore {
  readonly description: string;
  readonly #endpoints: EtcdEndpoints;
  readonly #watches = new Set<EtcdWatch>();

  constructor(address: EtcdAddress) {
    super();
    this.description = `etcd://${address.hosts.join(',')}`;
    this.#endpoints = new EtcdEndpoints(address);
  }

  async get(key: string): Promise<MetaEntry | undefined> {
    const bytes = keyBytes(key);
    const { kvs } = await this.#endpoints.repeatable((client, options) =>
      client.kv.range({ key: bytes }, options),
    );
    return kvs[0] === undefined ? undefined : entryOf(kvs[0]);
  }

  async list(
    prefix: string,
    options: {
      readonly after?: string;
      readonly countMax?: number;
      readonly reverse?: boolean;
    } = {},
  ): Promise<{ readonly entries: MetaEntry[]; readonly revision: number }> {
    const { after, countMax = 1000, reverse = false } = options;
    const start = prefixBytes(prefix);
    let first = start.length === 0 ? NO_END : start;
    let end = prefixEnd(start);
    if (after !== undefined) {
      const mark = prefixBytes(after);
      if (reverse) end = end === undefined || mark.compare(end) < 0 ? mark : end;
      else if (mark.compare(first) >= 0) first = Buffer.concat([mark, NO_END]);
    }
    const entries: MetaEntry[] = [];
    let revision = 0;
    for (;;) {
      const empty = countMax === 0 || (end !== undefined && first.compare(end) >= 0);
      const page = await this.#page(
        empty ? { first: NO_END, end: Buffer.of(0, 0) } : { first, end },
        { limit: Math.min(countMax - entries.length, PAGE_COUNT_MAX), reverse, revision },
      );
      if (revision === 0) revision = page.revision;
      if (empty) return { entries, revision };
      entries.push(...page.entries);
      const last = entries.at(-1);
      if (!page.more || entries.length >= countMax || last === undefined) {
        return { entries, revision };
      }
      const mark = Buffer.from(last.key);
      if (reverse) end = mark;
      else first = Buffer.concat([mark, NO_END]);
    }
  }

  async transact(
    compares: readonly MetaCompare[],
    ops: readonly MetaOp[],
  ): Promise<number | undefined> {
    const encoded = encodeTransaction(compares, ops);
    const compare = encoded.compares.map(({ key, revision }): ICompare => ({
      key,
      target: CompareTarget.Mod,
      result: CompareResult.Equal,
      mod_revision: String(revision),
    }));
    const request = { compare, success: encoded.ops.map(requestOf), failure: [] };
    const { succeeded, header } = await this.#endpoints.once((client, options) =>
      client.kv.txn(request, options),
    );
    return succeeded ? Number(header.revision) : undefined;
  }

  async grant(ttlMs: number): Promise<MetaLease> {
    const seconds = Math.max(1, Math.ceil(ttlMs / 1000));
    const { ID, TTL } = await this.#endpoints.repeatable((client, options) =>
      client.leaseClient.leaseGrant({ TTL: String(seconds), ID: '0' }, options),
    );
    return { id: ID, ttlMs: Number(TTL) * 1000 };
  }

  async keepalive(lease: MetaLease): Promise<boolean> {
    const seconds = await this.#endpoints.repeatable(async (client, options) => {
      try {
        return await keepAliveOnce(client, lease.id, options);
      } catch (error) {
        // etcd3 logs in anew only for calls that are no streams.
        if (!(error instanceof EtcdInvalidAuthTokenError)) throw error;
        await client.kv.range({ key: NO_END, keys_only: true }, options);
        return await keepAliveOnce(client, lease.id, options);
      }
    });
    return seconds > 0;
  }

  async revoke(lease: MetaLease): Promise<void> {
    await this.#endpoints.repeatable((client, options) =>
      client.leaseClient.leaseRevoke({ ID: lease.id }, options).catch((error: unknown) => {
        if (!(error instanceof EtcdLeaseInvalidError)) throw error;
      }),
    );
  }

  watch(prefix: string, after: number, watcher: MetaWatcher): () => void {
    const watch = new EtcdWatch(this.#endpoints, prefixBytes(prefix), after, {
      onChanges: (changes) => {
        watcher.onChanges(changes);
      },
      onLost: () => {
        this.#watches.delete(watch);
        watcher.onLost();
      },
    });
    this.#watches.add(watch);
    return () => {
      this.#watches.delete(watch);
      watch.close();
    };
  }

  close(): Promise<void> {
    for (const watch of [...this.#watches]) watch.lose();
    this.#endpoints.close();
    return Promise.resolve();
  }

  async #page(
    { first, end }: { first: Buffer; end: Buffer | undefined },
    { limit, reverse, revision }: { limit: number; reverse: boolean; revision: number },
  ): Promise<{ entries: MetaEntry[]; more: boolean; revision: number }> {
    const request = {
      key: first,
      range_end: end ?? NO_END,
      limit: String(limit),
      revision: String(revision),
      sort_order: reverse ? SortOrder.Descend : SortOrder.Ascend,
      sort_target: SortTarget.Key,
    };
    const { kvs, more, header } = await this.#endpoints.repeatable((client, options) =>
      client.kv.range(request, options),
    );
    return { entries: kvs.map(entryOf), more, revision: Number(header.revision) };
  }
}
