/**
 * A backup holds every key, image, user and file, and a restore has them again, with versions above all of before, in
 * SQLite and in an etcd. Who is killed leaves no file of the backup's name but a whole one, and no cluster but a whole
 * one; and is begun again.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chownSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { createKeyRing } from '#apiserver/keys.ts';
import { removedNodes } from '#base/node-identity.ts';
import { silentLogger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { SimRandom } from '#os/clock.sim.ts';
import { getXattr, setXattr } from '#os/special-files.ts';
import { testSeed } from '#os/test-seed.ts';
import { createAccess } from '#registry/access.ts';
import { readArchive } from '#platform/backup/archive.ts';
import { readBackupFile } from '#platform/backup/file-target.ts';
import { hostName } from '#platform/host.ts';
import { writeKeyRing } from '#platform/identity.ts';
import { establishInstance, loadInstance, saveInstance } from '#platform/instance.ts';
import { setLocalNodes } from '#platform/local-nodes.ts';
import { openStore } from '#platform/open-store.ts';
import { files, type Paths } from '#platform/paths.ts';
import { openEtcdStore } from '#store/etcd/etcd-store.ts';
import { openSqliteStore } from '#store/sqlite.ts';
import type { Store } from '#store/store.ts';
import { freePort } from '#os/test-port.ts';
import { etcdPrograms, noEtcd, startEtcd } from './etcd.ts';

const rounds = 5;
const volumeName = 'pvc-1_default_data';
const owner = 1234;
const layer = Buffer.alloc(3 << 20, 'layer');
const layerDigest = `sha256:${createHash('sha256').update(layer).digest('hex')}`;
const means = { clock: realClock, log: silentLogger };

const pathsOf = (data: string): Paths => ({ home: undefined, data, run: `${data}-run` });

async function fillStore(paths: Paths): Promise<number> {
  await using store = await openSqliteStore({ path: files.database(paths), ...means });
  const put = (key: string, value: string | Buffer, lease?: number): Promise<unknown> =>
    store.txn([], [{ type: 'put', key, value: Buffer.from(value), ...(lease === undefined ? {} : { lease }) }]);
  const path = join(files.volumes(paths), volumeName);
  await put(
    '/registry/persistentvolumes/pvc-1',
    JSON.stringify({ metadata: { name: 'pvc-1' }, spec: { local: { path } } }),
  );
  await put(`/registry/nodes/${hostName()}`, JSON.stringify({ metadata: { name: hostName() }, spec: {}, status: {} }));
  const lease = await store.grantLease(600);
  for (let n = 0; n < 1500; n++)
    await put(`/registry/things/${n % 500}`, Buffer.alloc(100 + (n % 7) * 1000, n), n % 500 === 3 ? lease : undefined);
  return store.currentRevision();
}

/** An image without a name's worth: what counts is that records, blobs and users go over. */
async function fillContent(paths: Paths): Promise<void> {
  const root = join(files.nodeData(paths, 1), 'content');
  mkdirSync(root, { recursive: true });
  await using stack = new AsyncDisposableStack();
  const { content, records } = await openStore(root, silentLogger, stack);
  await content.blobs.writeBytes(layer);
  const file = {
    os: 'linux',
    architecture: 'amd64',
    config: {},
    rootfs: { type: 'layers' as const, diff_ids: [layerDigest] },
  };
  const id = await content.blobs.writeBytes(Buffer.from(JSON.stringify(file)));
  const layers = [{ digest: layerDigest, diffId: layerDigest, sizeBytes: layer.length, mediaType: 'x' }];
  const manifest = { manifestDigest: '', manifestMediaType: '' };
  await records.put({ id, ...manifest, layers, file, createdAtMs: 1 }, [
    records.nameChange('docker.io/library/app:1', { imageId: id }),
  ]);
  await createAccess({ content, clock: realClock, random: realRandom, anonymousPull: 'none' }).setUser(
    'ada',
    'a password',
    true,
  );
}

function fillVolume(paths: Paths): void {
  const directory = join(files.volumes(paths), volumeName);
  mkdirSync(join(directory, 'sub'), { recursive: true });
  writeFileSync(join(directory, 'sub/file'), Buffer.alloc(5 << 20, 'v'), { mode: 0o640 });
  linkSync(join(directory, 'sub/file'), join(directory, 'second-name'));
  symlinkSync('/etc/passwd', join(directory, 'link'));
  writeFileSync(join(directory, 'sparse'), 'x');
  truncateSync(join(directory, 'sparse'), 64 << 20);
  setXattr(join(directory, 'sparse'), 'user.mine', Buffer.from('yes'));
  chownSync(join(directory, 'sparse'), owner, owner);
  utimesSync(join(directory, 'sub'), 1_000_000, 1_000_000);
}

