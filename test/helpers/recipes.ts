/**
 * What people will do on the mount, as shell scripts that check themselves: each ends with status 0 only
 * if all it did came out right. `$M` is an empty directory on the file system that is judged, `$S` an
 * empty one elsewhere, `$X` is empty where there are no extended attributes, `$TREE` is a tree of files with everything that a tree can have.
 *
 * None of this is ours: git, npm, sqlite, tar and the others are the judges.
 */
import fs from 'node:fs';
import path from 'node:path';
import type { Test } from 'tap';
import * as sys from './posix-calls.ts';
import { judge, patternBytes, requires } from './judges.ts';

/** One use, and the programs it needs. */
interface Recipe {
  name: string;
  programs: readonly string[];
  script: string;
}

/** Prints everything about a tree, a line for each name; directories' sizes are the file system's own. */
const LISTING = String.raw`
listing() {
  (cd "$1" && find . -type d -printf '%p %m %U:%G %T@\n' -o -printf '%p %m %U:%G %n %s %T@ %l\n' |
    LC_ALL=C sort)
}
`;

/** The recipes, in the order in which they run. */
const recipes: readonly Recipe[] = [
  {
    name: 'tar: what was unpacked compares equal, with times, links, holes and attributes',
    programs: ['tar'],
    script: `
      tar -C "$TREE" --xattrs --sparse -cf "$S/tree.tar" .
      tar -C "$M" --xattrs --xattrs-include='user.*' -xpf "$S/tree.tar"
      tar -C "$M" --xattrs -df "$S/tree.tar"
      listing "$TREE" >"$S/expected"; listing "$M" >"$S/got"
      diff "$S/expected" "$S/got"
      tar -C "$M" --sparse -cf "$M.tar" . && tar -C "$TREE" -df "$M.tar"; rm "$M.tar"`,
  },
  {
    name: 'cp -a: to the mount and back, contents and listing are the same',
    programs: ['cp', 'diff'],
    script: `
      cp -a "$TREE" "$M/copy"
      diff -r --no-dereference "$TREE" "$M/copy"
      listing "$TREE" >"$S/expected"; listing "$M/copy" >"$S/got"
      diff "$S/expected" "$S/got"
      cp -a "$M/copy" "$M/second"; cp -a "$M/second" "$S/back"
      listing "$S/back" >"$S/got"; diff "$S/expected" "$S/got"
      diff -r --no-dereference "$TREE" "$S/back"
      cp --reflink=auto --sparse=always "$M/copy/sparse" "$M/again"
      cmp "$M/again" "$TREE/sparse"`,
  },
  {
    name: 'rsync: a second run finds nothing to do, by checksum, with links, attributes and lists',
    programs: ['rsync'],
    script: `
      rsync -aHX --numeric-ids "$TREE/" "$M/copy/"
      rsync -aHXnci --numeric-ids "$TREE/" "$M/copy/" >"$S/left"
      cat "$S/left"; test ! -s "$S/left"
      echo changed >>"$M/copy/dir0/file0"
      rsync -aHX --numeric-ids --inplace "$TREE/" "$M/copy/"
      cmp "$TREE/dir0/file0" "$M/copy/dir0/file0"`,
  },
  {
    name: 'git: clone with hard links, worktree, commit, gc and fsck, all clean',
    programs: ['git'],
    script: `
      export HOME="$S" GIT_CONFIG_NOSYSTEM=1
      git config --global user.email a@b.c; git config --global user.name n
      git config --global init.defaultBranch main
      git config --global advice.detachedHead false
      cp -a "$TREE" "$M/one"; cd "$M/one"
      git init -q; git add -A; git commit -qm first
      git clone -q "$M/one" "$M/two"
      object=$(cd "$M/one" && find .git/objects -type f -path '*/??/*' | LC_ALL=C sort | head -n 1)
      test "$(stat -c %i "$M/one/$object")" = "$(stat -c %i "$M/two/$object")"
      cd "$M/two"; git worktree add -q "$M/tree" -b side
      cd "$M/tree"; echo more >>dir0/file0; git commit -qam second
      cd "$M/two"; git merge -q side; git mv dir0 moved; git commit -qm third
      git fsck --full --strict 2>&1 | tee "$S/fsck"; ! grep -E 'error|missing|dangling' "$S/fsck"
      git gc -q --prune=now; git fsck --full
      test -z "$(git status --porcelain)"
      git clone -q --no-local "$M/two" "$M/three"; cd "$M/three"; git fsck --full
      test -z "$(git -C "$M/three" status --porcelain)"`,
  },
  {
    name: 'make and gcc: a build in TMPDIR on the mount; a second make does only what changed',
    programs: ['make', 'gcc'],
    script: `
      export TMPDIR="$M/tmp"; mkdir "$TMPDIR" "$M/src"; cd "$M/src"
      i=0; while [ $i -lt 12 ]; do
        printf '#include <stdio.h>\nint f%s(void) { return %s; }\n' $i $i >f$i.c; i=$((i + 1)); done
      cat >main.c <<'END'
#include <stdio.h>
int f3(void);
int main(void) { printf("%d\\n", f3()); return 0; }
END
      cat >Makefile <<'END'
OBJECTS = $(patsubst %.c,%.o,$(wildcard *.c))
program: $(OBJECTS)
	gcc -o $@ $(OBJECTS)
%.o: %.c
	@echo CC $@
	gcc -c -o $@ $<
END
      make -j2 >"$S/first"; test "$(grep -c '^CC' "$S/first")" = 13
      test "$(./program)" = 3
      make | grep -q 'up to date'
      sed -i 's/return 3/return 33/' f3.c
      make >"$S/second"; test "$(grep -c '^CC' "$S/second")" = 1
      test "$(./program)" = 33
      test -z "$(ls "$TMPDIR")"`,
  },
  {
    name: 'ccache: cold, then every compile of the warm run comes from the cache',
    programs: ['ccache', 'gcc'],
    script: `
      export CCACHE_DIR="$M/cache" CCACHE_NODIRECT=; unset CCACHE_NODIRECT
      mkdir "$S/src"; cd "$S/src"
      for i in 0 1 2 3 4 5 6 7; do echo "int f$i(void) { return $i; }" >f$i.c; done
      for i in 0 1 2 3 4 5 6 7; do ccache gcc -c f$i.c -o cold$i.o; done
      for i in 0 1 2 3 4 5 6 7; do ccache gcc -c f$i.c -o warm$i.o; cmp cold$i.o warm$i.o; done
      ccache --print-stats >"$S/stats"; cat "$S/stats"
      test "$(awk '$1 == "direct_cache_hit" {print $2}' "$S/stats")" = 8
      test "$(awk '$1 == "cache_miss" {print $2}' "$S/stats")" = 8
      ccache --cleanup; ccache --clear`,
  },
  {
    name: 'npm: a cache on the mount, then npm ci from it without a network',
    programs: ['npm'],
    script: `
      export npm_config_cache="$M/cache" npm_config_update_notifier=false HOME="$S"
      export npm_config_userconfig="$S/npmrc" npm_config_offline=true npm_config_audit=false
      export npm_config_fund=false
      for name in first second; do
        mkdir "$S/$name"; cd "$S/$name"
        echo '{"name":"'$name'","version":"1.0.0","bin":"run.js"}' >package.json
        printf '#!/usr/bin/env node\nconsole.log("%s ran");\n' $name >run.js
        npm pack --silent --pack-destination "$S" >/dev/null
      done
      mkdir "$M/project"; cd "$M/project"
      echo '{"name":"project","version":"1.0.0","private":true}' >package.json
      npm install --silent "$S/first-1.0.0.tgz" "$S/second-1.0.0.tgz"
      test "$(npx --no-install first)" = 'first ran'
      rm -rf node_modules; npm ci --silent
      test "$(node_modules/.bin/second)" = 'second ran'
      npm cache verify >"$S/verify"; ! grep -i corrupt "$S/verify"`,
  },
  {
    name: 'sqlite: rollback journal and WAL, four writers each, nothing lost',
    programs: ['sqlite3'],
    script: `
      for mode in delete wal; do
        db="$M/$mode.db"
        sqlite3 "$db" "pragma journal_mode=$mode; create table t(w, i, b);" >"$S/mode"
        grep -qx "$mode" "$S/mode"
        for w in 1 2 3 4; do
          ( i=0; while [ $i -lt 12 ]; do
              echo ".timeout 60000"
              echo "insert into t values($w, $i, hex(randomblob(500)));"; i=$((i + 1))
            done | sqlite3 "$db" ) & pids="$pids $!"
        done
        for pid in $pids; do wait $pid; done; pids=
        test "$(sqlite3 "$db" 'pragma mmap_size=1000000; select count(*) from t' | tail -n 1)" = 48
        test "$(sqlite3 "$db" 'pragma integrity_check')" = ok
        sqlite3 "$db" 'vacuum; delete from t;'; test "$(sqlite3 "$db" 'pragma integrity_check')" = ok
      done`,
  },
  {
    name: 'CI scratch: mktemp, a sort that spills, find -delete, flock, attributes by their tools',
    programs: ['sort', 'find', 'flock', 'setfacl', 'setfattr', 'setcap'],
    script: `
      export TMPDIR="$M"
      file=$(mktemp); case "$file" in "$M"/*) ;; *) exit 1 ;; esac
      i=0; while [ $i -lt 3 ]; do tr -dc a-z </dev/urandom | head -c 700000 | fold -w 20; i=$((i + 1)); done >"$file"
      sort -S 100k -T "$M" "$file" >"$M/sorted"; sort -c "$M/sorted"
      test "$(ls "$M" | wc -l)" = 2
      flock "$M/lock" sh -c '! flock -n "$0" true' "$M/lock"; flock -n "$M/lock" true
      if [ -n "$X" ]; then
        setfattr -n user.note -v text "$M/sorted"
        test "$(getfattr --only-values -n user.note "$M/sorted")" = text
      fi
      if [ -n "$X" ] && [ "$(id -u)" = 0 ]; then
        setfacl -m u:65534:r "$M/sorted"; getfacl -n "$M/sorted" 2>/dev/null | grep -q '^user:65534:r--'
        cp /bin/true "$M/true"; setcap cap_net_bind_service+ep "$M/true"
        getcap "$M/true" | grep -q cap_net_bind_service; "$M/true"
      fi
      mkdir "$M/many"; (cd "$M/many" && seq 3000 | xargs touch)
      test "$(find "$M/many" -type f | wc -l)" = 3000
      find "$M/many" -delete; test ! -e "$M/many"
      dd if=/dev/urandom of="$M/blob" bs=64k count=64 conv=fsync status=none
      cp "$M/blob" "$S/blob"; cmp "$M/blob" "$S/blob"`,
  },
  {
    name: 'cargo: a target directory on the mount; a second build has nothing to do',
    programs: ['cargo', 'cc'],
    script: `
      export CARGO_TARGET_DIR="$M/target" CARGO_HOME="$S/cargo"
      cargo new --quiet --vcs none "$S/thing"; cd "$S/thing"
      cargo build --quiet --offline
      test "$("$M/target/debug/thing")" = 'Hello, world!'
      sleep 1; cargo build --offline 2>"$S/second"; ! grep Compiling "$S/second"
      echo 'fn main() { println!("changed"); }' >src/main.rs
      cargo build --quiet --offline; test "$("$M/target/debug/thing")" = changed`,
  },
];

