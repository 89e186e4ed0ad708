/**
 * A watch on etcd that outlives members and connections: after each break it goes on from the revision
 * behind the last change that was told. Only changes move that revision; the one in the header of other
 * answers may be ahead of what this stream has sent. When etcd no longer has the changes in between
 * (compaction), or refuses the watch, it is lost.
 */
import type { IWatchResponse, WatchClient } from 'etcd3';
import type { EtcdEndpoint, EtcdEndpoints } from './etcd-endpoints.ts';
import { prefixEnd } from './meta-checks.ts';
import type { MetaChange, MetaWatcher } from './meta-store.ts';

/** How long a member may take until the watch stands, milliseconds. */
const CREATE_TIMEOUT_MS = 2000;
/** Until the next try after a break, milliseconds; doubled each time up to the second. */
const RETRY_FIRST_MS = 50;
const RETRY_MAX_MS = 1000;

type Stream = Awaited<ReturnType<WatchClient['watch']>>;

/** See the top of the file. */
export class EtcdWatch {
  readonly #endpoints: EtcdEndpoints;
  readonly #prefix: Buffer;
  readonly #watcher: MetaWatcher;
  readonly #unlisten: () => void;
  /** The last revision whose changes were told. */
  #seen: number;
  #stream: Stream | undefined;
  #endpoint: EtcdEndpoint | undefined;
  /** Of the next try, or of the wait for the watch to stand. */
  #timer: NodeJS.Timeout | undefined;
  #retryMs = RETRY_FIRST_MS;
  #over = false;

  constructor(endpoints: EtcdEndpoints, prefix: Buffer, after: number, watcher: MetaWatcher) {
    this.#endpoints = endpoints;
    this.#prefix = prefix;
    this.#seen = after;
    this.#watcher = watcher;
    this.#unlisten = endpoints.onLeft((left) => {
      if (left === this.#endpoint) this.#again();
    });
    this.#begin();
  }

  /** Ends it; the watcher is told nothing more. */
  close(): void {
    if (this.#over) return;
    this.#over = true;
    this.#unlisten();
    this.#drop();
  }

  /** Ends it, and tells the watcher. */
  lose(): void {
    if (this.#over) return;
    this.close();
    this.#watcher.onLost();
  }

  #begin(): void {
    const endpoint = this.#endpoints.current;
    this.#endpoint = endpoint;
    this.#timer = setTimeout(() => {
      this.#endpoints.failed(endpoint);
      if (this.#endpoint === endpoint) this.#again();
    }, CREATE_TIMEOUT_MS);
    endpoint.client.watchClient.watch().then(
      (stream) => {
        this.#use(endpoint, stream);
      },
      () => {
        this.#broken(endpoint, undefined);
      },
    );
  }

  #use(endpoint: EtcdEndpoint, stream: Stream): void {
    const broken = (): void => {
      this.#broken(endpoint, stream);
    };
    // Also when it is not wanted any more: an error without a listener ends the process.
    stream.on('error', broken);
    stream.on('end', broken);
    if (this.#over || this.#endpoint !== endpoint || this.#stream !== undefined) {
      discard(stream);
      return;
    }
    this.#stream = stream;
    stream.on('data', (response: IWatchResponse) => {
      if (this.#stream === stream) this.#take(response);
    });
    const end = prefixEnd(this.#prefix) ?? Buffer.of(0);
    stream.write({
      create_request: {
        key: this.#prefix.length === 0 ? Buffer.of(0) : this.#prefix,
        range_end: end,
        start_revision: String(this.#seen + 1),
      },
    });
  }

  #take(response: IWatchResponse): void {
    if (response.canceled) {
      this.lose();
      return;
    }
    if (response.created) {
      clearTimeout(this.#timer);
      this.#retryMs = RETRY_FIRST_MS;
    }
    const changes = response.events.map((event): MetaChange => {
      const revision = Number(event.kv.mod_revision);
      const value = String(event.type) === 'Put' ? event.kv.value.toString() : undefined;
      return { key: event.kv.key.toString(), value, revision };
    });
    const last = changes.at(-1);
    if (last === undefined) return;
    this.#seen = last.revision;
    this.#watcher.onChanges(changes);
  }

  #broken(endpoint: EtcdEndpoint, stream: Stream | undefined): void {
    if (this.#over || this.#endpoint !== endpoint || this.#stream !== stream) return;
    this.#again();
    this.#endpoints.failed(endpoint);
  }

  /** Tries again, with whichever member is asked then. */
  #again(): void {
    this.#drop();
    this.#timer = setTimeout(() => {
      this.#begin();
    }, this.#retryMs);
    this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MAX_MS);
  }

  #drop(): void {
    clearTimeout(this.#timer);
    this.#endpoint = undefined;
    if (this.#stream !== undefined) discard(this.#stream);
    this.#stream = undefined;
  }
}

/** Ends a stream. First our half: etcd3 takes a cancelled stream that can be written for a dead member. */
function discard(stream: Stream): void {
  stream.end();
  stream.cancel();
}
