/** Lines of memnode's log for people: the time of day here, the level, the words, the fields. */
import { printable } from '../output.ts';

const LEVELS: Readonly<Record<number, string>> = {
  20: 'debug',
  30: 'info',
  40: 'WARN',
  50: 'ERROR',
};

/** A line as a record; undefined when it is none, such as a line of a crash. */
export function parseLogLine(line: string): Record<string, unknown> | undefined {
  if (!line.startsWith('{')) return undefined;
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}

function localTime(time: unknown): string {
  const date = new Date(typeof time === 'string' ? time : NaN);
  if (Number.isNaN(date.getTime())) return '-';
  const two = (n: number): string => String(n).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const clock = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(':');
  return `${day} ${clock}.${String(date.getMilliseconds()).padStart(3, '0')}`;
}

function valueText(value: unknown): string {
  return typeof value === 'string' && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
}

/** A line for people; names in it come from other machines. */
export function renderLogLine(line: string): string {
  const record = parseLogLine(line);
  if (record === undefined) return printable(line);
  const { level, time, msg, ...fields } = record;
  const words = Object.entries(fields).map(([name, value]) => `${name}=${valueText(value)}`);
  const name = LEVELS[Number(level)] ?? String(level);
  return printable([localTime(time), name.padEnd(5), String(msg), ...words].join(' '));
}