/** Files of the tree. */
const FILE_COUNT = 400;

/** A tree with everything: links of both kinds, holes, odd names, old times, attributes, modes. */
function makeTree(base: string, attributes: boolean): void {
  fs.mkdirSync(base);
  for (let i = 0; i < FILE_COUNT; i += 1) {
    const directory = path.join(base, `dir${i % 20}`);
    if (i < 20) fs.mkdirSync(directory);
    const file = path.join(directory, `file${i}`);
    fs.writeFileSync(file, patternBytes(((i * 7919) % 20_000) + 1, i + 1));
    if (i % 7 === 0) fs.chmodSync(file, 0o755);
    if (i % 11 === 0) fs.linkSync(file, `${file}.link`);
    if (i % 13 === 0) fs.symlinkSync(`../dir0/file${i % 20}`, `${file}.symbolic`);
    if (attributes && i % 5 === 0) sys.setxattr(file, 'user.origin', `file ${i}`);
    sys.utimens(file, [1_000_000 + i, i], [2_000_000_000 + i * 1_000_000, 123_456_789]);
  }
  fs.writeFileSync(path.join(base, 'empty'), '');
  fs.writeFileSync(path.join(base, 'na\u00efve name with spaces'), 'x');
  fs.writeFileSync(path.join(base, 'n'.repeat(255)), 'x');
  const sparse = fs.openSync(path.join(base, 'sparse'), 'w');
  fs.writeSync(sparse, 'start', 0);
  fs.writeSync(sparse, 'end', 20_000_000);
  fs.closeSync(sparse);
  for (const name of fs.readdirSync(base)) {
    sys.utimens(path.join(base, name), [1_500_000_000, 1], [1_500_000_000, 999_999_999]);
  }
}

