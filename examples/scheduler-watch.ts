/**
 * What a scheduler needs to know of a control plane: free RAM by zone, now and whenever it changes. It
 * follows `memcloud control-plane watch --json`, one event a line, and prints a line for each change, as
 * Prometheus' text format has it; put the words where your scheduler takes its numbers from.
 *
 *   npm run example:scheduler-watch            (MEMCLOUD_SOCKET names the control node's socket)
 *
 * A program in another language does the same with a pipe: the lines are JSON and nothing else.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import readline from 'node:readline';

/** The command line of this package; elsewhere it is `memcloud`. */
const MEMCLOUD = path.join(import.meta.dirname, '../cli/main.js');

interface Provider {
  zone: string;
  state: 'up' | 'full' | 'draining' | 'down';
  offeredBytes: number;
  reservedBytes: number;
}

interface Event {
  event: string;
  detail: { zone?: string; freeBytes?: number };
}

/** Free bytes of each zone. */
let zones = new Map<string, number>();
let printed = '';

function memcloud(...words: string[]): ReturnType<typeof spawn> {
  const socket = process.env['MEMCLOUD_SOCKET'];
  const place = socket === undefined ? [] : ['--socket', socket];
  const args = [MEMCLOUD, ...place, '--json', 'control-plane', ...words];
  return spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
}

/** Everything as it is now: at the start, and when events were missed. */
async function readZones(): Promise<void> {
  const child = memcloud('providers');
  let text = '';
  child.stdout?.on('data', (chunk: Buffer) => (text += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`memcloud control-plane providers ended with ${code}`);
  zones = new Map();
  for (const { zone, state, offeredBytes, reservedBytes } of JSON.parse(text) as Provider[]) {
    const freeBytes = state === 'up' ? Math.max(0, offeredBytes - reservedBytes) : 0;
    zones.set(zone, (zones.get(zone) ?? 0) + freeBytes);
  }
}

function print(): void {
  const text = [...zones]
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([zone, bytes]) => `memcloud_free_bytes{zone=${JSON.stringify(zone)}} ${bytes}`)
    .join('\n');
  if (text !== printed) process.stdout.write(`${text}\n`);
  printed = text;
}

async function onEvent({ event, detail }: Event): Promise<void> {
  const { zone, freeBytes } = detail;
  if (event === 'capacity' && zone !== undefined && freeBytes !== undefined) {
    zones.set(zone, freeBytes);
  } else if (event === 'missed' || event === 'leader') {
    await readZones();
  } else {
    return;
  }
  print();
}

// The watch first: what changes while the list is read is seen afterwards.
const watch = memcloud('watch');
process.once('SIGTERM', () => watch.kill());
process.once('SIGINT', () => watch.kill());
await readZones();
print();
if (watch.stdout !== null) {
  for await (const line of readline.createInterface({ input: watch.stdout })) {
    await onEvent(JSON.parse(line) as Event);
  }
}
