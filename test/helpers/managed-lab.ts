/** A managed network of real processes: a control node, providers that lend by its word, and clients. */
import fs from 'node:fs';
import path from 'node:path';
import type { Test } from 'tap';
import type { ManagedCall, ManagedParams, ManagedResult } from '../../control-plane/schema.ts';
import { Identity } from '../../peer/identity.ts';
import { LabControl, type LabControlOptions } from './lab-control.ts';
import { LabNode, eventually, labFolder, type LabNodeOptions } from './lab-node.ts';

/** Bytes of a mebibyte. */
export const MIB = 2 ** 20;

/** A lease as the control plane sees it. */
export type LeaseRow = ManagedResult<'lease.list'>['rows'][number];
/** A provider as the control plane sees it. */
export type ProviderRow = ManagedResult<'admin.providers'>['rows'][number];
/** A line of the audit log. */
export type AuditRow = ManagedResult<'admin.audit'>['rows'][number];

/** Whoever can be asked over its socket. */
type Asked = Pick<LabNode, 'use'>;

/** Makes one call of the control plane: as its admin at a control node, as that node at a memnode. */
export function ask<C extends ManagedCall>(
  node: Asked,
  call: C,
  params: ManagedParams<C>,
): Promise<ManagedResult<C>> {
  return node.use(
    async (client) => (await client.call('control.call', { call, params })) as ManagedResult<C>,
  );
}

/** Every lease there is. */
export async function leasesOf(control: Asked): Promise<LeaseRow[]> {
  const rows: LeaseRow[] = [];
  let cursor: string | null = null;
  do {
    const params: ManagedParams<'lease.list'> =
      cursor === null ? { all: true } : { all: true, cursor };
    const page: ManagedResult<'lease.list'> = await ask(control, 'lease.list', params);
    rows.push(...page.rows);
    ({ cursor } = page);
  } while (cursor !== null);
  return rows;
}

/** The provider of a name; undefined when it never registered. */
export async function providerRow(control: Asked, name: string): Promise<ProviderRow | undefined> {
  const { rows } = await ask(control, 'admin.providers', {});
  return rows.find((row) => row.name === name);
}

/** The whole audit log, oldest first. */
export async function auditOf(control: Asked): Promise<AuditRow[]> {
  const rows: AuditRow[] = [];
  for (;;) {
    const page = await ask(control, 'admin.audit', { after: rows.at(-1)?.sequence ?? 0 });
    if (page.rows.length === 0) return rows;
    rows.push(...page.rows);
  }
}

/**
 * When the managed leases of a provider end, by its own word, milliseconds of performance.now(): it said how long
 * they last at some time while it was asked.
 */
export async function deadlineOf(
  provider: LabNode,
): Promise<{ readonly earliestMs: number; readonly latestMs: number }> {
  const askedMs = performance.now();
  const { managed } = (await provider.use((rpc) => rpc.call('status', {}))).provider;
  const endsInMs = Math.max(...managed.map((lease) => lease.endsInMs));
  return { earliestMs: askedMs + endsInMs, latestMs: performance.now() + endsInMs };
}

/** Files in which a node keeps lent memory. */
async function memoryFiles(node: LabNode): Promise<string[]> {
  // Its memory file system is mounted where only its own mount namespace shows it.
  const directory = `/proc/${node.child.pid}/root${await node.memoryDirectory()}`;
  return fs.readdirSync(directory).map((name) => path.join(directory, name));
}

const ZEROES = Buffer.alloc(MIB);

/** What a node holds of others, read from its memory files: bytes of RAM they take, and any that is not zero. */
export class LentMemory {
  readonly #files: readonly string[];

  private constructor(files: readonly string[]) {
    this.#files = files;
  }

  /** Looks at the files that the node has now; they stay as long as it lives. */
  static async of(node: LabNode): Promise<LentMemory> {
    return new LentMemory(await memoryFiles(node));
  }

  /** RAM that the files take. */
  get residentBytes(): number {
    return this.#files.reduce((sum, file) => sum + fs.statSync(file).blocks * 512, 0);
  }

  /** Bytes that are not zero. */
  get nonZeroBytes(): number {
    let count = 0;
    const chunk = Buffer.alloc(MIB);
    for (const file of this.#files) {
      const fd = fs.openSync(file, 'r');
      for (let size = fs.readSync(fd, chunk); size > 0; size = fs.readSync(fd, chunk)) {
        const part = chunk.subarray(0, size);
        if (part.equals(ZEROES.subarray(0, size))) continue;
        for (const byte of part) if (byte !== 0) count += 1;
      }
      fs.closeSync(fd);
    }
    return count;
  }
}

/** What a managed network consists of. */
export interface ManagedLabOptions {
  /** Names of those that lend; default: alpha and beta. */
  readonly providers?: readonly string[];
  /** Names of those that borrow; default: client. */
  readonly clients?: readonly string[];
  /** What each provider lends; default 256M. */
  readonly offer?: string;
  /** Bytes that each client may have; default: no limit. */
  readonly quotaBytes?: number;
  /** More settings of a node. */
  readonly node?: (name: string) => Partial<LabNodeOptions>;
  /** More settings of the control node. */
  readonly control?: Partial<LabControlOptions>;
}

