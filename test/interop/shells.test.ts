/** Completion as the shells of people do it: a word is begun, and the shell asks the program. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { SCRIPTS } from '../../cli/reference/completion.ts';
import { shellWord } from '../../common/shell-word.ts';
import { installedMemcloud } from '../helpers/lab-node.ts';
import { requires } from '../helpers/judges.ts';

const TIMEOUT_MS = 60_000;

/** A folder with `memcloud` as on a machine where it is installed, and nothing of the user's own. */
function home(t: Test): { folder: string; env: NodeJS.ProcessEnv } {
  const folder = t.testdir({ bin: {}, files: { 'only-one': '' } });
  const program = installedMemcloud(path.join(folder, 'bin'));
  const paths = `${path.dirname(program)}:${process.env['PATH'] ?? ''}`;
  return { folder, env: { PATH: paths, HOME: folder, TERM: 'dumb' } };
}

t.test('fish completes commands, options and files', requires('fish'), (t) => {
  const { folder, env } = home(t);
  const script = path.join(folder, 'memcloud.fish');
  fs.writeFileSync(script, SCRIPTS.fish);
  const asked = ['swap o', 'volume ls --js', `stream ${folder}/files/on`];
  const lines = asked.map((words) => `complete -C 'memcloud ${words}'`).join('; ');
  const ran = spawnSync('fish', ['-N', '-c', `source ${script}; ${lines}`], {
    env,
    timeout: TIMEOUT_MS,
  });
  t.equal(ran.status, 0, ran.stderr.toString());
  const found = ran.stdout
    .toString()
    .split('\n')
    .map((line) => line.trim());
  t.same(found, ['off', 'on', '--json', `${folder}/files/only-one`, '']);
  t.end();
});

t.test('zsh completes commands, options and files at its prompt', requires('zsh'), (t) => {
  const { folder, env } = home(t);
  fs.writeFileSync(path.join(folder, '_memcloud'), SCRIPTS.zsh);
  const typed = [
    ['memcloud swap of', 'memcloud swap off '],
    ['memcloud volume ls --js', 'memcloud volume ls --json '],
    [`memcloud stream ${folder}/files/on`, `memcloud stream ${folder}/files/only-one `],
  ];
  // The line as it stands is shown by a key of our own, so that nothing is read off the drawing of the screen.
  const terminal = [
    'zmodload zsh/zpty',
    'zpty shell "zsh -f -i"',
    `zpty -w shell ${shellWord(
      `fpath=(${folder} $fpath); autoload -U compinit; compinit -u -D; ` +
        `tell() { print -r -- "\${BUFFER}|" >>${folder}/lines; BUFFER=""; }; ` +
        `zle -N tell; bindkey "^X" tell; print READY=yes`,
    )}`,
    "zpty -r shell seen '*READY=yes*READY=yes*'",
    ...typed.flatMap(([words = ''], at) => [
      `zpty -w -n shell ${shellWord(words)}$'\\t\\030'`,
      `while [[ $(wc -l <${folder}/lines) != ${at + 1} ]] 2>/dev/null; do sleep 0.1; done`,
    ]),
    'zpty -d shell',
  ].join('\n');
  const ran = spawnSync('zsh', ['-f', '-c', terminal], { env, timeout: TIMEOUT_MS });
  t.equal(ran.status, 0, ran.stderr.toString());
  const lines = fs.readFileSync(path.join(folder, 'lines'), 'utf8').trimEnd().split('\n');
  t.same(
    lines,
    typed.map(([, line = '']) => `${line}|`),
  );
  t.end();
});
