/**
 * What a client asks of the Dockerfile front end: its attributes (`build-arg:X`, `target`, `platform`) as the builder
 * knows them. Each is carried out, or refused in words, or of no consequence here (`harmless`).
 * Source: BuildKit, docs/reference/buildctl and the front end's `dockerui` options.
 */
import { ApiError } from '#base/errors.ts';
import { parsePlatform } from '#base/platform.ts';
import type { BuildRequest } from '../build.ts';

export interface FrontendRequest {
  /** Path of the Dockerfile in the client's directory `dockerfileDirectory`. */
  filename: string;
  dockerfileDirectory: string;
  /** The client shares the Dockerfile apart from the context. */
  hasOwnDockerfile: boolean;
  contextDirectory: string;
  /** A context that the client does not share as a directory: an URL. */
  contextUrl: string | undefined;
  /** Of another session than the build's own, by directory. */
  sessions: ReadonlyMap<string, string>;
  /** What has no effect, told to the user before the first step. */
  warnings: readonly string[];
  build: Pick<BuildRequest, 'buildArgs' | 'labels' | 'noCache' | 'pull' | 'run'> &
    Partial<Pick<BuildRequest, 'target' | 'platform'>>;
}

/** They steer displays, capabilities and records that do not change the result. */
const harmless =
  /^(?:frontend\.caps|cmdline|source|hostname|vcs:.*|sharedkey:.*|local-sessionid:.*|contextkey|dockerfilekey|filename|context|multi-platform|image-resolve-mode|input-metadata:.*|build-arg:BUILDKIT_(?:SYNTAX|CACHE_MOUNT_NS|GIT_ADVICE|CONTEXT_KEEP_GIT_DIR|DOCKERFILE_CHECK)|compatibility-version)$/;

const withoutEffect: ReadonlyMap<string, string> = new Map([
  ['cache-imports', "--cache-from has no effect here: steps are looked up in this engine's own build cache"],
  ['cache-from', "--cache-from has no effect here: steps are looked up in this engine's own build cache"],
  ['build-arg:BUILDKIT_INLINE_CACHE', 'BUILDKIT_INLINE_CACHE has no effect here: images carry no cache'],
  ['attest:provenance', 'provenance attestations are not made yet'],
]);

/** Clients ask for the least provenance unasked, and say `false` or `disabled` where there is to be none. */
function warningOf(key: string, value: string): string[] {
  const isUnasked = key === 'attest:provenance' && /^(?:mode=min,inline-only=true|disabled=true|false)$/.test(value);
  const isOff = value === '' || value === '[]' || value === 'null' || value === '0' || value === 'false';
  return isUnasked || (isOff && key !== 'attest:provenance') ? [] : [withoutEffect.get(key) ?? key];
}

function refuse(message: string): never {
  throw new ApiError('BadRequest', message);
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

function parseHosts(text: string): string[] {
  return text
    .split(',')
    .filter((each) => each !== '')
    .map((each) => each.replace('=', ':'));
}

/** Whether an image that a Dockerfile or a client names as its front end is the one that is built in. */
export function isBuiltInFrontend(image: string): boolean {
  return /^(?:docker\.io\/)?docker\/dockerfile(?:-upstream)?(?:[:@].*)?$/.test(image);
}

function checkFrontend(attributes: Readonly<Record<string, string>>): void {
  const source = attributes['source'] ?? attributes['build-arg:BUILDKIT_SYNTAX'] ?? '';
  if (source !== '' && !isBuiltInFrontend(source))
    refuse(`front ends in images are not run here yet: ${source.slice(0, 200)}`);
}

export function parseAttributes(attributes: Readonly<Record<string, string>>): FrontendRequest {
  checkFrontend(attributes);
  const buildArgs: Record<string, string> = {};
  const labels: Record<string, string> = {};
  const sessions = new Map<string, string>();
  const warnings: string[] = [];
  const run: BuildRequest['run'] = { network: 'default', extraHosts: [] };
  const build: FrontendRequest['build'] = { buildArgs, labels, noCache: false, pull: false, run };
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('build-arg:') && !key.startsWith('build-arg:BUILDKIT_')) buildArgs[key.slice(10)] = value;
    else if (key.startsWith('label:')) labels[key.slice(6)] = value;
    else if (key.startsWith('local-sessionid:')) sessions.set(key.slice(16), value);
    else if (key === 'target') build.target = value;
    // A list of stages is a hint to build less anew; all of them anew gives what was asked for.
    else if (key === 'no-cache') build.noCache = true;
    else if (key === 'platform') build.platform = onePlatform(value);
    else if (key === 'force-network-mode') run.network = networkOf(value);
    else if (key === 'add-hosts') run.extraHosts = parseHosts(value);
    else if (key === 'shm-size') run.shmSizeBytes = Number(value);
    else if (key === 'ulimit') run.resources = { ulimits: parseUlimits(value) };
    else if (key === 'cgroup-parent') run.cgroupParent = value;
    else if (key === 'requestid') refuse(`requests of the front end other than a build are not answered: ${value}`);
    else if (key.startsWith('context:')) refuse(`named contexts are not supported yet: ${key.slice(8)}=${value}`);
    else if (key.startsWith('attest:') && key !== 'attest:provenance')
      refuse(`attestations are not made yet: ${key.slice(7)}`);
    else if (withoutEffect.has(key)) warnings.push(...warningOf(key, value));
    else if (!harmless.test(key) && value !== '')
      refuse(`unsupported front end attribute ${key}=${value.slice(0, 100)}`);
  }
  build.pull = attributes['image-resolve-mode'] === 'pull';
  const context = attributes['context'];
  return {
    filename: attributes['filename'] || 'Dockerfile',
    dockerfileDirectory: attributes['dockerfilekey'] || 'dockerfile',
    hasOwnDockerfile: attributes['dockerfilekey'] !== undefined,
    contextDirectory: attributes['contextkey'] || 'context',
    contextUrl: context !== undefined && /^(?:https?|git|ssh):\/\/|^git@/.test(context) ? context : undefined,
    sessions,
    warnings,
    build,
  };
}

function onePlatform(text: string): NonNullable<BuildRequest['platform']> {
  if (text.includes(',')) refuse('images of several platforms are not made yet: build one platform at a time');
  return parsePlatform(text);
}

function networkOf(mode: string): string {
  if (mode === 'sandbox' || mode === '') return 'default';
  if (mode === 'host' || mode === 'none') return mode;
  return refuse(`unsupported network mode ${JSON.stringify(mode.slice(0, 100))}`);
}
