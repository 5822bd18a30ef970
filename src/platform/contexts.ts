/**
 * The `tiphys` contexts of docker and kubectl. They are added beside what the user has; the current context is not
 * changed, and a context of this name that points elsewhere is left alone.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { load, dump } from 'js-yaml';
import { fieldOf, isObject, itemsOf, type JsonObject } from '#base/unknown.ts';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import { files, type Paths } from './paths.ts';

const contextName = 'tiphys';

function dockerContextDirectory(home: string): string {
  return join(home, '.docker/contexts/meta', createHash('sha256').update(contextName).digest('hex'));
}

function kubeconfigPath(home: string): string {
  return join(home, '.kube/config');
}

/** Adds both contexts; returns what stands in the way, in words. */
export function addContexts(home: string, paths: Paths): string[] {
  const notes: string[] = [];
  const host = `unix://${files.dockerSocket(paths)}`;
  const meta = join(dockerContextDirectory(home), 'meta.json');
  const existing = readIfExists(meta);
  if (existing !== undefined && !existing.includes(`"${host}"`) && dockerHostAlive(existing))
    notes.push(`docker context '${contextName}' points at another instance and was left`);
  else if (existing === undefined || !existing.includes(`"${host}"`)) {
    mkdirSync(dockerContextDirectory(home), { recursive: true, mode: 0o755 });
    writeFileAtomic(
      meta,
      JSON.stringify({
        Name: contextName,
        Metadata: { Description: 'Tiphys' },
        Endpoints: { docker: { Host: host, SkipTLSVerify: false } },
      }),
      { mode: 0o644 },
    );
  }
  // A machine that joined a cluster administers none.
  if (readIfExists(files.adminConfig(paths)) === undefined) return notes;
  const note = addKubeContext(kubeconfigPath(home), paths);
  if (note !== undefined) notes.push(note);
  return notes;
}

function dockerHostAlive(meta: string): boolean {
  const host = /"Host":"unix:\/\/([^"]+)"/.exec(meta)?.[1];
  return host !== undefined && readIfExists(host.replace('docker.sock', 'admin.conf')) !== undefined;
}

/** The entries of a kubeconfig's list that are not ours. */
function othersIn(config: JsonObject, list: string): unknown[] {
  return itemsOf(config[list]).filter((item) => fieldOf(item, 'name') !== contextName);
}

function addKubeContext(path: string, paths: Paths): string | undefined {
  const ours: unknown = load(readIfExists(files.adminConfig(paths)) ?? '');
  const text = readIfExists(path);
  let config: unknown;
  try {
    config =
      text === undefined || text.trim() === ''
        ? { apiVersion: 'v1', kind: 'Config', clusters: [], users: [], contexts: [], preferences: {} }
        : load(text);
  } catch {
    return `${path} is not valid YAML and was left`;
  }
  if (!isObject(config)) return `${path} is not a kubeconfig and was left`;
  for (const [list, key] of [
    ['clusters', 'cluster'],
    ['users', 'user'],
    ['contexts', 'context'],
  ] as const) {
    const [entry] = itemsOf(fieldOf(ours, list));
    config[list] = [...othersIn(config, list), { name: contextName, [key]: fieldOf(entry, key) }];
  }
  const changed = dump(config, { lineWidth: -1 });
  if (changed === text) return undefined;
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  writeFileAtomic(path, changed, { mode: 0o600 });
  return undefined;
}

/** Where kubectl's context is this instance's, it is given the certificates of now. */
export function renewContext(home: string, paths: Paths): void {
  const serverIn = (text: string | undefined): unknown => {
    try {
      const config: unknown = load(text ?? '');
      const clusters = itemsOf(fieldOf(config, 'clusters'));
      return fieldOf(
        clusters.find((item) => fieldOf(item, 'name') === contextName),
        'cluster',
        'server',
      );
    } catch {
      return undefined;
    }
  };
  const server = serverIn(readIfExists(kubeconfigPath(home)));
  if (server !== undefined && server === serverIn(readIfExists(files.adminConfig(paths))))
    addKubeContext(kubeconfigPath(home), paths);
}

/** Takes both contexts away again, where they are this instance's. */
export function removeContexts(home: string, paths: Paths): void {
  const meta = readIfExists(join(dockerContextDirectory(home), 'meta.json'));
  if (meta?.includes(`"unix://${files.dockerSocket(paths)}"`) === true)
    rmSync(dockerContextDirectory(home), { recursive: true, force: true });
  const path = kubeconfigPath(home);
  const text = readIfExists(path);
  if (text === undefined) return;
  let config: unknown;
  try {
    config = load(text);
  } catch {
    return;
  }
  if (!isObject(config)) return;
  const ours: unknown = load(readIfExists(files.adminConfig(paths)) ?? '{}');
  const serverOf = (cluster: unknown): unknown => fieldOf(cluster, 'cluster', 'server');
  const server = serverOf(itemsOf(config['clusters']).find((item) => fieldOf(item, 'name') === contextName));
  const [own] = itemsOf(fieldOf(ours, 'clusters'));
  if (server === undefined || (own !== undefined && serverOf(own) !== server)) return;
  let left = 0;
  for (const list of ['clusters', 'users', 'contexts']) {
    const others = othersIn(config, list);
    config[list] = others;
    left += others.length;
  }
  if (config['current-context'] === contextName) delete config['current-context'];
  if (left === 0) rmSync(path, { force: true });
  else writeFileAtomic(path, dump(config, { lineWidth: -1 }), { mode: 0o600 });
}
