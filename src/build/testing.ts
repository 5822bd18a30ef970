/** A builder for tests: its runner obeys a few words instead of starting containers; everything else is real. */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeTarFile, encodeTarHeader, tarEnd } from '#base/tar-write.ts';
import type { Content } from '#content/content.ts';
import { createImageRecords } from '#content/image-records.ts';
import type { ImageLayer, ImageRecords } from '#content/image-records.ts';
import { HttpTransport } from '#content/remote.ts';
import { createSnapshots } from '#content/snapshots.ts';
import { bytesOf, openTestContent } from '#content/testing.ts';
import type { TestScope } from '#content/testing.ts';
import { createImages } from '#engine/images.ts';
import { silentLogger } from '#observe/log.ts';
import { pause } from '#os/clock.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { createMounts } from '#os/mount.linux.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { createBuilder } from './builder.ts';
import type { Builder } from './builder.ts';
import type { BuildRunner, RunRequest } from './runner.ts';

export interface TestBuilder {
  builder: Builder;
  content: Content;
  records: ImageRecords;
  /** What was run, in order. */
  runs: RunRequest[];
  /** Looks into the files of layers. */
  read(layers: ImageLayer[], look: (root: string) => void): Promise<void>;
}

/**
 * With an image `base`. A command is a verb: `write PATH TEXT`, `append PATH TEXT`, `delete PATH`, `say TEXT`, `wait`,
 * `fail CODE`. `onRun` sees each request, with the root of its container.
 */
export async function openTestBuilder(
  t: TestScope,
  onRun: (request: RunRequest, root: string) => void | Promise<void> = () => {},
): Promise<TestBuilder> {
  const content = await openTestContent(t);
  const records = createImageRecords(content);
  const mounts = createMounts();
  const snapshots = createSnapshots({ content, images: records, mounts });
  const transport = new HttpTransport({});
  t.after(() => transport.close());
  const images = createImages({ content, records, clock: realClock, log: silentLogger, transport, emit: () => {} });
  await images.import(
    bytesOf(
      encodeTarHeader({ path: 'etc', type: 'directory', mode: 0o755 }),
      encodeTarFile({ path: 'etc/passwd' }, 'web:x:33:44::/:\n'),
      encodeTarFile({ path: 'etc/group' }, 'staff:x:50:\n'),
      encodeTarHeader({ path: 'bin', type: 'symlink', linkTarget: 'usr/bin' }),
      // All directories are named, so that the image is the same at any time.
      encodeTarHeader({ path: 'usr', type: 'directory', mode: 0o755 }),
      encodeTarHeader({ path: 'usr/bin', type: 'directory', mode: 0o755 }),
      tarEnd,
    ),
    { name: 'base' },
  );
  const runs: RunRequest[] = [];
  const runner: BuildRunner = {
    async run(request) {
      runs.push(request);
      const { root } = await snapshots.mountContainerRoot(request.id, request.imageId);
      const [verb, path = '', text = ''] = request.command;
      if (verb === 'write') writeFileSync(join(root, path), text);
      if (verb === 'append') writeFileSync(join(root, path), text, { flag: 'a' });
      if (verb === 'delete') rmSync(join(root, path), { recursive: true });
      if (verb === 'say') request.onOutput(Buffer.from(`${path}\n`));
      if (verb === 'wait') await pause(realClock, 60_000, request.signal);
      await onRun(request, root);
      return { exitCode: verb === 'fail' ? Number(path) : 0 };
    },
    remove: (id) => snapshots.removeContainerRoot(id),
    removeStale: async () => {},
  };
  const parts = {
    content,
    images,
    records,
    snapshots,
    runner,
    mounts,
    processes: linuxProcesses,
    clock: realClock,
    random: realRandom,
  };
  return {
    builder: createBuilder(parts),
    content,
    records,
    runs,
    async read(layers, look) {
      const { root } = await snapshots.mountReadOnly('look', layers);
      try {
        look(root);
      } finally {
        await snapshots.removeContainerRoot('look');
      }
    },
  };
}
