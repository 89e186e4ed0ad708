#!/usr/bin/env bash
# Sets four vm.* values of the whole machine for swap on remote RAM, or puts the old ones back.
# usage: tune-vm.sh [--dry-run] [--state FILE] [apply | undo]
# Prints old and new values. Needs root. The old values go to FILE (/run/memcloud/vm-before), which a
# second apply keeps; undo restores them and removes it. A failure halfway restores what was changed.
# TUNE_ROOT=DIR works on the tree below DIR instead of the running kernel.
#
# A cushion, not a cure: with these values alone a daemon that serves its own machine's swap still
# hung under global memory pressure. Only a memory limit around the workload (memcloud run) prevents
# that. Linux's own reasons are in Documentation/admin-guide/sysctl/vm.rst.
set -euo pipefail

usage() {
  sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

root=${TUNE_ROOT:-}
vm=$root/proc/sys/vm
dry_run=no state=$root/run/memcloud/vm-before verb=''
while [ $# -gt 0 ]; do
  case $1 in
    --dry-run) dry_run=yes ;;
    --state)
      [ -n "${2:-}" ] || usage
      state=$2
      shift ;;
    apply | undo) [ -z "$verb" ] || usage; verb=$1 ;;
    *) usage ;;
  esac
  shift
done
verb=${verb:-apply}

fail() {
  echo "tune-vm.sh: $*" >&2
  exit 1
}

names=(min_free_kbytes watermark_scale_factor page-cluster swappiness)

# target NAME OLD: the value wanted for it.
target() {
  local old=$2 wanted
  case $1 in
    # Pages that only the kernel's own emergencies may take. Replies of the remote end arrive as
    # packets, which need memory just when there is none: vm.rst warns of deadlocks when this is too
    # low, and of OOM when too high. 64 MiB, as in our guest trials, but at most 1/16 of the RAM.
    min_free_kbytes)
      wanted=$((memory_kb / 16 < 65536 ? memory_kb / 16 : 65536)) ;;
    # Distance between the watermarks, in 1/10000 of RAM (default 10). kswapd has to start early:
    # 2 % of 8 GiB is 160 MiB, more than a second of a 1 Gbit/s link, before programs must reclaim
    # for themselves. Linux commit 795ae7a0de6b has the idea; 200 is the value of our trials.
    watermark_scale_factor) wanted=200 ;;
    # Swap readahead, as a power of two of pages. Eight pages (the default) share one round trip;
    # the 0 that zram guides advise makes every page pay its own. All our trials ran with 3.
    page-cluster) echo 3; return ;;
    # Cost of file cache misses against page-ins: 100 says equal (vm.rst), which holds for remote RAM
    # beside an SSD. Also the most that kernels before 5.8 take.
    swappiness) echo 100; return ;;
  esac
  # Reserves are only ever raised: somebody may have had a reason for more.
  echo $((old > wanted ? old : wanted))
}

number() { [[ $1 =~ ^[0-9]{1,10}$ ]]; }

# read_value NAME: its value now.
read_value() {
  local value
  value=$(cat "$vm/$1" 2>/dev/null) || fail "cannot read $vm/$1: has this kernel such a setting?"
  number "$value" || fail "$vm/$1: expected a number, got \"$value\""
  echo "$value"
}

# write_value NAME VALUE: fails without a word of the shell's own.
write_value() { { printf '%s\n' "$2" >"$vm/$1"; } 2>/dev/null; }

if [ "$dry_run" = no ] && [ -z "$root" ] && [ "$(id -u)" -ne 0 ]; then fail 'run it as root'; fi

undo() {
  if [ ! -e "$state" ]; then
    echo "tune-vm.sh: nothing to undo: there is no $state" >&2
    return
  fi
  local name value rest now count=0 problem=no
  declare -A before=()
  while read -r name value rest; do
    if [[ " ${names[*]} " != *" $name "* || -n $rest ]] || ! number "$value"; then
      fail "$state: expected lines \"NAME NUMBER\", got \"$name $value\"; nothing was changed"
    fi
    before[$name]=$value
  done <"$state"
  for name in "${names[@]}"; do
    [ -n "${before[$name]:-}" ] || fail "$state says nothing of $name; nothing was changed"
  done
  for name in "${names[@]}"; do
    now=$(read_value "$name")
    echo "vm.$name: $now -> ${before[$name]}"
    [ "$dry_run" = no ] || continue
    if write_value "$name" "${before[$name]}"; then
      count=$((count + 1))
    else
      echo "tune-vm.sh: cannot write $vm/$name" >&2
      problem=yes
    fi
  done
  [ "$problem" = no ] || fail "restored $count of ${#names[@]}; $state is kept, undo can be run again"
  [ "$dry_run" = yes ] || rm -f "$state"
}

changed=() made_state=no finished=no
declare -A old=() new=()

# Runs at every end of apply: one that did not finish leaves the machine as it found it.
restore() {
  local name
  [ -z "${temporary:-}" ] || rm -f "$temporary"
  [ "$finished" = no ] || return 0
  for name in "${changed[@]}"; do
    # The write that failed changed nothing.
    [ "$(cat "$vm/$name")" != "${old[$name]}" ] || continue
    if write_value "$name" "${old[$name]}"; then
      echo "tune-vm.sh: vm.$name is ${old[$name]} again" >&2
    else
      echo "tune-vm.sh: vm.$name could not be restored to ${old[$name]}; undo tries again" >&2
      made_state=no
    fi
  done
  [ "$made_state" = no ] || rm -f "$state"
}

apply() {
  local name
  memory_kb=$(sed -nE 's/^MemTotal: +([0-9]+) kB$/\1/p' "$root/proc/meminfo")
  number "$memory_kb" || fail "$root/proc/meminfo: expected a line \"MemTotal: N kB\""
  for name in "${names[@]}"; do
    old[$name]=$(read_value "$name")
    new[$name]=$(target "$name" "${old[$name]}")
  done
  trap restore EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  # The old values are on record, whole, before the first one changes.
  if [ "$dry_run" = no ] && [ ! -e "$state" ]; then
    mkdir -p -- "$(dirname -- "$state")"
    temporary=$(mktemp -- "$state.XXXXXX")
    for name in "${names[@]}"; do echo "$name ${old[$name]}"; done >"$temporary"
    made_state=yes
    mv -- "$temporary" "$state"
  fi
  for name in "${names[@]}"; do
    echo "vm.$name: ${old[$name]} -> ${new[$name]}"
    if [ "$dry_run" = yes ] || [ "${old[$name]}" = "${new[$name]}" ]; then continue; fi
    changed+=("$name")
    write_value "$name" "${new[$name]}" || fail "cannot write ${new[$name]} to $vm/$name"
  done
  finished=yes
}

"$verb"
