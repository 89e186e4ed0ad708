/**
 * Completion of command lines. The shells ask the program (`memcloud __complete WORD...`), so the scripts
 * are short and never out of date: commands and options come from the tables, peers, keys, volumes and
 * mounts from the daemon.
 */
import { commandIndex } from '../old-names.ts';
import type { CommandEntry, OptionEntry } from './recorder.ts';

/** What may stand at a place. */
export interface Completions {
  /** Words that fit. */
  readonly words: readonly string[];
  /** What the daemon or the disk knows. */
  readonly source: Source;
}

/** Where more words come from. */
export type Source = 'none' | 'files' | 'peers' | 'keys' | 'volumes' | 'mounts';

/** Options whose value is a name that the daemon knows. */
const OPTION_SOURCES: Readonly<Record<string, Source>> = {
  peer: 'peers',
  share: 'peers',
  provider: 'peers',
  key: 'keys',
  volume: 'volumes',
};
/** Options whose value is a file. */
const FILE_OPTIONS = /^(file|output|socket|config|state|log-file|memory-dir|unix|cert|key-file)$/;
/** Positionals likewise. */
const POSITIONAL_SOURCES: Readonly<Record<string, Source>> = {
  key: 'keys',
  keys: 'keys',
  peer: 'peers',
  node: 'peers',
  file: 'files',
  files: 'files',
  directory: 'files',
};

function sourceOfOption({ name }: OptionEntry): Source {
  return OPTION_SOURCES[name] ?? (FILE_OPTIONS.test(name) ? 'files' : 'none');
}

function sourceOfPositional(entry: CommandEntry, index: number): Source {
  const positional = entry.positionals[Math.min(index, entry.positionals.length - 1)];
  if (positional === undefined || (index >= entry.positionals.length && !positional.isList))
    return 'none';
  const known = POSITIONAL_SOURCES[positional.name];
  if (known !== undefined) return known;
  const [first = ''] = entry.words;
  if (positional.name !== 'name') return 'none';
  return first === 'volume' || first === 'nbd' ? 'volumes' : 'keys';
}

function findOption(options: readonly OptionEntry[], word: string): OptionEntry | undefined {
  const name = word.replace(/^--?/, '').split('=')[0] ?? '';
  return options.find((option) => option.name === name || option.aliases.includes(name));
}

/** The command that words lead to, and what of them is left. */
function descend(
  entries: readonly CommandEntry[],
  words: readonly string[],
): { entry: CommandEntry | undefined; under: readonly CommandEntry[]; rest: readonly string[] } {
  let under = entries;
  let entry: CommandEntry | undefined;
  let rest = words;
  for (;;) {
    const [word = ''] = rest;
    const next = under.find(
      ({ words: own, aliases }) => own.at(-1) === word || aliases.includes(word),
    );
    if (next === undefined || rest.length === 0) break;
    entry = next;
    under = next.commands;
    rest = rest.slice(1);
  }
  // `mount` alone is a command as well as a group.
  const plain = under.find(({ words: own }) => own.length === entry?.words.length);
  return { entry: plain ?? entry, under, rest };
}

/**
 * What the last word may become.
 *
 * @param words - after the name of the program; the last one is being written, and may be empty
 */
export function complete(
  entries: readonly CommandEntry[],
  globals: readonly OptionEntry[],
  words: readonly string[],
): Completions {
  const last = words.at(-1) ?? '';
  const before = words.slice(0, -1);
  const { entry, under, rest } = descend(entries, before.slice(commandIndex(before)));
  const options = [...(entry?.options ?? []), ...globals];
  const fitting = (candidates: readonly string[]): string[] => {
    return candidates.filter((candidate) => candidate.startsWith(last));
  };
  const previous = before.at(-1) ?? '';
  const asking = previous.startsWith('-') ? findOption(options, previous) : undefined;
  if (asking !== undefined && asking.type !== 'boolean' && !previous.includes('=')) {
    return { words: fitting(asking.choices), source: sourceOfOption(asking) };
  }
  if (last.startsWith('-')) {
    return { words: fitting(options.map(({ name }) => `--${name}`)), source: 'none' };
  }
  const isChoosing = rest.length === 0 && under.length > 0;
  const names = under.map(({ words: own }) => own.at(-1) ?? '');
  const positionalCount = rest.filter((word) => !word.startsWith('-')).length;
  return {
    words: isChoosing ? fitting([...new Set(names)]) : [],
    source: entry === undefined ? 'none' : sourceOfPositional(entry, positionalCount),
  };
}

const BASH = `# bash completion of memcloud; put it into /etc/bash_completion.d or source it
_memcloud() {
  local line kind=words
  COMPREPLY=()
  while IFS= read -r line; do
    if [ "$line" = ':files' ]; then kind=files; else COMPREPLY+=("$(printf '%q' "$line")"); fi
  done < <("\${COMP_WORDS[0]}" __complete "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  if [ "$kind" = files ]; then
    compopt -o filenames 2>/dev/null
    while IFS= read -r line; do COMPREPLY+=("$line"); done \\
      < <(compgen -f -- "\${COMP_WORDS[COMP_CWORD]}")
  fi
}
complete -F _memcloud memcloud memcli
`;

const ZSH = `#compdef memcloud memcli
# zsh completion of memcloud; put it into a folder of $fpath as _memcloud
_memcloud() {
  local -a found
  local line
  for line in "\${(@f)$("\${words[1]}" __complete "\${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
    if [[ $line == ':files' ]]; then _files; elif [[ -n $line ]]; then found+=("$line"); fi
  done
  compadd -a found
}
if [[ $funcstack[1] == _memcloud ]]; then _memcloud "$@"; else compdef _memcloud memcloud memcli; fi
`;

const FISH = `# fish completion of memcloud; put it into ~/.config/fish/completions/memcloud.fish
function __memcloud_complete
  set -l words (commandline -opc) (commandline -ct)
  for line in ($words[1] __complete $words[2..-1] 2>/dev/null)
    if test "$line" = ':files'
      __fish_complete_path (commandline -ct)
    else
      echo $line
    end
  end
end
complete -c memcloud -f -a '(__memcloud_complete)'
complete -c memcli -f -a '(__memcloud_complete)'
`;

/** The script of each shell. */
export const SCRIPTS = { bash: BASH, zsh: ZSH, fish: FISH } as const;
