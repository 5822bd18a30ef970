/**
 * What a manifest that a client sends refers to, checked field by field: others will read it and believe its sizes,
 * digests and annotations.
 * Specification: OCI image 1.1, "Image Manifest", "Image Index", "Content Descriptors"; docker's schema 2 has the same
 * shape.
 */
import { isDigest } from '#base/reference.ts';
import { mediaTypes, parseJson } from '#content/image-records.ts';
import { RegistryError } from './errors.ts';
import { manifestEntriesMax } from './limits.ts';
import type { Descriptor, Index, Manifest } from '#content/manifest.ts';

export interface ManifestRecord {
  mediaType: string;
  sizeBytes: number;
  blobs: string[];
  manifests: string[];
  subject?: string;
  artifactType?: string;
  annotations?: Record<string, string>;
}

const indexTypes: string[] = [mediaTypes.ociIndex, mediaTypes.dockerList];
const imageTypes: string[] = [mediaTypes.ociManifest, mediaTypes.dockerManifest];

function refuse(message: string): never {
  throw new RegistryError('MANIFEST_INVALID', message);
}

const isMap = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const isStringOrMissing = (value: unknown): boolean => value === undefined || typeof value === 'string';

function checkAnnotations(value: unknown, path: string): void {
  if (value !== undefined && (!isMap(value) || !Object.values(value).every((each) => typeof each === 'string')))
    refuse(`${path}annotations: must be a map of strings`);
}

function checkDescriptor(value: unknown, path: string): Descriptor {
  if (!isMap(value)) refuse(`${path} is not a descriptor`);
  if (!isStringOrMissing(value['mediaType'])) refuse(`${path}.mediaType: must be a string`);
  if (typeof value['digest'] !== 'string' || !isDigest(value['digest'])) refuse(`${path}.digest: invalid digest`);
  if (!Number.isSafeInteger(value['size']) || (value['size'] as number) < 0)
    refuse(`${path}.size: must be a whole number of bytes`);
  checkAnnotations(value['annotations'], `${path}.`);
  const { urls, platform, artifactType } = value;
  if (urls !== undefined && (!Array.isArray(urls) || !urls.every((url) => typeof url === 'string')))
    refuse(`${path}.urls: must be a list of strings`);
  if (!isStringOrMissing(artifactType)) refuse(`${path}.artifactType: must be a string`);
  if (
    platform !== undefined &&
    (!isMap(platform) ||
      typeof platform['os'] !== 'string' ||
      typeof platform['architecture'] !== 'string' ||
      !isStringOrMissing(platform['variant']))
  )
    refuse(`${path}.platform: must name os and architecture`);
  return value as unknown as Descriptor;
}

function checkList(value: unknown, path: string): Descriptor[] {
  if (!Array.isArray(value)) refuse(`${path}: must be a list`);
  if (value.length > manifestEntriesMax) refuse(`${path}: more than ${manifestEntriesMax} entries`);
  return value.map((each, index) => checkDescriptor(each, `${path}[${index}]`));
}

/** Throws RegistryError MANIFEST_INVALID, naming the field. `contentType`: what the request says. */
export function inspectManifest(bytes: Uint8Array, contentType: string | undefined): ManifestRecord {
  let parsed: unknown;
  try {
    parsed = parseJson(bytes, 'manifest');
  } catch {
    refuse('manifest is not valid JSON');
  }
  if (!isMap(parsed)) refuse('manifest is not a JSON object');
  const manifest = parsed as Partial<Manifest & Index>;
  if (!isStringOrMissing(manifest.mediaType)) refuse('mediaType: must be a string');
  const mediaType = (contentType ?? manifest.mediaType ?? '').split(';')[0]!.trim();
  if (manifest.mediaType !== undefined && mediaType !== manifest.mediaType)
    refuse(`media type in the manifest is ${manifest.mediaType}, the request says ${mediaType}`);
  if (mediaType === '') refuse('the media type is missing');
  if (manifest.schemaVersion !== 2) refuse('unrecognized manifest schema version');
  if (!isStringOrMissing(manifest.artifactType)) refuse('artifactType: must be a string');
  checkAnnotations(manifest.annotations, '');
  const isIndex = manifest.manifests !== undefined;
  if (isIndex && (manifest.layers !== undefined || manifest.config !== undefined))
    refuse('an index has no config and layers, an image manifest no manifests');
  if ((isIndex && imageTypes.includes(mediaType)) || (!isIndex && indexTypes.includes(mediaType)))
    refuse(`the content is not of type ${mediaType}`);
  const manifests = isIndex ? checkList(manifest.manifests, 'manifests') : [];
  const blobs = isIndex ? [] : [checkDescriptor(manifest.config, 'config'), ...checkList(manifest.layers, 'layers')];
  const subject = manifest.subject === undefined ? undefined : checkDescriptor(manifest.subject, 'subject');
  const artifactType = manifest.artifactType ?? blobs[0]?.mediaType;
  return {
    mediaType,
    sizeBytes: bytes.length,
    blobs: blobs.filter((blob) => blob.urls === undefined || blob.urls.length === 0).map((blob) => blob.digest),
    manifests: manifests.map((each) => each.digest),
    ...(subject === undefined ? {} : { subject: subject.digest }),
    ...(artifactType === undefined ? {} : { artifactType }),
    ...(manifest.annotations === undefined ? {} : { annotations: manifest.annotations }),
  };
}
