# shellcheck shell=sh
# Sourced by the launchers `memnode` and `memcloud`. Needs no privileges.
# usage: build_if_stale ROOT
# Installs the packages when node_modules is older than the lock file, builds when dist is older than
# a source file. Talks on stderr only. Two launchers at once take turns (flock).

build_if_stale() {
  root=$1
  stamp="$root/dist/.built"
  if [ -f "$stamp" ] && [ -z "$(find "$root" -path "$root/node_modules" -prune -o \
    -path "$root/dist" -prune -o -path "$root/.git" -prune -o \
    \( -name '*.ts' -o -name 'package*.json' -o -name tsconfig.json \) -newer "$stamp" -print -quit)" ]; then
    return 0
  fi
  if ! command -v node >/dev/null 2>&1; then
    echo "memcloud: Node.js 20.19 or later is needed and not installed" >&2
    return 1
  fi
  (
    flock 9
    lock_stamp="$root/node_modules/.package-lock.json"
    if [ ! -f "$lock_stamp" ] || [ -n "$(find "$root/package-lock.json" -newer "$lock_stamp")" ]; then
      echo "memcloud: installing packages (once)" >&2
      (cd "$root" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) >&2
    fi
    echo "memcloud: building" >&2
    (cd "$root" && npm run --silent build) >&2
    touch "$stamp"
  ) 9>"$root/.build.lock"
}
