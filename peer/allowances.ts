/**
 * What each other node may use of this one's memory, at most: its *allowance*. It is a decision about a
 * key, like trust, and like trust it is kept in a small file, so that neither a reconnect nor a restart
 * changes it. Nodes that nobody decided about have the default of the configuration, and without one as
 * much as is offered to all.
 *
 * Somebody who connects an address decides before it is known whose address that is. Such a decision waits
 * under the address and becomes the node's when one answers there, proves its key and is let in: before
 * it is told its room, and so before anything is lent to it.
 */
import path from 'node:path';
import { asMemcloudError, MemcloudError } from '../common/errors.ts';
import { silentLogger, type Logger } from '../common/log.ts';
import type { NodeId } from '../common/ports.ts';
import { ALLOWANCE_COUNT_MAX, DIAL_COUNT_MAX } from './constants.ts';
import { dialTarget } from './dialer.ts';
import { readPrivateFile, writePrivateFile } from './private-file.ts';

/** Name of the file in the state directory. */
export const ALLOWANCES_FILE_NAME = 'allowances.json';

const FORMAT = 'memcloud-allowances/1';
const FILE_SIZE_MAX = 1024 * 1024;
const NODE_ID_PATTERN = /^[0-9a-f]{32}$/;
/** A host name of 253 characters, a port and what stands between. */
const ADDRESS_LENGTH_MAX = 300;

/** Bytes, or null for as much as is offered to all. */
type Allowance = number | null;

/** The allowances of other nodes here. */
export class Allowances {
  readonly #file: string | undefined;
  readonly #logger: Logger;
  #nodes = new Map<NodeId, Allowance>();
  /** Decisions about addresses whose node is not known yet, the oldest first. */
  #addresses = new Map<string, Allowance>();
  #default: Allowance = null;

  private constructor(file: string | undefined, logger: Logger) {
    this.#file = file;
    this.#logger = logger;
  }

  /** Allowances that no file holds; for tests and throw-away nodes. */
  static inMemory(): Allowances {
    return new Allowances(undefined, silentLogger);
  }

