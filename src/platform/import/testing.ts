/** For tests: a data directory as dockerd leaves it, with a database of bbolt's. Needs root. */
import { createHash } from 'node:crypto';
import { chmodSync, chownSync, linkSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { packTar } from '#content/pack.ts';
import { makeImage } from '#engine/testing.ts';
import { makeSpecialFile, setXattr } from '#os/special-files.ts';
import { encodeBolt, type BoltTree } from './bolt.testing.ts';
import { chainIds } from './images.ts';

/** The lines of `tar-split.json.gz` for an archive: what is no content of a file is kept as it is. */
function splitTar(archive: Buffer): Buffer {
  const lines: object[] = [];
  let kept: Buffer[] = [];
  for (let at = 0; at < archive.length;) {
    const header = archive.subarray(at, at + 512);
    const size = Number.parseInt(header.toString('latin1', 124, 135).replace(/\0.*$/, '') || '0', 8);
    const padded = Math.ceil(size / 512) * 512;
    const isFile = header[156] === 0x30 && size > 0;
    kept.push(isFile ? header : archive.subarray(at, at + 512 + padded));
    if (isFile) {
      lines.push({ type: 2, payload: Buffer.concat(kept).toString('base64') });
      const name = header.toString('utf8', 0, 100).replace(/\0.*$/, '');
      lines.push({ type: 1, name, size, payload: 'AAAAAAAAAAA=' });
      kept = [archive.subarray(at + 512 + size, at + 512 + padded)];
    }
    at += 512 + padded;
  }
  lines.push({ type: 2, payload: Buffer.concat(kept).toString('base64') });
  return gzipSync(lines.map((line, position) => `${JSON.stringify({ ...line, position })}\n`).join(''));
}

const digestOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

export interface DockerData {
  directory: string;
  /** Of `app:1`, two layers; the upper one's archive is not kept. */
  imageId: string;
  containerId: string;
  networkId: string;
}

/** Gone with the test. */
export function makeDockerData(scope: { after(run: () => void): void }): DockerData {
  const directory = mkdtempSync('/tmp/tiphys-dockerd-');
  scope.after(() => rmSync(directory, { recursive: true, force: true }));
  const write = (path: string, text: string | Uint8Array): void => {
    mkdirSync(join(directory, path, '..'), { recursive: true });
    writeFileSync(join(directory, path), text);
  };
  const diffIds: [string, string] = [makeLower(directory, write), makeUpper(directory)];
  const [bottom = '', top = ''] = chainIds(diffIds);
  const layer = (chainId: string, name: string): string => `image/overlay2/layerdb/sha256/${chainId.slice(7)}/${name}`;
  write(layer(bottom, 'diff'), diffIds[0]);
  write(layer(bottom, 'cache-id'), 'lower');
  write(layer(bottom, 'tar-split.json.gz'), splitOf(join(directory, 'overlay2/lower/diff')));
  write(layer(top, 'diff'), diffIds[1]);
  write(layer(top, 'cache-id'), 'upper');
  write(layer(top, 'parent'), bottom);
  const config = JSON.stringify({
    architecture: 'amd64',
    os: 'linux',
    created: '2020-01-02T03:04:05Z',
    config: { Cmd: ['sh'], Env: ['PATH=/bin'] },
    rootfs: { type: 'layers', diff_ids: diffIds },
  });
  const imageId = `sha256:${digestOf(Buffer.from(config))}`;
  write(`image/overlay2/imagedb/content/sha256/${imageId.slice(7)}`, config);
  const names = { 'app:1': imageId, [`app@sha256:${'ab'.repeat(32)}`]: imageId };
  write('image/overlay2/repositories.json', JSON.stringify({ Repositories: { app: names } }));
  makeVolume(directory, write);
  const networkId = 'de'.repeat(32);
  write('network/files/local-kv.db', encodeBolt({ libnetwork: networkRecords(networkId) }));
  const containerId = makeContainer(directory, write, { imageId, top, networkId });
  return { directory, imageId, containerId, networkId };
}

type Write = (path: string, text: string | Uint8Array) => void;

function splitOf(directory: string): Buffer {
  return splitTar(Buffer.concat([...packTar(directory, { layer: true, skipRoot: true })]));
}

function makeLower(directory: string, write: Write): string {
  const layer = join(directory, 'overlay2/lower/diff');
  makeImage(join(directory, 'made'), ['sh', 'cat', 'ls', 'echo', 'sleep', 'stat']);
  mkdirSync(join(directory, 'overlay2/lower'), { recursive: true });
  renameSync(join(directory, 'made/image'), layer);
  rmSync(join(directory, 'made'), { recursive: true });
  write('overlay2/lower/diff/d/gone', 'gone');
  write('overlay2/lower/diff/o/hidden', 'hidden');
  write('overlay2/lower/diff/d/owned', 'owned');
  chownSync(join(layer, 'd/owned'), 12, 34);
  linkSync(join(layer, 'd/owned'), join(layer, 'd/linked'));
  const archive = Buffer.concat([...packTar(layer, { layer: true, skipRoot: true })]);
  return `sha256:${digestOf(archive)}`;
}

/** `/d/gone` is gone, `/o` another directory. Nobody knows the archive: the digest is any. */
function makeUpper(directory: string): string {
  const layer = join(directory, 'overlay2/upper/diff');
  mkdirSync(join(layer, 'd'), { recursive: true });
  mkdirSync(join(layer, 'o'));
  makeSpecialFile(join(layer, 'd/gone'), 'character', 0o600);
  setXattr(join(layer, 'o'), 'trusted.overlay.opaque', Buffer.from('y'));
  writeFileSync(join(layer, 'o/shown'), 'shown');
  return `sha256:${'cd'.repeat(32)}`;
}

function makeVolume(directory: string, write: Write): void {
  write('volumes/data/_data/f', 'kept');
  const file = join(directory, 'volumes/data/_data/f');
  chownSync(file, 5, 6);
  chmodSync(file, 0o4640);
  linkSync(file, join(directory, 'volumes/data/_data/g'));
  setXattr(file, 'user.note', Buffer.from('x'));
  write('volumes/metadata.db', encodeBolt({ volumes: { data: JSON.stringify({ Name: 'data', Labels: { a: 'b' } }) } }));
}

function networkRecords(id: string): BoltTree {
  const texts = (value: unknown): string => JSON.stringify(value);
  const record = {
    name: 'mine',
    id,
    created: '2020-01-02T03:04:05Z',
    networkType: 'bridge',
    scope: 'local',
    labels: { n: '1' },
    generic: { 'com.docker.network.generic': { 'com.docker.network.driver.mtu': '1400' } },
    ipamType: 'default',
    ipamV4Config: texts([{ PreferredPool: '10.231.7.0/24', SubPool: '', Gateway: '', AuxAddresses: null }]),
    ipamV4Info: texts([{ IPAMData: texts({ Pool: '10.231.7.0/24', Gateway: '10.231.7.1/24' }) }]),
  };
  const key = (name: string): string => `docker/network/v1.0/network/${name}/`;
  const of = (value: object): string => `\0\0\0\0\0\0\0\0${texts(value)}`;
  return {
    [key(id)]: of(record),
    [key('11')]: of({ ...record, id: '11', name: 'bridge' }),
    [key('22')]: of({ ...record, id: '22', name: 'swarm', networkType: 'overlay', scope: 'swarm' }),
    'docker/network/v1.0/endpoint_count/': 'x'.repeat(5000),
  };
}

/** It ended with 3, and said a line and a half. */
function makeContainer(
  directory: string,
  write: Write,
  { imageId, top, networkId }: { imageId: string; top: string; networkId: string },
): string {
  const id = 'ef'.repeat(32);
  const volume = { Type: 'volume', Name: 'data', Destination: '/v', RW: true, Spec: { Source: 'data' } };
  write(
    `containers/${id}/config.v2.json`,
    JSON.stringify({
      ID: id,
      Name: '/one',
      Created: '2020-01-02T03:04:06Z',
      Path: 'sh',
      Args: ['-c', 'cat /v/f /written'],
      Image: imageId,
      Driver: 'overlay2',
      Config: {
        Hostname: id.slice(0, 12),
        Image: 'app:1',
        Cmd: ['sh', '-c', 'cat /v/f /written'],
        Env: ['A=b'],
        Labels: {},
      },
      State: { ExitCode: 3, StartedAt: '2020-01-02T03:04:07Z', FinishedAt: '2020-01-02T03:04:08Z' },
      NetworkSettings: { Networks: { mine: { NetworkID: networkId, Aliases: ['al', id.slice(0, 12)] } } },
      MountPoints: { '/v': volume },
      LogPath: `/elsewhere/containers/${id}/${id}-json.log`,
    }),
  );
  write(`containers/${id}/hostconfig.json`, JSON.stringify({ NetworkMode: 'mine', Binds: ['data:/v'] }));
  const said = [
    { log: 'line\n', stream: 'stdout', time: '2020-01-02T03:04:07.5Z' },
    { log: 'half', stream: 'stderr', time: '2020-01-02T03:04:07.6Z' },
  ];
  write(`containers/${id}/${id}-json.log`, said.map((line) => `${JSON.stringify(line)}\n`).join(''));
  write(`image/overlay2/layerdb/mounts/${id}/mount-id`, 'writable');
  write(`image/overlay2/layerdb/mounts/${id}/parent`, top);
  write('overlay2/writable/diff/written', 'written');
  makeSpecialFile(join(directory, 'overlay2/writable/diff/etc'), 'character', 0o600);
  return id;
}
