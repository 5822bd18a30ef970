/**
 * Managed plugins: installed from a registry or made of a directory, then enabled, which runs them in a container of
 * their own. A plugin is a file `plugins/ID/plugin.json`; written first or last, so that after a death anywhere it is
 * there whole or not at all, and runs just when the file says so.
 *
 * Source: Docker Engine API, "Plugin"; moby 29, daemon/pkg/plugin.
 */
import { mkdirSync } from 'node:fs';
import { connect } from 'node:net';
import { ApiError } from '#base/errors.ts';
import { Lock } from '#base/gate.ts';
import { familiarName, parseReference, withDefaultTag } from '#base/reference.ts';
import type { Reference } from '#base/reference.ts';
import type { Hold } from '#content/content.ts';
import type { ImageRecord } from '#content/image-records.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock, Random } from '#os/clock.ts';
import { listDirectory, readIfExists, removeTree, writeFileAtomic } from '#os/files.ts';
import type { ManagedAddresses, PluginAddress } from '#plugins/discovery.ts';
import type { DockerEngine } from '../create-engine.ts';
import type { ImagesOptions } from '../images-options.ts';
import { pluginPollMs, pluginRestartMs, pluginRestartMsMax, pluginStartMsMax, pluginStopMsMax } from '../limits.ts';
import { capabilitiesOf, checkPrivileges, kindsOf, privilegesOf } from './plugin-config.ts';
import type { PluginConfig, PluginPrivilege } from './plugin-config.ts';
import { createContent, fetchContent, fetchPluginConfig, pushContent } from './plugin-content.ts';
import type { PluginContent, TransferOptions } from './plugin-content.ts';
import { changeSettings, initialSettings } from './plugin-settings.ts';
import type { PluginSettings } from './plugin-settings.ts';
import { planPluginContainer } from './plugin-spec.ts';

const pluginFormat = 1;

export interface PluginRecord {
  format: number;
  id: string;
  /** With its tag, as people write it. */
  name: string;
  /** Where it came from. */
  reference: string;
  enabled: boolean;
  /** How long its answers may take, as the user wants it; absent: as of any plugin. */
  timeoutMs?: number;
  /** While it is enabled. */
  containerId?: string;
  config: PluginConfig;
  settings: PluginSettings;
  /** Its content, as an image. */
  imageId: string;
}

export interface ManagedPluginsOptions {
  dataDir: string;
  runDir: string;
  images: ImagesOptions;
  /** Name of the OCI runtime that containers have by default; absent: the engine's own. */
  runtime?: () => string;
  clock: Clock;
  random: Random;
  log: Logger;
}

/** A plugin in a registry, and the name that it gets here. */
export interface WantedPlugin {
  remote: Reference;
  name: string;
  /** What the user permits, as the client sends it. */
  privileges: unknown;
}

export class ManagedPlugins implements ManagedAddresses {
  readonly #options: ManagedPluginsOptions;
  readonly #records = new Map<string, PluginRecord>();
  readonly #lock = new Lock();
  #engine: DockerEngine | undefined;

  constructor(options: ManagedPluginsOptions) {
    this.#options = options;
    for (const id of listDirectory(this.#directory)) {
      const text = readIfExists(`${this.#directory}/${id}/plugin.json`);
      // What is half made or half removed has no file.
      if (text === undefined) removeTree(`${this.#directory}/${id}`);
      else {
        const record: PluginRecord = JSON.parse(text);
        this.#records.set(id, record);
      }
    }
  }

  get #directory(): string {
    return `${this.#options.dataDir}/plugins`;
  }

  /** Containers of plugins are known: what runs without a plugin that is enabled ends, what does not run starts. */
  async open(engine: DockerEngine): Promise<void> {
    this.#engine = engine;
    const { records } = this.#options.images;
    const used = new Set(this.list().map(({ imageId }) => imageId));
    const stale = records.list().filter(({ id, isPlugins }) => isPlugins === true && !used.has(id));
    if (stale.length > 0) await records.commit(stale.map(({ id }) => ({ table: 'images', key: id, value: undefined })));
    const named = new Set(this.list().map(({ containerId }) => containerId));
    for (const { id, owner } of engine.containers.list())
      if (owner === 'plugin' && !named.has(id)) await engine.containers.remove(id, { force: true });
    engine.onEvent(({ type, action, id, owner }) => {
      if (type === 'container' && action === 'die' && owner === 'plugin') this.#reviveLater(id, pluginRestartMs);
    });
    await Promise.all(
      this.list().map(async ({ enabled, containerId = '' }) => {
        const isRunning = engine.containers.status(containerId)?.state === 'running';
        if (enabled && !isRunning) await this.#revive(containerId, pluginRestartMs);
      }),
    );
  }

