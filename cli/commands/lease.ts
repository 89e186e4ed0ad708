/** `memcloud lease`: memory that the control plane leases to this node, for a time. */
import { MemcloudError } from '../../common/errors.ts';
import type { ManagedLeaseInfo } from '../../common/rpc-managed.ts';
import { formatDuration, formatSize, parseSize } from '../../common/units.ts';
import type { MemcloudClient } from '../../sdk/client.ts';
import { command, group, withDaemon, type Command } from '../command.ts';
import { MANAGED_CALL_TIMEOUT_MS, parseTtl } from '../managed-options.ts';
import { printData, printable, table } from '../output.ts';

const TIMEOUT = { timeoutMs: MANAGED_CALL_TIMEOUT_MS };
/** As many digits tell leases apart in practice; the others are in --json. */
const SHOWN_DIGITS = 12;

/** Leases as a table, and under it what is not well. */
export function renderLeases(leases: readonly ManagedLeaseInfo[]): string {
  if (leases.length === 0) return 'No managed leases. Get one: memcloud lease request 1G';
  const rows = leases.map((lease) => [
    lease.leaseId.slice(0, SHOWN_DIGITS),
    lease.providerName,
    formatSize(lease.sizeBytes),
    formatSize(lease.usedBytes),
    lease.state,
    lease.state === 'ended' ? '-' : formatDuration(lease.endsInMs),
    lease.renews ? 'yes' : 'no',
    lease.purpose,
  ]);
  const head = ['LEASE', 'PROVIDER', 'SIZE', 'USED', 'STATE', 'ENDS IN', 'RENEWED', 'FOR'];
  const troubles = leases
    .filter(({ problem, reason }) => problem !== '' || reason !== '')
    .map(({ leaseId, problem, reason }) => {
      return printable(`${leaseId.slice(0, SHOWN_DIGITS)}: ${problem || reason}`);
    });
  return [table(head, rows), ...troubles].join('\n');
}

/** Everybody's leases, as the control plane answers. */
interface AllLeases {
  readonly rows: readonly {
    readonly leaseId: string;
    readonly clientName: string;
    readonly providerName: string;
    readonly sizeBytes: number;
    readonly state: string;
    readonly endsInMs: number;
    readonly purpose: string;
  }[];
  readonly cursor: string | null;
}

function renderAll(rows: AllLeases['rows']): string {
  if (rows.length === 0) return 'No managed leases.';
  return table(
    ['LEASE', 'CLIENT', 'PROVIDER', 'SIZE', 'STATE', 'ENDS IN', 'FOR'],
    rows.map((row) => [
      row.leaseId,
      row.clientName,
      row.providerName,
      formatSize(row.sizeBytes),
      row.state,
      formatDuration(row.endsInMs),
      row.purpose,
    ]),
  );
}

async function everyLease(client: MemcloudClient): Promise<AllLeases['rows']> {
  const rows: AllLeases['rows'][number][] = [];
  let cursor: string | null = null;
  do {
    const params = { all: true, ...(cursor === null ? {} : { cursor }) };
    const answer = await client.call('control.call', { call: 'lease.list', params });
    const page = answer as AllLeases;
    rows.push(...page.rows);
    ({ cursor } = page);
  } while (cursor !== null);
  return rows;
}

/**
 * The whole ids of leases by their first digits.
 *
 * @throws MemcloudError `ERR_LEASE_UNKNOWN`, `ERR_USAGE` when several begin so
 */
export function wholeIds(
  written: readonly string[],
  leases: readonly Pick<ManagedLeaseInfo, 'leaseId'>[],
): string[] {
  return written.map((text) => {
    const wanted = text.toLowerCase();
    const found = leases.filter(({ leaseId }) => leaseId.startsWith(wanted));
    const [first] = found;
    if (first === undefined || wanted === '') {
      const what = `this node holds no managed lease ${text}: memcloud lease ls`;
      throw new MemcloudError('ERR_LEASE_UNKNOWN', what);
    }
    if (found.length === 1) return first.leaseId;
    throw new MemcloudError('ERR_USAGE', `${found.length} managed leases begin with ${text}`);
  });
}

async function idsOf(client: MemcloudClient, written: readonly string[]): Promise<string[]> {
  return wholeIds(written, await client.call('managed.list', {}));
}

interface RequestFlags {
  size: string;
  ttl: string | undefined;
  count: number;
  zone: string | undefined;
  provider: string[] | undefined;
  renew: boolean;
}

