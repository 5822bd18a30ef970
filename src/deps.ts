/**
 * The import table: which folders, npm packages and Node built-ins each folder of `src` may use. `test/tidy/imports.test.ts`
 * enforces it and names the line to edit. A folder may always import itself. The graph of folders has no cycles (also tested).
 * Reads from the bottom up; a new arrow is a design decision and belongs in ARCHITECTURE.md.
 */
export interface FolderRule { folders: readonly string[]; packages: readonly string[]; builtins: readonly string[] }

export const deps: Readonly<Record<string, FolderRule>> = {
  base: { folders: [], packages: ['rfc6902', 'js-yaml', 're2js'], builtins: ['node:crypto', 'node:zlib', 'node:stream', 'node:buffer', 'node:util'] },
  os: { folders: ['base'], packages: [], builtins: ['*'] },
  observe: { folders: ['base', 'os'], packages: [], builtins: [] },
  store: { folders: ['base', 'os', 'observe'], packages: [], builtins: ['node:sqlite', 'node:worker_threads', 'node:buffer', 'node:fs'] },
  schema: { folders: ['base'], packages: [], builtins: ['node:net', 'node:fs', 'node:path', 'node:url', 'node:zlib'] },
  content: { folders: ['base', 'os', 'observe'], packages: [], builtins: ['node:crypto', 'node:fs', 'node:fs/promises', 'node:path', 'node:stream', 'node:stream/promises', 'node:zlib', 'node:http', 'node:https', 'node:url', 'node:tls', 'node:worker_threads'] },
  net: { folders: ['base', 'os', 'observe'], packages: ['dns-packet'], builtins: ['node:path', 'node:net', 'node:dgram', 'node:fs', 'node:fs/promises'] },
  engine: { folders: ['base', 'os', 'observe', 'content', 'net'], packages: ['dns-packet'], builtins: ['node:stream', 'node:path', 'node:fs', 'node:fs/promises', 'node:net', 'node:dgram', 'node:crypto', 'node:events', 'node:url', 'node:buffer', 'node:stream/promises', 'node:worker_threads', 'node:os'] },
  registry: { folders: ['base', 'os', 'observe', 'content'], packages: [], builtins: ['node:http', 'node:crypto', 'node:stream', 'node:stream/promises', 'node:url', 'node:path'] },
  apiserver: { folders: ['base', 'os', 'observe', 'store', 'schema'], packages: ['js-yaml'], builtins: ['node:http', 'node:http2', 'node:https', 'node:net', 'node:tls', 'node:crypto', 'node:stream', 'node:zlib', 'node:buffer', 'node:url', 'node:v8', 'node:perf_hooks'] },
  client: { folders: ['base', 'os', 'observe'], packages: ['js-yaml'], builtins: ['node:http2', 'node:https', 'node:http', 'node:tls', 'node:fs', 'node:path', 'node:buffer', 'node:stream', 'node:net', 'node:crypto'] },
  build: { folders: ['base', 'os', 'observe', 'content', 'engine'], packages: [], builtins: ['node:crypto', 'node:fs', 'node:fs/promises', 'node:path', 'node:stream', 'node:stream/promises', 'node:zlib', 'node:url', 'node:http', 'node:https'] },
  docker: { folders: ['base', 'os', 'observe', 'content', 'engine', 'build', 'registry'], packages: [], builtins: ['node:http', 'node:net', 'node:stream', 'node:stream/promises', 'node:url', 'node:path', 'node:crypto', 'node:zlib', 'node:fs', 'node:os'] },
  kubelet: { folders: ['base', 'os', 'observe', 'engine', 'client'], packages: ['ws'], builtins: ['node:http', 'node:https', 'node:net', 'node:tls', 'node:stream', 'node:path', 'node:crypto', 'node:fs', 'node:fs/promises', 'node:zlib', 'node:url', 'node:buffer', 'node:http2'] },
  network: { folders: ['base', 'os', 'observe', 'net', 'client'], packages: ['dns-packet'], builtins: ['node:dgram', 'node:net', 'node:path', 'node:crypto', 'node:fs', 'node:fs/promises'] },
  scheduler: { folders: ['base', 'os', 'observe', 'client'], packages: [], builtins: [] },
  controllers: { folders: ['base', 'os', 'observe', 'client'], packages: ['croner'], builtins: ['node:crypto'] },
  sim: { folders: ['base', 'os', 'observe', 'store', 'schema', 'apiserver', 'client', 'scheduler', 'controllers', 'engine', 'kubelet'], packages: ['js-yaml'], builtins: ['*'] },
  platform: { folders: ['*'], packages: ['js-yaml'], builtins: ['*'] },
  cli: { folders: ['*'], packages: ['commander', 'js-yaml', 'ws'], builtins: ['*'] },
};