/**
 * Runs every recipe, each as a test, in a directory of its own on the file system that is judged.
 *
 * @param judged - a directory on it
 * @param elsewhere - a directory on another one
 * @param attributes - false where there are no extended attributes
 */
export async function runRecipes(
  t: Test,
  judged: string,
  elsewhere: string,
  attributes = true,
): Promise<void> {
  const tree = path.join(elsewhere, 'tree');
  makeTree(tree, attributes);
  for (const [i, { name, programs, script }] of recipes.entries()) {
    await t.test(name, { ...requires(...programs), timeout: 300_000 }, async (t) => {
      const [mine, scratch] = [path.join(judged, `r${i}`), path.join(elsewhere, `r${i}`)];
      fs.mkdirSync(mine);
      fs.mkdirSync(scratch);
      const text = `set -e\nM=$1 S=$2 TREE=$3 X=${attributes ? 'yes' : ''}\n${LISTING}\n${script}\n`;
      const end = await judge('/bin/sh', ['-c', text, 'sh', mine, scratch, tree], {
        timeoutMs: 280_000,
        cwd: scratch,
      });
      if (end.code !== 0) t.comment(`${end.stdout.slice(-1500)}\n${end.stderr.slice(-1500)}`);
      t.equal(end.code, 0, 'every step came out right');
      // What is left is removed as a user would.
      const gone = await judge('rm', ['-rf', mine], { timeoutMs: 120_000 });
      t.equal(gone.code, 0, gone.stderr);
      t.notOk(fs.existsSync(mine), 'everything can be removed');
      fs.rmSync(scratch, { recursive: true, force: true });
    });
  }
}
