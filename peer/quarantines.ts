/**
 * The nodes whose pages are not believed any more, and why: a donor that was caught with damaged, old
 * or foreign pages. It is a verdict about a key, like trust, and like trust it is kept in a small file:
 * neither a reconnect nor a restart forgets it, only a person lifts it.
 *
 * The verdict comes from the page path, so it counts at once, in memory; the file, which has to be
 * synced, is written in a turn of its own.
 */
import path from 'node:path';
import { asMemcloudError, MemcloudError } from '../common/errors.ts';
import { silentLogger, type Logger } from '../common/log.ts';
import type { NodeId } from '../common/ports.ts';
import { printableAscii } from '../common/printable.ts';
import { QUARANTINE_COUNT_MAX, QUARANTINE_REASON_LENGTH_MAX } from './constants.ts';
import { isNodeName } from './credentials.ts';
import { readPrivateFile, writePrivateFile } from './private-file.ts';

/** Name of the file in the state directory. */
export const QUARANTINE_FILE_NAME = 'quarantine.json';

const FORMAT = 'memcloud-quarantine/1';
const FILE_SIZE_MAX = 2 * 1024 * 1024;

/** One verdict. */
export interface Quarantine {
  /** Of whom. */
  readonly nodeId: NodeId;
  /** What it called itself then. */
  readonly name: string;
  /** Why, in one sentence; printable ASCII. */
  readonly reason: string;
  /** Since when, milliseconds of the wall clock since 1970. */
  readonly sinceMs: number;
}

/** The verdicts of one node. */
export class Quarantines {
  readonly #file: string | undefined;
  readonly #logger: Logger;
  readonly #entries = new Map<NodeId, Quarantine>();
  #isSaveDue = false;
  /** Told of each new verdict, in the middle of a page call; its owner sets it. */
  onPut: (quarantine: Quarantine) => void = () => undefined;

  private constructor(file: string | undefined, logger: Logger) {
    this.#file = file;
    this.#logger = logger;
  }

  /** Verdicts that no file holds; for tests and throw-away nodes. */
  static inMemory(): Quarantines {
    return new Quarantines(undefined, silentLogger);
  }

  /**
   * Reads the verdicts of a state directory; no file is none.
   *
   * @throws MemcloudError `ERR_IDENTITY` when the file is damaged or open to others
   */
  static load(stateDirectory: string, logger: Logger): Quarantines {
    const file = path.join(stateDirectory, QUARANTINE_FILE_NAME);
    const store = new Quarantines(file, logger);
    try {
      const bytes = readPrivateFile(file, FILE_SIZE_MAX);
      if (bytes !== undefined) {
        for (const entry of parseFile(bytes)) store.#entries.set(entry.nodeId, entry);
      }
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new MemcloudError(
        'ERR_IDENTITY',
        `quarantines ${file}: ${why}; restore it, or move it away to believe everybody again`,
        { cause },
      );
    }
    return store;
  }

  /** Why a node is not believed; undefined while it is. Makes nothing. */
  reasonOf(nodeId: NodeId): string | undefined {
    return this.#entries.get(nodeId)?.reason;
  }

  /** Every verdict, the oldest first. */
  list(): Quarantine[] {
    return [...this.#entries.values()];
  }

  /** Stops believing a node; the first reason stays. */
  put(nodeId: NodeId, name: string, reason: string): void {
    if (this.#entries.has(nodeId)) return;
    if (this.#entries.size >= QUARANTINE_COUNT_MAX) {
      const [oldest] = this.#entries.keys();
      if (oldest !== undefined) this.#entries.delete(oldest);
    }
    const text = printableAscii(reason, QUARANTINE_REASON_LENGTH_MAX);
    const quarantine = { nodeId, name, reason: text, sinceMs: Date.now() };
    this.#entries.set(nodeId, quarantine);
    this.#logger.error({ nodeId, name, reason: text }, 'peer quarantined: its pages are not used');
    this.onPut(quarantine);
    if (this.#isSaveDue) return;
    this.#isSaveDue = true;
    setImmediate(() => this.flush());
  }

  /**
   * Believes a node again.
   *
   * @param nodeIdOrName - which; a name of whatever case
   * @throws MemcloudError `ERR_PEER_UNKNOWN` when no quarantined node, or several, go by it
   */
  pardon(nodeIdOrName: string): Quarantine {
    const wanted = nodeIdOrName.toLowerCase();
    const named = this.list().filter(({ name }) => name.toLowerCase() === wanted);
    const entry = this.#entries.get(wanted) ?? named[0];
    if (entry === undefined || (entry.nodeId !== wanted && named.length > 1)) {
      const count = named.length;
      throw new MemcloudError(
        'ERR_PEER_UNKNOWN',
        `quarantine: expected the name or node id of one quarantined node, ${count} go by ` +
          `"${nodeIdOrName}"; see memcloud peer ls`,
      );
    }
    this.#entries.delete(entry.nodeId);
    this.#isSaveDue = true;
    this.flush();
    this.#logger.warn({ nodeId: entry.nodeId, name: entry.name }, 'peer pardoned');
    return entry;
  }

  /** Writes what is not on disk yet. What cannot be written still counts until the process ends. */
  flush(): void {
    if (!this.#isSaveDue) return;
    this.#isSaveDue = false;
    if (this.#file === undefined) return;
    const text = `${JSON.stringify({ format: FORMAT, nodes: this.list() }, null, 2)}\n`;
    try {
      writePrivateFile(this.#file, Buffer.from(text), 'replace');
    } catch (error) {
      const { message } = asMemcloudError(error);
      this.#logger.error({ file: this.#file, message }, 'the quarantine could not be saved');
    }
  }
}

function parseFile(bytes: Buffer): Quarantine[] {
  const file = JSON.parse(bytes.toString('utf8')) as { format?: unknown; nodes?: unknown } | null;
  if (file?.format !== FORMAT || !Array.isArray(file.nodes)) {
    throw new Error(`expected format "${FORMAT}" with a list of nodes`);
  }
  if (file.nodes.length > QUARANTINE_COUNT_MAX) throw new Error('it has too many nodes');
  return file.nodes.map((value: unknown, index) => {
    const { nodeId, name, reason, sinceMs } = (value ?? {}) as Record<string, unknown>;
    if (
      typeof nodeId !== 'string' ||
      !/^[0-9a-f]{32}$/.test(nodeId) ||
      typeof name !== 'string' ||
      !isNodeName(name) ||
      typeof reason !== 'string' ||
      reason !== printableAscii(reason, QUARANTINE_REASON_LENGTH_MAX) ||
      typeof sinceMs !== 'number' ||
      !Number.isFinite(sinceMs)
    ) {
      throw new Error(`node ${index} is malformed`);
    }
    return { nodeId, name, reason, sinceMs };
  });
}
