/**
 * `tiphys backup`: all that a cluster is, into one file (`format.ts`). The state is one revision; images and volumes
 * are copied after it. Nothing of the cluster is held up, and nothing is written first: what is read goes out as it
 * comes.
 *
 * Where no server runs, the files are read as they lie, and nobody starts one meanwhile.
 */
import { join } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { fieldOf, textOf, textsOf } from '#base/unknown.ts';
import { silentLogger } from '#observe/log.ts';
import { realClock } from '#os/clock.real.ts';
import { readIfExists, tryLock } from '#os/files.ts';
import { instanceHere } from '../cluster-access.ts';
import { hostName } from '../host.ts';
import { nodePlan, type Instance } from '../instance.ts';
import { partStatus } from '../launch.ts';
import { localNodes } from '../local-nodes.ts';
import { openStore } from '../open-store.ts';
import { files, makeDirectory, passageMode, type Paths } from '../paths.ts';
import { withLock } from '../up.ts';
import { tiphysVersion } from '../version.ts';
import { writeArchive, type SectionSource } from './archive.ts';
import { contentFrames, type ImageChoice } from './content-frames.ts';
import { backupFormat, sectionNames, volumeSection, type BackupEnd, type BackupHead } from './format.ts';
import { frameHead, readFrames, type Frame } from './frames.ts';
import type { Lock } from './sealing.ts';
import { askSocket, stateOfFile, stateOfServer } from './state-source.ts';
import type { BackupPlace } from './places.ts';
import { localVolumeOf, readVolume, type LocalVolume } from './volumes.ts';

export interface BackupOptions {
  lock: Lock;
  images: ImageChoice;
}

export interface BackupResult extends Omit<BackupEnd, 'sections'> {
  /** Length of what was written. */
  bytes: number;
  createdAt: string;
}

/** Of an instance: what another machine can be too. */
const portableSettings = [
  'podRange',
  'serviceRange',
  'domain',
  'apiPort',
  'registryPort',
  'httpPort',
  'httpsPort',
  'registryMirrors',
  'maxPods',
  'kubeApiserverArgs',
  'network',
] as const satisfies readonly (keyof Instance)[];

/** One at a time, of an instance. Rejects with words for the user. */
export async function makeBackup(paths: Paths, place: BackupPlace, options: BackupOptions): Promise<BackupResult> {
  const instance = instanceHere(paths);
  if (instance.joined !== undefined)
    throw new ApiError(
      'BadRequest',
      `this machine is a node of the cluster of ${instance.joined.server}: 'tiphys backup' there`,
    );
  place.check();
  makeDirectory(paths.run, passageMode);
  const held = tryLock(files.backupLock(paths));
  if (held === undefined) throw new ApiError('Conflict', 'another backup of this cluster is being made');
  try {
    const run = (): Promise<BackupResult> => new Backup(paths, instance, options).write(place);
    return partStatus(paths, 'server').supervisor === undefined ? await withLock(paths, run) : await run();
  } finally {
    held.release();
  }
}

class Backup {
  readonly #paths: Paths;
  readonly #instance: Instance;
  readonly #options: BackupOptions;
  readonly #isUp: boolean;
  /** Names and numbers of this machine's nodes. */
  readonly #nodes: Map<string, number>;
  readonly #volumes: LocalVolume[] = [];
  #keysSeen = 0;
  #imagesAreWhole = false;
  readonly #end: Omit<BackupEnd, 'sections'> = { revision: 0, keys: 0, volumes: [], images: [], leftOut: [] };

