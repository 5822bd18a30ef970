/** Mounts of a create request: `Binds`, `Mounts` and `Tmpfs`, with docker's defaults and refusals. */
import { cleanPath } from '#base/clean-path.ts';
import { ApiError } from '#base/errors.ts';
import type { Mount } from '#engine/engine.ts';
import { mergeTmpfsOptions } from '#engine/tmpfs-options.ts';
import { statIfExists } from '#os/files.ts';
import type { HostConfigBody, MountBody, VolumeOptionsBody } from './create-body.ts';

export function planMounts(host: HostConfigBody, declared: Record<string, unknown>): Mount[] {
  const out: Mount[] = [];
  const driver = String(host['VolumeDriver'] ?? '');
  for (const bind of host.Binds ?? []) {
    const mount = parseBind(bind);
    out.push(mount.type === 'volume' && driver !== '' ? { ...mount, volume: { driver } } : mount);
  }
  for (const mount of host.Mounts ?? []) out.push(planMount(mount));
  for (const [target, options] of Object.entries(host.Tmpfs ?? {})) out.push(parseTmpfs(target, options));
  const taken = new Set(out.map((mount) => mount.target));
  for (const target of Object.keys(declared))
    if (!taken.has(target))
      out.push({
        type: 'volume',
        source: '',
        target,
        readOnly: false,
        mode: '',
        populate: true,
        ...(driver === '' ? {} : { volume: { driver } }),
      });
  return out;
}

/** `source:target[:options]`. A source that is not absolute names a volume; a missing host directory is made. */
function parseBind(text: string): Mount {
  const parts = text.split(':');
  if (parts.length === 1)
    return {
      type: 'volume',
      source: '',
      target: checkTarget(text, parts[0]!),
      readOnly: false,
      mode: 'z',
      populate: true,
    };
  if (parts.length > 3 || parts[0] === '' || parts[1] === '')
    throw new ApiError('BadRequest', `invalid volume specification: '${text}'`);
  const [source = '', target = '', options = ''] = parts;
  const flags = options.split(',').filter(Boolean);
  const kinds = [/^r[ow]$/, /^[zZ]$/, /^r?(shared|slave|private)$/, /^nocopy$/, /^(cached|delegated|consistent)$/];
  // One of each kind: `ro,rw` says nothing.
  const unknown = kinds.some((kind) => flags.filter((flag) => kind.test(flag)).length > 1)
    ? options
    : flags.find(
        (flag) =>
          ![
            'ro',
            'rw',
            'z',
            'Z',
            'nocopy',
            'shared',
            'slave',
            'private',
            'rshared',
            'rslave',
            'rprivate',
            'cached',
            'delegated',
            'consistent',
          ].includes(flag),
      );
  if (unknown !== undefined)
    throw new ApiError('BadRequest', `invalid volume specification: '${text}': invalid mode: ${options}`);
  const readOnly = flags.includes('ro');
  if (!source.startsWith('/'))
    return {
      type: 'volume',
      source,
      target: checkTarget(text, target),
      readOnly,
      mode: options || 'z',
      populate: !flags.includes('nocopy'),
    };
  const propagation = flags.find((flag) => /^r?(shared|slave|private)$/.test(flag));
  return {
    type: 'bind',
    source,
    target: checkTarget(text, target),
    readOnly,
    mode: options,
    makeSource: true,
    ...(readOnly && (propagation === undefined || propagation.endsWith('private'))
      ? { readOnlyBelow: 'may' as const }
      : {}),
    ...(propagation === undefined ? {} : { propagation: propagation as 'rslave' }),
  };
}

function checkTarget(text: string, target: string): string {
  if (!target.startsWith('/'))
    throw new ApiError(
      'BadRequest',
      `invalid volume specification: '${text}': invalid mount config for type "volume": invalid mount path: '${target}' mount path must be absolute`,
    );
  const clean = cleanPath(target);
  if (clean === '/')
    throw new ApiError(
      'BadRequest',
      `invalid volume specification: '${text}': invalid specification: destination can't be '/'`,
    );
  return clean;
}

/** Refuses a mount with this reason. */
type Fail = (reason: string) => never;

