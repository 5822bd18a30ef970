/**
 * Makes `protocol.json`, the messages and services of etcd's gRPC that the store uses, from the definitions that etcd's
 * Go module holds: names, numbers and types, no descriptions.
 *
 * Run: node src/store/etcd/generate.ts DIRECTORY   (of the module go.etcd.io/etcd/api/v3)
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import protobuf from 'protobufjs';
import { writeDefinitions } from '#grpc/definitions.ts';

/** Methods by service; what their messages hold comes along. */
const wanted: Readonly<Record<string, readonly string[]>> = {
  KV: ['Range', 'Txn', 'Compact'],
  Watch: ['Watch'],
  Lease: ['LeaseGrant', 'LeaseRevoke', 'LeaseKeepAlive', 'LeaseTimeToLive'],
};

const [directory] = process.argv.slice(2);
if (directory === undefined) throw new Error('usage: generate.ts DIRECTORY');
const root = new protobuf.Root();
for (const name of ['mvccpb/kv.proto', 'etcdserverpb/rpc.proto']) {
  const text = readFileSync(join(directory, name), 'utf8');
  // Options and what only the gateways and the code generators read.
  const plain = text
    .replace(/^import .*;$/gm, '')
    .replace(/^\s*option (?:\([^)]*\)[^;{]*|go_package[^;]*)(?:;|\{[\s\S]*?^\s*\};)$/gm, '')
    .replace(/\s\[\((?:[^\]])*\]/g, '');
  protobuf.parse(plain, root, { keepCase: true });
}

const kept = new Set<string>();
function keep(type: protobuf.Type): void {
  if (kept.has(type.fullName)) return;
  kept.add(type.fullName);
  for (const field of type.fieldsArray) {
    // Of members, alarms and downgrades nothing is asked.
    try {
      field.resolve();
    } catch {
      type.remove(field);
      continue;
    }
    if (field.resolvedType instanceof protobuf.Type) keep(field.resolvedType);
  }
}
const rpc = root.lookup('etcdserverpb');
if (!(rpc instanceof protobuf.Namespace)) throw new Error(`${directory} holds no etcdserverpb`);
for (const service of rpc.nestedArray.filter((item) => item instanceof protobuf.Service)) {
  const methods = wanted[service.name] ?? [];
  for (const method of service.methodsArray)
    if (!methods.includes(method.name)) service.remove(method);
    else {
      keep(root.lookupType(`etcdserverpb.${method.requestType}`));
      keep(root.lookupType(`etcdserverpb.${method.responseType}`));
    }
  if (methods.length === 0) rpc.remove(service);
}
for (const space of root.nestedArray.filter((item) => item instanceof protobuf.Namespace))
  for (const item of space.nestedArray)
    if (item instanceof protobuf.Type && !kept.has(item.fullName)) space.remove(item);

writeDefinitions(root, join(import.meta.dirname, 'protocol.json'));
