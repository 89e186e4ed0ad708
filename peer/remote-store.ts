/**
 * A remote provider as the tier sees it (SlabSource), and as the consumer of direct exports does
 * (DirectSource): the same object whatever sessions come and go beneath it. Page queues are numbers on the session; a session that dies ends its calls with
 * UNREACHABLE, calls while there is none are refused, and the next session tells the refused that
 * they may try again.
 */
import { DIRECT_EXPORT_COUNT_MAX } from '../common/direct-constants.ts';
import { MemcloudError } from '../common/errors.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import type {
  DirectExport,
  DirectRequest,
  DirectSource,
  DirectTicket,
  DirectTransport,
  IoStatusValue,
  NodeId,
  PageCompletionSink,
  PageQueue,
  ProviderUsage,
  SlabGrant,
  SlabRecall,
  SlabRequest,
  SlabSource,
} from '../common/ports.ts';
import { Feature, LEASE_ID_COUNT_MAX, PAGE_QUEUE_COUNT_MAX } from './constants.ts';
import { decodeGrant, decodeUnknownLeases } from './control.ts';
import {
  decodeDirectExports,
  decodeDirectTicket,
  decodeOpenedExport,
  decodeUnknownExports,
} from './direct-control.ts';
import type { PackedMap } from './message-pack.ts';
import { Quarantines } from './quarantines.ts';
import type { Session, SessionClient } from './session.ts';

const NO_USAGE: ProviderUsage = { offeredBytes: 0, usedBytes: 0, residentBytes: 0, leaseCount: 0 };

/** A remote node that lends memory, or did. */
export class RemoteStore implements SlabSource, DirectSource, SessionClient {
  readonly nodeId: NodeId;
  /** Called when leases ended without the consumer's doing. */
  onLeasesLost: ((leaseIds: readonly string[]) => void) | undefined;
  #nodeName: string;
  #hostId = '';
  #zone = '';
  #accepting = true;
  #avoided = false;
  readonly #quarantines: Quarantines;
  readonly #isGuest: (nodeId: NodeId) => boolean;
  readonly #recallListeners = new Set<(recall: SlabRecall) => void>();
  #usage = NO_USAGE;
  #session: Session | undefined;
  readonly #queues: (RemotePageQueue | undefined)[] = [];

  /**
   * @param quarantines - where it is kept that its pages are not believed
   * @param isGuest - whether a node is a guest now; by default none is
   */
  constructor(
    nodeId: NodeId,
    nodeName: string,
    quarantines = Quarantines.inMemory(),
    isGuest: (nodeId: NodeId) => boolean = () => false,
  ) {
    this.nodeId = nodeId;
    this.#nodeName = nodeName;
    this.#quarantines = quarantines;
    this.#isGuest = isGuest;
  }

  /** What people call it; the name of the last session. */
  get nodeName(): string {
    return this.#nodeName;
  }

  /** True while a session lives; false already when the calls of one that ends are ended. */
  get up(): boolean {
    return this.#session?.ended === false;
  }

  /** The provider's last word on its room. */
  get usage(): ProviderUsage {
    return this.#usage;
  }

  /** Whether it was let in only because a control plane says so: nothing goes there but under managed leases. */
  get isGuest(): boolean {
    return this.#isGuest(this.nodeId);
  }

  /** True while a volume has a way in. */
  get inUse(): boolean {
    return this.#queues.some((queue) => queue !== undefined);
  }

  /** Smoothed round trip of the live session, milliseconds. */
  get roundTripMs(): number {
    return this.#session?.roundTripMs ?? 0;
  }

  /** The machine that it ran on in the last session, by its own word. */
  get hostId(): string {
    return this.#hostId;
  }

  /** Its zone in the last session, by its own word. */
  get zone(): string {
    return this.#zone;
  }

  /** False while it grants no leases, or an operator of this node drains it. */
  get accepting(): boolean {
    return this.#accepting && !this.#avoided;
  }

  /** True while an operator of this node drains it. */
  get avoided(): boolean {
    return this.#avoided;
  }

  /** Whether to take no new slabs there, whatever it says. */
  setAvoided(avoided: boolean): void {
    this.#avoided = avoided;
  }

  /** Why its pages are not believed any more. */
  get quarantineReason(): string | undefined {
    return this.#quarantines.reasonOf(this.nodeId);
  }

  /** Stops believing its pages, until a person lifts it; kept over restarts. */
  quarantine(reason: string): void {
    this.#quarantines.put(this.nodeId, this.#nodeName, reason);
  }

