/**
 * `tiphys restore`: a cluster begins anew from a backup, on a machine that has none.
 *
 * Everything goes where it belongs, below a data directory in which a mark says that it is not whole (`restoring`).
 * What the instance is comes last, in one atomic step: who is killed before it has nothing but what the next attempt,
 * or `down --purge`, takes away; who is killed after it has the cluster, and `up` starts it. Nothing is made before the
 * backup was opened and this machine was found fit; where it turns out damaged, what was made is removed again.
 */
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { codeOf } from '#base/thrown.ts';
import { textOf } from '#base/unknown.ts';
import { silentLogger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { listDirectory, readIfExists, syncDirectory, writeFileAtomic } from '#os/files.ts';
import { createNetworkDoor } from '#os/network.linux.ts';
import { syncFilesystem } from '#os/special-files.ts';
import { openSqliteStore } from '#store/sqlite.ts';
import type { StoreState } from '#store/state.ts';
import { fillEtcd } from '../move-state.ts';
import { checkReachable } from '../cluster-store.ts';
import { hostName, portIsFree, usedSubnets } from '../host.ts';
import { loadInstance, nodePlan, saveInstance, type Instance, type InstanceChoices } from '../instance.ts';
import { setLocalNodes } from '../local-nodes.ts';
import { openStore } from '../open-store.ts';
import { files, makeDirectory, privateMode, type Paths } from '../paths.ts';
import { withLock } from '../up.ts';
import { readArchive, type ArchiveSink } from './archive.ts';
import { writeContent } from './content-frames.ts';
import { sectionNames, volumeOfSection, type BackupEnd, type BackupHead } from './format.ts';
import { readFrames } from './frames.ts';
import type { BackupPlace } from './places.ts';
import { checkKeyRing, restoredInstance, restoredNodes, type Host } from './restored-instance.ts';
import { StateRestoring } from './restored-state.ts';
import type { Key } from './sealing.ts';
import { pathOf, writeVolume } from './volumes.ts';

export interface RestoreResult extends Pick<BackupEnd, 'revision' | 'keys' | 'volumes' | 'images' | 'leftOut'> {
  createdAt: string;
  instance: Instance;
  gone: string[];
  podsMoved: number;
}

/** Rejects with words for the user. The platform is not started. */
export async function restoreBackup(
  paths: Paths,
  place: BackupPlace,
  { key, choices }: { key: Key; choices: InstanceChoices },
): Promise<RestoreResult> {
  refuseCluster(paths);
  if (choices.etcd !== undefined) await checkReachable(choices.etcd);
  const host = await lookAtHost();
  return withLock(paths, async () => {
    refuseCluster(paths);
    const restoring = new Restoring(paths, choices, host);
    try {
      const end = await readArchive(place.read(), key, restoring);
      return await restoring.finish(end);
    } catch (error) {
      await restoring.undo();
      throw error;
    }
  });
}

async function lookAtHost(): Promise<Host> {
  const door = createNetworkDoor();
  try {
    return { usedSubnets: await usedSubnets(door.netlink), portIsFree };
  } finally {
    await door.close();
  }
}

const pieces = ['keys.json', 'cluster.db', 'cluster.db-wal', 'cluster.db-shm', 'etcd-epoch', 'nodes', 'volumes'];

function refuseCluster(paths: Paths): void {
  if (loadInstance(paths) !== undefined)
    throw new ApiError(
      'Conflict',
      `there is a cluster in ${paths.data} already; a backup is restored where there is none ('tiphys down --purge' ends that one)`,
    );
  if (existsSync(files.restoring(paths))) return;
  const found = listDirectory(paths.data).filter((name) => pieces.includes(name));
  if (found.length > 0)
    throw new ApiError(
      'Conflict',
      `${paths.data} is not empty (${found.join(', ')}): a backup is restored into a directory of its own`,
    );
}

/** With all that is in it; a mount of its own is left empty. */
async function removePiece(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true });
  } catch (error) {
    if (codeOf(error) !== 'EBUSY') throw error;
  }
}

interface Begun {
  head: BackupHead;
  instance: Instance;
  nodes: number;
  state: StateRestoring;
  /** When it began. */
  atMs: number;
}

class Restoring implements ArchiveSink {
  readonly #paths: Paths;
  readonly #choices: InstanceChoices;
  readonly #host: Host;
  #begun: Begun | undefined;
  /** Of each volume, the last part of its path. */
  readonly #directories = new Map<string, string>();
  #keys = 0;

  constructor(paths: Paths, choices: InstanceChoices, host: Host) {
    this.#paths = paths;
    this.#choices = choices;
    this.#host = host;
  }

  get #here(): Begun {
    if (this.#begun === undefined) throw new Error('the backup has no beginning');
    return this.#begun;
  }

