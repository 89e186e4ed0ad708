/**
 * What a node reads when it begins to lead: everything, page by page. Nobody else writes meanwhile (the
 * fence of the term before no longer holds), except for a transaction of our own whose answer was lost:
 * the head of the audit log is in every transaction, so if it stood still the pages are of one state.
 */
import { MemcloudError } from '../common/errors.ts';
import { AUDIT_HEAD_KEY, EMPTY_AUDIT_HEAD, parseAuditHead, type AuditHead } from './audit.ts';
import type { StoredState } from './ledger-state.ts';
import type { MetaEntry, MetaStore } from './meta-store.ts';
import { PREFIX, readRecord } from './record-codec.ts';

const PAGE_COUNT = 1000;
const TRY_COUNT = 3;

/** What was read. */
export interface LoadedState {
  readonly stored: StoredState;
  readonly head: AuditHead;
  /** Of the entry of the head; 0: there is none. */
  readonly headRevision: number;
}

/** All entries below a prefix, and the revision at which the first was read. @throws MemcloudError `ERR_CONTROL_STORE` */
export async function listAll(
  store: MetaStore,
  prefix: string,
): Promise<{ entries: MetaEntry[]; revision: number }> {
  const entries: MetaEntry[] = [];
  let revision: number | undefined;
  for (;;) {
    const after = entries.at(-1)?.key;
    const options = { countMax: PAGE_COUNT, ...(after === undefined ? {} : { after }) };
    const page = await store.list(prefix, options);
    revision ??= page.revision;
    entries.push(...page.entries);
    if (page.entries.length < PAGE_COUNT) return { entries, revision };
  }
}

/** Reads all that a leader remembers. @throws MemcloudError `ERR_CONTROL_STORE` */
export async function loadState(store: MetaStore): Promise<LoadedState> {
  for (let tries = 0; tries < TRY_COUNT; tries += 1) {
    const before = await store.get(AUDIT_HEAD_KEY);
    const read = async <T>(prefix: string, reader: (value: string) => T): Promise<T[]> =>
      (await listAll(store, prefix)).entries.map(({ value }) => reader(value));
    const stored: StoredState = {
      members: await read(PREFIX.member, readRecord.member),
      providers: await read(PREFIX.provider, readRecord.provider),
      leases: await read(PREFIX.lease, readRecord.lease),
      tokenKeys: (await listAll(store, PREFIX.token)).entries.map(({ key }) => key),
      requests: (await listAll(store, PREFIX.request)).entries.map(({ key, value }) => ({
        requestId: key.slice(PREFIX.request.length),
        record: readRecord.request(value),
      })),
      usage: await read(PREFIX.usage, readRecord.usage),
    };
    const after = await store.get(AUDIT_HEAD_KEY);
    const headRevision = before?.revision ?? 0;
    if ((after?.revision ?? 0) !== headRevision) continue;
    const head = before === undefined ? EMPTY_AUDIT_HEAD : parseAuditHead(before.value);
    return { stored, head, headRevision };
  }
  throw new MemcloudError(
    'ERR_CONTROL_STORE',
    'the store changed while it was read; another control node seems to write to it',
  );
}
