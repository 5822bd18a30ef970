/**
 * `tiphys engine`: the engine without a cluster, in the foreground, with dockerd's flags and `daemon.json`; so that it
 * stands where dockerd and its socket stood. Put together top to bottom, as a node is (node.ts); it may be killed at
 * any line, and what is started with the same directories takes up what it left.
 *
 *   SIGHUP           reads the file again (reload.ts)
 *   SIGTERM, SIGINT  containers end, or go on with --live-restore; then the engine ends. A third one ends it at once.
 *
 * Instance: four hexadecimal digits in `DATA/engine.json`, in the names of all that it puts into the kernel.
 */
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import { keepCollected } from '#content/collector.ts';
import { HttpTransport } from '#content/remote.ts';
import { ManagedPlugins } from '#engine/managed-plugins/managed-plugins.ts';
import { createEngine, type DockerEngine } from '#engine/create-engine.ts';
import { usersOfImage } from '#engine/image-mounts.ts';
import { createImages } from '#engine/images.ts';
import { isPluginLog } from '#engine/log-drivers/options.ts';
import { findLogPlugin } from '#engine/log-drivers/plugin.ts';
import { stopAllContainers } from '#engine/shutdown.ts';
import { createLogger, type Logger, type LogLevel } from '#observe/log.ts';
import { Metrics } from '#observe/metrics.ts';
import { processUptimeMs, realClock, realRandom } from '#os/clock.real.ts';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { baseImageMaker } from '../base-images.ts';
import { startDockerApi } from '../docker-api.ts';
import { loadModules } from '../host.ts';
import { openStore } from '../open-store.ts';
import { missingTools, tools } from '../packages.ts';
import { importDocker } from '../import/import.ts';
import { makeDirectory, passageMode, privateMode } from '../paths.ts';
import { ensureContainersUnit } from '../systemd.ts';
import { configPath, type DaemonConfig, loadConfig } from './config.ts';
import type { FlagValues } from './flags.ts';
import { endSignal } from './end-signal.ts';
import { planListening } from './listen.ts';
import { serveMetrics } from './metrics.ts';
import { tellSystemd } from './notify.ts';
import { placesOf, type Places } from './places.ts';
import { reloadConfig } from './reload.ts';
import { cdiDirectoriesOf, networkSettingsOf, settingsOf, transfersOf, type Live } from './settings.ts';
import { textLine } from './text-log.ts';
import { parseUsernsRemap, readAccountFiles } from './userns-remap.ts';
import type { IdMaps } from '#os/user-namespaces.linux.ts';
import { writeStderrLine } from '../process-log.ts';
import { endNamespaces } from '../rootless/namespaces.ts';
import { claimNamespaces, openRootless, type OpenRootless } from '../rootless/open.ts';

const instanceFormat = 1;
/** The programs without which no container starts. */
const needed = ['crun', 'conmon', 'nft'];

export async function runEngine(flags: FlagValues): Promise<void> {
  const config = loadConfig(flags);
  const places = placesOf(config, process.env);
  const live: Live = { config, settings: settingsOf(config, []) };
  const log = openLog(live);
  const rootless = await openRootless(process.env, linuxProcesses, log);
  process.on('unhandledRejection', (error) => log.error('unhandled rejection', { error }));
  checkMachine();
  for (const [name, key] of Object.entries({
    HTTP_PROXY: 'http-proxy',
    HTTPS_PROXY: 'https-proxy',
    NO_PROXY: 'no-proxy',
  }))
    if (config.text(key) !== '') process.env[name] = config.text(key);
  await using stack = new AsyncDisposableStack();
  makeDirectory(places.data, privateMode);
  makeDirectory(places.run, passageMode);
  stack.defer(takePidfile(places.pidfile));
  if (rootless !== undefined) stack.defer(claimNamespaces(rootless.directory));
  const listening = planListening(config, process.env, { log, defaultHost: places.socket });
  live.settings.warnings.push(...listening.warnings);
  if (rootless === undefined) {
    await ensureContainersUnit(linuxProcesses);
    await loadModules(linuxProcesses);
  }
  const engine = await openEngine({ places, live, log, listen: listening.listen, rootless }, stack);
  const metricsAddress = config.text('metrics-addr');
  if (metricsAddress !== '') stack.use(await serveMetrics(metricsAddress, { metrics: new Metrics(), engine }));
  process.on('SIGHUP', () => reloadConfig({ live, flags, engine, log: log.child('reload') }));
  const ended = endSignal();
  tellSystemd('READY=1');
  log.info('Daemon has completed initialization', {
    config: configPath(flags),
    sinceStartMs: Math.round(processUptimeMs()),
  });
  const signal = await ended;
  log.info('stopping', { signal });
  tellSystemd('STOPPING=1');
  if (live.settings.isLiveRestore) return;
  await stopAllContainers(engine.containers, graceMsOf(live.config, engine));
  if (rootless !== undefined) endNamespaces(rootless.directory, linuxProcesses);
}

