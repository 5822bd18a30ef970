/**
 * A platform of a test's own: a home below /var/tmp, the real launcher, and a look at what is left on the machine
 * afterwards.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(fileURLToPath(import.meta.url), '../../..');

export interface Output {
  code: number;
  stdout: string;
  stderr: string;
}

export function run(
  file: string,
  args: string[],
  environment: Record<string, string> = {},
  options: { input?: string; timeoutMs?: number } = {},
): Promise<Output> {
  return new Promise((done, reject) => {
    const child = spawn(file, args, {
      cwd: root,
      env: { ...process.env, ...environment },
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: options.timeoutMs ?? 120_000,
    });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk.toString();
    });
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    child.on('error', reject);
    child.on('close', (code) => done({ code: code ?? -1, stdout, stderr }));
    child.stdin.on('error', () => {
      /* a program that does not read its input */
    });
    child.stdin.end(options.input ?? '');
  });
}

export interface Machine extends AsyncDisposable {
  home: string;
  environment: Record<string, string>;
  tiphys(args: string[], timeoutMs?: number): Promise<Output>;
  docker(...args: string[]): Promise<Output>;
  kubectl(...args: string[]): Promise<Output>;
  /** Standard output of kubectl, which must succeed. */
  kube(...args: string[]): Promise<string>;
  /** `kubectl apply -f -`, which must succeed. */
  apply(manifests: string): Promise<void>;
  /** A file below the home, for build contexts and the like. Returns its path. */
  file(path: string, content: string): string;
  /** Looks again until the answer fits; fails with the last one. */
  until(what: string, look: () => Promise<string>, wanted: RegExp, timeoutMs?: number): Promise<string>;
  /** Pid of a part: `server`, `node-1`. */
  pid(part: string): number;
  /** Kills every process and supervisor of this instance at once. */
  killAll(): void;
  /** Everything of this instance that is in the kernel; empty after `down`. */
  leftovers(): string[];
}

/** Links, tables, mounts, cgroups and processes that carry the instance's id or home. */
function leftoversOf(home: string, ids: string[]): string[] {
  return [...ids.flatMap(leftoversOfId), ...leftoversOfHome(home)];
}

function leftoversOfId(id: string): string[] {
  const found: string[] = [];
  for (const line of spawnSync('nft', ['list', 'tables'], { encoding: 'utf8' }).stdout.split('\n'))
    if (line.includes(`tiphys_${id}`)) found.push(line);
  for (const line of readFileSync('/proc/net/dev', 'utf8').split('\n'))
    if (line.trim().startsWith(`tph${id}`)) found.push(`link ${line.trim().split(':')[0]}`);
  for (const top of [
    '/sys/fs/cgroup',
    ...readdirSync('/sys/fs/cgroup', { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => join('/sys/fs/cgroup', entry.name)),
  ]) {
    try {
      for (const name of readdirSync(top)) if (name.startsWith(`tiphys_${id}`)) found.push(`cgroup ${top}/${name}`);
    } catch {
      /* gone meanwhile */
    }
  }
  return found;
}

function leftoversOfHome(home: string): string[] {
  const found: string[] = [];
  for (const line of readFileSync('/proc/self/mounts', 'utf8').split('\n'))
    if (line.includes(`${home}/`)) found.push(`mount ${line.split(' ')[1]}`);
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name) && name !== String(process.pid))) {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
      if (words.includes(`${home}/`)) found.push(`process ${words.trim()}`);
    } catch {
      /* gone meanwhile */
    }
  }
  return found;
}

/** Starts nothing yet; disposing takes everything down and removes the home. */
export function createMachine(): Machine {
  const home = mkdtempSync('/var/tmp/tiphys-e2e-');
  const environment = {
    TIPHYS_HOME: home,
    HOME: join(home, 'user'),
    DOCKER_BUILDKIT: '0',
    DOCKER_HOST: `unix://${home}/run/docker.sock`,
    KUBECONFIG: `${home}/run/admin.conf`,
  };
  let ids: string[] = [];
  // Ports of its own: one that is down for a moment must find them free again, whatever other instances start
  // meanwhile.
  const ports = [0, 1].map((index) => 20_000 + index * 5_000 + Math.floor(Math.random() * 5_000));
  const tiphys = async (args: string[], timeoutMs?: number): Promise<Output> => {
    const output = await run(
      './tiphys',
      ['up', 'demo'].includes(args[0]!) && !args.includes('--api-port')
        ? [...args, '--api-port', String(ports[0]), '--registry-port', String(ports[1])]
        : args,
      environment,
      { ...(timeoutMs === undefined ? {} : { timeoutMs }) },
    );
    try {
      const { id } = JSON.parse(readFileSync(join(home, 'data/instance.json'), 'utf8')) as { id: string };
      // Further nodes carry ids of their own (platform/instance.ts).
      ids = readdirSync(join(home, 'data/nodes')).map((number) =>
        number === '1' ? id : createHash('sha256').update(`${id}/${number}`).digest('hex').slice(0, 4),
      );
    } catch {
      /* not made, or purged */
    }
    return output;
  };
  const kubectl = (...args: string[]): Promise<Output> => run('kubectl', args, environment);
  return {
    home,
    environment,
    tiphys,
    docker: (...args) => run('docker', args, environment),
    kubectl,
    async kube(...args) {
      const output = await kubectl(...args);
      if (output.code !== 0) throw new Error(`kubectl ${args.join(' ')}: ${output.stderr}`);
      return output.stdout;
    },
    async apply(manifests) {
      const output = await run('kubectl', ['apply', '-f', '-'], environment, { input: manifests });
      if (output.code !== 0) throw new Error(output.stderr);
    },
    file(path, content) {
      const full = join(home, path);
      mkdirSync(dirname(full), { recursive: true });
      writeFileSync(full, content);
      return full;
    },
    async until(what, look, wanted, timeoutMs = 30_000) {
      const deadline = Date.now() + timeoutMs;
      for (;;) {
        const seen = await look();
        if (wanted.test(seen)) return seen;
        if (Date.now() > deadline) throw new Error(`${what}: ${seen}`);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    },
    pid: (part) => Number(readFileSync(join(home, 'run/processes', `${part}.pid`), 'utf8')),
    killAll() {
      const directory = join(home, 'run/processes');
      // Supervisors first: nothing may start again.
      for (const name of readdirSync(directory).sort(
        (a, b) => Number(b.endsWith('.supervisor')) - Number(a.endsWith('.supervisor')),
      )) {
        try {
          process.kill(Number(readFileSync(join(directory, name), 'utf8')), 'SIGKILL');
        } catch {
          /* gone */
        }
      }
    },
    leftovers: () => leftoversOf(home, ids),
    async [Symbol.asyncDispose]() {
      await tiphys(['down', '--purge']);
      rmSync(home, { recursive: true, force: true });
    },
  };
}

/** Commands of the docker client that have to succeed (their output), or to fail with words that match. */
export function expectDocker(docker: (...args: string[]) => Promise<Output>): {
  good(...args: string[]): Promise<string>;
  bad(pattern: RegExp, ...args: string[]): Promise<void>;
} {
  return {
    async good(...args) {
      const out = await docker(...args);
      assert.equal(out.code, 0, `docker ${args.join(' ')}: ${out.stdout}${out.stderr}`);
      return out.stdout.trim();
    },
    async bad(pattern, ...args) {
      const out = await docker(...args);
      assert.notEqual(out.code, 0, `docker ${args.join(' ')}`);
      assert.match(out.stderr + out.stdout, pattern);
    },
  };
}
