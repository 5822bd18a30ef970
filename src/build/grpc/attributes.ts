/**
 * What a client asks of the Dockerfile front end: its attributes (`build-arg:X`, `target`, `platform`) as the builder
 * knows them. Each is carried out, or refused in words, or of no consequence here (`harmless`).
 * Source: BuildKit, docs/reference/buildctl and the front end's `dockerui` options.
 */
import { ApiError } from '#base/errors.ts';
import { formatPlatform, hostPlatform, parsePlatform } from '#base/platform.ts';
import type { Platform } from '#base/platform.ts';
import { isObject, itemsOf, textOf } from '#base/unknown.ts';
import { isImageFile } from '#content/image-file.ts';
import type { BuildRequest } from '../build.ts';
import { isGitUrl } from '../git-url.ts';
import type { ConvertRequest } from '../dockerfile/convert.ts';
import type { StageBase } from '../dockerfile/stage.ts';
import type { Edge } from '../llb/vertex.ts';
import type { CacheEntry } from './travelling-cache.ts';
import { platformsMax } from './limits.ts';

export interface FrontendRequest {
  /** Path of the Dockerfile in the client's directory `dockerfileDirectory`. */
  filename: string;
  dockerfileDirectory: string;
  /** The client shares the Dockerfile apart from the context. */
  hasOwnDockerfile: boolean;
  contextDirectory: string;
  /** A context that the client does not share as a directory: an URL. */
  contextUrl: string | undefined;
  /** The directory of a fetched context that is the context. */
  contextSubdirectory: string;
  /** Of a context that is a repository; `named`: of one that has a name. */
  gitAttributes: Readonly<Record<string, string>>;
  namedGitAttributes: Readonly<Record<string, string>>;
  /** Of another session than the build's own, by directory. */
  sessions: ReadonlyMap<string, string>;
  /** Of a request that is no build: `frontend.lint` and the like. */
  requestId?: string;
  /** Which checks count, in place of what the Dockerfile says. */
  checks?: string;
  /** An image that is the front end in place of this one, whatever the Dockerfile says. */
  frontend?: string;
  /** Contexts by name: where each is. */
  contexts: ReadonlyMap<string, string>;
  /** What the client built before and gives to this build, by name. */
  inputs: ReadonlyMap<string, StageBase>;
  /** Images are looked for at their registry although they are here. */
  pull: boolean;
  cacheImports: readonly CacheEntry[];
  /** What is built for; none: this machine. */
  platforms: readonly Platform[];
  /** The result says which platforms it is for, also where it is one. */
  isMultiPlatform: boolean;
  run: BuildRequest['run'];
  build: Pick<
    ConvertRequest,
    'buildArgs' | 'labels' | 'noCache' | 'target' | 'noCacheStages' | 'hostname' | 'cacheNamespace' | 'hasGitAdvice'
  >;
}

/** They steer displays, capabilities and records that do not change the result. */
const harmless =
  /^(?:frontend\.caps|cmdline|source|vcs:.*|sharedkey:.*|local-sessionid:.*|contextkey|dockerfilekey|filename|context|contextsubdir|image-resolve-mode|attest:.*|build-arg:BUILDKIT_(?:SYNTAX|INLINE_CACHE)|compatibility-version)$/;

const isTrue = (text: string): boolean => text === 'true' || text === '1';

function refuse(message: string): never {
  throw new ApiError('BadRequest', message);
}

/** '' is no. */
function boolOf(key: string, text: string): boolean {
  if (/^(?:1|t|true)$/i.test(text)) return true;
  return /^(?:0|f|false|)$/i.test(text)
    ? false
    : refuse(`failed to parse ${key}: ${JSON.stringify(text.slice(0, 100))}`);
}

function parseUlimits(text: string): { name: string; soft: number; hard: number }[] {
  return text
    .split(',')
    .filter((each) => each !== '')
    .map((each) => {
      const [, name, soft, hard] = /^(\w+)=(-?\d+)(?::(-?\d+))?$/.exec(each) ?? refuse(`invalid ulimit: ${each}`);
      return { name: name!, soft: Number(soft), hard: Number(hard ?? soft) };
    });
}