  async head(head: BackupHead): Promise<void> {
    const instance = restoredInstance(head, this.#choices, realRandom, this.#host);
    const nodes = restoredNodes(head, this.#choices.nodes);
    const atMs = realClock.now();
    const state = new StateRestoring({
      nowMs: atMs,
      createdMs: Date.parse(head.createdAt),
      uid: realRandom.uuid(),
      nodes: Array.from({ length: nodes }, (_, index) => nodePlan(instance, index + 1, hostName())),
      volumeDirectory: { before: head.volumeDirectory, now: files.volumes(this.#paths) },
    });
    // From here on something is made.
    this.#begun = { ...{ head, instance, nodes, state, atMs } };
    makeDirectory(this.#paths.data, privateMode);
    if (existsSync(files.restoring(this.#paths))) await this.#removePieces();
    writeFileAtomic(files.restoring(this.#paths), `${JSON.stringify({ format: 1 })}\n`, { sync: true });
  }

  async keys(text: string): Promise<void> {
    checkKeyRing(text);
    writeFileAtomic(files.keys(this.#paths), text, { sync: true, mode: 0o600 });
  }

  async section(name: string, content: AsyncIterable<Uint8Array>): Promise<void> {
    const volume = volumeOfSection(name);
    if (name === sectionNames.state) await this.#state(content);
    else if (name === sectionNames.images) await this.#images(content);
    else if (volume !== undefined) await this.#volume(volume, content);
  }

  async #state(content: AsyncIterable<Uint8Array>): Promise<void> {
    for await (const { head, read } of readFrames(content)) {
      const { key, created, modified, lease } = head;
      if (typeof key !== 'string' || typeof created !== 'number' || typeof modified !== 'number') continue;
      const value = await read();
      this.#keys++;
      this.#here.state.add({
        ...{ key, value, createRevision: created, modRevision: modified },
        ...(typeof lease === 'number' ? { lease } : {}),
      });
      const prefix = '/registry/persistentvolumes/';
      const path = key.startsWith(prefix) ? pathOf(JSON.parse(value.toString())) : undefined;
      if (path !== undefined) this.#directories.set(key.slice(prefix.length), basename(path));
    }
  }

  async #images(content: AsyncIterable<Uint8Array>): Promise<void> {
    await using stack = new AsyncDisposableStack();
    const root = join(files.nodeData(this.#paths, 1), 'content');
    mkdirSync(root, { recursive: true, mode: privateMode });
    const store = await openStore(root, silentLogger, stack);
    await writeContent(content, store.content);
  }

  async #volume(name: string, content: AsyncIterable<Uint8Array>): Promise<void> {
    const directory = this.#directories.get(name);
    if (directory === undefined || ['', '.', '..'].includes(directory))
      throw new ApiError(
        'BadRequest',
        `this backup is damaged: it has files of ${name}, which is no volume of its state`,
      );
    await writeVolume(content, join(files.volumes(this.#paths), directory));
  }

  /** All of it was found whole. */
  async finish(end: BackupEnd): Promise<RestoreResult> {
    const { head, instance, nodes, state, atMs } = this.#here;
    if (end.keys !== this.#keys)
      throw new ApiError('BadRequest', `this backup is damaged: it has ${this.#keys} keys of ${end.keys}`);
    const restored = state.finish(end.revision);
    await this.#writeState(restored.state);
    setLocalNodes(this.#paths, nodes);
    syncFilesystem(this.#paths.data);
    syncDirectory(this.#paths.data);
    // Certificates of this second are refused: those that this machine's nodes ask for come after it.
    await realClock.sleep(Math.max(0, atMs + 1000 - realClock.now()));
    saveInstance(this.#paths, instance);
    rmSync(files.restoring(this.#paths), { force: true });
    const { gone, podsMoved } = restored;
    const { createdAt } = head;
    return { ...end, ...{ createdAt, instance, gone, podsMoved } };
  }

  async #writeState(state: StoreState): Promise<void> {
    const { etcd } = this.#here.instance;
    if (etcd !== undefined) {
      await fillEtcd(this.#paths, etcd, state);
      return;
    }
    await using store = await openSqliteStore({
      path: files.database(this.#paths),
      clock: realClock,
      log: silentLogger,
    });
    await store.restore(state);
  }

  async #removePieces(): Promise<void> {
    // What this machine has put into an etcd is known by its epoch.
    const epoch = readIfExists(files.etcdEpoch(this.#paths));
    for (const name of pieces) await removePiece(join(this.#paths.data, name));
    if (epoch !== undefined) writeFileAtomic(files.etcdEpoch(this.#paths), epoch, { sync: true, mode: 0o600 });
  }

  /** Takes away what was made. */
  async undo(): Promise<void> {
    if (this.#begun === undefined || loadInstance(this.#paths) !== undefined) return;
    for (const name of pieces) await removePiece(join(this.#paths.data, name));
    rmSync(files.restoring(this.#paths), { force: true });
    if (listDirectory(this.#paths.data).length === 0) await removePiece(this.#paths.data);
  }
}

/** Whether a claim's volume was copied while its files may have changed; in words. */
export function describeVolume({ name, claim, from, how, changed }: BackupEnd['volumes'][number]): string {
  const when = textOf({ from }, 'from') ?? '';
  const state =
    how === 'still'
      ? 'while its containers stood still'
      : changed === 0
        ? 'nothing changed meanwhile'
        : `${changed} files changed meanwhile`;
  return `volume ${name} (${claim}), as of ${when}: ${state}`;
}
