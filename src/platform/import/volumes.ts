/**
 * Volumes of the local driver: their directories are copied, with owners, modes, times, links and extended attributes.
 * A plugin's are a record, which leads to the plugin. A volume counts once its record is there, which is written last.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '#base/thrown.ts';
import { fieldOf, namedTextsOf, textOf } from '#base/unknown.ts';
import { copyTree } from '#engine/copy-tree.ts';
import type { VolumeRecord } from '#engine/volumes.ts';
import { listDirectory, readIfExists, removeTree, statIfExists, writeFileAtomic } from '#os/files.ts';
import { syncFilesystem } from '#os/special-files.ts';
import { readBolt } from './bolt.ts';
import { parseObject, readObject } from './read-bounded.ts';
import type { ImportReport } from './report.ts';
import type { DockerSource } from './source.ts';

/** `data`: the engine's own directory. */
export async function importVolumes(source: DockerSource, data: string, report: ImportReport): Promise<void> {
  const base = join(data, 'volumes');
  mkdirSync(base, { recursive: true, mode: 0o700 });
  for (const record of listVolumes(source))
    try {
      await importVolume(source, base, record, report);
    } catch (error) {
      report.refuse('volume', record.name, messageOf(error));
    }
}

function listVolumes(source: DockerSource): VolumeRecord[] {
  const known = new Map<string, unknown>();
  const database = readBolt(source.path('volumes/metadata.db'))?.bucket('volumes');
  for (const { key, value } of database?.entries() ?? [])
    if (value !== undefined) known.set(key, parseObject(value.toString(), `volume ${key}`));
  const directories = listDirectory(source.path('volumes')).filter(
    (name) => statIfExists(source.path('volumes', name, '_data'))?.isDirectory() === true,
  );
  return [...new Set([...directories, ...known.keys()])].sort().map((name) => {
    const said = known.get(name);
    const labels = namedTextsOf(fieldOf(said, 'Labels'));
    const options = namedTextsOf(fieldOf(said, 'Options'));
    return {
      format: 1,
      name,
      driver: textOf(said, 'Driver') ?? 'local',
      createdAtMs: statIfExists(source.path('volumes', name))?.mtimeMs ?? 0,
      labels,
      options: Object.keys(options).length > 0 ? options : readOptions(source.path('volumes', name, 'opts.json')),
      // dockerd says so only since version 24; before, by the name that it made.
      anonymous: 'com.docker.volume.anonymous' in labels || /^[0-9a-f]{64}$/.test(name),
    };
  });
}

/** What the driver itself keeps. */
function readOptions(path: string): Record<string, string> {
  const said = readObject(path);
  const options = {
    type: textOf(said, 'MountType'),
    o: textOf(said, 'MountOpts'),
    device: textOf(said, 'MountDevice'),
  };
  return namedTextsOf(
    Object.fromEntries(Object.entries(options).filter(([, text]) => text !== undefined && text !== '')),
  );
}

async function importVolume(
  source: DockerSource,
  base: string,
  record: VolumeRecord,
  report: ImportReport,
): Promise<void> {
  const directory = join(base, record.name);
  if (readIfExists(join(directory, 'volume.json')) !== undefined) return report.take('volume', false, record.name);
  removeTree(directory);
  const from = source.path('volumes', record.name, '_data');
  if (record.driver === 'local') {
    mkdirSync(join(directory, '_data'), { recursive: true, mode: 0o755 });
    if (statIfExists(from) !== undefined) await copyTree(from, join(directory, '_data'));
    syncFilesystem(directory);
  } else mkdirSync(directory, { recursive: true, mode: 0o700 });
  writeFileAtomic(join(directory, 'volume.json'), JSON.stringify(record), { sync: true });
  report.take('volume', true, record.name);
}
