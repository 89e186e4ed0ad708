/**
 * Process 1 of the guest: a shell script for busybox that mounts, loads modules, brings up the
 * network and then serves commands. It stays in the initramfs, which is memory that can neither be
 * swapped nor evicted, so it answers when everything else in the guest waits for a disk.
 *
 * The command protocol runs over three virtio-serial ports. On `ctl` the host sends a line
 * `TOKEN SCRIPT_BYTES STDIN_BYTES`, then as many bytes; the script runs with its standard output on
 * `out` and its error output on `err`. Its end is told by `TOKEN EXIT_CODE\n` on `out` and by
 * `TOKEN` on `err`. The token is random, so output may hold any bytes. When the host goes away,
 * reading `ctl` ends and the guest powers off.
 */

/** Names of the virtio-serial ports, in the order of the file descriptors 3, 4 and 5 of QEMU. */
export const GUEST_PORTS = ['ctl', 'out', 'err'] as const;

/** The line on the console that tells that the agent listens. */
export const GUEST_READY_LINE = 'memcloud-guest: ready';

/** Modules that the guest needs before it has a disk, a network and ports. */
export const INITRAMFS_MODULES = [
  'virtio_pci',
  'virtio_blk',
  'virtio_net',
  'virtio_console',
] as const;

/** What varies from guest to guest. */
export interface InitScriptOptions {
  /** Modules of the initramfs in loading order. */
  readonly earlyModules: readonly string[];
  /** Lines for modprobe: a name, then parameters. */
  readonly modules: readonly string[];
  /** A task blocked for so long makes the kernel panic, which ends the guest: seconds. */
  readonly hungTaskTimeoutS: number;
  /** Hand process 1 over to the systemd of the root image, which starts the agent as a service. */
  readonly systemd: boolean;
}

/** The text of /init. */
export function initScript(options: InitScriptOptions): string {
  const insmods = options.earlyModules.map((name) => `insmod /modules/${name}.ko`).join('\n');
  return `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
${insmods}
mount -t ext4 -o noatime /dev/vda /r || echo 'memcloud-guest: no root image'
if [ -d /inject ]; then cp -a /inject/. /r/; rm -rf /inject; fi
echo ${options.hungTaskTimeoutS} >/proc/sys/kernel/hung_task_timeout_secs
echo 1 >/proc/sys/kernel/hung_task_panic
echo 1 >/proc/sys/kernel/sysrq
${options.systemd ? HAND_OVER : serveHere(options)}`;
}

/** What is in memory would go with the initramfs, so the code is copied to the disk. */
const HAND_OVER = `cp -a /app/. /r/opt/memcloud/dist/
umount /sys
umount /proc
mount -o move /dev /r/dev
exec switch_root /r /usr/lib/systemd/systemd
`;

function serveHere(options: InitScriptOptions): string {
  const modprobes = options.modules
    .map((line) => `chroot /r /bin/busybox modprobe ${line}`)
    .join('\n');
  return `mount -t proc proc /r/proc
mount -t sysfs sysfs /r/sys
mount -t devtmpfs dev /r/dev
mkdir -p /r/dev/pts /r/dev/shm
mount -t devpts devpts /r/dev/pts
mount -t tmpfs tmpfs /r/dev/shm
mount -t tmpfs tmpfs /r/run
mount -t cgroup2 cgroup2 /r/sys/fs/cgroup
echo '+cpu +memory +io +pids' >/r/sys/fs/cgroup/cgroup.subtree_control
mkdir -p /r/run/guest
mount -o bind /app /r/opt/memcloud/dist
hostname guest
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
ip route add default via 10.0.2.2
echo /bin/modprobe-in-root >/proc/sys/kernel/modprobe
${modprobes}
${agentScript('/r')}`;
}

/**
 * The agent: finds its ports, tells that it listens, and serves commands until the host goes away.
 *
 * @param root - where the commands' root file system is: '' when it is the agent's own
 */
export function agentScript(root: '' | '/r'): string {
  const shell = root === '' ? '/bin/sh' : `/bin/chroot ${root} /bin/sh`;
  return `for port in /sys/class/virtio-ports/*; do
  eval "port_$(cat $port/name)=/dev/\${port##*/}"
done
exec 3<>$port_ctl 4>$port_out 5>$port_err
echo '${GUEST_READY_LINE}' >/dev/console
echo 7 >/proc/sys/kernel/printk
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LANG=C.UTF-8
while read -r token script_bytes stdin_bytes <&3; do
  : >${root}/run/guest/stdin
  /bin/busybox dd bs=$script_bytes count=1 iflag=fullblock <&3 >${root}/run/guest/script 2>/dev/null
  if [ $stdin_bytes -gt 0 ]; then
    /bin/busybox dd bs=$stdin_bytes count=1 iflag=fullblock <&3 >${root}/run/guest/stdin 2>/dev/null
  fi
  ${shell} /run/guest/script <${root}/run/guest/stdin >&4 2>&5 3>&- 4>&- 5>&-
  code=$?
  printf '%s %d\\n' $token $code >&4
  printf '%s' $token >&5
done
/bin/busybox poweroff -f
`;
}

/** The kernel's way to modprobe: it runs in the initramfs, the modules lie in the root image. */
export const MODPROBE_SCRIPT = `#!/bin/busybox sh
exec /bin/busybox chroot /r /bin/busybox modprobe "$@"
`;