/** All that a volume's files are. */
function filesBelow(directory: string, relative = ''): Record<string, string> {
  const out: Record<string, string> = {};
  for (const name of readdirSync(join(directory, relative)).sort()) {
    const at = join(relative, name);
    const path = join(directory, at);
    const { mode, uid, gid, size, mtimeMs, nlink } = lstatSync(path);
    const isLink = lstatSync(path).isSymbolicLink();
    const isDirectory = lstatSync(path).isDirectory();
    const content = isLink
      ? readlinkSync(path)
      : isDirectory
        ? ''
        : createHash('sha256').update(readFileSync(path)).digest('hex');
    const mine = isLink ? '' : Buffer.from(getXattr(path, 'user.mine') ?? []).toString();
    out[at] = JSON.stringify({ mode, uid, gid, size, nlink, mine, content, mtime: isLink ? 0 : Math.round(mtimeMs) });
    if (isDirectory) Object.assign(out, filesBelow(directory, at));
  }
  return out;
}

type Contents = Map<string, { value: string; hasLease: boolean; version: number }>;

async function contents(store: Store): Promise<Contents> {
  return new Map(
    (await store.list('/')).values.map(({ key, value, lease, modRevision }) => [
      key,
      { value: Buffer.from(value).toString('base64'), hasLease: lease !== undefined, version: modRevision },
    ]),
  );
}

