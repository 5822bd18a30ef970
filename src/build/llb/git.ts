/**
 * Git repositories as sources, fetched by the host's `git`: one commit, its submodules, below a directory. What a URL
 * means by a branch or a tag is asked of the remote each time; the files of a commit are fetched once.
 */
import { mkdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { onceAborted } from '#base/streams.ts';
import { RootedDirectory, pathParts } from '#content/safe-path.ts';
import type { Content } from '#content/content.ts';
import type { ImageLayer } from '#content/image-records.ts';
import type { Processes } from '#os/processes.ts';
import { digestOf } from '../cache-keys.ts';
import { gitErrorBytesMax } from '../limits.ts';
import { copyToLayer } from './file.ts';
import type { Output, VertexOutput } from './output.ts';
import { listenForAgent } from './secrets.ts';
import type { SecretSource } from './secrets.ts';
import type { SolverContext } from './work.ts';
import type { SourceOp } from './vertex.ts';

interface Repository {
  remote: string;
  /** '' for what the remote calls HEAD. */
  ref: string;
  directory: string;
  keepsGitDirectory: boolean;
  hasSubmodules: boolean;
  /** Files are as old as the commit. */
  hasCommitTimes: boolean;
  checksum: string;
  /** What git advises on the way is printed. */
  hasAdvice: boolean;
}

/** Of SHA-1, or of SHA-256. */
const commitPattern = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;

function checksumOf(text: string): string {
  if (/^(?:|[0-9a-f]{7,64})$/.test(text)) return text;
  throw new ApiError('BadRequest', `invalid checksum ${JSON.stringify(text.slice(0, 100))}, expected hex commit hash`);
}

/** Throws BadRequest for what `git` could take for an option, or for a way to something else than a remote. */
function repositoryOf({ identifier, attributes }: SourceOp): Repository {
  const [place = '', fragment = ''] = identifier.replace(/^git:\/\//, '').split('#', 2);
  const remote = attributes['git.fullurl'] ?? `https://${place}`;
  if (!/^(?:https?|ssh|git):\/\/[^-]/i.test(remote) && !/^[\w.]+@[\w.-]+:/.test(remote))
    throw new ApiError('BadRequest', `invalid git repository ${remote.slice(0, 200)}`);
  const colon = fragment.indexOf(':');
  const [ref, directory] = colon < 0 ? [fragment, ''] : [fragment.slice(0, colon), fragment.slice(colon + 1)];
  if (/^-|[\s~^:?*[\\]|\.\./.test(ref)) throw new ApiError('BadRequest', `invalid git reference ${ref.slice(0, 200)}`);
  return {
    remote,
    ref,
    directory: directory === '' ? (attributes['git.subdir'] ?? '') : directory,
    keepsGitDirectory: attributes['git.keepgitdir'] === 'true',
    hasSubmodules: attributes['git.skipsubmodules'] !== 'true',
    hasCommitTimes: attributes['git.mtime'] === 'commit',
    checksum: checksumOf(attributes['git.checksum'] ?? ''),
    hasAdvice: attributes['git.advice'] === 'true',
  };
}

/** Credentials and places of one fetch. */
class Git {
  readonly #processes: Processes;
  readonly #env: Record<string, string>;
  readonly #signal: AbortSignal;

  constructor(processes: Processes, env: Record<string, string>, signal: AbortSignal) {
    this.#processes = processes;
    this.#env = env;
    this.#signal = signal;
  }

  /** What it prints; `log` is told of what it says besides. Throws BadRequest with its last words. */
  async run(args: string[], log: (bytes: Buffer) => void = () => {}): Promise<string> {
    this.#signal.throwIfAborted();
    const child = this.#processes.spawn('git', args, { env: this.#env, stdout: 'pipe', stderr: 'pipe' });
    const forget = onceAborted(this.#signal, () => this.#processes.kill(child.pid, 'SIGKILL'));
    try {
      const [stdout, stderr, { code }] = await Promise.all([collect(child.stdout), collect(child.stderr), child.exit]);
      this.#signal.throwIfAborted();
      if (code === 0) {
        if (stderr !== '') log(Buffer.from(stderr));
        return stdout;
      }
      throw new ApiError(
        'BadRequest',
        `failed to run git ${args.find((each) => !each.startsWith('-')) ?? ''}: ${stderr.trim()}`,
      );
    } finally {
      forget();
    }
  }
}

/** What fetches need of a build. */
export interface GitAccess {
  content: Content;
  processes: Processes;
  secrets: SecretSource;
  signal: AbortSignal;
}

async function collect(stream: AsyncIterable<Buffer> | undefined): Promise<string> {
  let text = '';
  for await (const bytes of stream ?? []) text = `${text}${bytes.toString('utf8')}`.slice(-gitErrorBytesMax);
  return text;
}

type Found = Pick<RepositoryMetadata, 'ref' | 'object' | 'commit'>;

/** What a name stands for at the remote: a tag before a branch. */
async function findRemote(git: Git, { remote, ref }: Repository): Promise<Found> {
  if (commitPattern.test(ref)) return { ref, object: ref, commit: ref };
  const wanted = ref === '' ? 'HEAD' : ref;
  const found = new Map<string, string>();
  const symref = wanted === 'HEAD' ? ['--symref'] : [];
  let head: string | undefined;
  for (const line of (await git.run(['ls-remote', ...symref, '--', remote, wanted, `${wanted}^{}`])).split('\n')) {
    const [commit, name] = line.split('\t');
    if (name === 'HEAD') head ??= /^ref: (\S+)$/.exec(commit ?? '')?.[1];
    if (commit !== undefined && name !== undefined && commitPattern.test(commit)) found.set(name, commit);
  }
  for (const name of [`refs/tags/${wanted}`, `refs/heads/${wanted}`, wanted]) {
    const object = found.get(name);
    if (object === undefined) continue;
    // What a tag is about rather than the tag.
    return { ref: name === 'HEAD' ? (head ?? name) : name, object, commit: found.get(`${name}^{}`) ?? object };
  }
  throw new ApiError('BadRequest', `repository does not contain ref ${wanted}`);
}

/** A repository of its own that has the commit. */
async function fetchCommit(git: Git, { remote, ref }: Repository, commit: string, into: string): Promise<void> {
  const at = (...args: string[]): Promise<string> => git.run(['-C', into, ...args]);
  await git.run(['init', '-q', ...(commit.length === 64 ? ['--object-format=sha256'] : []), '--', into]);
  await at('remote', 'add', 'origin', remote);
  const wanted = ref === '' || commitPattern.test(ref) ? commit : ref;
  try {
    await at('fetch', '-q', '--depth=1', '--no-tags', 'origin', commit);
  } catch {
    // A remote that gives no single commits, or no shallow ones: all that leads to it.
    await at(
      'fetch',
      '-q',
      '--tags',
      'origin',
      ...(wanted === commit ? ['+refs/heads/*:refs/remotes/origin/*'] : [wanted]),
    );
  }
}

/** The commit's files in a directory. */
async function checkOut(
  git: Git,
  repository: Repository,
  { commit, into, log }: { commit: string; into: string; log: (bytes: Buffer) => void },
): Promise<{ mtimeMs?: number }> {
  const { keepsGitDirectory, hasSubmodules, hasCommitTimes, hasAdvice } = repository;
  const at = (...args: string[]): Promise<string> => git.run(['-C', into, ...args]);
  await fetchCommit(git, repository, commit, into);
  // Whoever detaches on purpose is not advised.
  if (hasAdvice) await git.run(['-C', into, 'checkout', commit], log);
  else await at('checkout', '-q', '--detach', commit);
  if (hasSubmodules) {
    const update = ['submodule', '--quiet', 'update', '--init', '--recursive'];
    // A remote of one of them may give no shallow histories.
    await at(...update, '--depth=1').catch(() => at(...update));
  }
  const times = hasCommitTimes ? { mtimeMs: Number(await at('show', '-s', '--format=%ct', commit)) * 1000 } : {};
  if (!keepsGitDirectory) await rm(join(into, '.git'), { recursive: true, force: true });
  return times;
}

/** Environment of `git`: nothing of the host's own configuration, and what the client has for this remote. */
async function environmentOf(
  { secrets, signal }: GitAccess,
  repository: Repository,
  scratch: string,
): Promise<Record<string, string>> {
  const host = URL.parse(repository.remote)?.host ?? '';
  const env: Record<string, string> = {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    HOME: scratch,
    LC_ALL: 'C.UTF-8',
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_TERMINAL_PROMPT: '0',
    GIT_ADVICE: repository.hasAdvice ? '1' : '0',
    GIT_ALLOW_PROTOCOL: 'http:https:ssh:git',
    GIT_SSH_COMMAND: 'ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=accept-new',
  };
  if (!/^https?:/.test(repository.remote)) return env;
  const token = (await secrets.get(`GIT_AUTH_TOKEN.${host}`, signal)) ?? (await secrets.get('GIT_AUTH_TOKEN', signal));
  if (token === undefined) return env;
  const basic = Buffer.from(`x-access-token:${Buffer.from(token).toString('utf8').trim()}`).toString('base64');
  return {
    ...env,
    GIT_CONFIG_COUNT: '1',
    GIT_CONFIG_KEY_0: `http.${new URL(repository.remote).origin}/.extraheader`,
    GIT_CONFIG_VALUE_0: `Authorization: basic ${basic}`,
  };
}

async function withAgent<T>(
  { secrets, signal }: GitAccess,
  { remote }: Repository,
  scratch: string,
  work: (env: Record<string, string>) => Promise<T>,
): Promise<T> {
  if (/^(?:https?|git):/.test(remote) || (await secrets.whyNoAgent('default', signal)) !== undefined) return work({});
  const path = join(scratch, 'agent');
  const close = await listenForAgent(path, (socket) => secrets.forwardAgent('default', socket, signal));
  try {
    return await work({ SSH_AUTH_SOCK: path });
  } finally {
    await close();
  }
}

async function makeLayer(
  context: SolverContext,
  repository: Repository,
  files: string,
  times: { mtimeMs?: number },
): Promise<ImageLayer | null> {
  const root = new RootedDirectory(files).directory(pathParts(repository.directory));
  if (root === undefined)
    throw new ApiError('BadRequest', `the repository has no directory ${repository.directory.slice(0, 200)}`);
  return copyToLayer(context, [], ({ finish }) =>
    finish([
      {
        kind: 'copy',
        sourceRoot: root,
        sources: ['.'],
        target: '/',
        isDirectory: true,
        owner: { uid: 0, gid: 0 },
        canLink: true,
        ...times,
      },
    ]),
  );
}

/** Calls `work` with a `git` that may ask this remote, and a directory that is gone afterwards. */
async function withGit<T>(
  access: GitAccess,
  repository: Repository,
  work: (git: Git, scratch: string) => Promise<T>,
): Promise<T> {
  const { content, processes, signal } = access;
  if (processes.find('git') === undefined)
    throw new ApiError('BadRequest', 'git is not installed on the host: it fetches sources from repositories');
  const scratch = content.blobs.scratchPath();
  mkdirSync(scratch, { mode: 0o700 });
  try {
    const env = await environmentOf(access, repository, scratch);
    return await withAgent(access, repository, scratch, (more) =>
      work(new Git(processes, { ...env, ...more }, signal), scratch),
    );
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** What a name stands for at the remote. Throws BadRequest where that is not what it has to be. */
async function findCommit(git: Git, repository: Repository): Promise<Found> {
  const found = await findRemote(git, repository);
  const { checksum } = repository;
  if ([found.commit, found.object].some((each) => each.startsWith(checksum))) return found;
  throw new ApiError('BadRequest', `expected checksum to match ${checksum}, got ${found.commit}`);
}

export async function openRepository(
  context: SolverContext,
  processes: Processes,
  op: SourceOp,
  output: VertexOutput,
): Promise<{ made: Output; commit: string }> {
  const { content, cache, clock, signal } = context;
  const repository = repositoryOf(op);
  return withGit({ content, processes, secrets: context.build.secrets, signal }, repository, async (git, scratch) => {
    const { commit } = await findCommit(git, repository).catch((error: unknown) => {
      if (!(error instanceof ApiError)) throw error;
      throw new ApiError(error.reason, `failed to load cache key: ${error.message}`);
    });
    const { remote, directory, keepsGitDirectory, hasSubmodules, hasCommitTimes } = repository;
    const key = digestOf('git', remote, commit, directory, keepsGitDirectory, hasSubmodules, hasCommitTimes);
    const known = cache.get(key);
    if (known !== undefined) output.cached();
    const atMs = known?.atMs ?? clock.now();
    const about = `git ${remote} ${commit}`;
    let layers = known?.layers;
    if (layers === undefined) {
      const files = join(scratch, 'files');
      const log = (bytes: Buffer): void => output.log(bytes);
      const times = await checkOut(git, repository, { commit, into: files, log });
      layers = [await makeLayer(context, repository, files, times)];
      await cache.put(key, { layers, atMs, about });
    }
    const steps = layers.map((layer) => ({ layer, createdAtMs: atMs, about }));
    return { made: { kind: 'layers', steps }, commit };
  });
}

/** What a repository's reference stands for. */
export interface RepositoryMetadata {
  /** As the remote has it in whole: `refs/heads/main`; of a commit the commit. */
  ref: string;
  /** The commit, or the tag that is an object of its own. */
  object: string;
  commit: string;
  /** Bytes of the objects, where they were asked for. */
  commitObject?: Buffer;
  tagObject?: Buffer;
}

/** Fetches nothing but, where `returnsObjects`, the commit. Throws BadRequest. */
export async function describeRepository(
  access: GitAccess,
  op: SourceOp,
  returnsObjects: boolean,
): Promise<RepositoryMetadata> {
  const repository = repositoryOf(op);
  return withGit(access, repository, async (git, scratch) => {
    const found = await findCommit(git, repository);
    if (!returnsObjects) return found;
    const into = join(scratch, 'files');
    const read = async (kind: 'commit' | 'tag', object: string): Promise<Buffer> =>
      Buffer.from(await git.run(['-C', into, 'cat-file', kind, object]));
    await fetchCommit(git, repository, found.commit, into);
    const commitObject = await read('commit', found.commit);
    if (found.object === found.commit) return { ...found, commitObject };
    await git.run(['-C', into, 'fetch', '-q', '--depth=1', 'origin', `+${found.ref}:${found.ref}`]);
    return { ...found, commitObject, tagObject: await read('tag', found.object) };
  });
}

/** When the commit was made, by its object; undefined where that does not say it. */
export function commitTimeMs(commitObject: Buffer): number | undefined {
  const [head = ''] = commitObject.toString('latin1').split('\n\n', 1);
  const seconds = /^committer .* (-?\d{1,12}) [+-]\d{4}$/m.exec(head)?.[1];
  return seconds === undefined ? undefined : Number(seconds) * 1000;
}