/** `tiphys engine import-docker DIR`, with the same options for where things are. Whether all of it came. */
export async function runImport(directory: string, flags: FlagValues, print: (line: string) => void): Promise<boolean> {
  const config = loadConfig(flags);
  const { data } = placesOf(config, process.env);
  const log = openLog({ config, settings: settingsOf(config, []) });
  checkMachine();
  makeDirectory(data, privateMode);
  return importDocker({ directory, data, instanceId: establishId(data), log, print });
}

interface EngineParts {
  places: Places;
  live: Live;
  log: Logger;
  listen: ReturnType<typeof planListening>['listen'];
  rootless: OpenRootless | undefined;
}

async function openEngine(
  { places, live, log, listen, rootless }: EngineParts,
  stack: AsyncDisposableStack,
): Promise<DockerEngine> {
  const instanceId = establishId(places.data);
  const { content, records, mounts, snapshots } = await openStore(join(places.data, 'content'), log, stack);
  let engine: DockerEngine | undefined;
  const images = createImages({
    content,
    records,
    clock: realClock,
    log: log.child('images'),
    transport: new HttpTransport(process.env),
    get mirrors() {
      return live.settings.mirrors;
    },
    get insecureRegistries() {
      return live.settings.insecureRegistries;
    },
    get transfers() {
      return transfersOf(live.config);
    },
    emit: (event) => engine?.events.emit(event),
    makeBaseImage: baseImageMaker(content, records),
    containersOf: (imageId) => usersOfImage(engine?.containers.list() ?? [], imageId),
  });
  const directories = { dataDir: join(places.data, 'engine'), runDir: join(places.run, 'engine') };
  const plugins = new ManagedPlugins({
    ...directories,
    images: images.options,
    runtime: () => live.settings.containers.runtime,
    clock: realClock,
    random: realRandom,
    log: log.child('plugins'),
  });
  engine = await createEngine({
    ...directories,
    managedPlugins: plugins,
    instanceId,
    nodeName: hostname(),
    clock: realClock,
    random: realRandom,
    log,
    images,
    snapshots,
    mounts,
    networkSettings: networkSettingsOf(live.config),
    ...userMapsOf(live.config, log),
    ...(rootless === undefined ? {} : { rootless }),
    runtimes: live.config.runtimes,
    cdiDirectories: cdiDirectoriesOf(live.config),
    ...(places.plugins === undefined ? {} : { pluginPlaces: places.plugins }),
  });
  stack.use(engine);
  await plugins.open(engine);
  await checkPlugins(engine, live);
  stack.use(
    await startDockerApi({
      engine,
      images,
      plugins,
      content,
      records,
      snapshots,
      listen,
      dataDir: places.data,
      log: log.child('docker'),
      settings: () => live.settings,
    }),
  );
  stack.use(keepCollected(content, { clock: realClock, log: log.child('content') }));
  return engine;
}

