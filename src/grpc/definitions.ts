/** What is kept of definitions of a protocol: names, numbers and types. */
import { writeFileSync } from 'node:fs';
import type protobuf from 'protobufjs';

/** Writes the messages and services below `root` as JSON. */
export function writeDefinitions(root: protobuf.Root, path: string): void {
  const nested = withoutOptions(root.toJSON({ keepComments: false }).nested);
  writeFileSync(path, `${JSON.stringify({ nested }, null, 1)}\n`);
}

/** Options steer code generators. */
function withoutOptions(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(withoutOptions);
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => !['options', 'parsedOptions', 'edition', 'comment'].includes(key))
      .map(([key, item]) => [key, withoutOptions(item)]),
  );
}