function planBind(mount: MountBody, target: string, fail: Fail): Mount {
  const source = mount.Source ?? '';
  if (source === '') fail('field Source must not be empty');
  if (!source.startsWith('/')) fail(`invalid mount path: '${source}' mount path must be absolute`);
  const make = mount.BindOptions?.CreateMountpoint === true;
  if (!make && statIfExists(source) === undefined) fail(`bind source path does not exist: ${source}`);
  const {
    Propagation: propagation,
    NonRecursive: nonRecursive,
    ReadOnlyNonRecursive: shallow,
    ReadOnlyForceRecursive: deep,
  } = mount.BindOptions ?? {};
  if (propagation && !['private', 'rprivate', 'shared', 'rshared', 'slave', 'rslave'].includes(propagation))
    fail(`invalid propagation mode: ${propagation}`);
  if ((shallow === true || deep === true) && mount.ReadOnly !== true)
    fail(`mount must be read-only to use ${shallow === true ? 'ReadOnlyNonRecursive' : 'ReadOnlyForceRecursive'}`);
  if (shallow === true && deep === true) fail('ReadOnlyForceRecursive conflicts with ReadOnlyNonRecursive');
  if (deep === true && propagation && propagation !== 'rprivate')
    fail('ReadOnlyForceRecursive requires BindOptions.Propagation to be rprivate');
  return {
    type: 'bind',
    source,
    target,
    readOnly: mount.ReadOnly === true,
    mode: '',
    ...(make ? { makeSource: true } : {}),
    ...(propagation ? { propagation } : {}),
    ...(nonRecursive === true ? { nonRecursive } : {}),
    ...(mount.ReadOnly === true &&
    shallow !== true &&
    nonRecursive !== true &&
    (!propagation || propagation === 'rprivate')
      ? { readOnlyBelow: deep === true ? ('must' as const) : ('may' as const) }
      : {}),
  };
}

function planTmpfs(mount: MountBody, target: string, fail: Fail): Mount {
  if ((mount.Source ?? '') !== '') fail('field Source must not be specified');
  const { SizeBytes, Mode, Options: options } = mount.TmpfsOptions ?? {};
  const [size, mode] = [SizeBytes ?? 0, Mode ?? 0];
  if (size < 0) fail('invalid tmpfs size');
  const words = [
    ...(size > 0 ? [`size=${size}`] : []),
    ...(mode > 0 ? [`mode=${mode.toString(8)}`] : []),
    ...(options ?? []).map((words) => words.join('=')),
    ...(mount.ReadOnly === true ? ['ro'] : []),
  ];
  return {
    type: 'tmpfs',
    source: '',
    target,
    readOnly: mount.ReadOnly === true,
    tmpfsOptions: mergeTmpfsOptions(words),
  };
}

function planMount(mount: MountBody): Mount {
  const type = String(mount.Type ?? 'volume');
  const target = mount.Target ? cleanPath(mount.Target) : '';
  const fail: Fail = (reason) => {
    throw new ApiError('BadRequest', `invalid mount config for type "${type}": ${reason}`);
  };
  if (target === '') fail('field Target must not be empty');
  const own = { bind: 'BindOptions', volume: 'VolumeOptions', tmpfs: 'TmpfsOptions', image: 'ImageOptions' }[type];
  for (const name of ['BindOptions', 'VolumeOptions', 'TmpfsOptions', 'ImageOptions'] as const)
    if (name !== own && mount[name] !== undefined && mount[name] !== null) fail(`field ${name} must not be specified`);
  if (type === 'bind') return planBind(mount, target, fail);
  if (type === 'tmpfs') return planTmpfs(mount, target, fail);
  if (type === 'volume')
    return {
      type: 'volume',
      source: mount.Source ?? '',
      target,
      readOnly: mount.ReadOnly === true,
      mode: 'z',
      populate: mount.VolumeOptions?.NoCopy !== true,
      ...planVolume(mount.VolumeOptions ?? {}),
      ...(mount.VolumeOptions?.Subpath ? { subPath: checkSubPath(String(mount.VolumeOptions.Subpath), fail) } : {}),
    };
  if (type === 'image') {
    if ((mount.Source ?? '') === '') fail('field Source must not be empty');
    const subPath = mount.ImageOptions?.Subpath ?? '';
    return {
      type: 'image',
      source: mount.Source ?? '',
      target,
      readOnly: true,
      mode: '',
      ...(subPath === '' ? {} : { subPath: checkSubPath(subPath, fail) }),
    };
  }
  return fail('mount type unknown');
}

/** What a volume is made with, where there is none of that name. */
function planVolume(options: VolumeOptionsBody): Pick<Mount, 'volume'> {
  const { Labels: labels, DriverConfig: driver } = options;
  const out = {
    ...(labels ? { labels } : {}),
    ...(driver?.Name ? { driver: String(driver.Name) } : {}),
    ...(driver?.Options ? { options: driver.Options } : {}),
  };
  return Object.keys(out).length === 0 ? {} : { volume: out };
}

function checkSubPath(path: string, fail: Fail): string {
  if (path.startsWith('/') || path.split('/').includes('..')) fail('subpath must be a relative path within the volume');
  return path;
}

function parseTmpfs(target: string, options: string): Mount {
  const clean = checkTarget(target, target);
  const merged = mergeTmpfsOptions(options.split(',').filter(Boolean));
  return { type: 'tmpfs', source: '', target: clean, readOnly: merged.includes('ro'), tmpfsOptions: merged };
}
