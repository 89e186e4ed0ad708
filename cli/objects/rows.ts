/** Objects as the command line prints them. */
import type { ObjectRow } from '../../common/rpc-objects.ts';
import { formatDuration, formatSize } from '../../common/units.ts';
import { printable, table } from '../output.ts';

/** An object as JSON: bytes are base64. */
export type ObjectJson = Omit<ObjectRow, 'meta'> & { readonly meta: string };

/** Makes an object JSON. */
export function objectJson(row: ObjectRow): ObjectJson {
  return { ...row, meta: Buffer.from(row.meta).toString('base64') };
}

/** Its key, or its block id. */
export function objectName({ key, id }: ObjectRow): string {
  return key ?? id ?? '';
}

function lifeOf({ expiresInMs }: ObjectRow): string {
  return expiresInMs === null ? '-' : formatDuration(expiresInMs);
}

function readersOf({ readers }: ObjectRow): string {
  if (typeof readers === 'string') return readers;
  return readers.map((nodeId) => nodeId.slice(0, 12)).join(', ');
}

/** Objects as a table. */
export function renderObjects(rows: readonly ObjectRow[]): string {
  const lines = rows.map((row) => [
    objectName(row),
    formatSize(row.sizeBytes),
    row.holderName,
    row.mode,
    readersOf(row),
    lifeOf(row),
    String(row.version),
  ]);
  return table(['NAME', 'SIZE', 'ON', 'MODE', 'READERS', 'GONE IN', 'VERSION'], lines);
}

/** An object, a line for each of its facts. */
export function renderObject(row: ObjectRow): string {
  const facts: [string, string][] = [
    row.key === null ? ['block', row.id ?? ''] : ['key', row.key],
    ['size', `${formatSize(row.sizeBytes)} (${row.sizeBytes} bytes)`],
    ['on', `${row.holderName} (${row.holder})`],
    ['owner', row.owner],
    ['version', String(row.version)],
    ['mode', row.mode],
    ['readers', readersOf(row)],
    ['gone in', row.expiresInMs === null ? 'stays' : formatDuration(row.expiresInMs)],
    ...(row.meta.length === 0 ? [] : [['notes', `${row.meta.length} bytes`] as [string, string]]),
  ];
  return facts.map(([name, text]) => `${name.padEnd(8)} ${printable(text)}`).join('\n');
}

/** Where it is and how it is kept: `5 B on alpha, pinned`. */
export function keptText(row: ObjectRow): string {
  const life = row.expiresInMs === null ? '' : `, gone in ${formatDuration(row.expiresInMs)}`;
  return printable(`${formatSize(row.sizeBytes)} on ${row.holderName}, ${row.mode}${life}`);
}
