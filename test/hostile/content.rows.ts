/** What strangers send to the registry, to image archives, layers, builds and patterns. */
import { readdirSync } from 'node:fs';
import { SimClock, SimRandom, settle } from '#os/clock.sim.ts';
import { openBlobs } from '#content/blobs.ts';
import { uploadsMax, uploadsPerUserMax } from '#content/limits.ts';
import { makeTestDirectory } from '#content/testing.ts';
import { inspectManifest } from '#registry/inspect-manifest.ts';
import { manifestEntriesMax, passwordWaitersMax } from '#registry/limits.ts';
import { PasswordChecks } from '#registry/password-checks.ts';
import type { HostileRow } from './row.ts';

const text = async (run: () => unknown): Promise<string> => { try { return String(await run()); } catch (error) { return (error as Error).message; } };

/** A directory that goes when the row has run. */
async function withDirectory<T>(run: (directory: string) => Promise<T>): Promise<T> {
  const after: (() => Promise<void> | void)[] = [];
  try { return await run(makeTestDirectory({ after: (undo) => { after.push(undo); } }, 'hostile')); } finally { for (const undo of after) await undo(); }
}

export const rows: HostileRow[] = [
  {
    name: 'Wrong passwords wait in line at the registry', input: '2,000 sign-ins from 400 addresses at once', bound: 'src/registry/limits.ts#passwordWaitersMax', answer: /^256 wait, 1 at once, 1743 refused$/,
    async run() {
      const checks = new PasswordChecks(new SimClock(0));
      let refused = 0;
      let running = 0;
      let most = 0;
      const check = async (): Promise<boolean> => { most = Math.max(most, ++running); await new Promise(() => {}); return false; };
      for (let count = 0; count < 2000; count++) checks.run(`10.0.0.${count % 400}`, check).catch(() => { refused++; });
      await settle();
      return `${Math.min(checks.waiting, passwordWaitersMax + 1)} wait, ${most} at once, ${refused} refused`;
    },
  },
  {
    name: 'Uploads that one user begins and leaves', input: '300 uploads begun', bound: 'src/content/limits.ts#uploadsPerUserMax', answer: /^100 files: too many uploads in progress$/,
    run: () => withDirectory(async (directory) => {
      const blobs = openBlobs(directory, new SimClock(0), new SimRandom(1));
      let last = '';
      for (let count = 0; count < 3 * uploadsPerUserMax; count++) last = await text(async () => (await blobs.startUpload({ user: 'eve', repository: 'eve/x' })).id.slice(0, 0));
      return `${readdirSync(`${directory}/uploads`).length} files: ${last}`;
    }),
  },
  {
    name: 'Uploads that many users begin and leave', input: '1,200 uploads of 30 users', bound: 'src/content/limits.ts#uploadsMax', answer: /^1000 files: too many uploads in progress$/,
    run: () => withDirectory(async (directory) => {
      const blobs = openBlobs(directory, new SimClock(0), new SimRandom(1));
      let last = '';
      for (let count = 0; count < uploadsMax + 200; count++) last = await text(async () => (await blobs.startUpload({ user: `eve${count % 30}`, repository: 'x' })).id.slice(0, 0));
      return `${readdirSync(`${directory}/uploads`).length} files: ${last}`;
    }),
  },
  {
    name: 'A manifest of an index names its manifests', input: `${manifestEntriesMax + 1} descriptors`, bound: 'src/registry/limits.ts#manifestEntriesMax', answer: /more than 10000 entries/,
    run: () => text(() => inspectManifest(Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: Array.from({ length: manifestEntriesMax + 1 }, () => ({ digest: `sha256:${'0'.repeat(64)}`, size: 1 })) })), 'application/vnd.oci.image.index.v1+json').manifests.length),
  },
];