/** See the top of the file. */
export class ManagedLab {
  readonly folder: string;
  readonly #options: ManagedLabOptions;
  readonly #nodes = new Map<string, LabNode>();
  #controls: LabControl[] = [];

  private constructor(folder: string, options: ManagedLabOptions) {
    this.folder = folder;
    this.#options = options;
  }

  /** Starts all of it and waits until providers are up and clients hear the leader. */
  static async start(t: Test, options: ManagedLabOptions = {}): Promise<ManagedLab> {
    const lab = new ManagedLab(labFolder(t), options);
    const control = await lab.addControl(t, { name: 'control', ...options.control });
    await control.waitForLeader();
    const { providers = ['alpha', 'beta'], clients = ['client'] } = options;
    await Promise.all([
      ...providers.map((name) => lab.addProvider(t, name)),
      ...clients.map((name) => lab.addClient(t, name)),
    ]);
    return lab;
  }

  /** A network of these control nodes, without members. */
  static of(folder: string, controls: LabControl[], options: ManagedLabOptions = {}): ManagedLab {
    const lab = new ManagedLab(folder, options);
    lab.#controls = controls;
    return lab;
  }

  /** The (first) control node. */
  get control(): LabControl {
    const [control] = this.#controls;
    if (control === undefined) throw new Error('there is no control node');
    return control;
  }

  /** A node by name. */
  node(name: string): LabNode {
    const node = this.#nodes.get(name);
    if (node === undefined) throw new Error(`there is no node ${name}`);
    return node;
  }

  /** Starts a control node; one of the same name as before takes its place, at the same address. */
  async addControl(
    t: Test,
    options: Partial<LabControlOptions> & { name: string },
  ): Promise<LabControl> {
    const before = this.#controls.find(({ name }) => name === options.name);
    const control = await LabControl.start(t, {
      folder: this.folder,
      ...(before === undefined ? {} : { listen: before.peerAddress }),
      ...options,
    });
    this.#controls = [...this.#controls.filter((each) => each !== before), control];
    return control;
  }

  /** The key that a node has, or will have. */
  identityOf(name: string): Identity {
    const directory = path.join(this.folder, name);
    fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
    return Identity.load(directory);
  }

  /** Starts a node that knows the control nodes; it is no member yet, unless it was one before. */
  async addNode(t: Test, name: string, options: Partial<LabNodeOptions> = {}): Promise<LabNode> {
    const more = this.#options.node?.(name) ?? {};
    const node = await LabNode.start(t, {
      ...{ name, folder: this.folder, autoTrust: false, ...more, ...options },
      flags: [
        ...this.#controls.flatMap(({ peerAddress }) => ['--control-plane', peerAddress]),
        ...this.#controls.flatMap(({ nodeId }) => ['--trust-fingerprint', nodeId]),
        ...(more.flags ?? []),
        ...(options.flags ?? []),
      ],
    });
    this.#nodes.set(name, node);
    return node;
  }

  /** Starts a provider and waits until it is up at the control plane. */
  async addProvider(
    t: Test,
    name: string,
    options: Partial<LabNodeOptions> = {},
  ): Promise<LabNode> {
    const offer = this.#options.offer ?? '256M';
    const key = this.identityOf(name).nodeId;
    await ask(this.control, 'admin.member-put', { key, name, roles: ['provider'] });
    const node = await this.addNode(t, name, { offer, ...options });
    await this.waitForProvider(name, 'up');
    return node;
  }

  /** Starts a client and waits until it hears the leader. */
  async addClient(t: Test, name: string, options: Partial<LabNodeOptions> = {}): Promise<LabNode> {
    const { quotaBytes } = this.#options;
    await ask(this.control, 'admin.member-put', {
      ...{ key: this.identityOf(name).nodeId, name, roles: ['client'] },
      ...(quotaBytes === undefined ? {} : { quotaBytes }),
    });
    const node = await this.addNode(t, name, options);
    await this.waitForClient(node);
    return node;
  }

  /** Waits until a client hears a leader that knows it as a client. */
  async waitForClient(node: LabNode): Promise<void> {
    await eventually(`${node.name} hears the control plane`, async () => {
      const { connected, roles } = await node.use((client) => client.call('managed.status', {}));
      return connected && roles.includes('client');
    });
  }

  /** Waits until the control plane sees a provider so. @returns how long it took, milliseconds */
  async waitForProvider(
    name: string,
    state: ProviderRow['state'],
    timeoutMs?: number,
  ): Promise<number> {
    const startMs = performance.now();
    await eventually(
      `${name} is ${state}`,
      async () => (await providerRow(this.control, name))?.state === state,
      timeoutMs,
    );
    return performance.now() - startMs;
  }
}
