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
import type { ImageLayer } from '#content/image-records.ts';
import type { Processes } from '#os/processes.ts';
import { digestOf } from '../cache-keys.ts';
import { gitErrorBytesMax } from '../limits.ts';
import { copyToLayer } from './file.ts';
import type { Output, VertexOutput } from './output.ts';
import { listenForAgent } from './secrets.ts';
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

  /** What it prints. Throws BadRequest with its last words. */
  async run(args: string[]): Promise<string> {
    this.#signal.throwIfAborted();
    const child = this.#processes.spawn('git', args, { env: this.#env, stdout: 'pipe', stderr: 'pipe' });
    const forget = onceAborted(this.#signal, () => this.#processes.kill(child.pid, 'SIGKILL'));
    try {
      const [stdout, stderr, { code }] = await Promise.all([collect(child.stdout), collect(child.stderr), child.exit]);
      this.#signal.throwIfAborted();
      if (code === 0) return stdout;
      throw new ApiError(
        'BadRequest',
        `failed to run git ${args.find((each) => !each.startsWith('-')) ?? ''}: ${stderr.trim()}`,
      );
    } finally {
      forget();
    }
  }
}

async function collect(stream: AsyncIterable<Buffer> | undefined): Promise<string> {
  let text = '';
  for await (const bytes of stream ?? []) text = `${text}${bytes.toString('utf8')}`.slice(-gitErrorBytesMax);
  return text;
}

/** The commit that a name stands for: a tag before a branch, and what a tag is about rather than the tag. */
async function resolveCommit(git: Git, { remote, ref }: Repository): Promise<string> {
  if (commitPattern.test(ref)) return ref;
  const wanted = ref === '' ? 'HEAD' : ref;
  const found = new Map<string, string>();
  for (const line of (await git.run(['ls-remote', '--', remote, wanted, `${wanted}^{}`])).split('\n')) {
    const [commit, name] = line.split('\t');
    if (commit !== undefined && name !== undefined) found.set(name, commit);
  }
  const names = [`refs/tags/${wanted}^{}`, `refs/tags/${wanted}`, `refs/heads/${wanted}`, `${wanted}^{}`, wanted];
  const commit = names.map((name) => found.get(name)).find((each) => each !== undefined);
  if (commit === undefined || !commitPattern.test(commit))
    throw new ApiError('BadRequest', `repository does not contain ref ${wanted}`);
  return commit;
}

/** The commit's files in a directory. */
async function checkOut(
  git: Git,
  { remote, ref, keepsGitDirectory, hasSubmodules, hasCommitTimes }: Repository,
  commit: string,
  into: string,
): Promise<{ mtimeMs?: number }> {
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
  await at('checkout', '-q', '--detach', commit);
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
  context: SolverContext,
  repository: Repository,
  scratch: string,
): Promise<Record<string, string>> {
  const { secrets } = context.build;
  const host = URL.parse(repository.remote)?.host ?? '';
  const env: Record<string, string> = {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    HOME: scratch,
    LC_ALL: 'C.UTF-8',
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_TERMINAL_PROMPT: '0',
    GIT_ALLOW_PROTOCOL: 'http:https:ssh:git',
    GIT_SSH_COMMAND: 'ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=accept-new',
  };
  if (!/^https?:/.test(repository.remote)) return env;
  const token =
    (await secrets.get(`GIT_AUTH_TOKEN.${host}`, context.signal)) ??
    (await secrets.get('GIT_AUTH_TOKEN', context.signal));
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
  context: SolverContext,
  { remote }: Repository,
  scratch: string,
  work: (env: Record<string, string>) => Promise<T>,
): Promise<T> {
  const { secrets } = context.build;
  if (/^(?:https?|git):/.test(remote) || (await secrets.whyNoAgent('default', context.signal)) !== undefined)
    return work({});
  const path = join(scratch, 'agent');
  const close = await listenForAgent(path, (socket) => secrets.forwardAgent('default', socket, context.signal));
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

export async function openRepository(
  context: SolverContext,
  processes: Processes,
  op: SourceOp,
  output: VertexOutput,
): Promise<Output> {
  const { content, cache, clock, signal } = context;
  if (processes.find('git') === undefined)
    throw new ApiError('BadRequest', 'git is not installed on the host: it fetches sources from repositories');
  const repository = repositoryOf(op);
  const scratch = content.blobs.scratchPath();
  mkdirSync(scratch, { mode: 0o700 });
  try {
    const env = await environmentOf(context, repository, scratch);
    return await withAgent(context, repository, scratch, async (more) => {
      const git = new Git(processes, { ...env, ...more }, signal);
      const commit = await resolveCommit(git, repository);
      if (!commit.startsWith(repository.checksum))
        throw new ApiError('BadRequest', `expected checksum to match ${repository.checksum}, got ${commit}`);
      const { remote, directory, keepsGitDirectory, hasSubmodules, hasCommitTimes } = repository;
      const key = digestOf('git', remote, commit, directory, keepsGitDirectory, hasSubmodules, hasCommitTimes);
      const known = cache.get(key);
      if (known !== undefined) output.cached();
      const atMs = known?.atMs ?? clock.now();
      const about = `git ${remote} ${commit}`;
      let layers = known?.layers;
      if (layers === undefined) {
        const files = join(scratch, 'files');
        const times = await checkOut(git, repository, commit, files);
        layers = [await makeLayer(context, repository, files, times)];
        await cache.put(key, { layers, atMs, about });
      }
      return { kind: 'layers', steps: layers.map((layer) => ({ layer, createdAtMs: atMs, about })) };
    });
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}
