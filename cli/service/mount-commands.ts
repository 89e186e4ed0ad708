/** Commands of the mount unit and of memnode's own: not for people, and not in the help. */
import { command, type Command } from '../command.ts';
import { note } from '../output.ts';
import { clearMounts, keepMounted, keepUnmounted } from './mount-keeper.ts';

const ON_DEADLINE_S = 60;
const OFF_DEADLINE_S = 30;

function say(text: string): void {
  note(`memcloud: ${text}`);
}

const mountOn = command<{ deadline: number }>({
  command: 'mount-on',
  describe: false,
  builder: (argv) =>
    argv.option('deadline', { type: 'number', default: ON_DEADLINE_S, describe: 'seconds' }),
  handler: async ({ socket, deadline }) => {
    say(`mounted ${await keepMounted(socket, deadline * 1000)}`);
  },
});

const mountOff = command<{ deadline: number }>({
  command: 'mount-off',
  describe: false,
  builder: (argv) =>
    argv.option('deadline', { type: 'number', default: OFF_DEADLINE_S, describe: 'seconds' }),
  handler: ({ socket, deadline }) => keepUnmounted(socket, deadline * 1000, say),
});

const mountClean = command({
  command: 'mount-clean',
  describe: false,
  handler: ({ socket }) => clearMounts(socket, say),
});

/** The commands of this file. */
export const mountCommands: readonly Command[] = [mountOn, mountOff, mountClean];