/** A list in JSON: `[{"Type":"registry","Attrs":{"ref":"…"}}]`. */
function cacheImportsOf(text: string): CacheEntry[] {
  const entries: unknown = text === '' ? [] : JSON.parse(text);
  return itemsOf(entries).map((entry) => {
    const given = Object.entries(isObject(entry) && isObject(entry['Attrs']) ? entry['Attrs'] : {});
    const attributes = Object.fromEntries(given.map(([name, value]) => [name, String(value)]));
    return { type: textOf(entry, 'Type') ?? '', attributes };
  });
}

function parseHosts(text: string): string[] {
  return text
    .split(',')
    .filter((each) => each !== '')
    .map((each) => each.replace('=', ':'));
}

/** Whether an image that a Dockerfile or a client names as its front end is the one that is built in. */
export function isBuiltInFrontend(image: string): boolean {
  return image === 'dockerfile.v0' || /^(?:docker\.io\/)?docker\/dockerfile(?:-upstream)?(?:[:@].*)?$/.test(image);
}

/** The client's inputs, with the configuration that it has of each. */
function inputBases(
  attributes: Readonly<Record<string, string>>,
  inputs: ReadonlyMap<string, Edge | undefined>,
): Map<string, StageBase> {
  const out = new Map<string, StageBase>();
  for (const [name, edge] of inputs) {
    const metadata: unknown = JSON.parse(attributes[`input-metadata:${name}`] ?? 'null');
    const config = textOf(metadata, 'containerimage.config');
    const file: unknown = config === undefined ? undefined : JSON.parse(Buffer.from(config, 'base64').toString('utf8'));
    const whole = isObject(file) ? { rootfs: { type: 'layers', diff_ids: [] }, ...file } : undefined;
    out.set(name, { edge, file: isImageFile(whole) ? whole : undefined });
  }
  return out;
}

class AttributeReader {
  readonly contexts = new Map<string, string>();
  readonly sessions = new Map<string, string>();
  readonly cacheImports: CacheEntry[] = [];
  platforms: Platform[] = [];
  isMultiPlatform = false;
  requestId: string | undefined;
  checks: string | undefined;
  /** Before that of the attribute of the same meaning. */
  hostname: string | undefined;
  readonly buildArgs: Record<string, string> = {};
  readonly labels: Record<string, string> = {};
  readonly run: BuildRequest['run'] = { network: 'default', extraHosts: [] };
  readonly build: FrontendRequest['build'] = {
    buildArgs: this.buildArgs,
    labels: this.labels,
    noCache: false,
    hostname: '',
    cacheNamespace: '',
  };

  /** Attributes of which there are many, by what follows the colon. */
  #readNamed(key: string, value: string): boolean {
    const [, prefix = '', name = ''] = /^([a-z-]+):(.+)$/.exec(key) ?? [];
    if (key === 'build-arg:BUILDKIT_SANDBOX_HOSTNAME') this.hostname = value;
    else if (key === 'build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR') return true;
    else if (key === 'build-arg:BUILDKIT_GIT_ADVICE') this.build.hasGitAdvice = boolOf(key, value);
    else if (key === 'build-arg:BUILDKIT_MULTI_PLATFORM') this.isMultiPlatform = isTrue(value);
    else if (key === 'build-arg:BUILDKIT_CACHE_MOUNT_NS') this.build.cacheNamespace = value;
    else if (key === 'build-arg:BUILDKIT_DOCKERFILE_CHECK') this.checks = value;
    else if (prefix === 'build-arg' && (!name.startsWith('BUILDKIT_') || name.startsWith('BUILDKIT_SBOM_SCAN_')))
      this.buildArgs[name] = value;
    else if (prefix === 'label') this.labels[name] = value;
    else if (prefix === 'local-sessionid') this.sessions.set(name, value);
    // A name is written as a reference of an image; that of a stage has no tag.
    else if (prefix === 'context') this.contexts.set(name.toLowerCase(), value);
    else return prefix === 'input-metadata';
    return true;
  }

  read(key: string, value: string): void {
    const { build, run } = this;
    if (this.#readNamed(key, value)) return;
    if (key === 'target') build.target = value;
    else if (key === 'no-cache') {
      // Without a value all stages; else those that it names.
      if (value === '') build.noCache = true;
      else build.noCacheStages = value.split(',');
    } else if (key === 'platform') this.platforms = value.split(',').map(parsePlatform);
    else if (key === 'multi-platform') this.isMultiPlatform = isTrue(value);
    else if (key === 'hostname') build.hostname = value;
    else if (key === 'force-network-mode') run.network = networkOf(value);
    else if (key === 'add-hosts') run.extraHosts = parseHosts(value);
    else if (key === 'shm-size') run.shmSizeBytes = Number(value);
    else if (key === 'ulimit') run.resources = { ulimits: parseUlimits(value) };
    else if (key === 'cgroup-parent') run.cgroupParent = value;
    else if (key === 'requestid') this.requestId = value;
    else if (key === 'cache-imports') this.cacheImports.push(...cacheImportsOf(value));
    else if (key === 'cache-from')
      for (const ref of value.split(',').filter((each) => each !== ''))
        this.cacheImports.push({ type: 'registry', attributes: { ref } });
    else if (!harmless.test(key) && value !== '')
      refuse(`unsupported front end attribute ${key}=${value.slice(0, 100)}`);
  }
}

