#!/usr/bin/env bash
# Detaches a network block device that attach.sh, memcloud or nbd-client attached.
# usage: detach.sh [--dry-run] [--swapoff] /dev/nbdN
# Needs root and nbd-client. Refuses a device that is mounted or swapped to; with --swapoff it takes
# swap off first, which reads everything back and may take long. Detaching twice is not an error.
set -euo pipefail

usage() {
  sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

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

if [ "$dry_run" = no ] && [ "$(id -u)" -ne 0 ]; then
  echo "detach.sh: run it as root" >&2
  exit 1
fi
if [ ! -e "/sys/block/${device##*/}/pid" ]; then
  echo "detach.sh: $device is not attached" >&2
  exit 0
fi
# The device itself or one of its partitions.
if grep -qE "^${device}(p[0-9]+)? " /proc/mounts; then
  echo "detach.sh: $device is mounted; run: umount $device" >&2
  exit 1
fi
if grep -qE "^${device}(p[0-9]+)?[[:space:]]" /proc/swaps; then
  if [ "$swapoff" = no ]; then
    echo "detach.sh: $device is swapped to; run: swapoff $device, or add --swapoff" >&2
    exit 1
  fi
  run swapoff "$device"
fi
run nbd-client -d "$device"
[ "$dry_run" = yes ] && exit 0
for _ in $(seq 100); do
  [ -e "/sys/block/${device##*/}/pid" ] || exit 0
  sleep 0.1
done
echo "detach.sh: $device is still in use after 10 s" >&2
exit 1
