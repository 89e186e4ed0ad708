/**
 * A control node as a configuration names it: `HOST:PORT`, or `KEY@HOST:PORT` with its key as people write
 * it (fingerprint.ts). Without a key, any trusted node that answers at the address may be the control node.
 */
import { MemcloudError, asMemcloudError } from './errors.ts';
import { nodeIdOf, parseKeyPattern } from './fingerprint.ts';
import type { NodeId } from './ports.ts';
import { parseAddress } from './units.ts';

const PUBLIC_KEY = /^[0-9a-f]{64}$/i;

/** What a configuration says of one control node. */
export interface ControlTarget {
  /** `HOST:PORT`. */
  readonly address: string;
  /** Whether a node may answer there; undefined: any that is trusted. */
  readonly fits: ((nodeId: NodeId) => boolean) | undefined;
}

/** Reads `HOST:PORT` or `KEY@HOST:PORT`. @throws MemcloudError `ERR_USAGE_ADDRESS` */
export function parseControlTarget(text: string): ControlTarget {
  const at = text.lastIndexOf('@');
  try {
    const address = text.slice(at + 1);
    parseAddress(address);
    return { address, fits: at < 0 ? undefined : keyCheck(text.slice(0, at)) };
  } catch (cause) {
    const why = at < 0 ? '' : `: ${asMemcloudError(cause).message}`;
    const message = `expected HOST:PORT or KEY@HOST:PORT, such as 192.168.1.20:7071${why}`;
    throw new MemcloudError('ERR_USAGE_ADDRESS', message, { cause });
  }
}

function keyCheck(key: string): (nodeId: NodeId) => boolean {
  if (PUBLIC_KEY.test(key)) {
    const wanted = nodeIdOf(Buffer.from(key, 'hex'));
    return (nodeId) => nodeId === wanted;
  }
  const { fits } = parseKeyPattern(key);
  return (nodeId) => fits(nodeId, '');
}