/** A context that is not a directory of the client. */
function urlOf(context: string | undefined): string | undefined {
  if (context === undefined) return undefined;
  if (context.startsWith('github.com/')) return `https://${context.replace(/(?:\.git)?(#.*)?$/, '.git$1')}`;
  return isGitUrl(context) || /^https?:\/\//.test(context) ? context : undefined;
}

export function parseAttributes(
  attributes: Readonly<Record<string, string>>,
  inputs: ReadonlyMap<string, Edge | undefined>,
): FrontendRequest {
  const reader = new AttributeReader();
  for (const [key, value] of Object.entries(attributes)) reader.read(key, value);
  if (reader.hostname) reader.build.hostname = reader.hostname;
  const { contexts, sessions, cacheImports, run, build, requestId, checks, isMultiPlatform } = reader;
  if (isMultiPlatform && reader.platforms.length === 0) reader.platforms.push(hostPlatform());
  // One that is named twice is built once.
  const platforms = [...new Map(reader.platforms.map((each) => [formatPlatform(each), each])).values()];
  if (platforms.length > platformsMax) refuse(`a build has at most ${platformsMax} platforms`);
  const context = attributes['context'];
  const advice = build.hasGitAdvice === true ? { 'git.advice': 'true' } : {};
  const frontend = attributes['build-arg:BUILDKIT_SYNTAX'] ?? '';
  return {
    filename: attributes['filename'] || 'Dockerfile',
    dockerfileDirectory: attributes['dockerfilekey'] || 'dockerfile',
    hasOwnDockerfile: attributes['dockerfilekey'] !== undefined,
    contextDirectory: attributes['contextkey'] || 'context',
    contextUrl: urlOf(context),
    contextSubdirectory: attributes['contextsubdir'] ?? '',
    namedGitAttributes: advice,
    gitAttributes: {
      ...advice,
      ...(isTrue(attributes['build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR'] ?? '') ? { 'git.keepgitdir': 'true' } : {}),
      ...(attributes['build-arg:SOURCE_DATE_EPOCH'] ? { 'git.mtime': 'commit' } : {}),
    },
    sessions,
    contexts,
    inputs: inputBases(attributes, inputs),
    platforms,
    isMultiPlatform: isMultiPlatform || platforms.length > 1,
    ...(frontend === '' ? {} : { frontend }),
    ...(requestId === undefined ? {} : { requestId }),
    ...(checks === undefined ? {} : { checks }),
    pull: attributes['image-resolve-mode'] === 'pull',
    cacheImports,
    run,
    build,
  };
}

function networkOf(mode: string): string {
  if (mode === 'sandbox' || mode === '') return 'default';
  if (mode === 'host' || mode === 'none') return mode;
  return refuse(`unsupported network mode ${JSON.stringify(mode.slice(0, 100))}`);
}
