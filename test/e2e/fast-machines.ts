/**
 * Machines that are made in a moment: each is an init in PID, mount, network, UTS, IPC and cgroup namespaces of its
 * own, with a root file system of its own (this machine's below, its own disk above) on a disk of its own (a file
 * system in a loop file), and links between them. They share a kernel and nothing else that Tiphys uses.
 *
 * All that is made here carries the run's name, and goes with `Symbol.asyncDispose`, also when the test fails.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run, type Output } from './machine.ts';

export const checkout = resolve(fileURLToPath(import.meta.url), '../../..');
const diskSize = '8G';

export interface FastMachine {
  name: string;
  /** On the link to the others. */
  address: string;
  /** Runs a program inside. */
  run(file: string, args: string[], options?: { input?: string; timeoutMs?: number }): Promise<Output>;
  tiphys(...args: string[]): Promise<Output>;
  /** Standard output of a program that must succeed. */
  ok(file: string, ...args: string[]): Promise<string>;
  /** Looks again until the answer of a shell command fits; fails with the last one. */
  until(what: string, command: string, wanted: RegExp, timeoutMs?: number): Promise<string>;
  /** Kills every process of Tiphys at once; containers stay. */
  killPlatform(): Promise<void>;
  /** The power fails: all processes end, and of its disk is left what had been synced. */
  cutPower(): Promise<void>;
  /** Starts again from what is left of its disk. Tiphys is not started. */
  boot(): Promise<void>;
  /** Pulls its cable, or puts it back. */
  setLink(state: 'up' | 'down'): void;
}

export interface FastMachinesOptions {
  /** Names, and links: each is a bridge with a network 10.(80 + index).0.0/24, and the first machine routes. */
  machines: { name: string; link: number }[];
  links?: { mtu?: number }[];
}

export interface FastMachines extends AsyncDisposable {
  machines: FastMachine[];
}

function sh(text: string, ...args: string[]): void {
  const done = spawnSync('/bin/sh', ['-ec', text, 'sh', ...args], { encoding: 'utf8' });
  if (done.status !== 0) throw new Error(`${text}\n${done.stderr}`);
}

/** Hierarchies of control groups, below the directory where they are mounted. */
function hierarchies(): { at: string; type: string; options: string }[] {
  return readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([, at = '', type = '']) => type.startsWith('cgroup') && at.startsWith('/sys/fs/cgroup'))
    .map(([, at = '', type = '', options = '']) => ({
      at,
      type,
      options: options
        .split(',')
        .filter((word) => !['rw', 'ro', 'nosuid', 'nodev', 'noexec', 'relatime', 'nsdelegate'].includes(word))
        .join(','),
    }));
}

/**
 * Where processes of a machine belong, seen from inside. Of version 2 a group that hands controllers down holds no
 * processes itself.
 */
function groupsInside(): string[] {
  return hierarchies().map(({ at }) => (at === '/sys/fs/cgroup' ? `${at}/init` : at));
}

/** What the init of a machine does before it waits. Arguments: root, data, host name. */
function initScript(): string {
  const all = hierarchies();
  const mounts = all.map(({ at, type, options }) => {
    const make = at === '/sys/fs/cgroup' ? '' : `mkdir -p "$1${at}"; `;
    return `${make}mount -t ${type} ${options === '' ? '' : `-o ${options} `}none "$1${at}"`;
  });
  const isHybrid = !all.some(({ at }) => at === '/sys/fs/cgroup');
  return `
set -e
mount --make-rprivate /
hostname "$3"
mount -t proc proc "$1/proc"
mount -t sysfs sysfs "$1/sys"
${isHybrid ? 'mount -t tmpfs -o mode=755 tmpfs "$1/sys/fs/cgroup"' : ''}
${mounts.join('\n')}
mount --rbind /dev "$1/dev"
mount -t tmpfs -o mode=755 tmpfs "$1/run"
mount -t tmpfs tmpfs "$1/tmp"
mkdir -p "$1/var/lib/tiphys"
mount --bind "$2" "$1/var/lib/tiphys"
cd "$1"
pivot_root . .
umount -l .
cd /
${groupsInside()
  .map((at) => `mkdir -p ${at} && echo 0 >${at}/cgroup.procs`)
  .join('\n')}
ip link set lo up
: >/run/started
trap 'exit 0' TERM
while :; do sleep 3600 & wait $!; done
`;
}

class Machine implements FastMachine {
  readonly name: string;
  readonly address: string;
  readonly #groups: string[];
  readonly #home: string;
  #init: ChildProcess | undefined;
  #pid = 0;
  /** Its ends of cables, outside; and how they are laid. */
  cables: string[] = [];
  attach: () => void = () => undefined;

