/**
 * Devices by the Container Device Interface: vendors describe them in files, by names `vendor.com/class=name`. The
 * directories are read when devices are asked for, as vendors write the files at any time. A later directory's device
 * takes the place of an earlier one's; one that a directory has twice counts as none.
 *
 * Specification: CDI 1.0 (github.com/cncf-tags/container-device-interface).
 */
import { join } from 'node:path';
import { messageOf } from '#base/thrown.ts';
import { entriesOf, isObject, itemsOf, textOf, type JsonObject } from '#base/unknown.ts';
import { parseYaml } from '#base/yaml.ts';
import { listDirectory, readIfExists, statIfExists } from '#os/files.ts';
import { cdiFileBytesMax, cdiFilesMax } from './limits.ts';

/** Where vendors put them. */
export const usualCdiDirectories: readonly string[] = ['/etc/cdi', '/var/run/cdi'];

export interface CdiDevice {
  name: string;
  /** Of the device, and those of its file, which hold once for all of the file's devices. */
  edits: JsonObject;
  file: { path: string; edits: JsonObject };
}

export interface CdiDevices {
  devices: ReadonlyMap<string, CdiDevice>;
  /** Files that say nothing, each with the reason. */
  errors: { path: string; reason: string }[];
}

const kindPattern = /^[a-zA-Z][\w.-]*[a-zA-Z0-9]\/[a-zA-Z][\w-]*$/;
const namePattern = /^[a-zA-Z0-9][\w.:-]*$/;

export function readCdiDevices(directories: readonly string[]): CdiDevices {
  const all = new Map<string, CdiDevice>();
  const errors: CdiDevices['errors'] = [];
  for (const directory of directories) {
    const own = new Map<string, CdiDevice | undefined>();
    const files = listDirectory(directory).filter((name) => /\.(json|yaml)$/.test(name));
    for (const path of files
      .sort()
      .slice(0, cdiFilesMax)
      .map((name) => join(directory, name)))
      try {
        for (const device of readFile(path)) {
          if (own.has(device.name)) {
            errors.push({ path, reason: `conflicting device ${JSON.stringify(device.name)}` });
            own.set(device.name, undefined);
          } else own.set(device.name, device);
        }
      } catch (error) {
        errors.push({ path, reason: messageOf(error) });
      }
    for (const [name, device] of own)
      if (device === undefined) all.delete(name);
      else all.set(name, device);
  }
  return { devices: new Map([...all].sort(([a], [b]) => (a < b ? -1 : 1))), errors };
}

function readFile(path: string): CdiDevice[] {
  const size = statIfExists(path)?.size ?? 0;
  if (size > cdiFileBytesMax) throw new Error(`it has ${size} bytes, at most ${cdiFileBytesMax} are read`);
  const spec = parseYaml(readIfExists(path) ?? '');
  const kind = textOf(spec, 'kind') ?? '';
  if (!isObject(spec) || textOf(spec, 'cdiVersion') === undefined) throw new Error('it has no cdiVersion');
  if (!kindPattern.test(kind)) throw new Error(`invalid kind ${JSON.stringify(kind)}`);
  const file = { path, edits: editsOf(spec) };
  return itemsOf(spec['devices']).map((device) => {
    const name = textOf(device, 'name') ?? '';
    if (!isObject(device) || !namePattern.test(name)) throw new Error(`invalid device name ${JSON.stringify(name)}`);
    return { name: `${kind}=${name}`, edits: editsOf(device), file };
  });
}

function editsOf(holder: JsonObject): JsonObject {
  return Object.fromEntries(entriesOf(holder['containerEdits']));
}
