/**
 * Members of an etcd for tests: processes of their own on ports of the loopback address, with a directory that goes with
 * them. Which programs: those that `TIPHYS_TEST_ETCD` names (paths, separated by colons), or `etcd` of the search path.
 */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { silentLogger } from '#observe/log.ts';
import { realClock } from '#os/clock.real.ts';
import { EtcdClient } from '#store/etcd/client.ts';
import { methods } from '#store/etcd/requests.ts';
import { freePort } from '#os/test-port.ts';

/** Paths of the programs that there are. */
export function etcdPrograms(): string[] {
  const named = process.env['TIPHYS_TEST_ETCD'];
  const candidates =
    named !== undefined
      ? named.split(delimiter)
      : (process.env['PATH'] ?? '').split(delimiter).map((directory) => join(directory, 'etcd'));
  const found = candidates.filter((path) => existsSync(path));
  return named !== undefined ? found : found.slice(0, 1);
}

export const noEtcd = etcdPrograms().length === 0 ? 'there is no etcd here; TIPHYS_TEST_ETCD names one' : false;

export function etcdVersion(program: string): string {
  return /etcd Version: (\S+)/.exec(execFileSync(program, ['--version'], { encoding: 'utf8' }))?.[1] ?? 'unknown';
}

interface Member {
  name: string;
  clientPort: number;
  peerPort: number;
}

export interface EtcdOptions {
  members?: number;
  /** Further flags of each member. */
  flags?: readonly string[];
  /** Paths of PEM files, for TLS between clients and members. */
  tls?: { ca: string; cert: string; key: string };
}

export class TestEtcd implements AsyncDisposable {
  readonly #program: string;
  readonly #directory = mkdtempSync(join(tmpdir(), 'tiphys-etcd-'));
  readonly #options: EtcdOptions;
  #members: Member[] = [];
  readonly #processes = new Map<string, ChildProcess>();

  constructor(program: string, options: EtcdOptions) {
    this.#program = program;
    this.#options = options;
  }

  get endpoints(): string[] {
    return this.#members.map(({ clientPort }) => this.#urlOf(clientPort));
  }

  get pids(): number[] {
    return [...this.#processes.values()].flatMap(({ pid }) => pid ?? []);
  }

  #urlOf(port: number): string {
    return `${this.#options.tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`;
  }

  async start(): Promise<void> {
    for (let n = 0; n < (this.#options.members ?? 1); n++)
      this.#members.push({ name: `m${n}`, clientPort: await freePort(), peerPort: await freePort() });
    for (let n = 0; n < this.#members.length; n++) this.startMember(n);
    await this.ready();
  }

  /** Starts a member, or starts it again with the data that it has. */
  startMember(n: number): void {
    const { name, clientPort, peerPort } = this.#members[n]!;
    const { tls, flags = [] } = this.#options;
    const peer = `http://127.0.0.1:${peerPort}`;
    const child = spawn(
      this.#program,
      [
        ...['--name', name, '--data-dir', join(this.#directory, name)],
        ...['--listen-client-urls', this.#urlOf(clientPort), '--advertise-client-urls', this.#urlOf(clientPort)],
        ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
        ...['--initial-cluster', this.#members.map((m) => `${m.name}=http://127.0.0.1:${m.peerPort}`).join(',')],
        ...['--logger', 'zap', '--log-level', 'error'],
        ...(tls === undefined
          ? []
          : ['--cert-file', tls.cert, '--key-file', tls.key, '--trusted-ca-file', tls.ca, '--client-cert-auth']),
        ...flags,
      ],
      { stdio: ['ignore', 'ignore', process.env['TIPHYS_TEST_ETCD_LOG'] === undefined ? 'ignore' : 'inherit'] },
    );
    this.#processes.set(name, child);
  }

  /** Until a majority answers. With TLS the test asks by itself. */
  async ready(): Promise<void> {
    if (this.#options.tls !== undefined) return;
    const client = new EtcdClient({ endpoints: this.endpoints, clock: realClock, log: silentLogger });
    try {
      for (let attempt = 1; ; attempt++) {
        try {
          await client.read(methods.range, { key: Buffer.of(0) });
          return;
        } catch (error) {
          if (attempt === 10) throw error;
        }
      }
    } finally {
      await client.close();
    }
  }

  /** Ends a member by a signal, and waits until it is gone. */
  async killMember(n: number, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const { name } = this.#members[n]!;
    const child = this.#processes.get(name);
    if (child === undefined) return;
    this.#processes.delete(name);
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('close', resolve));
    child.kill(signal);
    await gone;
  }

  signalMember(n: number, signal: NodeJS.Signals): void {
    this.#processes.get(this.#members[n]!.name)?.kill(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (let n = 0; n < this.#members.length; n++) {
      this.signalMember(n, 'SIGCONT');
      await this.killMember(n);
    }
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

export async function startEtcd(program: string, options: EtcdOptions = {}): Promise<TestEtcd> {
  const etcd = new TestEtcd(program, options);
  try {
    await etcd.start();
    return etcd;
  } catch (error) {
    await etcd[Symbol.asyncDispose]();
    throw error;
  }
}
