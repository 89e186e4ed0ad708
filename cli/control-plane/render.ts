/** The control plane as people read it: tables, lines of the log, and a sheet for a spreadsheet. */
import type {
  ControlAuditLine,
  ControlLease,
  ControlMember,
  ControlProvider,
  ControlStatus,
  ControlUsage,
} from '../../common/rpc-control.ts';
import { fingerprintOf } from '../../common/fingerprint.ts';
import { formatDuration, formatSize } from '../../common/units.ts';
import { printable, table } from '../output.ts';

const GIB_HOUR = 2 ** 30 * 3600;
const ID_LENGTH = 12;

/** `1 lease`, `2 leases`. */
export function leasesText(count: number): string {
  return `${count} ${count === 1 ? 'lease' : 'leases'}`;
}

/** A limit, or that there is none. */
function limit(value: number | null, show: (value: number) => string): string {
  return value === null ? '-' : show(value);
}

/** `admin.status`. */
export function renderControlStatus(status: ControlStatus): string {
  const { controlNodes, providers, offeredBytes, reservedBytes, leaseCount, members } = status;
  const nodes = controlNodes.map(({ name, nodeId, address, leads }) => {
    return [
      name,
      address || '-',
      leads ? `leads, term ${status.epoch}` : '',
      fingerprintOf(nodeId),
    ];
  });
  return [
    `control plane ${status.cluster}, store ${printable(status.store)}`,
    table(['CONTROL NODE', 'ADDRESS', '', 'THEY ARE'], nodes),
    '',
    `providers ${providers.up} of ${providers.known} up; ${members} ${members === 1 ? 'member' : 'members'}`,
    `leased ${formatSize(reservedBytes)} of ${formatSize(offeredBytes)}; ${leasesText(leaseCount)}`,
    `requests in the last minute: ${status.grantedLastMinute} granted, ${status.deniedLastMinute} denied`,
  ].join('\n');
}

/** `admin.providers`. */
export function renderProviders(providers: readonly ControlProvider[]): string {
  if (providers.length === 0) return 'No provider is known yet.';
  const rows = providers.map((row) => [
    ...[row.name, row.nodeId.slice(0, ID_LENGTH), row.address || '-', row.zone || '-', row.state],
    ...[formatSize(row.reservedBytes), formatSize(row.offeredBytes), `${row.leaseCount}`],
    `${formatDuration(row.seenMsAgo)} ago`,
  ]);
  const columns = ['NAME', 'ID', 'ADDRESS', 'ZONE', 'STATE', 'LEASED', 'OFFERS', 'LEASES', 'SEEN'];
  return table(columns, rows);
}

/** `admin.members`. */
export function renderMembers(members: readonly ControlMember[]): string {
  if (members.length === 0) return 'There is no member yet: memcloud control-plane invite';
  const rows = members.map((row) => [
    ...[row.name || '-', row.nodeId.slice(0, ID_LENGTH) || 'not seen yet', row.roles.join(' ')],
    ...[formatSize(row.usedBytes), limit(row.quotaBytes, formatSize)],
    ...[`${row.usedLeases}`, limit(row.quotaLeases, String)],
    row.connected ? 'yes' : 'no',
  ]);
  const columns = ['NAME', 'ID', 'ROLES', 'LEASED', 'QUOTA', 'LEASES', 'AT MOST', 'CONNECTED'];
  return table(columns, rows);
}

/** `lease.list`. */
export function renderLeases(leases: readonly ControlLease[]): string {
  if (leases.length === 0) return 'Nothing is leased.';
  const rows = leases.map((row) => [
    ...[row.leaseId, row.clientName || row.client.slice(0, ID_LENGTH)],
    ...[row.providerName || row.provider.slice(0, ID_LENGTH), formatSize(row.sizeBytes)],
    ...[row.state, formatDuration(row.endsInMs), row.purpose || '-'],
  ]);
  return table(['LEASE', 'CLIENT', 'PROVIDER', 'SIZE', 'STATE', 'ENDS IN', 'FOR'], rows);
}

/** `admin.usage`. */
export function renderUsage(usage: readonly ControlUsage[]): string {
  if (usage.length === 0) return 'No client has leased anything yet.';
  const rows = usage.map((row) => [
    ...[row.name || row.client.slice(0, ID_LENGTH), formatSize(row.usedBytes)],
    ...[limit(row.quotaBytes, formatSize), formatSize(row.peakBytes)],
    (row.byteSeconds / GIB_HOUR).toFixed(3),
    ...[`${row.leasesGranted}`, `${row.leasesDenied}`],
  ]);
  return table(['CLIENT', 'LEASED', 'QUOTA', 'PEAK', 'GIB HOURS', 'GRANTED', 'DENIED'], rows);
}

/** A field of RFC 4180: quoted when it has to be. */
function csvField(value: string | number | null): string {
  const text = value === null ? '' : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** `admin.usage` as RFC 4180 has it, with a header row; an empty quota is none. */
export function usageCsv(usage: readonly ControlUsage[]): string {
  const header = [
    ...['client', 'name', 'used_bytes', 'used_leases', 'quota_bytes', 'peak_bytes'],
    ...['byte_seconds', 'leases_granted', 'leases_denied'],
  ];
  const rows = usage.map((row) => [
    ...[row.client, printable(row.name), row.usedBytes, row.usedLeases, row.quotaBytes],
    ...[row.peakBytes, Math.round(row.byteSeconds), row.leasesGranted, row.leasesDenied],
  ]);
  return [header, ...rows].map((row) => `${row.map(csvField).join(',')}\r\n`).join('');
}

/** A value as text: words of a list with commas between them, anything deeper as JSON. */
function textOf(value: unknown): string {
  if (typeof value === 'string') return value;
  const isList = Array.isArray(value) && value.every((each) => typeof each !== 'object');
  return isList ? value.join(',') : (JSON.stringify(value) ?? '');
}

/** The fields of an event on one line: `key=value`, text in quotes when it has blanks. */
export function renderDetail(detail: Readonly<Record<string, unknown>>): string {
  return Object.entries(detail)
    .map(([name, value]) => {
      const text = textOf(value);
      const isPlain = /^[^\s"=]+$/.test(text);
      return `${printable(name)}=${printable(isPlain ? text : JSON.stringify(text))}`;
    })
    .join(' ');
}

/** A line of the audit log. */
export function renderAuditLine({ sequence, at, event, detail }: ControlAuditLine): string {
  return `${sequence}  ${printable(at)}  ${printable(event)}  ${renderDetail(detail)}`.trimEnd();
}
