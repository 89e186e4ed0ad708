#!/usr/bin/env bash
# Detaches a network block device that attach.sh, memcloud or nbd-client attached.
# usage: detach.sh [--dry-run] [--swapoff] /dev/nbdN
# Needs root and nbd-client. Refuses a device that is mounted, swapped to or stood on; with --swapoff it takes
# swap off first, which reads everything back and may take long. Detaching twice is not an error.
# NBD_ROOT=DIR looks at the tree below DIR instead of the running kernel.
set -euo pipefail

usage() {
  sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

root=${NBD_ROOT:-}
dry_run=no swapoff=no device=''
while [ $# -gt 0 ]; do
  case $1 in
    --dry-run) dry_run=yes ;;
    --swapoff) swapoff=yes ;;
    /dev/nbd*) [ -z "$device" ] || usage; device=$1 ;;
    *) usage ;;
  esac
  shift
done
[ -n "$device" ] || usage

# run COMMAND...: runs it, or says what would be run.
run() {
  if [ "$dry_run" = yes ]; then echo "would run: $*" >&2; else "$@" >&2; fi
}

if [ "$dry_run" = no ] && [ -z "$root" ] && [ "$(id -u)" -ne 0 ]; then
  echo "detach.sh: run it as root" >&2
  exit 1
fi
if [ ! -e "$root/sys/block/${device##*/}/pid" ]; then
  echo "detach.sh: $device is not attached" >&2
  exit 0
fi
# dm-crypt or RAID on top would lose what it stands on.
for holder in "$root/sys/block/${device##*/}/holders"/*; do
  [ -e "$holder" ] || continue
  echo "detach.sh: ${holder##*/} stands on $device; remove that first" >&2
  exit 1
done
# The device itself or one of its partitions.
if grep -qE "^${device}(p[0-9]+)? " "$root/proc/mounts"; then
  echo "detach.sh: $device is mounted; run: umount $device" >&2
  exit 1
fi
if grep -qE "^${device}(p[0-9]+)?[[:space:]]" "$root/proc/swaps"; then
  if [ "$swapoff" = no ]; then
    echo "detach.sh: $device is swapped to; run: swapoff $device, or add --swapoff" >&2
    exit 1
  fi
  run swapoff "$device"
fi
run nbd-client -d "$device"
[ "$dry_run" = yes ] && exit 0
for _ in $(seq 100); do
  [ -e "$root/sys/block/${device##*/}/pid" ] || exit 0
  sleep 0.1
done
echo "detach.sh: $device is still in use after 10 s" >&2
exit 1
