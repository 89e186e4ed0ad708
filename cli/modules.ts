/** The modules of the commands, by first word. */
import type { Command } from './command.ts';
import { commandIndex } from './old-names.ts';

/** Loaded only when they are asked for: start-up time is user time. */
export const MODULES: Readonly<Record<string, () => Promise<{ commands: readonly Command[] }>>> = {
  status: () => import('./commands/status.ts'),
  peer: () => import('./commands/peer.ts'),
  ping: () => import('./commands/ping.ts'),
  drain: () => import('./commands/drain.ts'),
  undrain: () => import('./commands/drain.ts'),
  consent: () => import('./commands/consent.ts'),
  trust: () => import('./commands/trust.ts'),
  id: () => import('./commands/trust.ts'),
  invite: () => import('./commands/invite.ts'),
  join: () => import('./commands/invite.ts'),
  'control-plane': () => import('./commands/control-plane.ts'),
  volume: () => import('./commands/volume.ts'),
  lease: () => import('./commands/lease.ts'),
  nbd: () => import('./commands/nbd.ts'),
  swap: () => import('./commands/swap.ts'),
  mount: () => import('./commands/mount.ts'),
  umount: () => import('./commands/mount.ts'),
  run: () => import('./commands/run.ts'),
  config: () => import('./commands/config.ts'),
  service: () => import('./commands/service.ts'),
  restart: () => import('./commands/restart.ts'),
  doctor: () => import('./commands/doctor.ts'),
  demo: () => import('./commands/demo.ts'),
  store: () => import('./commands/objects.ts'),
  load: () => import('./commands/objects.ts'),
  free: () => import('./commands/objects.ts'),
  set: () => import('./commands/objects.ts'),
  get: () => import('./commands/objects.ts'),
  rm: () => import('./commands/objects.ts'),
  delete: () => import('./commands/objects.ts'),
  stream: () => import('./commands/stream.ts'),
  cat: () => import('./commands/stream.ts'),
  keys: () => import('./commands/keys.ts'),
  stat: () => import('./commands/keys.ts'),
  flush: () => import('./commands/keys.ts'),
  version: () => import('./commands/version.ts'),
  node: () => import('./commands/node.ts'),
  logs: () => import('./commands/logs.ts'),
  stats: () => import('./commands/stats.ts'),
  top: () => import('./commands/top.ts'),
  completion: () => import('./commands/completion.ts'),
};

/** The first word of a command line, where it is one of {@link MODULES}. */
export function commandWord(args: readonly string[]): string | undefined {
  const word = args[commandIndex(args)] ?? '';
  return Object.hasOwn(MODULES, word) ? word : undefined;
}

/** The commands of every module; a module comes once, whatever number of words lead to it. */
export async function everyCommand(): Promise<Command[]> {
  const modules = new Set(await Promise.all(Object.values(MODULES).map((load) => load())));
  return [...modules].flatMap((module) => module.commands);
}