  constructor(paths: Paths, instance: Instance, options: BackupOptions) {
    this.#paths = paths;
    this.#instance = instance;
    this.#options = options;
    this.#isUp = partStatus(paths, 'server').supervisor !== undefined;
    this.#nodes = new Map(
      localNodes(paths).map((number) => [nodePlan(instance, number, hostName()).name, number] as const),
    );
  }

  async write(place: BackupPlace): Promise<BackupResult> {
    const keys = readIfExists(files.keys(this.#paths));
    if (keys === undefined) throw new ApiError('NotFound', `${files.keys(this.#paths)} is missing`);
    const head: BackupHead = {
      format: backupFormat,
      version: tiphysVersion(),
      createdAt: new Date(realClock.now()).toISOString(),
      nodes: [...this.#nodes.keys()],
      volumeDirectory: files.volumes(this.#paths),
      instance: Object.fromEntries(portableSettings.map((name) => [name, this.#instance[name]])),
    };
    // The first piece shows whether there is anything to write.
    const bytes = await place.write(
      writeArchive({ head, keys, sections: this.#sections(), end: () => this.#end }, this.#options.lock),
    );
    return { ...this.#end, bytes, createdAt: head.createdAt };
  }

  async *#sections(): AsyncGenerator<SectionSource> {
    yield { name: sectionNames.state, content: passFrames(await this.#state(), (frame) => this.#sawKey(frame)) };
    if (this.#keysSeen !== this.#end.keys || this.#end.keys === 0)
      throw new ApiError(
        'ServiceUnavailable',
        `the server broke off after ${this.#keysSeen} of ${this.#end.keys} keys`,
      );
    yield { name: sectionNames.images, content: passFrames(await this.#images(), (frame) => this.#sawImages(frame)) };
    if (!this.#imagesAreWhole) throw new ApiError('ServiceUnavailable', 'node-1 broke off while it told its images');
    for (const volume of this.#volumes) {
      const node = volume.nodes.find((name) => this.#nodes.has(name));
      if (node === undefined && volume.nodes.length > 0) {
        this.#end.leftOut.push(`volume ${volume.name} (${volume.claim}): it is on node ${volume.nodes.join(', ')}`);
        continue;
      }
      const read = readVolume(volume, {
        volumeDirectory: files.volumes(this.#paths),
        node: node ?? [...this.#nodes.keys()][0] ?? '',
        how: 'live',
      });
      // Nobody has written to it.
      if (read === undefined) continue;
      this.#end.volumes.push(read.note);
      yield { name: volumeSection(volume.name), content: read.content };
    }
  }

  async #state(): Promise<AsyncIterable<Uint8Array>> {
    if (this.#isUp) return stateOfServer(this.#paths);
    if (this.#instance.etcd !== undefined)
      throw new ApiError('ServiceUnavailable', "the state is on an etcd, and no server runs here: 'tiphys up' first");
    return stateOfFile(this.#paths);
  }

  async #images(): Promise<AsyncIterable<Uint8Array>> {
    const { images } = this.#options;
    if (this.#isUp)
      return askSocket(files.dockerSocket(this.#paths), {
        path: '/tiphys/backup/content',
        body: { images },
        part: 'node-1',
      });
    const root = join(files.nodeData(this.#paths, 1), 'content');
    return (async function* () {
      await using stack = new AsyncDisposableStack();
      const { content, records } = await openStore(root, silentLogger, stack);
      yield* contentFrames(content, records, images);
    })();
  }

  /** Notes volumes; answers whether it wants a frame's content. */
  async #sawKey({ head, read }: Frame): Promise<Buffer | undefined> {
    const { key, revision, keys } = head;
    if (typeof revision === 'number' && typeof keys === 'number') Object.assign(this.#end, { revision, keys });
    if (typeof key === 'string') this.#keysSeen++;
    if (typeof key !== 'string' || !key.startsWith('/registry/persistentvolumes/')) return undefined;
    const content = await read();
    const volume: unknown = JSON.parse(content.toString());
    const found = localVolumeOf(volume, files.volumes(this.#paths));
    if (found === 'outside')
      this.#end.leftOut.push(
        `volume ${textOf(volume, 'metadata', 'name') ?? key}: its files lie outside of ${files.volumes(this.#paths)}`,
      );
    else if (found !== undefined) this.#volumes.push(found);
    return content;
  }

  async #sawImages({ head }: Frame): Promise<undefined> {
    if (head['type'] !== 'names') return;
    this.#imagesAreWhole = true;
    this.#end.images.push(...textsOf(fieldOf(head, 'images')));
    this.#end.leftOut.push(...textsOf(fieldOf(head, 'leftOut')));
  }
}

/** Frames as they are, for somebody to look at on their way; what he has read of one is what he answers. */
async function* passFrames(
  source: AsyncIterable<Uint8Array>,
  look: (frame: Frame) => Promise<Buffer | undefined>,
): AsyncGenerator<Uint8Array> {
  for await (const frame of readFrames(source)) {
    const content = await look(frame);
    yield frameHead(frame.head, frame.bytes);
    if (content === undefined) yield* frame.content;
    else yield content;
  }
}
