/**
 * A Debian machine as people have it - systemd, pure cgroup version 2, AppArmor, a firewall, a real reboot and a power
 * switch - under software emulation, so that it needs nothing of the host's kernel. It is about fifteen times slower
 * than the host. Its network is a bridge in a network namespace of the run's own: it reaches nothing but the run. The
 * root file system is made once by debootstrap and kept in /var/tmp; each run works on an overlay of it.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const top = resolve(fileURLToPath(import.meta.url), '../../..');
const base = '/var/tmp/tiphys-host-suite';
const packages = [
  'systemd-sysv',
  'dbus',
  'udev',
  'kmod',
  'iproute2',
  'openssh-server',
  'linux-image-cloud-amd64',
  'initramfs-tools',
  'procps',
  'e2fsprogs',
  'ca-certificates',
  'libpam-systemd',
  'crun',
  'conmon',
  'nftables',
  'haproxy',
  'catatonit',
  'libatomic1',
  'busybox-static',
  'xz-utils',
  'bzip2',
  'apparmor',
  'iptables',
  'ufw',
  'firewalld',
  'curl',
];
export const hostAddress = '10.90.0.1';
export const guestAddress = '10.90.0.11';

export interface Output {
  code: number;
  stdout: string;
  stderr: string;
}

function must(file: string, args: string[], input?: string): string {
  const done = spawnSync(file, args, {
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    ...(input === undefined ? {} : { input }),
  });
  if (done.status !== 0) throw new Error(`${file} ${args.join(' ')}: ${done.error?.message ?? ''}${done.stderr ?? ''}`);
  return done.stdout;
}

const addressScript = `#!/bin/sh
for device in /sys/class/net/e*; do device=\${device##*/}; ip link set lo up; ip link set "$device" up; ip addr add ${guestAddress}/24 dev "$device"; ip route add default via ${hostAddress}; done
exit 0
`;
const addressUnit = `[Unit]
Before=ssh.service network.target
After=systemd-udev-settle.service local-fs.target
Wants=systemd-udev-settle.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/set-address
[Install]
WantedBy=multi-user.target
`;

/**
 * The root file system, made once. What runs at logout is as strict as systemd can be: what belongs to a session ends
 * with it.
 */
function makeRoot(): string {
  const root = join(base, 'root');
  if (existsSync(join(root, '.complete'))) return root;
  rmSync(root, { recursive: true, force: true });
  mkdirSync(base, { recursive: true, mode: 0o700 });
  must('debootstrap', ['--variant=minbase', `--include=${packages.join(',')}`, 'bookworm', root]);
  if (!existsSync(join(base, 'key'))) must('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(base, 'key')]);
  mkdirSync(join(root, 'root/.ssh'), { recursive: true, mode: 0o700 });
  copyFileSync(join(base, 'key.pub'), join(root, 'root/.ssh/authorized_keys'));
  writeFileSync(join(root, 'etc/fstab'), '/dev/vda / ext4 defaults 0 1\n');
  writeFileSync(join(root, 'etc/hostname'), 'guest\n');
  writeFileSync(join(root, 'etc/hosts'), '127.0.0.1 localhost\n127.0.1.1 guest\n');
  writeFileSync(join(root, 'usr/local/sbin/set-address'), addressScript, { mode: 0o755 });
  writeFileSync(join(root, 'etc/systemd/system/set-address.service'), addressUnit);
  mkdirSync(join(root, 'etc/systemd/logind.conf.d'), { recursive: true });
  writeFileSync(
    join(root, 'etc/systemd/logind.conf.d/strict.conf'),
    '[Login]\nKillUserProcesses=yes\nKillExcludeUsers=\n',
  );
  must('chroot', [root, 'systemctl', 'enable', 'set-address', 'ssh']);
  must('chroot', [root, 'systemctl', 'disable', 'haproxy', 'nftables', 'ufw', 'firewalld']);
  writeFileSync(join(root, '.complete'), '');
  return root;
}

export class Guest {
  readonly directory: string = mkdtempSync('/var/tmp/tiphys-host-');
  readonly namespace: string = `tiphys-host-${process.pid}`;
  #machine: ChildProcess | undefined;

  constructor() {
    const root = makeRoot();
    const checkout = join(root, 'root/tiphys');
    rmSync(checkout, { recursive: true, force: true });
    mkdirSync(checkout);
    must('sh', ['-c', `tar -C '${top}' --exclude=.git -c . | tar -x -C '${checkout}'`]);
    for (const program of ['docker', 'kubectl'])
      copyFileSync(must('sh', ['-c', `command -v ${program}`]).trim(), join(root, 'usr/local/bin', program));
    must('mke2fs', ['-q', '-t', 'ext4', '-d', root, join(this.directory, 'disk.img'), '8G']);
    must('ip', ['netns', 'add', this.namespace]);
    for (const words of [
      'link set lo up',
      'link add br0 type bridge',
      `addr add ${hostAddress}/24 dev br0`,
      'link set br0 up',
      'tuntap add tap0 mode tap',
      'link set tap0 master br0',
      'link set tap0 up',
    ])
      this.inside('ip', words.split(' '));
  }

  /** Runs a program of the host's beside the guest, in its network. */
  inside(file: string, args: string[]): string {
    return must('ip', ['netns', 'exec', this.namespace, file, ...args]);
  }

  /** Switches it on and waits until it answers. */
  async boot(): Promise<void> {
    const root = join(base, 'root');
    const kernel = readdirSync(join(root, 'boot')).find((name) => name.startsWith('vmlinuz-'))!;
    const console = openSync(join(this.directory, 'console.log'), 'a');
    this.#machine = spawn(
      'ip',
      [
        'netns',
        'exec',
        this.namespace,
        'qemu-system-x86_64',
        '-accel',
        'tcg,thread=multi',
        '-cpu',
        'max',
        '-m',
        '3072',
        '-smp',
        '2',
        '-display',
        'none',
        '-monitor',
        'none',
        '-serial',
        'stdio',
        '-kernel',
        join(root, 'boot', kernel),
        '-initrd',
        join(root, 'boot', kernel.replace('vmlinuz', 'initrd.img')),
        '-append',
        'root=/dev/vda rw console=ttyS0',
        '-drive',
        `file=${join(this.directory, 'disk.img')},format=raw,if=virtio`,
        '-netdev',
        'tap,id=n,ifname=tap0,script=no,downscript=no',
        '-device',
        'virtio-net-pci,netdev=n',
      ],
      { stdio: ['ignore', console, console] },
    );
    await this.answers();
  }

  /** Waits until it answers, at most ten minutes. */
  async answers(): Promise<void> {
    for (let tries = 0; tries < 300; tries++) {
      if (this.try('true').code === 0) return;
      await new Promise((done) => setTimeout(done, 2_000));
    }
    throw new Error(
      `the guest does not answer; its console:\n${readFileSync(join(this.directory, 'console.log'), 'utf8').slice(-3_000)}`,
    );
  }

  /** As a power cut. */
  async cut(): Promise<void> {
    const ended = new Promise((done) => this.#machine?.once('exit', done));
    this.#machine?.kill('SIGKILL');
    await ended;
  }

  /** A shell command in a login session of its own. */
  try(command: string): Output {
    const done = spawnSync(
      'ip',
      ['netns', 'exec', this.namespace, 'ssh', ...this.#options(), `root@${guestAddress}`, command],
      { encoding: 'utf8', maxBuffer: 16 * 1024 * 1024, timeout: 900_000 },
    );
    return { code: done.status ?? -1, stdout: done.stdout, stderr: done.stderr };
  }

  run(command: string): string {
    const done = this.try(command);
    if (done.code !== 0) throw new Error(`${command}: ${done.stdout}${done.stderr}`);
    return done.stdout.trim();
  }

  copy(file: string, to: string): void {
    must('ip', ['netns', 'exec', this.namespace, 'scp', '-q', ...this.#options(), file, `root@${guestAddress}:${to}`]);
  }

  #options(): string[] {
    return [
      '-i',
      join(base, 'key'),
      '-o',
      'StrictHostKeyChecking=no',
      '-o',
      'UserKnownHostsFile=/dev/null',
      '-o',
      'ConnectTimeout=5',
      '-o',
      'LogLevel=ERROR',
    ];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#machine?.exitCode === null) await this.cut();
    spawnSync('ip', ['netns', 'del', this.namespace]);
    rmSync(this.directory, { recursive: true, force: true });
  }
}
