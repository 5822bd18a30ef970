/** `GET /distribution/{name}/json`: what a registry holds under a name, without pulling it. */
import { createHash } from 'node:crypto';
import { ApiError } from '#base/errors.ts';
import { familiarRepository, isDigest, parseReference, withDefaultTag } from '#base/reference.ts';
import { isImageFile } from '#content/image-file.ts';
import { parseJson } from '#content/image-records.ts';
import { configBytesMax } from '#content/limits.ts';
import { RemoteError, UnreachableError, readAll } from '#content/remote.ts';
import { findSource } from '#engine/images-sources.ts';
import type { Source } from '#engine/images-sources.ts';
import type { ImageStore } from '#engine/images.ts';
import { credentialOf } from './images.ts';
import type { Route, RouteContext } from './route.ts';
import type { Descriptor, Index, Manifest, Platform } from '#content/manifest.ts';

async function inspect(images: ImageStore, context: RouteContext): Promise<unknown> {
  const reference = withDefaultTag(parseReference(context.params['name']!));
  const credential = credentialOf(context);
  try {
    const source = await findSource(images.options, reference, {
      signal: context.signal,
      ...(credential === undefined ? {} : { credential }),
    });
    const { bytes, mediaType, digest } = source.manifest;
    const parsed = parseJson(bytes, 'manifest') as Partial<Index & Manifest> | null;
    const platforms: Platform[] = Array.isArray(parsed?.manifests)
      ? parsed.manifests.flatMap((each) => (each?.platform === undefined ? [] : [each.platform]))
      : await platformOf(images, source, parsed?.config);
    return {
      Descriptor: {
        mediaType,
        digest: digest ?? `sha256:${createHash('sha256').update(bytes).digest('hex')}`,
        size: bytes.length,
      },
      Platforms: platforms,
    };
  } catch (error) {
    if (error instanceof RemoteError)
      throw new ApiError(
        error.status === 404 ? 'NotFound' : 'Forbidden',
        error.status === 404
          ? `manifest unknown: ${error.message}`
          : `${error.message}: ${familiarRepository(reference)}`,
      );
    if (error instanceof UnreachableError) throw new ApiError('InternalError', error.message);
    throw error;
  }
}

/** That of a single image; an artifact has none. */
async function platformOf(images: ImageStore, source: Source, config: Descriptor | undefined): Promise<Platform[]> {
  if (typeof config?.digest !== 'string' || !isDigest(config.digest) || !(config.size <= configBytesMax)) return [];
  const bytes =
    source.repository === undefined
      ? await images.options.content.blobs.readBytes(config.digest, configBytesMax)
      : await readAll((await source.repository.blob(config.digest)).source, configBytesMax);
  let file: unknown;
  try {
    file = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    return [];
  }
  return isImageFile(file)
    ? [
        {
          architecture: file.architecture,
          os: file.os,
          ...(file.variant === undefined ? {} : { variant: file.variant }),
        },
      ]
    : [];
}

export function distributionRoutes(images: ImageStore): Route[] {
  return [{ method: 'GET', path: '/distribution/{name*}/json', handle: (context) => inspect(images, context) }];
}