/** Plugins that the configuration names must answer. */
async function checkPlugins(engine: DockerEngine, live: Live): Promise<void> {
  for (const name of live.settings.authorizationPlugins)
    await engine.plugins.get(name, 'authz').catch((error: unknown) => {
      throw new ApiError('BadRequest', `Error validating authorization plugin: ${messageOf(error)}`);
    });
  const logDriver = live.config.text('log-driver');
  if (isPluginLog(logDriver))
    await findLogPlugin(engine.plugins, logDriver).catch((error: unknown) => {
      throw new ApiError('BadRequest', `failed to set log opts: ${messageOf(error)}`);
    });
}

function userMapsOf(config: DaemonConfig, log: Logger): { userMaps?: IdMaps } {
  const text = config.text('userns-remap');
  if (text === '') return {};
  const userMaps = parseUsernsRemap(text, readAccountFiles());
  if (userMaps !== undefined) return { userMaps };
  log.warn('User namespaces: root cannot be remapped with itself; user namespaces are OFF');
  return {};
}

const levels: Readonly<Record<string, LogLevel>> = {
  trace: 'debug',
  debug: 'debug',
  info: 'info',
  warn: 'warn',
  error: 'error',
  fatal: 'error',
  panic: 'error',
};

function openLog(live: Live): Logger {
  const level = (): LogLevel => {
    if (live.config.bool('debug')) return 'debug';
    return levels[live.config.text('log-level').toLowerCase()] ?? 'info';
  };
  const isText = live.config.text('log-format') === 'text';
  const write = (line: string): void => writeStderrLine(isText ? textLine(line) : line);
  return createLogger(() => realClock.now(), write, level, 'tiphys');
}

function checkMachine(): void {
  if (process.getuid?.() !== 0)
    throw new ApiError('Forbidden', 'the engine needs root: it makes containers, networks and control groups');
  const missing = missingTools(
    linuxProcesses,
    tools.filter((tool) => needed.includes(tool.program)),
  );
  if (missing.length > 0)
    throw new ApiError(
      'ServiceUnavailable',
      `${missing.map((tool) => `${tool.program} (${tool.why})`).join(', ')} is not installed: apt-get install ${missing.map((tool) => tool.package).join(' ')}`,
    );
}

function establishId(data: string): string {
  const path = join(data, 'engine.json');
  const text = readIfExists(path);
  if (text !== undefined) {
    const kept: { format: number; id: string } = JSON.parse(text);
    if (kept.format > instanceFormat)
      throw new ApiError('BadRequest', `${data} was written by a newer version of Tiphys (format ${kept.format})`);
    return kept.id;
  }
  for (const name of ['overlay2', 'image', 'instance.json'])
    if (existsSync(join(data, name)))
      throw new ApiError(
        'Conflict',
        `${data} holds the data of another engine: choose another directory by --data-root`,
      );
  const id = Buffer.from(realRandom.bytes(2)).toString('hex');
  writeFileAtomic(path, `${JSON.stringify({ format: instanceFormat, id })}\n`, { sync: true });
  return id;
}

/** A pid that an engine left when it was killed may be another program's by now. */
function takePidfile(path: string): () => void {
  const pid = Number(readIfExists(path)?.trim() ?? 0);
  const words = pid > 0 && pid !== process.pid ? (readIfExists(`/proc/${pid}/cmdline`) ?? '').split('\0') : [];
  if (words.some((word) => word === 'engine' || word.endsWith('dockerd')))
    throw new ApiError(
      'Conflict',
      `failed to start daemon, ensure docker is not running or delete ${path}: process with PID ${pid} is still running`,
    );
  mkdirSync(dirname(path), { recursive: true });
  writeFileAtomic(path, `${process.pid}\n`, { mode: 0o644 });
  return () => {
    if (Number(readIfExists(path)?.trim()) === process.pid) rmSync(path, { force: true });
  };
}

/** As dockerd has it: a container's own grace period is never cut; -1 waits for ever. */
function graceMsOf(config: DaemonConfig, engine: DockerEngine): number {
  const seconds = config.number('shutdown-timeout');
  if (seconds < 0) return Infinity;
  const own = engine.table.list().map((container) => container.record.spec.stopTimeoutSeconds ?? 0);
  return Math.max(seconds, ...own) * 1000;
}