  #reviveLater(containerId: string, pauseMs: number): void {
    this.#options.clock.setTimer(pauseMs, () => void this.#revive(containerId, pauseMs), { background: true });
  }

  /** Runs an enabled plugin again whose container ended; where it fails, once more after a pause that grows. */
  async #revive(containerId: string, pauseMs: number): Promise<void> {
    const { log } = this.#options;
    await this.#lock
      .run(async () => {
        const record = this.list().find((each) => each.enabled && each.containerId === containerId);
        const { containers, table } = this.#attached();
        if (record === undefined || table.shuttingDown) return;
        if (containers.status(containerId) !== undefined) await containers.remove(containerId, { force: true });
        await this.#start(record);
      })
      .catch((error: unknown) => {
        log.error('a plugin did not start', { containerId, error });
        this.#reviveLater(containerId, Math.min(pluginRestartMsMax, 2 * pauseMs));
      });
  }

  list(): PluginRecord[] {
    return [...this.#records.values()];
  }

  /** By name, id or a beginning of the id. Throws ApiError NotFound. */
  get(text: string): PluginRecord {
    const named = this.list().find(({ id, name }) => id === text || name === text || name === `${text}:latest`);
    const begins = text === '' ? [] : this.list().filter(({ id }) => id.startsWith(text));
    const found = named ?? begins[0];
    if (found === undefined) throw new ApiError('NotFound', `plugin "${text}" not found`);
    if (named === undefined && begins.length > 1)
      throw new ApiError('BadRequest', `multiple plugins found for "${text}"`);
    return found;
  }

  address(name: string): PluginAddress | undefined {
    const record = this.list().find(
      (each) => each.enabled && [each.name, each.id].some((own) => own === name || own === `${name}:latest`),
    );
    if (record === undefined) return undefined;
    const { PropagatedMount: propagated, Interface: face } = record.config;
    return {
      name,
      target: { socketPath: `${this.#socketsOf(record.id)}/${face.Socket}` },
      kinds: kindsOf(record.config),
      ...(record.timeoutMs === undefined ? {} : { timeoutMs: record.timeoutMs }),
      hostPath: (path) => {
        if (propagated !== '' && (path === propagated || path.startsWith(`${propagated}/`)))
          return `${this.#propagatedOf(record.id)}${path.slice(propagated.length)}`;
        return `${this.#rootOf(record)}${path}`;
      },
    };
  }

  names(kind: string): string[] {
    return this.list().flatMap(({ name, enabled, config }) =>
      enabled && kindsOf(config).includes(kind) ? [name] : [],
    );
  }

  #rootOf({ containerId = '' }: PluginRecord): string {
    return this.#engine?.table.find(containerId)?.root ?? '/nonexistent';
  }

  #socketsOf(id: string): string {
    return `${this.#options.runDir}/plugins/${id.slice(0, 12)}`;
  }

  #propagatedOf(id: string): string {
    return `${this.#directory}/${id}/propagated-mount`;
  }

  #save(record: PluginRecord): void {
    mkdirSync(this.#propagatedOf(record.id), { recursive: true, mode: 0o700 });
    writeFileAtomic(`${this.#directory}/${record.id}/plugin.json`, JSON.stringify(record), { sync: true });
    this.#records.set(record.id, record);
  }

  #emit(action: string, { id, name }: { id: string; name: string }): void {
    this.#options.images.emit({ type: 'plugin', action, id, attributes: { name } });
  }

  /** Throws Conflict for a name that is taken. */
  #checkName(text: string): string {
    const reference = parseReference(text);
    if (reference.digest !== undefined) throw new ApiError('BadRequest', 'canonical references are not permitted');
    const name = familiarName(withDefaultTag(reference));
    if (this.list().some((each) => each.name === name))
      throw new ApiError('Conflict', `plugin "${name}" already exists`);
    return name;
  }

  async #install(name: string, { config, image }: PluginContent, reference: string): Promise<PluginRecord> {
    await this.#options.images.records.put(image);
    const record: PluginRecord = {
      format: pluginFormat,
      id: Buffer.from(this.#options.random.bytes(32)).toString('hex'),
      name: this.#checkName(name),
      reference,
      enabled: false,
      config,
      settings: initialSettings(config),
      imageId: image.id,
    };
    this.#save(record);
    return record;
  }

  #hold(): Hold {
    return this.#options.images.content.hold();
  }

  /** Of an archive with `config.json` and `rootfs`. */
  async create(text: string, archive: AsyncIterable<Uint8Array>): Promise<void> {
    const name = this.#checkName(text);
    using hold = this.#hold();
    const content = await createContent(this.#options.images, hold, archive);
    const record = await this.#lock.run(() => this.#install(name, content, name));
    this.#emit('create', record);
  }

  async privileges(remote: Reference, transfer: TransferOptions): Promise<PluginPrivilege[]> {
    return privilegesOf(await fetchPluginConfig(this.#options.images, remote, transfer));
  }

  async pull({ remote, name: text, privileges }: WantedPlugin, transfer: TransferOptions): Promise<void> {
    const name = this.#checkName(text);
    using hold = this.#hold();
    const check = (config: PluginConfig): void => checkPrivileges(privilegesOf(config), privileges);
    const content = await fetchContent(this.#options.images, hold, { reference: remote, check }, transfer);
    const record = await this.#lock.run(() => this.#install(name, content, familiarName(remote)));
    this.#emit('pull', { id: record.id, name: familiarName(remote) });
  }

  /** The content of another version; settings of the user's stay where the author still lets them be set. */
  async upgrade({ remote, name, privileges }: WantedPlugin, transfer: TransferOptions): Promise<void> {
    const { id } = this.get(name);
    this.#checkDisabled(this.get(id), 'plugin must be disabled before upgrading');
    using hold = this.#hold();
    const check = (config: PluginConfig): void => checkPrivileges(privilegesOf(config), privileges);
    const { config, image } = await fetchContent(this.#options.images, hold, { reference: remote, check }, transfer);
    await this.#lock.run(async () => {
      const before = this.get(id);
      this.#checkDisabled(before, 'plugin must be disabled before upgrading');
      await this.#options.images.records.put(image);
      this.#save({
        ...before,
        config,
        settings: initialSettings(config),
        imageId: image.id,
        reference: familiarName(remote),
      });
      await this.#forgetImage(before.imageId);
    });
    this.#emit('pull', { id, name: familiarName(remote) });
  }

  #checkDisabled({ name, enabled }: PluginRecord, why: string): void {
    if (enabled) throw new ApiError('Conflict', `${why}: plugin ${name} is enabled`);
  }

  async push(text: string, transfer: TransferOptions): Promise<void> {
    const { name, imageId } = this.get(text);
    await pushContent(this.#options.images, parseReference(name), this.#imageOf(imageId), transfer);
  }

  #imageOf(id: string): ImageRecord {
    const image = this.#options.images.records.get(id);
    if (image === undefined) throw new ApiError('InternalError', `the content ${id} of a plugin is gone`);
    return image;
  }

  async set(text: string, changes: readonly string[]): Promise<void> {
    await this.#lock.run(async () => {
      const record = this.get(text);
      if (record.enabled)
        throw new ApiError('InternalError', 'cannot set on an active plugin, disable plugin before setting');
      this.#save({ ...record, settings: changeSettings(record.config, record.settings, changes) });
    });
  }

  /** `timeoutSeconds`: how long its answers may take; 0: as of any plugin. */
  async enable(text: string, timeoutSeconds: number): Promise<void> {
    await this.#lock.run(async () => {
      const { timeoutMs: _before, ...record } = this.get(text);
      if (record.enabled) throw new ApiError('Conflict', `plugin ${record.name} is already enabled`);
      await this.#start({ ...record, ...(timeoutSeconds === 0 ? {} : { timeoutMs: timeoutSeconds * 1000 }) });
      this.#emit('enable', record);
    });
  }

  /** Runs it; it is enabled when it listens. */
  async #start(record: PluginRecord): Promise<void> {
    const { containers, context } = this.#attached();
    const sockets = this.#socketsOf(record.id);
    const propagated = this.#propagatedOf(record.id);
    const { mounts } = context.os;
    // What an earlier run of it left there.
    removeTree(sockets);
    mkdirSync(sockets, { recursive: true, mode: 0o700 });
    mkdirSync(propagated, { recursive: true, mode: 0o700 });
    if (!(await mounts.listBelow(propagated)).some(({ target }) => target === propagated))
      await mounts.bind({ source: propagated, target: propagated, propagation: 'shared' });
    const containerId = await containers.create(
      planPluginContainer({ ...record, runtime: this.#options.runtime?.(), directories: { sockets, propagated } }),
    );
    try {
      await containers.start(containerId);
      await this.#awaitSocket(containerId, `${sockets}/${record.config.Interface.Socket}`);
    } catch (error) {
      await containers.remove(containerId, { force: true });
      throw error;
    }
    this.#save({ ...record, enabled: true, containerId });
  }

  async #awaitSocket(containerId: string, path: string): Promise<void> {
    const { clock } = this.#options;
    const begunMs = clock.monotonic();
    for (;;) {
      const error = await tryConnect(path);
      if (error === undefined) return;
      const status = this.#attached().containers.status(containerId);
      if (status?.state !== 'running' || clock.monotonic() - begunMs > pluginStartMsMax)
        throw new ApiError('InternalError', `dial unix ${path}: connect: ${error}`);
      await clock.sleep(pluginPollMs);
    }
  }

  #attached(): DockerEngine {
    if (this.#engine === undefined) throw new ApiError('ServiceUnavailable', 'the engine is starting');
    return this.#engine;
  }

  /** `force`: though something uses it. Throws Conflict where something does. */
  async disable(text: string, force: boolean): Promise<void> {
    await this.#lock.run(async () => {
      const record = this.get(text);
      if (!record.enabled) throw new ApiError('Conflict', `plugin ${record.name} is already disabled`);
      if (!force) this.#checkUnused(record);
      await this.#stop(record);
      this.#emit('disable', record);
    });
  }

  async #stop({ containerId = '', ...record }: PluginRecord): Promise<void> {
    const { containers, context } = this.#attached();
    this.#save({ ...record, enabled: false });
    await containers.stop(containerId, pluginStopMsMax).catch(() => {
      // It may be gone already; what is left of it goes now.
    });
    await containers.remove(containerId, { force: true });
    await context.os.mounts.unmountBelow(this.#propagatedOf(record.id));
    removeTree(this.#socketsOf(record.id));
  }

  #checkUnused({ name, id, config }: PluginRecord): void {
    const { volumes, networks, table } = this.#attached();
    const own = new Set([name, id, name.replace(/:latest$/, '')]);
    const isOwn = (driver: string | undefined): boolean => driver !== undefined && own.has(driver);
    const isUsed =
      volumes.list().some(({ driver }) => isOwn(driver)) ||
      networks.list().some(({ driver, ipamDriver }) => isOwn(driver) || isOwn(ipamDriver)) ||
      table.list().some(({ isRunning, record }) => isRunning && isOwn(record.spec.logDriver?.name));
    if (isUsed)
      throw new ApiError('Conflict', `plugin ${name} is in use: ${capabilitiesOf(config.Interface.Types).join(', ')}`);
  }

  /** `force`: though it is enabled, or in use. */
  async remove(text: string, force: boolean): Promise<PluginRecord> {
    return this.#lock.run(async () => {
      const record = this.get(text);
      if (!force) {
        this.#checkUnused(record);
        this.#checkDisabled(record, 'plugin cannot be removed');
      }
      if (record.enabled) await this.#stop(record);
      await this.#attached().context.os.mounts.unmountBelow(this.#propagatedOf(record.id));
      this.#records.delete(record.id);
      removeTree(`${this.#directory}/${record.id}/plugin.json`);
      removeTree(`${this.#directory}/${record.id}`);
      await this.#forgetImage(record.imageId);
      this.#emit('remove', record);
      return record;
    });
  }

  async #forgetImage(id: string): Promise<void> {
    if (this.list().some(({ imageId }) => imageId === id)) return;
    await this.#options.images.records.commit([{ table: 'images', key: id, value: undefined }]);
  }
}

/** Undefined when somebody listens. */
function tryConnect(path: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(undefined);
    });
    socket.once('error', (error: NodeJS.ErrnoException) =>
      resolve(
        error.code === 'ENOENT'
          ? 'no such file or directory'
          : error.code === 'ECONNREFUSED'
            ? 'connection refused'
            : error.message,
      ),
    );
  });
}
