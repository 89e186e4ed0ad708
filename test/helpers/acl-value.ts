/** Access control lists as bytes, for tests. */

/** The value of an extended attribute: version 2, then the entries as tag, permissions, id. */
export function aclValue(...entries: [tag: number, permissions: number, id: number][]): string {
  const bytes = Buffer.alloc(4 + entries.length * 8);
  bytes.writeUInt32LE(2, 0);
  for (const [index, [tag, permissions, id]] of entries.entries()) {
    bytes.writeUInt16LE(tag, 4 + index * 8);
    bytes.writeUInt16LE(permissions, 6 + index * 8);
    bytes.writeUInt32LE(id, 8 + index * 8);
  }
  return bytes.toString('latin1');
}
