/**
 * For tests: an engine on the real kernel, with a bare image of busybox and roots of its own (no images, no store), and
 * what removes it from the machine again.
 */
import { copyFileSync, mkdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { PassThrough } from 'node:stream';
import { openContent, type Content } from '#content/content.ts';
import { createImageRecords, mediaTypes, type ImageRecords } from '#content/image-records.ts';
import { createSnapshots } from '#content/snapshots.ts';
import { removeAllOf } from '#net/remove-all.ts';
import { silentLogger } from '#observe/log.ts';
import { createCgroups } from '#os/cgroups.linux.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { createMounts } from '#os/mount.linux.ts';
import { createNetworkDoor } from '#os/network.linux.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { createEngine } from './create-engine.ts';
import type { DockerEngine } from './create-engine.ts';
import type { ContainerSpec, ExecSpec, Images, ImageSummary } from './engine.ts';

const testImageId = `sha256:${'cd'.repeat(32)}`;

/** Of no other instance on this machine, most likely: names in the kernel carry it. */
export function newInstanceId(): string {
  return Buffer.from(realRandom.bytes(2)).toString('hex');
}

/** A root of busybox alone, with these of its names. */
export function makeImage(home: string, applets: string[] = ['sh', 'sleep', 'echo', 'true']): void {
  mkdirSync(`${home}/image/bin`, { recursive: true });
  for (const name of ['proc', 'sys', 'dev', 'etc', 'tmp']) mkdirSync(`${home}/image/${name}`);
  copyFileSync('/bin/busybox', `${home}/image/bin/busybox`);
  for (const name of applets) symlinkSync('busybox', `${home}/image/bin/${name}`);
}

/** On the image that `makeImage` made in `home`; opened again, it finds what an earlier one left. */
export async function openTestEngine(home: string, instanceId: string, podCidr?: string): Promise<DockerEngine> {
  const mounts = createMounts();
  const image: ImageSummary = {
    id: testImageId,
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
    releaseLeases: async () => undefined,
  } as unknown as Images;
  const content = await openContent({
    root: `${home}/content`,
    clock: realClock,
    random: realRandom,
    log: silentLogger,
    processes: linuxProcesses,
  });
  const engine = await createEngine({
    dataDir: `${home}/data`,
    runDir: `${home}/run`,
    instanceId,
    nodeName: 'test',
    clock: realClock,
    random: realRandom,
    log: silentLogger,
    images,
    snapshots: createSnapshots({ content, images: await recordImage(home, content), mounts }),
    mounts,
    // Plugins of the test's own, not the machine's.
    pluginPlaces: { sockets: `${home}/plugins`, specs: [`${home}/plugin-specs`] },
    ...(podCidr === undefined ? {} : { podCidr }),
  });
  return {
    ...engine,
    async [Symbol.asyncDispose]() {
      await engine[Symbol.asyncDispose]();
      await content.close();
    },
  };
}

/** The image as the store has it; packed once, by the first to open. */
async function recordImage(home: string, content: Content): Promise<ImageRecords> {
  const records = createImageRecords(content);
  if (records.get(testImageId) !== undefined) return records;
  const { digest, diffId, blobBytes } = await content.layers.packTree(`${home}/image`);
  await records.put({
    id: testImageId,
    manifestDigest: testImageId,
    manifestMediaType: mediaTypes.ociManifest,
    layers: [{ digest, diffId, sizeBytes: blobBytes, mediaType: `${mediaTypes.ociLayer}+gzip` }],
    file: { architecture: '', os: 'linux', rootfs: { type: 'layers', diff_ids: [diffId] } },
    createdAtMs: 0,
  });
  return records;
}

/** Takes away whatever the instance has in the kernel and in `home`, and looks that nothing of it stays. */
export async function removeTestEngine(home: string, instanceId: string): Promise<void> {
  const door = createNetworkDoor();
  await removeAllOf(instanceId, {
    ...door,
    processes: linuxProcesses,
    clock: realClock,
    mounts: createMounts(),
    cgroups: createCgroups(() => undefined),
    log: silentLogger,
    directories: [home],
  });
  const links = (await door.netlink.listLinks()).filter(({ name }) => name.startsWith(`tph${instanceId}`));
  await door.close();
  const mounted = readFileSync('/proc/self/mountinfo', 'utf8').includes(home);
  if (mounted || links.length > 0)
    throw new Error(`left behind: ${links.map(({ name }) => name).join(' ')}${mounted ? ' mounts' : ''}`);
  rmSync(home, { recursive: true, force: true });
}

/** A docker container that asks for nothing but its command. */
export function specOf(name: string, command: string[], more: Partial<ContainerSpec> = {}): ContainerSpec {
  return {
    name,
    owner: 'docker',
    image: 'busybox',
    imageId: testImageId,
    command,
    env: [],
    tty: false,
    openStdin: false,
    stdinOnce: false,
    labels: {},
    mounts: [],
    resources: {},
    security: {},
    network: { type: 'networks' },
    ...more,
  };
}

/** Runs a command in a container: its exit code, and what it wrote on both streams. */
export async function execText(
  engine: DockerEngine,
  id: string,
  command: string[],
  more: Partial<ExecSpec> = {},
): Promise<{ code: number; text: string }> {
  const out = new PassThrough();
  let text = '';
  out.on('data', (part: Buffer) => {
    text += part.toString();
  });
  const code = await engine.containers.exec(id, { command, tty: false, ...more }, { stdout: out, stderr: out });
  return { code, text };
}