describe('a cluster in a data directory', () => {
  let top = '';
  let paths: Paths;
  let file = '';
  let identity = '';
  let recipient = '';
  let port = 0;
  let revision = 0;
  let expected: Contents;

  before(async () => {
    top = mkdtempSync(join(tmpdir(), 'tiphys-backup-'));
    paths = pathsOf(join(top, 'old'));
    file = join(top, 'b.age');
    identity = await generateX25519Identity();
    recipient = await identityToRecipient(identity);
    port = await freePort();
    const instance = await establishInstance(
      paths,
      { podRange: '198.18.0.0/17', serviceRange: '198.19.0.0/17' },
      realRandom,
      {
        usedSubnets: [],
        freePort: (candidates) => candidates[0] ?? 0,
      },
    );
    saveInstance(paths, instance);
    setLocalNodes(paths, 1);
    writeKeyRing(paths, createKeyRing(realRandom, realClock));
    revision = await fillStore(paths);
    await fillContent(paths);
    fillVolume(paths);
    {
      await using store = await openSqliteStore({ path: files.database(paths), ...means });
      expected = await contents(store);
    }
    await work(['backup', paths.data, file, recipient]);
  });
  after(() => rmSync(top, { recursive: true, force: true }));

  /** Runs it, killed after so long; answers how long it took where it ended before. */
  const work = async (words: string[], killMs?: number): Promise<number | undefined> => {
    const program = join(import.meta.dirname, 'restorer.ts');
    const options = ['--experimental-ffi', '--disable-warning=ExperimentalWarning'];
    const child = spawn(process.execPath, [...options, program, ...words], { stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    let begunMs = 0;
    let errors = '';
    child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
    child.stdout.on('data', (chunk: Buffer) => {
      if (said === '') {
        begunMs = realClock.monotonic();
        if (killMs !== undefined) setTimeout(() => child.kill('SIGKILL'), killMs);
      }
      said += chunk.toString();
    });
    await new Promise((resolve) => child.once('close', resolve));
    if (said.includes('ended')) return realClock.monotonic() - begunMs;
    if (killMs === undefined || errors !== '') throw new Error(`${words[0]}: ${errors}`);
    return undefined;
  };

  const openHere = (at: Paths): Promise<Store> => {
    const etcd = loadInstance(at)?.etcd;
    if (etcd === undefined) return openSqliteStore({ path: files.database(at), ...means });
    return openEtcdStore({
      address: { endpoints: etcd.endpoints },
      prefix: etcd.prefix ?? '',
      random: realRandom,
      ...means,
    });
  };

  const isWhole = async (at: Paths): Promise<void> => {
    assert.ok(!existsSync(files.restoring(at)));
    {
      await using store = await openHere(at);
      const found = await contents(store);
      found.delete(`/registry/configmaps/${removedNodes.namespace}/${removedNodes.name}`);
      found.delete('/tiphys/cluster');
      assert.deepEqual([...found.keys()], [...expected.keys()]);
      for (const [key, { value, hasLease, version }] of found) {
        assert.ok(version > revision, 'a version above all of before');
        assert.equal(hasLease, expected.get(key)?.hasLease);
        if (key.startsWith('/registry/things/')) assert.equal(value, expected.get(key)?.value);
      }
      const { revision: next } = await store.txn([], [{ type: 'put', key: '/now', value: Buffer.from('x') }]);
      assert.ok(next > Math.max(...[...found.values()].map(({ version }) => version)));
      await assert.rejects(store.get('/registry/things/1', revision + 10), /compacted/);
      await store.txn([], [{ type: 'delete', key: '/now' }]);
    }
    assert.equal(readFileSync(files.keys(at), 'utf8'), readFileSync(files.keys(paths), 'utf8'));
    assert.deepEqual(filesBelow(files.volumes(at)), filesBelow(files.volumes(paths)));
    assert.ok(statSync(join(files.volumes(at), volumeName, 'sparse')).blocks < 1000, 'holes stay holes');
    await using stack = new AsyncDisposableStack();
    const { content, records } = await openStore(join(files.nodeData(at, 1), 'content'), silentLogger, stack);
    assert.equal(records.find('app:1')?.layers[0]?.digest, layerDigest);
    assert.ok((await content.blobs.readBytes(layerDigest, layer.length)).equals(layer));
    const access = createAccess({ content, clock: realClock, random: realRandom, anonymousPull: 'none' });
    const basic = `Basic ${Buffer.from('ada:a password').toString('base64')}`;
    assert.partialDeepStrictEqual(await access.identify(basic), { name: 'ada', isAdministrator: true });
  };

  const takeAway = (at: Paths): void => {
    for (const path of [at.data, at.run]) rmSync(path, { recursive: true, force: true });
  };

  it('is whole again where it is restored', async () => {
    const made = pathsOf(join(top, 'made'));
    await work(['restore', made.data, file, identity, String(port)]);
    await isWhole(made);
    await assert.rejects(
      work(['restore', made.data, file, identity, String(port)]),
      /there is a cluster in .* already/,
    );
    takeAway(made);
  });

  it('is not there, or whole, wherever a restore is killed, and is restored after that', async () => {
    const random = new SimRandom(testSeed());
    const made = pathsOf(join(top, 'killed'));
    let usualMs = 1500;
    let whole = 0;
    for (let round = 0; round < rounds; round++) {
      const words = ['restore', made.data, file, identity, String(port)];
      const took = await work(words, random.float() * usualMs * 1.2);
      if (loadInstance(made) === undefined) {
        if (existsSync(files.restoring(made)))
          await assert.rejects(
            establishInstance(made, {}, realRandom, { usedSubnets: [], freePort: () => 1 }),
            /was interrupted: run 'tiphys restore' again/,
          );
        usualMs = (await work(words)) ?? usualMs;
      } else whole++;
      // It may have been killed between its last two steps.
      if (took === undefined) await establishInstance(made, {}, realRandom, { usedSubnets: [], freePort: () => 1 });
      await isWhole(made);
      takeAway(made);
    }
    assert.ok(whole < rounds, 'some were killed before they ended');
  });

  it('has a whole backup of a name or none, wherever it is killed', async () => {
    const random = new SimRandom(testSeed() + 1);
    const target = join(top, 'kept.age');
    let usualMs = 1000;
    for (let round = 0; round < rounds; round++) {
      const took = await work(['backup', paths.data, target, recipient], random.float() * usualMs * 1.2);
      usualMs = took ?? usualMs;
      if (!existsSync(target)) continue;
      const drop = { head: async () => {}, keys: async () => {}, section: async () => {} };
      const end = await readArchive(readBackupFile(target), { identities: [identity] }, drop);
      assert.equal(end.keys, expected.size);
      rmSync(target);
    }
    await work(['backup', paths.data, target, recipient]);
    assert.deepEqual(
      readdirSync(top).filter((name) => name.startsWith('kept')),
      ['kept.age'],
      'what was left beside is gone',
    );
  });

  it('goes to an etcd, wherever an earlier attempt was killed', { skip: noEtcd }, async () => {
    const random = new SimRandom(testSeed() + 2);
    const [program = ''] = etcdPrograms();
    await using etcd = await startEtcd(program);
    const made = pathsOf(join(top, 'etcd'));
    for (let round = 0; round < 2; round++) {
      const words = ['restore', made.data, file, identity, String(port), ...etcd.endpoints.slice(0, 1), `/p${round}`];
      await work(words, random.float() * 2000);
      if (loadInstance(made) === undefined) await work(words);
      await isWhole(made);
      takeAway(made);
      await assert.rejects(work(words), /holds another cluster's state/, 'that of the round before');
      takeAway(made);
    }
  });
});
