/** Facts for doctor's checks: a machine without a fault, to be changed by each case. */
import type { DaemonFacts, MachineFacts, SwapFacts } from '../../cli/doctor/facts.ts';
import type { CheckResult } from '../../cli/doctor/finding.ts';
import type { GiveBackInfo } from '../../common/rpc-nodes.ts';
import type { PeerInfo, VolumeDetails } from '../../common/rpc-schema.ts';

const MIB = 2 ** 20;

/** A provider on a machine with memory to spare. */
const CALM: GiveBackInfo = {
  ...{ level: 'calm', draining: false, accepting: true },
  ...{ availableBytes: 4096 * MIB, reserveBytes: 512 * MIB, shortageBytes: 0, stallShare: 0 },
  ...{ askedCount: 0, pressureCount: 0, givenBackCount: 0, givenBackBytes: 0 },
  ...{ endedCount: 0, endedBytes: 0, firstBackMs: null },
};

/** A peer that is up and lends 1 GiB. */
export function peerInfo(name: string, change: Partial<PeerInfo> = {}): PeerInfo {
  return {
    nodeId: `id-${name}`,
    fingerprint: 'abandon-abandon',
    nextTryInMs: null,
    allowedBytes: null,
    borrowedBytes: 0,
    name,
    address: `${name}.example:7070`,
    state: 'up',
    reason: '',
    usage: { offeredBytes: 1024 * MIB, usedBytes: 0, residentBytes: 0, leaseCount: 0 },
    rttUs: 500,
    ...{
      hostId: `host-${name}`,
      zone: '',
      accepting: true,
      quarantine: '',
      guest: false,
      lentBytes: 0,
      lentLeases: 0,
    },
    ...change,
  };
}

/** A volume of two copies that nothing uses. */
export function volumeDetails(change: Partial<VolumeDetails> = {}): VolumeDetails {
  return {
    name: 'disk',
    sizeBytes: 64 * MIB,
    copies: 2,
    storedBytes: 0,
    leasedBytes: 0,
    health: 'ok',
    servedAt: [],
    devices: [],
    managed: false,
    slabs: { leased: 0, degraded: 0 },
    repair: { slabs: 0, bytesLeft: 0 },
    ring: { used: 0, size: 16_384, locked: true },
    providers: [],
    counters: {},
    ...change,
  };
}

/** A swap area on /dev/nbd0, tuned. */
export function remoteSwap(change: Partial<SwapFacts> = {}): SwapFacts {
  const queue = { name: 'nbd0', maxSectorsKb: 128, maxHwSectorsKb: 32_767, discardMaxBytes: MIB };
  const area = { device: '/dev/nbd0', sizeBytes: 1024 * MIB, usedBytes: 0, priority: 5 };
  return { ...area, queues: [queue], ...change };
}

/** A swap area on a disk of the machine. */
export function diskSwap(change: Partial<SwapFacts> = {}): SwapFacts {
  const queue = { name: 'sda2', maxSectorsKb: 128, maxHwSectorsKb: 512, discardMaxBytes: 0 };
  return remoteSwap({ device: '/dev/sda2', priority: -2, queues: [queue], ...change });
}

/** What a daemon with two lenders says. */
export function daemonFacts(
  change: Partial<DaemonFacts['status']> = {},
  volumes: readonly VolumeDetails[] = [],
): DaemonFacts {
  const usage = { offeredBytes: 1024 * MIB, usedBytes: 0, residentBytes: 0, leaseCount: 0 };
  const status = {
    daemon: 'memnode' as const,
    version: '0.1.0',
    nodeId: 'id-self',
    fingerprint: 'abandon-abandon',
    name: 'self',
    pid: 4711,
    uptimeS: 60,
    peerAddress: '0.0.0.0:7070',
    provider: {
      usage,
      directory: '/dev/shm/memcloud-aaaaaa',
      swapExposure: 'noswap',
      giveBack: CALM,
      managed: [],
    },
    peers: [peerInfo('alpha'), peerInfo('beta')],
    consentPending: 0,
    ...{ hostId: 'host-self', zone: '' },
    volumes: [],
    directDevices: [],
    directExports: [],
    mounts: [],
    health: [],
    kit: [],
    garbageCollection: { count: 0, majorCount: 0, totalUs: 0, longestUs: 0, oldHeapBytes: 0 },
    handover: null,
    managed: null,
    ...change,
  };
  return { status, volumes };
}

/** A machine on which every check is ok. */
export function healthyFacts(): MachineFacts {
  return {
    fuse: { device: 'ready', fusermount: true, userAllowOther: false, staleMounts: [] },
    nodeVersion: '20.19.0',
    root: true,
    scriptsFolder: '/opt/memcloud/kernel-scripts',
    socketPath: '/run/memcloud/memcloud.sock',
    kernel: {
      release: '6.12.1',
      modules: {
        nbd: 'ready',
        tls: 'ready',
        'dm-crypt': 'ready',
        raid1: 'ready',
      },
      ciphers: { 'rfc7539(chacha20,poly1305)': 'ready', 'xts(aes)': 'ready' },
      tools: { mkswap: true, swapon: true, swapoff: true, dmsetup: true, mdadm: true },
      capabilities: 0x1ff_ffff_ffffn,
      memlockBytes: Infinity,
    },
    memory: {
      totalBytes: 8 * 1024 * MIB,
      cgroups: { version: 2, memory: true, swapLimit: true },
      vm: {
        min_free_kbytes: 65_536,
        watermark_scale_factor: 200,
        'page-cluster': 3,
        swappiness: 100,
      },
      zswap: { enabled: false, maxPoolPercent: 20 },
    },
    swaps: [remoteSwap()],
    clock: { wallMs: Date.UTC(2026, 10, 21), synchronised: true },
    daemon: daemonFacts({}, [volumeDetails({ devices: ['/dev/nbd0'] })]),
    abandonedScopes: [],
    directConnection: 'tls',
    directProblems: [],
    network: {
      paths: [
        {
          peer: 'alpha',
          host: '192.0.2.1',
          interface: 'eth0',
          interfaceMtu: 1500,
          ethernet: true,
          pathMtu: 1500,
        },
      ],
      probes: [{ address: '192.0.2.9:7070', failure: '' }],
      firewall: '',
    },
    kit: [{ part: 'io-flusher', active: true, detail: '7 of 7 threads', risk: 'a wait' }],
  };
}

/** A findings list as `level check` lines, those that are ok left out. */
export function faults(results: readonly CheckResult[]): string[] {
  return results.flatMap(({ level, check }) => (level === 'ok' ? [] : [`${level} ${check}`]));
}
