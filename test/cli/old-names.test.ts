/** Command lines of the earlier MemCloud, word by word. */
import t from 'tap';
import { commandIndex, translateOldNames } from '../../cli/old-names.ts';
import { parseDuration } from '../../cli/duration.ts';

t.test('one word there, another here; everything else stays as it is', (t) => {
  const cases: [string, string][] = [
    ['peers', 'peer ls'],
    ['-s /tmp/x peers', '-s /tmp/x peer ls'],
    ['--socket /tmp/x --json peers', '--socket /tmp/x --json peer ls'],
    ['connect 10.0.0.2:8080 --quota 1gb', 'peer connect 10.0.0.2:8080 --quota 1gb'],
    ['trust remove bob', 'trust rm bob'],
    ['trust list', 'trust list'],
    ['peer list', 'peer list'],
    ['set peers x', 'set peers x'],
    ['get connect', 'get connect'],
    ['run --memory 1G --swap 1G -- peers', 'run --memory 1G --swap 1G -- peers'],
    ['run --scope a.service --memory 1G --swap 1G', 'run --scope a.service --memory 1G --swap 1G'],
    ['run --help', 'run --help'],
    ['run', 'run'],
    ['', ''],
  ];
  for (const [there, here] of cases) {
    const words = there === '' ? [] : there.split(' ');
    t.equal(translateOldNames(words).join(' '), here, there);
  }
  t.end();
});

t.test('run as it was written there is explained, with the command in the sentence', (t) => {
  for (const words of [
    'run python a.py',
    'run -t 8 python a.py',
    'run --threshold 8 python a.py',
  ]) {
    t.throws(() => translateOldNames(words.split(' ')), {
      code: 'ERR_USAGE',
      message: /there is no threshold.* run --memory \S+ --swap \S+ -- python a\.py$/,
    });
  }
  t.end();
});

t.test('the first word of a command is found behind the global options', (t) => {
  const cases: [string, number][] = [
    ['status', 0],
    ['--json status', 1],
    ['-s a status', 2],
    ['--socket=a status', 1],
    ['--json', 1],
    ['-s', 1],
    ['store -', 0],
  ];
  for (const [words, index] of cases) t.equal(commandIndex(words.split(' ')), index, words);
  t.end();
});

t.test('times are read with their unit, and nothing else is a time', (t) => {
  const cases: [string, number][] = [
    ['1', 1000],
    ['90s', 90_000],
    ['1.5h', 5_400_000],
    ['250ms', 250],
    ['15m', 900_000],
    ['15 min', 900_000],
    ['7d', 604_800_000],
    ['2w', 1_209_600_000],
  ];
  for (const [text, ms] of cases) t.equal(parseDuration(text, '--ttl'), ms, text);
  for (const text of ['', '0', '-1', '1y', 'h', '0.0001ms', '1e3', '9'.repeat(30)]) {
    t.throws(() => parseDuration(text, '--ttl'), { code: 'ERR_USAGE', message: /^--ttl: / }, text);
  }
  t.end();
});
