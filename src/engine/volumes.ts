/** Volumes of the `local` driver: a directory each, `volumes/NAME/_data`, with a record beside it. */
import { lstatSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { ApiError } from '#base/errors.ts';
import { Lock } from '#base/gate.ts';
import { listDirectory, readIfExists, removeTree, writeFileAtomic } from '#os/files.ts';
import type { EngineContext } from './context.ts';
import { copyTree } from './copy-tree.ts';
import { volumeNameBytesMax } from './limits.ts';
import { checkNul } from './spec-checks.ts';
import { mergeTmpfsOptions } from './tmpfs-options.ts';

export interface VolumeRecord {
  format: number;
  name: string;
  driver: 'local';
  createdAtMs: number;
  labels: Record<string, string>;
  options: Record<string, string>;
  anonymous: boolean;
}

const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;

/** An option, and another that it says nothing without. */
const neededOptions = [
  ['type', 'device'],
  ['device', 'type'],
  ['o', 'device'],
  ['o', 'type'],
] as const;

function volumeMountError(name: string, device: string, reason: string): ApiError {
  return new ApiError(
    'InternalError',
    `error while mounting volume '${name}': failed to mount local volume: ${device}: ${reason}`,
  );
}

export class Volumes {
  readonly #context: EngineContext;
  readonly #records = new Map<string, VolumeRecord>();
  readonly #base: string;
  /** One work on a volume at a time; a mount that hangs holds up nobody else's. */
  readonly #locks = new Map<string, Lock>();
  /** How many containers that have no record yet were promised a volume. */
  readonly #pins = new Map<string, number>();

  constructor(context: EngineContext) {
    this.#context = context;
    this.#base = `${context.directories.data}/volumes`;
    mkdirSync(this.#base, { recursive: true, mode: 0o700 });
    for (const name of listDirectory(this.#base)) {
      const text = readIfExists(`${this.#base}/${name}/volume.json`);
      // A directory without a record is what a death during `create` left: nobody was told of it.
      if (text === undefined) {
        removeTree(`${this.#base}/${name}`);
        continue;
      }
      this.#records.set(name, JSON.parse(text) as VolumeRecord);
    }
  }

  list(): VolumeRecord[] {
    return [...this.#records.values()];
  }
  find(name: string): VolumeRecord | undefined {
    return this.#records.get(name);
  }

  get(name: string): VolumeRecord {
    const found = this.#records.get(name);
    if (found === undefined) throw new ApiError('NotFound', `get ${name}: no such volume`);
    return found;
  }

  mountpoint(name: string): string {
    return `${this.#base}/${name}/_data`;
  }

  /** What is there already is returned as it is, as docker does. */
  create(wanted: {
    name?: string;
    driver?: string;
    labels?: Record<string, string>;
    options?: Record<string, string>;
  }): VolumeRecord {
    const driver = wanted.driver ?? '';
    if (driver !== '' && driver !== 'local')
      throw new ApiError(
        'NotFound',
        `error looking up volume plugin ${driver}: plugin "${driver}" not found`,
        undefined,
        404,
      );
    const anonymous = wanted.name === undefined || wanted.name === '';
    const name = anonymous ? Buffer.from(this.#context.random.bytes(32)).toString('hex') : wanted.name!;
    if (Buffer.byteLength(name) > volumeNameBytesMax)
      throw new ApiError(
        'BadRequest',
        `create ${name.slice(0, 64)}…: a volume's name has at most ${volumeNameBytesMax} bytes`,
      );
    if (name.length === 1)
      throw new ApiError(
        'BadRequest',
        `create ${name}: volume name is too short, names should be at least two alphanumeric characters`,
      );
    if (!namePattern.test(name))
      throw new ApiError(
        'BadRequest',
        `create ${name}: "${name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`,
      );
    const existing = this.#records.get(name);
    if (existing !== undefined) return existing;
    const options = wanted.options ?? {};
    const unknown = Object.keys(options).find((key) => !['type', 'o', 'device', 'size'].includes(key));
    if (unknown !== undefined)
      throw new ApiError('BadRequest', `create ${name}: invalid option: ${JSON.stringify(unknown)}`);
    checkNul('volume option', Object.values(options));
    for (const [key, needed] of neededOptions)
      if (Object.hasOwn(options, key) && !Object.hasOwn(options, needed))
        throw new ApiError('BadRequest', `create ${name}: missing required option: ${JSON.stringify(needed)}`);
    if (Object.hasOwn(options, 'size'))
      throw new ApiError('BadRequest', `create ${name}: quota size requested but no quota support`);
    if (options['type'] === 'tmpfs') mergeTmpfsOptions((options['o'] ?? '').split(',').filter(Boolean));
    const record: VolumeRecord = {
      format: 1,
      name,
      driver: 'local',
      createdAtMs: this.#context.clock.now(),
      labels: { ...(anonymous ? { 'com.docker.volume.anonymous': '' } : {}), ...wanted.labels },
      options,
      anonymous,
    };
    mkdirSync(this.mountpoint(name), { recursive: true, mode: 0o755 });
    writeFileAtomic(`${this.#base}/${name}/volume.json`, JSON.stringify(record), { sync: !anonymous });
    this.#records.set(name, record);
    this.#context.events.emit({ type: 'volume', action: 'create', id: name, attributes: { driver: 'local' } });
    return record;
  }

  /** Until it is disposed of, the volume counts as used: by a container whose record is still to be written. */
  pin(name: string): Disposable {
    this.#pins.set(name, (this.#pins.get(name) ?? 0) + 1);
    return {
      [Symbol.dispose]: () => {
        const left = (this.#pins.get(name) ?? 1) - 1;
        if (left === 0) this.#pins.delete(name);
        else this.#pins.set(name, left);
      },
    };
  }

  isPinned(name: string): boolean {
    return this.#pins.has(name);
  }

  /**
   * The caller has made sure, since it last waited, that no container uses it. Nothing is waited for before the name is
   * free for another volume.
   */
  async remove(name: string): Promise<void> {
    this.get(name);
    if (this.isPinned(name)) throw new ApiError('Conflict', `remove ${name}: volume is in use`);
    // Record and directory go together: a volume that is made of this name while the rest is awaited has a directory of
    // its own.
    const gone = `${this.#base}/.removed-${Buffer.from(this.#context.random.bytes(8)).toString('hex')}`;
    rmSync(`${this.#base}/${name}/volume.json`, { force: true });
    renameSync(`${this.#base}/${name}`, gone);
    this.#records.delete(name);
    this.#locks.delete(name);
    // What is mounted there moved along; it is somebody else's and must not be emptied.
    await this.#context.os.mounts.unmountBelow(`${gone}/_data`);
    await rm(gone, { recursive: true, force: true });
    this.#context.events.emit({ type: 'volume', action: 'destroy', id: name, attributes: { driver: 'local' } });
  }

  /**
   * The directory that a container sees. A volume with `type` and `device` is a mount of its own, made on first use as
   * mount(8) makes it.
   */
  async use(name: string): Promise<string> {
    const record = this.get(name);
    const target = this.mountpoint(name);
    const { type = '', device = '', o = '' } = record.options;
    if (device === '') return target;
    const words = o.split(',').filter(Boolean);
    const isBind = words.some((word) => word === 'bind' || word === 'rbind');
    await this.#lockOf(name).run(async () => {
      const { mounts, processes } = this.#context.os;
      if ((await mounts.listBelow(target)).length > 0) return;
      if (isBind && lstatSync(device, { throwIfNoEntry: false }) === undefined)
        throw volumeMountError(name, device, 'no such file or directory');
      if (isBind && words.length === 1) {
        await mounts.bind({ source: device, target, recursive: true });
        return;
      }
      const result = await processes.run('mount', [
        ...(isBind || type === 'none' || type === '' ? [] : ['-t', type]),
        ...(words.length === 0 ? [] : ['-o', words.join(',')]),
        '--',
        device,
        target,
      ]);
      if (result.code !== 0) throw volumeMountError(name, device, result.stderr.trim().replaceAll('\n', ' '));
    });
    return target;
  }

  #lockOf(name: string): Lock {
    const lock = this.#locks.get(name) ?? new Lock();
    this.#locks.set(name, lock);
    return lock;
  }

  /**
   * Copies the image's files below the mount point into an empty volume, with owner and mode of the directory itself.
   */
  async populate(name: string, source: string): Promise<void> {
    const target = this.mountpoint(name);
    if (lstatSync(source, { throwIfNoEntry: false })?.isDirectory() !== true) return;
    // Of two containers that are made at once the first one fills it.
    await this.#lockOf(name).run(async () => {
      if (readdirSync(target).length === 0) await copyTree(source, target);
    });
  }
}
