/**
 * Volumes. Those of the `local` driver are a directory each, `volumes/NAME/_data`, with a record beside it; of a
 * plugin's there is the record alone, and the plugin says where it is while a container holds it.
 */
import { chownSync, lstatSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { ApiError } from '#base/errors.ts';
import { Lock } from '#base/gate.ts';
import { listDirectory, readIfExists, removeTree, writeFileAtomic } from '#os/files.ts';
import type { PluginVolume, VolumeDrivers } from '#plugins/volume-driver.ts';
import type { EngineContext } from './context.ts';
import { copyTree } from './copy-tree.ts';
import { volumeNameBytesMax } from './limits.ts';
import { checkNul } from './spec-checks.ts';
import { mergeTmpfsOptions } from './tmpfs-options.ts';

export interface VolumeRecord {
  format: number;
  name: string;
  /** `local`, or a plugin's name. */
  driver: string;
  createdAtMs: number;
  labels: Record<string, string>;
  options: Record<string, string>;
  anonymous: boolean;
}

export interface WantedVolume {
  name?: string;
  driver?: string;
  labels?: Record<string, string>;
  options?: Record<string, string>;
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

function checkLocalOptions(name: string, options: Record<string, string>): void {
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
}

export class Volumes {
  readonly #context: EngineContext;
  readonly #records = new Map<string, VolumeRecord>();
  readonly #base: string;
  /** One work on a volume at a time; a mount that hangs holds up nobody else's. */
  readonly #locks = new Map<string, Lock>();
  /** How many containers that have no record yet were promised a volume. */
  readonly #pins = new Map<string, number>();
  readonly #drivers: VolumeDrivers;
  /** Where plugins have mounted theirs. */
  readonly #mountpoints = new Map<string, string>();

  constructor(context: EngineContext, drivers: VolumeDrivers) {
    this.#context = context;
    this.#drivers = drivers;
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

  /** Of a plugin's, where it was last mounted; empty where that is not known. */
  mountpoint(name: string): string {
    return this.#isPlugins(name) ? (this.#mountpoints.get(name) ?? '') : `${this.#base}/${name}/_data`;
  }

  #isPlugins(name: string): boolean {
    const driver = this.#records.get(name)?.driver;
    return driver !== undefined && driver !== 'local';
  }

  /** With those that only plugins know. `warnings`: plugins that did not say what they have. */
  async listAll(): Promise<{ volumes: (VolumeRecord & { plugin?: PluginVolume })[]; warnings: string[] }> {
    const { volumes, warnings } = await this.#drivers.list();
    const own = this.list().filter((record) => record.driver === 'local');
    const names = new Set(own.map((record) => record.name));
    const others = volumes.filter((volume) => !names.has(volume.name));
    return {
      volumes: [...own, ...others.map((plugin) => ({ ...this.#recordOf(plugin), plugin }))],
      warnings,
    };
  }

  /** By name, also one that only a plugin knows, of which a record is made. */
  async resolve(name: string): Promise<VolumeRecord & { plugin?: PluginVolume }> {
    const record = this.#records.get(name);
    if (record?.driver === 'local') return record;
    const drivers = record === undefined ? await this.#drivers.names() : [record.driver];
    for (const driver of drivers) {
      const plugin = await this.#drivers.find(driver, name);
      if (plugin === undefined) continue;
      if (plugin.mountpoint !== '') this.#mountpoints.set(name, plugin.mountpoint);
      return { ...this.#keep(this.#recordOf(plugin)), plugin };
    }
    return this.get(name);
  }

  #recordOf({ name, driver, createdAt }: PluginVolume): VolumeRecord {
    const createdAtMs = Date.parse(createdAt);
    return (
      this.#records.get(name) ?? {
        format: 1,
        name,
        driver,
        createdAtMs: Number.isNaN(createdAtMs) ? 0 : createdAtMs,
        labels: {},
        options: {},
        anonymous: false,
      }
    );
  }

  #keep(record: VolumeRecord): VolumeRecord {
    const known = this.#records.get(record.name);
    if (known !== undefined) return known;
    if (!namePattern.test(record.name) || record.name.length > volumeNameBytesMax) return record;
    mkdirSync(`${this.#base}/${record.name}`, { recursive: true, mode: 0o700 });
    writeFileAtomic(`${this.#base}/${record.name}/volume.json`, JSON.stringify(record), { sync: true });
    this.#records.set(record.name, record);
    return record;
  }

  /** Made by whichever driver is asked for; it counts as used until `pins` are disposed of. */
  async createPinned(wanted: WantedVolume, pins: DisposableStack): Promise<VolumeRecord> {
    const driver = wanted.driver ?? '';
    const record =
      driver === '' || driver === 'local' ? this.create(wanted) : await this.#createByPlugin(wanted, driver);
    pins.use(this.pin(record.name));
    return record;
  }

  async #createByPlugin(wanted: WantedVolume, driver: string): Promise<VolumeRecord> {
    const { name, anonymous } = this.#nameOf(wanted);
    const existing = this.#records.get(name);
    if (existing !== undefined && existing.driver !== driver)
      throw new ApiError(
        'Conflict',
        `create ${name}: driver '${existing.driver}' already has volume '${name}': volume name must be unique`,
      );
    const options = wanted.options ?? {};
    try {
      await this.#drivers.create(driver, name, options);
    } catch (error) {
      if (error instanceof ApiError)
        throw new ApiError(error.reason, `create ${name}: ${error.message}`, undefined, error.code);
      throw error;
    }
    const record = this.#keep({
      format: 1,
      name,
      driver,
      createdAtMs: this.#context.clock.now(),
      labels: { ...(anonymous ? { 'com.docker.volume.anonymous': '' } : {}), ...wanted.labels },
      options,
      anonymous,
    });
    if (existing === undefined) this.#emit('create', record);
    return record;
  }

  #emit(action: string, { name, driver }: VolumeRecord): void {
    this.#context.events.emit({ type: 'volume', action, id: name, attributes: { driver } });
  }

  /** What is there already is returned as it is, as docker does. */
  create(wanted: WantedVolume): VolumeRecord {
    const { name, anonymous } = this.#nameOf(wanted);
    const existing = this.#records.get(name);
    if (existing !== undefined) return existing;
    checkLocalOptions(name, wanted.options ?? {});
    const record: VolumeRecord = {
      format: 1,
      name,
      driver: 'local',
      createdAtMs: this.#context.clock.now(),
      labels: { ...(anonymous ? { 'com.docker.volume.anonymous': '' } : {}), ...wanted.labels },
      options: wanted.options ?? {},
      anonymous,
    };
    mkdirSync(this.mountpoint(name), { recursive: true, mode: 0o755 });
    const owner = this.#context.userMapping?.view.root;
    if (owner !== undefined) chownSync(this.mountpoint(name), owner.uid, owner.gid);
    writeFileAtomic(`${this.#base}/${name}/volume.json`, JSON.stringify(record), { sync: !anonymous });
    this.#records.set(name, record);
    this.#emit('create', record);
    return record;
  }

  #nameOf(wanted: WantedVolume): { name: string; anonymous: boolean } {
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
    return { name, anonymous };
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
    const record = this.get(name);
    if (this.isPinned(name)) throw new ApiError('Conflict', `remove ${name}: volume is in use`);
    if (this.#isPlugins(name)) {
      await this.#drivers.remove(record.driver, name);
      this.#records.delete(name);
      this.#mountpoints.delete(name);
      removeTree(`${this.#base}/${name}`);
      this.#emit('destroy', record);
      return;
    }
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
    this.#emit('destroy', record);
  }

  /**
   * The directory that a container sees. A volume with `type` and `device` is a mount of its own, made on first use as
   * mount(8) makes it. A plugin is told when the holder (a container's id) needs it no more: `release`.
   */
  async use(name: string, holder: string): Promise<string> {
    const record = this.get(name);
    if (this.#isPlugins(name)) {
      const path = await this.#drivers.mount(record.driver, name, holder);
      this.#mountpoints.set(name, path);
      return path;
    }
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

  /** A no-op but for a plugin's. */
  async release(name: string, holder: string): Promise<void> {
    const record = this.#records.get(name);
    if (record !== undefined && this.#isPlugins(name)) await this.#drivers.unmount(record.driver, name, holder);
  }

  #lockOf(name: string): Lock {
    const lock = this.#locks.get(name) ?? new Lock();
    this.#locks.set(name, lock);
    return lock;
  }

  /**
   * Copies the image's files below the mount point into an empty volume, with owner and mode of the directory itself.
   */
  async populate(name: string, source: string, holder: string): Promise<void> {
    if (lstatSync(source, { throwIfNoEntry: false })?.isDirectory() !== true) return;
    const target = this.#isPlugins(name) ? await this.use(name, holder) : this.mountpoint(name);
    try {
      // Of two containers that are made at once the first one fills it.
      await this.#lockOf(name).run(async () => {
        if (readdirSync(target).length === 0) await copyTree(source, target);
      });
    } finally {
      await this.release(name, holder);
    }
  }
}
