#!/usr/bin/env bash
# Attaches an NBD export as a kernel block device with Debian's nbd-client, for a host without memnode.
# usage: attach.sh [--dry-run] (--unix PATH | --tcp HOST:PORT) [--export NAME] [--connections N]
#                  [--timeout SECONDS] [--device /dev/nbdN]
# Prints the device. Needs root (CAP_SYS_ADMIN), nbd-client and the nbd module, which it loads.
# Undo: detach.sh DEVICE. A failure undoes what was done, but leaves a loaded module loaded.
# NBD_ROOT=DIR looks at the tree below DIR instead of the running kernel.
set -euo pipefail

usage() {
  sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

root=${NBD_ROOT:-}
dry_run=no target=() export_name='' connections=1 timeout=30 device=''
while [ $# -gt 0 ]; do
  case $1 in
    --dry-run) dry_run=yes; shift; continue ;;
    --unix | --tcp | --export | --connections | --timeout | --device) [ $# -ge 2 ] || usage ;;
    *) usage ;;
  esac
  case $1 in
    --unix) target=(-unix "$2") ;;
    --tcp) target=("${2%:*}" "${2##*:}") ;;
    --export) export_name=$2 ;;
    --connections) connections=$2 ;;
    --timeout) timeout=$2 ;;
    --device) device=$2 ;;
  esac
  shift 2
done
[ ${#target[@]} -eq 2 ] || usage
[[ -z $device || $device =~ ^/dev/nbd[0-9]+$ ]] || usage

# run COMMAND...: runs it, or says what would be run.
run() {
  if [ "$dry_run" = yes ]; then echo "would run: $*" >&2; else "$@" >&2; fi
}

# The first device that the kernel names no user of.
free_device() {
  local block
  for block in "$root"/sys/block/nbd*; do
    if [ -e "$block" ] && [ ! -e "$block/pid" ]; then
      echo "/dev/${block##*/}"
      return
    fi
  done
  echo "attach.sh: no free network block device; run: modprobe nbd nbds_max=16" >&2
  return 1
}

if [ "$dry_run" = no ] && [ -z "$root" ] && [ "$(id -u)" -ne 0 ]; then
  echo "attach.sh: run it as root" >&2
  exit 1
fi
[ -d "$root/sys/block/nbd0" ] || run modprobe nbd
if [ -z "$device" ]; then
  if [ -d "$root/sys/block/nbd0" ] || [ "$dry_run" = no ]; then device=$(free_device); else device=/dev/nbd0; fi
fi
if [ -e "$root/sys/block/${device##*/}/pid" ]; then
  echo "attach.sh: $device is in use" >&2
  exit 1
fi

# Runs at every end: an attachment that did not finish, or was interrupted, is taken back.
finished=$dry_run
undo() { [ "$finished" = yes ] || nbd-client -d "$device" >&2 || true; }
trap undo EXIT
run nbd-client "${target[@]}" "$device" -N "$export_name" -b 4096 -t "$timeout" -C "$connections"
if [ "$dry_run" = no ]; then
  for _ in $(seq 50); do
    [ "$(cat "$root/sys/block/${device##*/}/size")" != 0 ] && break
    sleep 0.1
  done
  [ "$(cat "$root/sys/block/${device##*/}/size")" != 0 ]
fi
finished=yes
echo "$device"
