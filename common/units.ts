/**
 * Sizes and times as people write them and as the program counts them. Every size in the program is
 * a count of bytes, every time a count of milliseconds; text is turned into them here and nowhere
 * else.
 */
import { MemcloudError } from './errors.ts';

/** Bytes in a page, the unit that a volume is an array of. Equal to the x86-64 and arm64 kernel page. */
export const PAGE_SIZE_BYTES = 4096;

/** Bytes of a Poly1305 tag. RFC 8439 2.5. */
export const TAG_SIZE_BYTES = 16;

/** Bytes of a sealed page: the encrypted page, then its tag. */
export const SEALED_PAGE_SIZE_BYTES = PAGE_SIZE_BYTES + TAG_SIZE_BYTES;

/** Bytes of what makes the pages of a volume readable: its key and its random name (tier/seal.ts). */
export const VOLUME_SECRETS_SIZE_BYTES = 32 + 16;

/** Pages in a slab, the unit that a provider leases: 16 MiB of page data. */
export const SLAB_PAGE_COUNT = 4096;

const SIZE_UNITS: Readonly<Record<string, number>> = {
  '': 1,
  k: 2 ** 10,
  m: 2 ** 20,
  g: 2 ** 30,
  t: 2 ** 40,
};

const SIZE_PATTERN = /^(\d+(?:\.\d+)?)\s*(?:([kmgt])(?:i?b)?|b)?$/i;

/**
 * Parses a size such as `512M`, `1.5GiB`, `4096` (all units are powers of 1024).
 *
 * @returns a whole number of bytes, 0 to 2^53 - 1
 * @throws MemcloudError `ERR_USAGE_SIZE` when the text is not a size
 */
export function parseSize(text: string): number {
  const match = SIZE_PATTERN.exec(text.trim());
  const unit = SIZE_UNITS[(match?.[2] ?? '').toLowerCase()];
  const bytes = match === null || unit === undefined ? NaN : Math.floor(Number(match[1]) * unit);
  if (!Number.isSafeInteger(bytes)) {
    throw new MemcloudError(
      'ERR_USAGE_SIZE',
      `size: expected bytes with an optional unit, such as 512M or 1.5GiB, got "${text}"`,
    );
  }
  return bytes;
}

/** The least whole number of pages, in bytes, that holds `bytes`. */
export function roundUpToPages(bytes: number): number {
  return Math.ceil(bytes / PAGE_SIZE_BYTES) * PAGE_SIZE_BYTES;
}

/** Prints a byte count with an IEC unit and at most one decimal: `1.5 GiB`, `512 MiB`, `17 B`. */
export function formatSize(bytes: number): string {
  const names = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  // What would print as 1024 of a unit is 1 of the next.
  while (rounded(value) >= 1024 && unit < names.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${rounded(value)} ${names[unit] ?? ''}`;
}

function rounded(value: number): number {
  return Number(value.toFixed(value >= 100 ? 0 : 1));
}

/** Prints milliseconds for people: `850 ms`, `12.3 s`, `4 min 5 s`. */
export function formatDuration(ms: number): string {
  if (Math.round(ms) < 1000) return `${ms.toFixed(0)} ms`;
  if (Math.round(ms / 100) < 600) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/**
 * Splits `ADDR:PORT`, also `[v6]:PORT` and `:PORT` (all interfaces).
 *
 * @throws MemcloudError `ERR_USAGE_ADDRESS` when there is no port or it is not 0 to 65535
 */
export function parseAddress(text: string): { host: string; port: number } {
  const match = /^(?:\[([\w:.%-]+)\]|([^:[\]\s/]*)):(\d{1,5})$/.exec(text.trim());
  const port = Number(match?.[3]);
  if (match === null || !(port <= 65535)) {
    throw new MemcloudError(
      'ERR_USAGE_ADDRESS',
      `address: expected HOST:PORT, such as 127.0.0.1:7070 or [::1]:7070, got "${text}"`,
    );
  }
  return { host: match[1] ?? match[2] ?? '', port };
}

/** Joins a host and a port as {@link parseAddress} takes them: `HOST:PORT`, `[v6]:PORT`. */
export function formatAddress(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** An IP address as people write it: an IPv4 one that came over an IPv6 socket without its prefix. */
export function plainAddress(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, '');
}

/** The host of `HOST:PORT`, without the brackets of IPv6. */
export function hostOfAddress(address: string): string {
  return address.slice(0, address.lastIndexOf(':')).replace(/^\[(.*)\]$/, '$1');
}
