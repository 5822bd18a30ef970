/**
 * The import table: which folders, npm packages and Node built-ins each folder of `src` may use.
 * `test/tidy/imports.test.ts`
 * enforces it and names the line to edit. A folder may always import itself. The graph of folders has no cycles (also
 * tested). Reads from the bottom up; a new arrow is a design decision and belongs in ARCHITECTURE.md.
 */
export interface FolderRule {
  folders: readonly string[];
  packages: readonly string[];
  builtins: readonly string[];
}

export const deps: Readonly<Record<string, FolderRule>> = {
  /** Types alone. */
  api: { folders: [], packages: [], builtins: [] },
  /**
   * `ip-address` is for `ip.ts` alone. It reads IPv4 strictly, knows both families as bigints and has no dependencies.
   * `ipaddr` is smaller, but takes `0x1.2.3.4` and `1.2.3`, and makes `::1.2.3.4` another address; `node:net` can
   * say what is an address, and cannot count.
   */
  base: {
    folders: ['api'],
    packages: ['rfc6902', 'js-yaml', 're2js', 'ip-address'],
    builtins: ['node:crypto', 'node:zlib', 'node:stream', 'node:buffer'],
  },
  cel: { folders: ['base'], packages: [], builtins: [] },
  os: { folders: ['base'], packages: [], builtins: ['*'] },
  observe: { folders: [], packages: ['prom-client'], builtins: [] },
  /** What BuildKit's clients and etcd speak. */
  grpc: {
    folders: ['base', 'os'],
    packages: [],
    builtins: ['node:fs', 'node:http2', 'node:module', 'node:stream'],
  },
  store: {
    folders: ['base', 'os', 'observe', 'grpc'],
    packages: ['protobufjs'],
    builtins: ['node:sqlite', 'node:worker_threads', 'node:fs', 'node:net', 'node:path', 'node:tls'],
  },
  schema: {
    folders: ['api', 'base', 'cel'],
    packages: [],
    builtins: ['node:crypto', 'node:fs', 'node:path'],
  },
  content: {
    folders: ['base', 'os', 'observe'],
    packages: [],
    builtins: [
      'node:crypto',
      'node:fs',
      'node:fs/promises',
      'node:path',
      'node:stream',
      'node:zlib',
      'node:http',
      'node:https',
      'node:tls',
      'node:worker_threads',
    ],
  },
  net: {
    folders: ['base', 'os', 'observe'],
    packages: ['dns-packet'],
    builtins: ['node:net', 'node:dgram'],
  },
  /** Other people's programs that the engine asks: the plugin protocol. */
  plugins: {
    folders: ['base', 'os', 'observe'],
    packages: [],
    builtins: ['node:http', 'node:https', 'node:fs', 'node:path'],
  },
  engine: {
    folders: ['base', 'os', 'observe', 'content', 'net', 'plugins'],
    packages: [],
    builtins: [
      'node:stream',
      'node:stream/promises',
      'node:path',
      'node:fs',
      'node:fs/promises',
      'node:crypto',
      'node:os',
      'node:net',
      'node:dgram',
      'node:tls',
      'node:zlib',
    ],
  },
  registry: {
    folders: ['base', 'os', 'observe', 'content'],
    packages: [],
    builtins: ['node:http', 'node:https', 'node:net', 'node:tls', 'node:crypto', 'node:stream/promises'],
  },
  apiserver: {
    folders: ['api', 'base', 'os', 'observe', 'store', 'cel', 'schema'],
    packages: [],
    builtins: [
      'node:http',
      'node:http2',
      'node:https',
      'node:net',
      'node:path',
      'node:tls',
      'node:url',
      'node:crypto',
      'node:stream',
      'node:zlib',
    ],
  },
  client: {
    folders: ['api', 'base', 'os', 'observe'],
    packages: ['js-yaml'],
    builtins: ['node:http2', 'node:fs', 'node:path'],
  },
  build: {
    folders: ['base', 'os', 'observe', 'content', 'engine', 'grpc'],
    packages: ['protobufjs'],
    builtins: ['node:crypto', 'node:fs', 'node:fs/promises', 'node:http2', 'node:net', 'node:path', 'node:stream'],
  },
  docker: {
    folders: ['base', 'os', 'observe', 'content', 'engine', 'build', 'registry', 'plugins'],
    packages: ['ws'],
    builtins: [
      'node:http',
      'node:https',
      'node:stream',
      'node:tls',
      'node:stream/promises',
      'node:url',
      'node:crypto',
      'node:os',
    ],
  },
  kubelet: {
    folders: ['api', 'base', 'os', 'observe', 'engine', 'client'],
    packages: ['ws'],
    builtins: [
      'node:http',
      'node:https',
      'node:net',
      'node:tls',
      'node:stream',
      'node:path',
      'node:fs/promises',
      'node:http2',
    ],
  },
  network: {
    folders: ['api', 'base', 'os', 'observe', 'net', 'client'],
    packages: ['dns-packet'],
    builtins: ['node:net', 'node:path', 'node:crypto', 'node:fs', 'node:fs/promises', 'node:tls'],
  },
  scheduler: { folders: ['api', 'base', 'os', 'observe', 'client'], packages: [], builtins: [] },
  controllers: { folders: ['api', 'base', 'os', 'observe', 'client'], packages: ['croner'], builtins: [] },
  sim: {
    folders: [
      'api',
      'base',
      'os',
      'observe',
      'store',
      'apiserver',
      'client',
      'scheduler',
      'controllers',
      'engine',
      'kubelet',
    ],
    packages: [],
    builtins: ['*'],
  },
  platform: { folders: ['*'], packages: ['js-yaml', 'age-encryption', 'aws4fetch'], builtins: ['*'] },
  cli: { folders: ['*'], packages: ['commander', 'ws'], builtins: ['*'] },
};
