/** The name of a control plane: random, made once, by whichever control node comes first to a store. */
import { randomBytes } from 'node:crypto';
import type { MetaStore } from './meta-store.ts';
import { CLUSTER_KEY, readRecord } from './record-codec.ts';

/** The name of the control plane of a store, 32 hex digits; made when there is none. @throws MemcloudError `ERR_CONTROL_STORE` */
export async function clusterId(store: MetaStore): Promise<string> {
  const known = await store.get(CLUSTER_KEY);
  if (known !== undefined) return readRecord.cluster(known.value).id;
  const id = randomBytes(16).toString('hex');
  if ((await store.cas(CLUSTER_KEY, 0, JSON.stringify({ id }))) !== undefined) return id;
  return clusterId(store);
}
