import { MemcloudError } from '../common/errors.ts';
export async function attachDevice(...a: unknown[]): Promise<never> { throw new MemcloudError('ERR_UNSUPPORTED','x'+String(a.length)); }