  /** Listens for leases that the provider asks back. */
  onRecall(listener: (recall: SlabRecall) => void): () => void {
    this.#recallListeners.add(listener);
    return () => this.#recallListeners.delete(listener);
  }

  /** IP address that the session leads to; empty while there is none. */
  get host(): string {
    return this.#session?.host ?? '';
  }

  /** The live session, for page queues. */
  get session(): Session | undefined {
    return this.#session;
  }

  /** Leases a slab. */
  async lease(request: SlabRequest): Promise<SlabGrant> {
    const { pageCount, ttlMs, under } = request;
    const body = { method: 'lease', pageCount, ttlMs } as const;
    if (under === undefined) return this.#live().control(body, decodeGrant);
    return this.#liveManaged().control({ ...body, under }, decodeGrant);
  }

  /** Renews leases, however many. */
  async renew(leaseIds: readonly string[], ttlMs: number): Promise<string[]> {
    const unknown: string[] = [];
    for (let at = 0; at < leaseIds.length; at += LEASE_ID_COUNT_MAX) {
      const part = leaseIds.slice(at, at + LEASE_ID_COUNT_MAX);
      const request = { method: 'renew', leaseIds: part, ttlMs } as const;
      unknown.push(...(await this.#live().control(request, decodeUnknownLeases)));
    }
    return unknown;
  }

  /** Gives a lease back. */
  async release(leaseId: string): Promise<void> {
    await this.#live().control({ method: 'release', leaseId }, () => undefined);
  }

  /** Opens a way in for one volume. @throws MemcloudError `ERR_INTERNAL` beyond 4096 queues */
  openPageQueue(sink: PageCompletionSink): PageQueue {
    let index = this.#queues.indexOf(undefined);
    if (index < 0) index = this.#queues.length;
    if (index >= PAGE_QUEUE_COUNT_MAX) {
      throw new MemcloudError('ERR_INTERNAL', `more than ${PAGE_QUEUE_COUNT_MAX} page queues`);
    }
    const queue = new RemotePageQueue(this, index, sink, () => {
      this.#session?.requests.abandonOwner(index);
      this.#queues[index] = undefined;
    });
    this.#queues[index] = queue;
    return queue;
  }

  // --- DirectSource --------------------------------------------------------------------------------

  /** Opens a direct export. */
  async openDirect(request: DirectRequest): Promise<DirectExport> {
    const { sizeBytes, ttlMs, under } = request;
    if (under !== undefined) this.#liveManaged();
    const from = under === undefined ? {} : { under };
    const body = { method: 'direct-open', sizeBytes, ttlMs, ...from } as const;
    return this.#liveDirect().control(body, (fields) => decodeOpenedExport(fields, sizeBytes));
  }

  /** Gets a ticket for one data connection. */
  async directTicket(
    exportId: string,
    consumerNonce: string,
    transport: DirectTransport = 'tls',
  ): Promise<DirectTicket> {
    const asked = transport === 'plain' ? ({ transport } as const) : {};
    const body = { method: 'direct-ticket', exportId, consumerNonce, ...asked } as const;
    const decode = (fields: PackedMap): DirectTicket => decodeDirectTicket(fields, transport);
    const ticket = await this.#liveDirect().control(body, decode);
    if (ticket.transport === transport) return ticket;
    throw new MemcloudError(
      'ERR_UNSUPPORTED',
      `node "${this.#nodeName}" takes no data connections without TLS; it may need a newer memnode`,
    );
  }

  /** Renews direct exports, however many. */
  async renewDirect(exportIds: readonly string[]): Promise<string[]> {
    const unknown: string[] = [];
    for (let at = 0; at < exportIds.length; at += DIRECT_EXPORT_COUNT_MAX) {
      const part = exportIds.slice(at, at + DIRECT_EXPORT_COUNT_MAX);
      const body = { method: 'direct-renew', exportIds: part } as const;
      const decode = (fields: PackedMap): string[] => decodeUnknownExports(fields, part);
      unknown.push(...(await this.#liveDirect().control(body, decode)));
    }
    return unknown;
  }

  /** Gives a direct export back. */
  async closeDirect(exportId: string): Promise<void> {
    await this.#liveDirect().control({ method: 'direct-close', exportId }, () => undefined);
  }

  /** Every direct export that this node holds there. */
  async listDirect(): Promise<DirectExport[]> {
    return this.#liveDirect().control({ method: 'direct-list' }, decodeDirectExports);
  }

  // --- Sessions ------------------------------------------------------------------------------------

  /** A session with the node lives: it carries the calls from now on. */
  attach(session: Session, told: { usage: ProviderUsage; accepting: boolean }): void {
    this.#session = session;
    this.#nodeName = session.peer.name;
    this.#hostId = session.hostId;
    this.#zone = session.zone;
    this.#usage = told.usage;
    this.#accepting = told.accepting;
    this.onCredit();
  }

  /** The session that carried the calls is about to end or has ended. */
  detach(session: Session): void {
    if (this.#session === session) this.#session = undefined;
  }

  // --- SessionClient -------------------------------------------------------------------------------

  /** A read ended. */
  onPagesRead(
    owner: number,
    tag: number,
    status: IoStatusValue,
    pages: NativeBuffer,
    offset: number,
  ): void {
    this.#queues[owner]?.sink.onPagesRead(tag, status, pages, offset);
  }

  /** A write or trim ended. */
  onPagesDone(owner: number, tag: number, status: IoStatusValue): void {
    this.#queues[owner]?.sink.onPagesDone(tag, status);
  }

  /** Refused calls would be taken now. */
  onCredit(): void {
    for (const queue of this.#queues) queue?.offerCredit();
  }

  /** The provider's room changed. */
  onUsage(usage: ProviderUsage): void {
    this.#usage = usage;
  }

  /** Leases ended. */
  onLeasesEnded(leaseIds: readonly string[]): void {
    this.onLeasesLost?.(leaseIds);
  }

  /** The provider asks for leases back. */
  onLeasesRecalled(recall: SlabRecall): void {
    for (const listener of this.#recallListeners) listener(recall);
  }

  /** Whether the provider grants leases has changed. */
  onAccepting(accepting: boolean): void {
    this.#accepting = accepting;
  }

  #live(): Session {
    if (this.#session === undefined) {
      throw new MemcloudError('ERR_PEER_UNREACHABLE', `node "${this.#nodeName}" is not connected`);
    }
    return this.#session;
  }

  /** An older node would take no notice of `under`, and lend what nobody manages. */
  #liveManaged(): Session {
    const session = this.#live();
    if (session.features.includes(Feature.MANAGED)) return session;
    throw new MemcloudError(
      'ERR_UNSUPPORTED',
      `node "${this.#nodeName}" lends nothing under managed leases; it may need a newer memnode`,
    );
  }

  /** To a node that does not serve direct exports the methods are no requests: nothing may be sent. */
  #liveDirect(): Session {
    const session = this.#live();
    if (!session.features.includes(Feature.DIRECT)) {
      throw new MemcloudError(
        'ERR_UNSUPPORTED',
        `node "${this.#nodeName}" serves no direct exports; it may need a newer memnode`,
      );
    }
    return session;
  }
}

/** One volume's way to the slabs of one remote node. */
class RemotePageQueue implements PageQueue {
  readonly sink: PageCompletionSink;
  readonly #store: RemoteStore;
  readonly #index: number;
  readonly #onClose: () => void;
  #refused = false;
  #closed = false;

  constructor(store: RemoteStore, index: number, sink: PageCompletionSink, onClose: () => void) {
    this.#store = store;
    this.#index = index;
    this.sink = sink;
    this.#onClose = onClose;
  }

  /** Reads. */
  readPages(tag: number, slabHandle: number, firstPage: number, pageCount: number): boolean {
    const requests = this.#closed ? undefined : this.#store.session?.requests;
    const taken = requests?.readPages(this.#index, tag, slabHandle, firstPage, pageCount) ?? false;
    if (!taken) this.#refused = true;
    return taken;
  }

  /** Writes. */
  writePages(
    tag: number,
    slabHandle: number,
    firstPage: number,
    pageCount: number,
    from: NativeBuffer,
    fromOffset: number,
  ): boolean {
    const requests = this.#closed ? undefined : this.#store.session?.requests;
    const taken =
      requests?.writePages(this.#index, tag, slabHandle, firstPage, pageCount, from, fromOffset) ??
      false;
    if (!taken) this.#refused = true;
    return taken;
  }

  /** Drops pages. */
  trimPages(tag: number, slabHandle: number, firstPage: number, pageCount: number): boolean {
    const requests = this.#closed ? undefined : this.#store.session?.requests;
    const taken = requests?.trimPages(this.#index, tag, slabHandle, firstPage, pageCount) ?? false;
    if (!taken) this.#refused = true;
    return taken;
  }

  /** Gives the queue up; calls in flight end with SHUTDOWN before the return. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#onClose();
  }

  /** Tells the owner of refused calls to try again. */
  offerCredit(): void {
    if (!this.#refused || this.#closed) return;
    this.#refused = false;
    this.sink.onCredit();
  }
}
