/**
 * For kill.root.test.ts and isolation.root.test.ts: an engine on a bare image of busybox, and a program that makes,
 * starts, enters and removes containers at random until it is killed. Each step is told on standard output before it
 * begins and after it was answered, so that the test knows what it may expect.
 */
import { copyFileSync, existsSync, mkdirSync, rmSync, symlinkSync, writeSync } from 'node:fs';
import { PassThrough } from 'node:stream';
import { silentLogger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { SimRandom } from '#os/clock.sim.ts';
import { createMounts } from '#os/mount.linux.ts';
import { createEngine } from './create-engine.ts';
import type { DockerEngine } from './create-engine.ts';
import type { Images, ImageSummary } from './engine.ts';

const imageId = `sha256:${'cd'.repeat(32)}`;

export interface Step {
  step: 'creating' | 'created' | 'starting' | 'started' | 'removing' | 'removed';
  id: string;
  code: number;
  lines: number;
}

export function makeImage(home: string, applets: string[] = ['sh', 'sleep', 'echo', 'true']): void {
  mkdirSync(`${home}/image/bin`, { recursive: true });
  for (const name of ['proc', 'sys', 'dev', 'etc', 'tmp']) mkdirSync(`${home}/image/${name}`);
  copyFileSync('/bin/busybox', `${home}/image/bin/busybox`);
  for (const name of applets) symlinkSync('busybox', `${home}/image/bin/${name}`);
}

export function openKillEngine(home: string, instanceId: string, podCidr?: string): Promise<DockerEngine> {
  const mounts = createMounts();
  const image: ImageSummary = {
    id: imageId,
    names: ['busybox:latest'],
    digests: [],
    sizeBytes: 1,
    createdAtMs: 0,
    isCollectable: false,
    config: {
      user: '',
      env: [],
      entrypoint: [],
      command: ['sh'],
      workingDir: '',
      volumes: [],
      exposedPorts: [],
      stopSignal: '',
      labels: {},
    },
  };
  const images = {
    find: () => image,
    list: () => [image],
    lease: async () => undefined,
    releaseLease: async () => undefined,
  } as unknown as Images;
  const base = (id: string): string => `${home}/snap/${id}`;
  const snapshots = {
    async mountContainerRoot(id: string) {
      for (const name of ['upper', 'work', 'root']) mkdirSync(`${base(id)}/${name}`, { recursive: true });
      if ((await mounts.listBelow(`${base(id)}/root`)).length === 0)
        await mounts.mountOverlay({
          directory: base(id),
          lowers: [`${home}/image`],
          upper: 'upper',
          work: 'work',
          target: `${base(id)}/root`,
        });
      return { root: `${base(id)}/root` };
    },
    unmountContainerRoot: (id: string) => mounts.unmount(`${base(id)}/root`),
    async removeContainerRoot(id: string) {
      await mounts.unmount(`${base(id)}/root`);
      rmSync(base(id), { recursive: true, force: true });
    },
    upperDir: (id: string) => `${base(id)}/upper`,
    directories: () => ({ LowerDir: '', MergedDir: '', UpperDir: '', WorkDir: '' }),
  };
  return createEngine({
    dataDir: `${home}/data`,
    runDir: `${home}/run`,
    instanceId,
    nodeName: 'test',
    clock: realClock,
    random: realRandom,
    log: silentLogger,
    images,
    snapshots,
    mounts,
    ...(podCidr === undefined ? {} : { podCidr }),
  });
}

/** What it does comes from the seed it was given; when it is killed comes from whoever kills it. */
const random = new SimRandom(Number(process.argv[4] ?? 0));
const pick = (most: number): number => Math.floor(random.float() * most);

/** One container from beginning to end, or a part of that. */
async function liveOnce(engine: DockerEngine): Promise<void> {
  const told = { id: Buffer.from(random.bytes(32)).toString('hex'), code: pick(100), lines: 1 + pick(40) };
  const tell = (step: Step['step']): void => {
    writeSync(1, `${JSON.stringify({ step, ...told })}\n`);
  };
  const { id, lines, code } = told;
  tell('creating');
  await engine.containers.create({
    id,
    name: `k${id.slice(0, 12)}`,
    owner: 'docker',
    image: 'busybox',
    imageId,
    command: ['sh', '-c', `i=0; while [ $i -lt ${lines} ]; do echo $i; i=$((i+1)); sleep 0.02; done; exit ${code}`],
    env: [],
    tty: false,
    openStdin: false,
    stdinOnce: false,
    labels: {},
    mounts: [],
    resources: {},
    security: {},
    network: pick(4) === 0 ? { type: 'none' } : { type: 'networks' },
    ...(pick(3) === 0 ? { ipcMode: { type: 'shareable' as const } } : {}),
    ...(pick(3) === 0
      ? { ports: [{ hostIp: '127.0.0.1', hostPort: 0, protocol: 'tcp' as const, containerPort: 80 }] }
      : {}),
  });
  tell('created');
  if (pick(8) === 0) return;
  tell('starting');
  await engine.containers.start(id);
  tell('started');
  if (pick(3) === 0)
    // The container may have ended, or end meanwhile.
    await engine.containers
      .exec(id, { command: ['echo', 'x'], tty: pick(2) === 0 }, { stdout: new PassThrough().resume() })
      .catch(() => undefined);
  if (pick(2) === 0) return;
  tell('removing');
  await engine.containers.remove(id, { force: true });
  tell('removed');
}

if (import.meta.main) {
  const [home, instanceId] = process.argv.slice(2);
  if (home === undefined || instanceId === undefined || !existsSync(home))
    throw new Error('home and instance are missing');
  const engine = await openKillEngine(home, instanceId);
  writeSync(1, '{}\n');
  const live = async (): Promise<void> => {
    for (;;) await liveOnce(engine);
  };
  await Promise.all([live(), live(), live()]);
}
