/**
 * An image of 500 MB in four layers - one file, a hundred, a thousand, six thousand - whose text compresses to about
 * half, as an archive to load and in a registry to pull from. The registry is Debian's (distribution), which is neither
 * side's.
 */
import { createCipheriv, createHash } from 'node:crypto';
import { createReadStream, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { command, daemon, find, until } from './harness.ts';
import type { Run } from './harness.ts';

const layerBytes = 125_000_000;
const filesOfLayers = [1, 125, 1_250, 6_250];

/** The same bytes for the same key: half of them words that come again, half noise. */
function makeText(key: number, bytes: number): Buffer {
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16, key), Buffer.alloc(16));
  const out = cipher.update(Buffer.alloc(bytes));
  const words = Buffer.from('the quick brown fox jumps over the lazy dog and then sleeps in the warm afternoon sun. ');
  for (let at = 0; at + 1024 <= bytes; at += 1024) out.fill(words, at, at + 512);
  return out;
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const part of createReadStream(path) as AsyncIterable<Buffer>) hash.update(part);
  return hash.digest('hex');
}

/** The archive as `docker save` writes one. */
export async function makeBigImage(run: Run, name: string): Promise<string> {
  const directory = join(run.scratch, 'big');
  mkdirSync(directory, { recursive: true });
  const layers: string[] = [];
  const diffIds: string[] = [];
  for (const [index, files] of filesOfLayers.entries()) {
    const tree = join(directory, `tree${index}`);
    const text = makeText(index + 1, layerBytes);
    const each = layerBytes / files;
    for (let file = 0; file < files; file++) {
      const below = join(tree, `layer${index}`, `d${file % 50}`);
      mkdirSync(below, { recursive: true });
      writeFileSync(join(below, `f${file}`), text.subarray(file * each, (file + 1) * each));
    }
    const layer = `layer${index}.tar`;
    await command(['tar', '--sort=name', '--mtime=@0', '-C', tree, '-cf', join(directory, layer), '.']);
    rmSync(tree, { recursive: true });
    layers.push(layer);
    diffIds.push(`sha256:${await digestOf(join(directory, layer))}`);
  }
  const config = JSON.stringify({
    architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
    os: 'linux',
    config: { Cmd: ['true'] },
    rootfs: { type: 'layers', diff_ids: diffIds },
    history: diffIds.map(() => ({ created_by: 'bench' })),
  });
  writeFileSync(join(directory, 'config.json'), config);
  writeFileSync(
    join(directory, 'manifest.json'),
    JSON.stringify([{ Config: 'config.json', RepoTags: [name], Layers: layers }]),
  );
  const archive = join(run.scratch, 'big.tar');
  await command(['tar', '-C', directory, '-cf', archive, 'manifest.json', 'config.json', ...layers]);
  rmSync(directory, { recursive: true });
  run.say(`an image of ${(statSync(archive).size / 1e6).toFixed(0)} MB`);
  return archive;
}

export const registryAddress = '127.0.0.1:5987';

/** A registry on loopback; the reason where there is none. */
export async function startRegistry(run: Run): Promise<string | undefined> {
  const program = find('docker-registry');
  if (program === undefined) return 'docker-registry is not installed: apt-get install docker-registry';
  const configuration = join(run.scratch, 'registry.yml');
  writeFileSync(
    configuration,
    JSON.stringify({
      version: '0.1',
      log: { level: 'error' },
      storage: { filesystem: { rootdirectory: join(run.scratch, 'registry') } },
      http: { addr: registryAddress },
    }),
  );
  daemon(run, 'registry', [program, 'serve', configuration], { OTEL_TRACES_EXPORTER: 'none' });
  await until('the registry', 10_000, async () => {
    try {
      return (await fetch(`http://${registryAddress}/v2/`)).ok;
    } catch {
      return false;
    }
  });
  return undefined;
}
