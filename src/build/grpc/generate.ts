/**
 * Makes `protocol.json`, the messages and services of BuildKit's gRPC, from the definitions that its Go modules hold:
 * names, numbers and types, no descriptions.
 *
 * Run: node src/build/grpc/generate.ts BUILDKIT FSUTIL CONTAINERD
 * (directories of the modules moby/buildkit, tonistiigi/fsutil, containerd/containerd/api)
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import protobuf from 'protobufjs';
import { writeDefinitions } from '#grpc/definitions.ts';

const ofBuildkit = [
  'api/services/control/control.proto',
  'api/types/worker.proto',
  'frontend/gateway/pb/gateway.proto',
  'session/auth/auth.proto',
  'session/filesync/filesync.proto',
  'session/secrets/secrets.proto',
  'session/sshforward/ssh.proto',
  'session/upload/upload.proto',
  'solver/errdefs/errdefs.proto',
  'solver/pb/ops.proto',
  'sourcepolicy/pb/policy.proto',
  'util/apicaps/pb/caps.proto',
  'util/stack/stack.proto',
];
const ofFsutil = ['types/stat.proto', 'types/wire.proto'];
const ofContainerd = ['services/content/v1/content.proto'];

/** What the others import from elsewhere: google/rpc/status.proto and google/protobuf's own. */
const common = {
  google: {
    nested: {
      rpc: {
        nested: {
          Status: {
            fields: {
              code: { type: 'int32', id: 1 },
              message: { type: 'string', id: 2 },
              details: { rule: 'repeated', type: 'google.protobuf.Any', id: 3 },
            },
          },
        },
      },
      protobuf: {
        nested: {
          Empty: { fields: {} },
          FieldMask: { fields: { paths: { rule: 'repeated', type: 'string', id: 1 } } },
          Any: { fields: { type_url: { type: 'string', id: 1 }, value: { type: 'bytes', id: 2 } } },
          Timestamp: { fields: { seconds: { type: 'int64', id: 1 }, nanos: { type: 'int32', id: 2 } } },
        },
      },
    },
  },
};

const [buildkit, fsutil, containerd] = process.argv.slice(2);
if (buildkit === undefined || fsutil === undefined || containerd === undefined)
  throw new Error('usage: generate.ts BUILDKIT FSUTIL CONTAINERD');
const root = new protobuf.Root();
root.addJSON(common);
const paths = [
  ...ofBuildkit.map((name) => join(buildkit, name)),
  ...ofFsutil.map((name) => join(fsutil, name)),
  ...ofContainerd.map((name) => join(containerd, name)),
];
for (const path of paths) protobuf.parse(readFileSync(path, 'utf8'), root, { keepCase: true });

writeDefinitions(root, join(import.meta.dirname, 'protocol.json'));