  constructor(name: string, address: string, { group, home }: { group: string; home: string }) {
    this.name = name;
    this.address = address;
    this.#home = home;
    this.#groups = hierarchies().map(({ at }) => join(at, group));
  }

  async start(): Promise<void> {
    const home = this.#home;
    const disk = join(home, 'disk');
    const root = join(home, 'root');
    for (const directory of [disk, root]) mkdirSync(directory, { recursive: true });
    const image = `${home}/disk.img`;
    if (!existsSync(image)) sh('truncate -s "$2" "$1" && mkfs.ext4 -q -F "$1"', image, diskSize);
    sh('mount -o loop "$1" "$2"', image, disk);
    for (const directory of ['upper', 'work', 'data']) mkdirSync(join(disk, directory), { recursive: true });
    sh('mount -t overlay overlay -o lowerdir=/,upperdir="$1/upper",workdir="$1/work" "$2"', disk, root);
    for (const group of this.#groups) {
      mkdirSync(group, { recursive: true });
      // A set of processors that is empty takes nobody.
      for (const file of ['cpuset.cpus', 'cpuset.mems'])
        if (existsSync(join(group, file))) writeFileSync(join(group, file), readFileSync(join(group, '..', file)));
    }
    const script = join(home, 'init');
    writeFileSync(script, initScript());
    const enter = this.#groups.map((group) => `echo $$ >${group}/cgroup.procs`).join(' && ');
    this.#init = spawn(
      '/bin/sh',
      [
        '-ec',
        `${enter} && exec unshare --pid --fork --kill-child --mount --net --uts --ipc --cgroup /bin/bash "$@"`,
        'sh',
        script,
        root,
        join(disk, 'data'),
        this.name,
      ],
      { stdio: 'ignore', env: { ...process.env, ...environment() } },
    );
    await this.#waitForInit(this.#init);
    this.attach();
  }

  async cutPower(): Promise<void> {
    await this.#endInit();
    // Before anything is unmounted, which would write what was not synced.
    sh('cp --sparse=always "$1/disk.img" "$1/left.img"', this.#home);
    await this.#letGo();
    sh('mv "$1/left.img" "$1/disk.img"', this.#home);
  }

  boot(): Promise<void> {
    return this.start();
  }

  setLink(state: 'up' | 'down'): void {
    for (const cable of this.cables) sh('ip link set "$1" "$2"', cable, state);
  }

  async #waitForInit(init: ChildProcess): Promise<void> {
    const deadline = Date.now() + 30_000;
    for (;;) {
      if (init.exitCode !== null) throw new Error(`the init of ${this.name} ended with ${init.exitCode}`);
      const child = readFileSync(`/proc/${init.pid}/task/${init.pid}/children`, 'utf8').trim();
      if (child !== '' && existsSync(`/proc/${child}/root/run/started`)) {
        this.#pid = Number(child);
        // Who made the namespaces is outside of them.
        for (const { at } of hierarchies()) writeFileSync(`${at}/cgroup.procs`, String(init.pid));
        return;
      }
      if (Date.now() > deadline) throw new Error(`${this.name} does not start`);
      await new Promise((done) => setTimeout(done, 20));
    }
  }

  get namespace(): string {
    return `/proc/${this.#pid}/ns/net`;
  }

  run(file: string, args: string[], options: { input?: string; timeoutMs?: number } = {}): Promise<Output> {
    const enter = groupsInside()
      .map((at) => `echo 0 >${at}/cgroup.procs`)
      .join('; ');
    const target = ['-t', String(this.#pid), '-m', '-u', '-i', '-n', '-p', '-C', '-r'];
    return run(
      'nsenter',
      [...target, '--', '/bin/sh', '-c', `${enter}; cd /; exec "$@"`, 'sh', file, ...args],
      environment(),
      options,
    );
  }

  tiphys(...args: string[]): Promise<Output> {
    return this.run(join(checkout, 'tiphys'), args, { timeoutMs: 240_000 });
  }

  async ok(file: string, ...args: string[]): Promise<string> {
    const output = await this.run(file, args);
    if (output.code !== 0) throw new Error(`${this.name}: ${file} ${args.join(' ')}: ${output.stdout}${output.stderr}`);
    return output.stdout;
  }

  async until(what: string, command: string, wanted: RegExp, timeoutMs = 60_000): Promise<string> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const { stdout, stderr } = await this.run('/bin/sh', ['-c', command]);
      if (wanted.test(stdout)) return stdout;
      if (Date.now() > deadline) throw new Error(`${this.name}: ${what}: ${stdout}${stderr}`);
      await new Promise((done) => setTimeout(done, 200));
    }
  }

  async killPlatform(): Promise<void> {
    // Supervisors first: nothing may start again.
    await this.ok('/bin/sh', '-c', 'cd /run/tiphys/processes && kill -9 $(cat *.supervisor) $(cat *.pid)');
  }

  async end(): Promise<void> {
    await this.#endInit();
    await this.#letGo();
  }

  async #endInit(): Promise<void> {
    if (this.#init !== undefined && this.#init.exitCode === null && this.#init.signalCode === null) {
      const ended = new Promise((done) => this.#init!.once('exit', done));
      // The init's end is that of all in its namespaces.
      if (this.#pid > 0) process.kill(this.#pid, 'SIGKILL');
      else this.#init.kill('SIGKILL');
      await ended;
    }
  }

  async #letGo(): Promise<void> {
    for (const group of this.#groups) await removeGroups(group);
    for (const at of ['root', 'disk']) spawnSync('umount', ['-l', join(this.#home, at)]);
    // The kernel lets go of the loop device when nothing is mounted of it any more.
  }
}

/** Groups below first. Processes that were killed leave theirs a little later. */
async function removeGroups(path: string): Promise<void> {
  if (!existsSync(path)) return;
  for (const entry of readdirSync(path, { withFileTypes: true }))
    if (entry.isDirectory()) await removeGroups(join(path, entry.name));
  for (let tries = 0; ; tries++) {
    try {
      rmdirSync(path);
      return;
    } catch (error) {
      if (tries > 250) throw error;
      await new Promise((done) => setTimeout(done, 20));
    }
  }
}

/** Nothing of the instance that the test itself may belong to. */
function environment(): Record<string, string> {
  return {
    TIPHYS_HOME: '',
    HOME: '/tmp',
    KUBECONFIG: '/run/tiphys/admin.conf',
    DOCKER_HOST: 'unix:///run/tiphys/docker.sock',
    DOCKER_BUILDKIT: '0',
  };
}

export async function createFastMachines({ machines, links = [{}] }: FastMachinesOptions): Promise<FastMachines> {
  const home = mkdtempSync('/var/tmp/tiphys-machines-');
  const id = home.slice(-6).toLowerCase();
  await using undo = new AsyncDisposableStack();
  undo.defer(() => rmSync(home, { recursive: true, force: true }));
  links.forEach(({ mtu = 1500 }, index) => {
    const bridge = `fm${id}${index}`;
    sh('ip link add "$1" type bridge && ip link set "$1" mtu "$2" up', bridge, String(mtu));
    undo.defer(() => sh('ip link del "$1"', bridge));
  });
  const made: Machine[] = [];
  for (const [index, { name, link }] of machines.entries()) {
    const address = `10.${80 + link}.0.${index + 1}`;
    const place = join(home, name);
    const machine = new Machine(name, address, { group: `fm${id}-${name}`, home: place });
    mkdirSync(place);
    undo.defer(() => machine.end());
    machine.attach = () => layCables(machine, { id, index, link, links });
    // The kernel takes a namespace's links away when it comes to it.
    undo.defer(() => {
      for (const cable of machine.cables) sh('ip link del "$1" 2>/dev/null || true', cable);
    });
    await machine.start();
    made.push(machine);
  }
  const all = undo.move();
  return { machines: made, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

interface Cables {
  /** Of the run. */
  id: string;
  index: number;
  link: number;
  links: readonly { mtu?: number }[];
}

function layCables(machine: Machine, { id, index, link, links }: Cables): void {
  const isRouter = index === 0;
  machine.cables = [];
  for (const [each, { mtu = 1500 }] of links.entries()) {
    if (each !== link && !isRouter) continue;
    const outside = `fm${id}v${index}${each}`;
    machine.cables.push(outside);
    // That of before it was started again may not be gone yet.
    sh('ip link del "$1" 2>/dev/null || true', outside);
    const inside = isRouter ? `eth${each}` : 'eth0';
    sh(
      `ip link add "$1" mtu "$5" type veth peer name "$2" mtu "$5" netns "$3"
        ip link set "$1" master "$4" up
        nsenter --net="$3" ip address add "$6" dev "$2"
        nsenter --net="$3" ip link set "$2" up`,
      outside,
      inside,
      machine.namespace,
      `fm${id}${each}`,
      String(mtu),
      `10.${80 + each}.0.${index + 1}/24`,
    );
  }
  if (isRouter) sh('nsenter --net="$1" ip route add default dev eth0', machine.namespace);
  else sh('nsenter --net="$1" ip route add default via "$2"', machine.namespace, `10.${80 + link}.0.1`);
}