const request = command<RequestFlags>({
  command: 'request <size>',
  describe: 'lease memory from providers that the control plane chooses',
  builder: (argv) =>
    argv
      .positional('size', {
        type: 'string',
        demandOption: true,
        describe: 'of each lease, such as 512M or 8GiB, with the metadata of the slabs in it',
      })
      .option('ttl', {
        type: 'string',
        describe: 'how long it lives without renewal, 5s to 24h (default 10m)',
      })
      .option('count', {
        type: 'number',
        default: 1,
        describe: 'leases, each on another machine: all of them or none',
      })
      .option('zone', { type: 'string', describe: 'only providers of this zone' })
      .option('provider', {
        type: 'string',
        array: true,
        nargs: 1,
        describe: 'only this provider, by node id, or by name if it is known here; may be repeated',
      })
      .option('renew', {
        type: 'boolean',
        default: true,
        describe: 'renew it until it is released; --no-renew lets it end',
      })
      .example('$0 lease request 1G --count 2', 'one gibibyte on each of two machines')
      .example('$0 lease request 1G --ttl 1h --no-renew', 'one gibibyte for one hour'),
  handler: (flags) => {
    const { size, ttl, count, zone, provider, renew } = flags;
    const wish = {
      ...{ sizeBytes: parseSize(size), count, renew },
      ...(ttl === undefined ? {} : { ttlMs: parseTtl(ttl) }),
      ...(zone === undefined ? {} : { zone }),
      ...(provider === undefined ? {} : { providers: provider }),
    };
    return withDaemon(flags, async (client) => {
      printData(flags, await client.call('managed.request', wish, TIMEOUT), renderLeases);
    });
  },
});

const list = command<{ all: boolean }>({
  command: 'ls',
  aliases: ['list'],
  describe: 'list the managed leases of this node, and how long each still lives',
  builder: (argv) =>
    argv.option('all', {
      type: 'boolean',
      default: false,
      describe: 'everybody’s, by the word of the control plane (for admins)',
    }),
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      if (flags.all) printData(flags, await everyLease(client), renderAll);
      else printData(flags, await client.call('managed.list', {}), renderLeases);
    }),
});

const renew = command<{ leases: string[]; ttl: string | undefined }>({
  command: 'renew <leases..>',
  describe: 'renew leases now',
  builder: (argv) =>
    argv
      .positional('leases', {
        type: 'string',
        array: true,
        demandOption: true,
        describe: 'from memcloud lease ls; its first digits do',
      })
      .option('ttl', {
        type: 'string',
        describe: 'how long it lives from now on (default: as it was asked for)',
      }),
  handler: (flags) => {
    const ttlMs = flags.ttl === undefined ? undefined : parseTtl(flags.ttl);
    return withDaemon(flags, async (client) => {
      const leaseIds = await idsOf(client, flags.leases);
      const wish = { leaseIds, ...(ttlMs === undefined ? {} : { ttlMs }) };
      printData(flags, await client.call('managed.renew', wish, TIMEOUT), renderLeases);
    });
  },
});

const release = command<{ leases: string[]; force: boolean }>({
  command: 'release <leases..>',
  describe: 'give leases back: their providers wipe them',
  builder: (argv) =>
    argv
      .positional('leases', {
        type: 'string',
        array: true,
        demandOption: true,
        describe: 'from memcloud lease ls; its first digits do',
      })
      .option('force', {
        type: 'boolean',
        default: false,
        describe: 'also those under a volume, a mount or swap, whose pages are gone then',
      }),
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      const leaseIds = await idsOf(client, flags.leases);
      await client.call('managed.release', { leaseIds, force: flags.force }, TIMEOUT);
      printData(flags, null, () => `Released ${leaseIds.length}.`);
    }),
});

interface RevokeFlags {
  leases: string[] | undefined;
  client: string | undefined;
  provider: string | undefined;
}

const revoke = command<RevokeFlags>({
  command: 'revoke [leases..]',
  describe: 'end leases of anybody at once (for admins of the control plane)',
  builder: (argv) =>
    argv
      .positional('leases', {
        type: 'string',
        array: true,
        describe: 'whole ids, from memcloud lease ls --all',
      })
      .option('client', { type: 'string', describe: 'all leases of this client' })
      .option('provider', { type: 'string', describe: 'all leases on this provider' }),
  handler: (flags) => {
    const { leases = [], client: whose, provider } = flags;
    if (leases.length === 0 && whose === undefined && provider === undefined) {
      throw new MemcloudError('ERR_USAGE', 'lease revoke: expected leases, --client or --provider');
    }
    const params = {
      ...(leases.length === 0 ? {} : { leaseIds: leases }),
      ...(whose === undefined ? {} : { client: whose }),
      ...(provider === undefined ? {} : { provider }),
    };
    return withDaemon(flags, async (client) => {
      const answer = await client.call('control.call', { call: 'admin.revoke', params }, TIMEOUT);
      const done = answer as { revoked: number; unknown: string[] };
      printData(flags, done, ({ revoked, unknown }) =>
        [`Revoked ${revoked}.`, ...unknown.map((id) => `unknown: ${printable(id)}`)].join('\n'),
      );
    });
  },
});

/** The commands of this file. */
export const commands: readonly Command[] = [
  group('lease', 'memory that the control plane leases to this node', [
    request,
    list,
    renew,
    release,
    revoke,
  ]),
];
