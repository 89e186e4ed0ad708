#!/usr/bin/env bash
# Says what this kernel has of what MemCloud uses, what for, and what a missing part costs.
# usage: check-kernel.sh [--json]
# Needs no privileges and changes nothing, so that there is no --dry-run. Exit status: 0 when the pool path can swap here (nbd and the cgroup v2 memory
# controller), 9 when it cannot, 2 on a wrong flag. CHECK_ROOT=DIR looks at a tree below DIR.
set -euo pipefail

usage() {
  sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

json=no
for flag in "$@"; do
  case $flag in
    --json) json=yes ;;
    *) usage ;;
  esac
done

root=${CHECK_ROOT:-}
release=unknown
if [ -r "$root/proc/sys/kernel/osrelease" ]; then read -r release <"$root/proc/sys/kernel/osrelease"; fi
modules=$root/lib/modules/$release

# The kernel's own account of how it was built; not every kernel carries or installs it.
config=''
if [ -r "$root/proc/config.gz" ]; then
  config=$(gzip -dc "$root/proc/config.gz" 2>/dev/null) || config=''
elif [ -r "$root/boot/config-$release" ]; then
  config=$(cat "$root/boot/config-$release")
fi

# has FILE PATTERN: the file can be read and has such a line.
has() { [ -r "$1" ] && grep -qE -- "$2" "$1"; }

found=() needed_missing=no
# report NAME STATE TEXT NEEDED USE: one row, kept for the end.
report() {
  found+=("$1|$2|$3|$4|$5")
  if [ "$2" = missing ] && [ "$4" = true ]; then needed_missing=yes; fi
}

# module NAME FILE OPTION NEEDED USE COST: a part that is a module or built in. A module in /sys/module is
# there now; one without parameters that is built in shows only in modules.builtin or the config.
module() {
  local name=$1 file=$2 option=$3 needed=$4 use=$5 cost=$6
  if [ -e "$root/sys/module/${file//-/_}" ]; then
    report "$name" ok 'in the running kernel' "$needed" "$use"
  elif has "$modules/modules.builtin" "/$file\.ko" || [[ $'\n'$config$'\n' == *$'\n'"$option=y"$'\n'* ]]; then
    report "$name" ok 'built in' "$needed" "$use"
  elif has "$modules/modules.dep" "^[^:]*/$file\.ko[^:/]*:"; then
    report "$name" ok "a module, not loaded now; run: modprobe $file" "$needed" "$use"
  else
    report "$name" missing "$cost" "$needed" "$use"
  fi
}

# cipher NAME FILE OPTION USE COST: one that the kernel lists already, or whose module is there.
cipher() {
  local name=$1 file=$2 option=$3 use=$4 cost=$5 pattern
  pattern=$(printf '%s' "$name" | sed 's/[()]/\\&/g')
  if has "$root/proc/crypto" "^name +: $pattern\$"; then
    report "$name" ok 'in the running kernel' false "$use"
  else
    module "$name" "$file" "$option" false "$use" "$cost"
  fi
}

module nbd nbd CONFIG_BLK_DEV_NBD true 'the kernel as a client of remote RAM: swap and disks' \
  'no /dev/nbdN: neither swap nor a disk for this kernel; NBD clients in user space still work'
module tls tls CONFIG_TLS false 'encrypted swap straight from the kernel to a lender (direct path)' \
  'no kTLS: no encrypted swap straight from the kernel to a lender; the pool path does without'
cipher 'rfc7539(chacha20,poly1305)' chacha20poly1305 CONFIG_CRYPTO_CHACHA20POLY1305 \
  'the cipher of the direct path on the wire' \
  'kTLS cannot encrypt what lenders expect: no direct path; the pool path does without'
module dm-crypt dm-crypt CONFIG_DM_CRYPT false 'pages on the direct path that a lender cannot read' \
  'a lender on the direct path could read pages; the pool path seals them itself'
cipher 'xts(aes)' xts CONFIG_CRYPTO_XTS 'the cipher of dm-crypt' \
  'dm-crypt cannot hide pages from lenders; the pool path seals them itself'
module raid1 raid1 CONFIG_MD_RAID1 false 'two copies on the direct path' \
  'the end of a lender on the direct path ends programs; the pool path keeps copies itself'
module zram zram CONFIG_ZRAM false 'compressed swap in local RAM; not in front of remote swap' \
  'no compressed swap in local RAM; remote swap needs none'
module zswap zswap CONFIG_ZSWAP false 'a compressed cache in front of remote swap' \
  'no compressed cache in front of remote swap: every page-out travels'

use='a lender gives back when its own programs wait for memory'
if [ -e "$root/proc/pressure/memory" ]; then
  report PSI ok 'memory pressure is measured' false "$use"
else
  report PSI missing 'a lender sees pressure late; boot with psi=1 where the kernel has it' false "$use"
fi

use='memcloud run keeps a command off the watermark'
if has "$root/sys/fs/cgroup/cgroup.controllers" '(^| )memory( |$)'; then
  report 'cgroup v2 memory' ok 'memory.max and memory.swap.max can be set' true "$use"
else
  report 'cgroup v2 memory' missing 'memcloud run cannot keep its command off the watermark, and swap there may freeze; boot with systemd.unified_cgroup_hierarchy=1' true "$use"
fi

use='lent pages stay off the disk of the lender'
major=${release%%.*} rest=${release#*.} minor=${rest%%[!0-9]*}
if [[ $major =~ ^[0-9]+$ && $minor =~ ^[0-9]+$ ]] &&
  { [ "$major" -gt 6 ] || { [ "$major" -eq 6 ] && [ "$minor" -ge 3 ]; }; } &&
  has "$root/proc/filesystems" '[[:space:]]tmpfs$'; then
  report 'tmpfs noswap' ok 'lent pages can be kept off the swap disk (Linux 6.3 or later)' false "$use"
else
  report 'tmpfs noswap' missing 'lent pages may be swapped here unless memnode has memory.swap.max=0 (memnode.service)' false "$use"
fi

use='a file system on remote RAM'
if has "$root/proc/filesystems" '[[:space:]]fuse$'; then
  report fuse ok 'in the running kernel' false "$use"
else
  module fuse fuse CONFIG_FUSE_FS false "$use" 'no file system on remote RAM; swap and disks need none'
fi

# Only the release is not our own text; whatever could end a JSON string leaves it.
json_rows() {
  local row name state text needed use comma=''
  printf '{"release":"%s","ok":%s,"checks":[' "${release//[^A-Za-z0-9._+~-]/}" \
    "$([ "$needed_missing" = no ] && echo true || echo false)"
  for row in "${found[@]}"; do
    IFS='|' read -r name state text needed use <<<"$row"
    printf '%s{"check":"%s","state":"%s","finding":"%s","needed":%s,"use":"%s"}' \
      "$comma" "$name" "$state" "$text" "$needed" "$use"
    comma=,
  done
  printf ']}\n'
}

if [ "$json" = yes ]; then
  json_rows
else
  for row in "${found[@]}"; do
    IFS='|' read -r name state text _ use <<<"$row"
    # What a missing part costs says what it is for.
    if [ "$state" = ok ]; then text="$text; for $use"; fi
    printf '%-8s %-26s %s\n' "$state" "$name" "$text"
  done
fi
[ "$needed_missing" = no ] || exit 9
