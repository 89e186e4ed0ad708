/** `memcloud completion`: the script that makes a shell complete our words. */
import { command, type Command } from '../command.ts';
import { SCRIPTS } from '../reference/completion.ts';

/** The commands of this file. */
export const commands: readonly Command[] = [
  command<{ shell: keyof typeof SCRIPTS }>({
    command: 'completion <shell>',
    describe: 'print the completion script of a shell: commands, options, peers, keys, files',
    builder: (argv) =>
      argv
        .positional('shell', {
          choices: ['bash', 'zsh', 'fish'] as const,
          demandOption: true,
          describe: 'bash, zsh or fish',
        })
        .example('source <($0 completion bash)', '')
        .example('$0 completion zsh > "${fpath[1]}/_memcloud"', '')
        .example('$0 completion fish > ~/.config/fish/completions/memcloud.fish', ''),
    handler: ({ shell }) => void process.stdout.write(SCRIPTS[shell]),
  }),
];