  /**
   * Reads the allowances of a state directory; no file is none.
   *
   * @throws MemcloudError `ERR_IDENTITY` when the file is damaged or open to others
   */
  static load(stateDirectory: string, logger: Logger): Allowances {
    const file = path.join(stateDirectory, ALLOWANCES_FILE_NAME);
    const store = new Allowances(file, logger);
    try {
      const bytes = readPrivateFile(file, FILE_SIZE_MAX);
      if (bytes !== undefined)
        ({ nodes: store.#nodes, addresses: store.#addresses } = parse(bytes));
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new MemcloudError(
        'ERR_IDENTITY',
        `allowances ${file}: ${why}; restore it, or move it away to allow everybody the default`,
        { cause },
      );
    }
    return store;
  }

  /** What a node may use here at most, bytes; null for as much as is offered to all. Makes nothing. */
  of(nodeId: NodeId): number | null {
    const decided = this.#nodes.get(nodeId);
    return decided === undefined ? this.#default : decided;
  }

  /** What the node will have that answers at a dialled address, as far as it is known now. */
  ofAddress(address: string): number | null {
    const decided = this.#addresses.get(address);
    return decided === undefined ? this.#default : decided;
  }

  /** Changes what nodes have that nobody decided about: at once, for leases to come. */
  setDefault(allowedBytes: number | undefined): void {
    this.#default = allowedBytes ?? null;
  }

  /**
   * Decides about a node, for all that it takes from now on.
   *
   * @param allowedBytes - 0 for nothing, null for as much as is offered to all
   * @throws MemcloudError `ERR_USAGE` beyond 4096 nodes, `ERR_NATIVE` when it cannot be saved; nothing
   *   has changed then
   */
  set(nodeId: NodeId, allowedBytes: number | null): void {
    if (!this.#nodes.has(nodeId) && this.#nodes.size >= ALLOWANCE_COUNT_MAX) {
      throw new MemcloudError(
        'ERR_USAGE',
        `allowances of ${ALLOWANCE_COUNT_MAX} nodes are the most`,
      );
    }
    const nodes = new Map(this.#nodes).set(nodeId, allowedBytes);
    this.#save(nodes, this.#addresses);
    this.#nodes = nodes;
    this.#logger.info({ nodeId, allowedBytes }, 'what a peer may use here was changed');
  }

  /**
   * Decides about the node that will answer at an address. Of more than 256 that wait the oldest is
   * forgotten.
   *
   * @throws MemcloudError `ERR_USAGE_ADDRESS`, `ERR_NATIVE` as {@link Allowances.set}
   */
  expect(address: string, allowedBytes: number | null): void {
    const { key } = dialTarget(address);
    const addresses = new Map(this.#addresses);
    addresses.delete(key);
    addresses.set(key, allowedBytes);
    const [oldest] = addresses.keys();
    if (addresses.size > DIAL_COUNT_MAX && oldest !== undefined) addresses.delete(oldest);
    this.#save(this.#nodes, addresses);
    this.#addresses = addresses;
  }

  /**
   * A node that is let in answers at an address that we dialled: what was decided about the address is
   * decided about the node. What cannot be saved then counts all the same, until the process ends.
   */
  bind(address: string, nodeId: NodeId): void {
    const allowedBytes = this.#addresses.get(address);
    if (allowedBytes === undefined) return;
    this.#addresses.delete(address);
    this.#nodes.delete(nodeId);
    const [oldest] = this.#nodes.keys();
    if (this.#nodes.size >= ALLOWANCE_COUNT_MAX && oldest !== undefined) this.#nodes.delete(oldest);
    this.#nodes.set(nodeId, allowedBytes);
    this.#logger.info({ nodeId, address, allowedBytes }, 'what a peer may use here was decided');
    this.#trySave();
  }

  /** Forgets what was decided about a node, for example when its trust ends. */
  forget(nodeId: NodeId): void {
    if (this.#nodes.delete(nodeId)) this.#trySave();
  }

  #trySave(): void {
    try {
      this.#save(this.#nodes, this.#addresses);
    } catch (error) {
      this.#logger.error({}, asMemcloudError(error).message);
    }
  }

  #save(nodes: Map<NodeId, Allowance>, addresses: Map<string, Allowance>): void {
    if (this.#file === undefined) return;
    const text = JSON.stringify(
      {
        format: FORMAT,
        nodes: Array.from(nodes, ([nodeId, allowedBytes]) => ({ nodeId, allowedBytes })),
        addresses: Array.from(addresses, ([address, allowedBytes]) => ({ address, allowedBytes })),
      },
      null,
      2,
    );
    try {
      writePrivateFile(this.#file, Buffer.from(`${text}\n`), 'replace');
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new MemcloudError('ERR_NATIVE', `allowances cannot be saved: ${why}`, { cause });
    }
  }
}

interface Contents {
  readonly nodes: Map<NodeId, Allowance>;
  readonly addresses: Map<string, Allowance>;
}

function parse(bytes: Buffer): Contents {
  const file = JSON.parse(bytes.toString('utf8')) as Record<string, unknown> | null;
  if (file?.['format'] !== FORMAT) throw new Error(`expected format "${FORMAT}"`);
  const isNode = (text: string): boolean => NODE_ID_PATTERN.test(text);
  const isAddress = (text: string): boolean => text !== '' && text.length <= ADDRESS_LENGTH_MAX;
  return {
    nodes: rows(file['nodes'], 'nodeId', isNode, ALLOWANCE_COUNT_MAX),
    addresses: rows(file['addresses'], 'address', isAddress, DIAL_COUNT_MAX),
  };
}

function rows(
  value: unknown,
  key: string,
  isKey: (text: string) => boolean,
  countMax: number,
): Map<string, Allowance> {
  if (!Array.isArray(value) || value.length > countMax) {
    throw new Error(`expected a list of at most ${countMax} with ${key}`);
  }
  const found = new Map<string, Allowance>();
  for (const [index, row] of (value as unknown[]).entries()) {
    const { [key]: name, allowedBytes } = (row ?? {}) as Record<string, unknown>;
    const isAllowance =
      allowedBytes === null || (Number.isSafeInteger(allowedBytes) && Number(allowedBytes) >= 0);
    if (typeof name !== 'string' || !isKey(name) || !isAllowance || found.has(name)) {
      throw new Error(`the row ${index} with ${key} is malformed or there twice`);
    }
    found.set(name, allowedBytes as Allowance);
  }
  return found;
}
