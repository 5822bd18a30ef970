/**
 * What a front end makes: an edge for each platform, and what is said of them under BuildKit's keys. A result without a
 * map of references is for one platform, which its configuration names.
 *
 * Source: BuildKit, exporter/containerimage/exptypes.
 */
import { ApiError } from '#base/errors.ts';
import { hostPlatform, normalizePlatform } from '#base/platform.ts';
import type { Platform } from '#base/platform.ts';
import { fieldOf, isObject, itemsOf, textOf } from '#base/unknown.ts';
import { isImageFile, platformOf } from '#content/image-file.ts';
import type { ImageFile } from '#content/image-file.ts';
import type { Edge } from '../llb/vertex.ts';

export const configKey = 'containerimage.config';
/** Seconds since 1970: nothing of the image is to be later. */
export const epochKey = 'source.date.epoch';
export const platformsKey = 'refs.platforms';

/** What a front end states of its result. */
export interface FrontendAttestation {
  /** A directory of statements; else one predicate. */
  isBundle: boolean;
  /** Where it lies. */
  edge: Edge | undefined;
  path: string;
  predicateType: string;
  /** Of a bundle: what the file begins with that is of the result itself, and comes first. */
  core: string;
  /** Only where the image is named by an index in any case. */
  isInlineOnly: boolean;
}

export interface Result {
  /** By platform; one without a name where there is one alone. */
  refs: ReadonlyMap<string, Edge | undefined>;
  metadata: ReadonlyMap<string, Buffer>;
  /** By platform, as references are. */
  attestations?: ReadonlyMap<string, readonly FrontendAttestation[]>;
}

export interface PlatformResult {
  /** By which the result's keys name it: `linux/amd64`. */
  id: string;
  platform: Platform;
  edge: Edge | undefined;
  file: ImageFile;
  stated: readonly FrontendAttestation[];
}

function parseMetadata({ metadata }: Result, key: string, message: string): unknown {
  const bytes = metadata.get(key);
  if (bytes === undefined || bytes.length === 0) return undefined;
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    throw new ApiError('BadRequest', message);
  }
}

/** The configuration that the front end gave; a bare one for a result without. */
function configOf(result: Result, keys: readonly string[], platform: Platform): ImageFile {
  const bare: ImageFile = { ...platform, config: {}, rootfs: { type: 'layers', diff_ids: [] } };
  const message = 'failed to parse image config for export';
  const value = keys.map((key) => parseMetadata(result, key, message)).find((each) => each !== undefined);
  if (value === undefined) return bare;
  const whole = isObject(value) ? { ...bare, ...value, rootfs: bare.rootfs } : undefined;
  if (!isImageFile(whole)) throw new ApiError('BadRequest', message);
  return whole;
}

interface NamedPlatform {
  id: string;
  platform: Platform;
}

function platformsOf(result: Result): NamedPlatform[] {
  const message = 'failed to parse platforms passed to exporter';
  const given = itemsOf(fieldOf(parseMetadata(result, platformsKey, message), 'Platforms'));
  return given.map((each) => {
    const id = textOf(each, 'ID');
    const [os, architecture, variant, version] = ['os', 'architecture', 'variant', 'os.version'].map((name) =>
      textOf(each, 'Platform', name),
    );
    if (id === undefined || os === undefined || architecture === undefined) throw new ApiError('BadRequest', message);
    return {
      id,
      platform: normalizePlatform({ os, architecture, variant: variant ?? '', 'os.version': version ?? '' }),
    };
  });
}

/** One entry for each platform. Throws BadRequest for what does not fit together, in BuildKit's words. */
export function splitResult(result: Result): PlatformResult[] {
  const { refs, attestations } = result;
  const isMap = !refs.has('');
  const platforms = platformsOf(result);
  if (!isMap) {
    const [first] = platforms;
    const keys = first === undefined ? [configKey] : [configKey, `${configKey}/${first.id}`];
    const file = configOf(result, keys, first?.platform ?? hostPlatform());
    const platform = first?.platform ?? platformOf(file);
    const stated = attestations?.get(first?.id ?? '') ?? attestations?.get('') ?? [];
    return [{ id: first?.id ?? '', platform, edge: refs.get(''), file, stated }];
  }
  if (platforms.length === 0)
    throw new ApiError('BadRequest', 'unable to export multiple refs, missing platforms mapping');
  return platforms.map(({ id, platform }) => {
    if (!refs.has(id)) throw new ApiError('BadRequest', `failed to find ref for ID ${id.slice(0, 100)}`);
    const file = configOf(result, [`${configKey}/${id}`, configKey], platform);
    return { id, platform, edge: refs.get(id), file, stated: attestations?.get(id) ?? [] };
  });
}
