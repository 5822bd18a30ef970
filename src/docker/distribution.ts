/** `GET /distribution/{name}/json`: what a registry holds under a name, without pulling it. */
import { ApiError } from '#base/errors.ts';
import { familiarRepository, parseReference, withDefaultTag } from '#base/reference.ts';
import { isImageFile, parseJson } from '#content/image-records.ts';
import type { Index, Manifest, Platform } from '#content/image-records.ts';
import { configBytesMax } from '#content/limits.ts';
import { RemoteError, RemoteRepository, UnreachableError, endpointUrlOf, readAll } from '#content/remote.ts';
import type { ImageStore } from '#engine/images.ts';
import { credentialOf } from './images.ts';
import type { Route, RouteContext } from './route.ts';

async function inspect(images: ImageStore, context: RouteContext): Promise<unknown> {
  const reference = withDefaultTag(parseReference(context.params['name']!));
  const { localRegistry, content, records } = images.options;
  if (localRegistry?.owns(reference.domain) === true) {
    const digest = localRegistry.resolve(reference.path, reference.digest ?? reference.tag ?? 'latest');
    if (digest === undefined) throw new ApiError('NotFound', 'manifest unknown: manifest unknown');
    const record = records.list().find((each) => each.manifestDigest === digest);
    return { Descriptor: { mediaType: record?.manifestMediaType ?? '', digest, size: content.blobs.size(digest) ?? 0 }, Platforms: record === undefined ? [] : [{ architecture: record.file.architecture, os: record.file.os }] };
  }
  const credential = credentialOf(context);
  const repository = new RemoteRepository(images.options.transport, { url: endpointUrlOf(reference.domain), ...(credential === undefined ? {} : { credential }) }, reference.path, 'pull');
  try {
    const manifest = await repository.manifest(reference.digest ?? reference.tag ?? 'latest', context.signal);
    const parsed = parseJson(manifest.bytes, 'manifest') as Index & Manifest;
    const platforms: Platform[] = Array.isArray(parsed.manifests) ? parsed.manifests.flatMap((each) => (each.platform === undefined ? [] : [each.platform])) : await platformOf(repository, parsed);
    return { Descriptor: { mediaType: manifest.mediaType, digest: manifest.digest ?? '', size: manifest.bytes.length }, Platforms: platforms };
  } catch (error) {
    if (error instanceof RemoteError) throw new ApiError(error.status === 404 ? 'NotFound' : 'Forbidden', error.status === 404 ? `manifest unknown: ${error.message}` : `${error.message}: ${familiarRepository(reference)}`);
    if (error instanceof UnreachableError) throw new ApiError('InternalError', error.message);
    throw error;
  }
}

async function platformOf(repository: RemoteRepository, manifest: Manifest): Promise<Platform[]> {
  const { source } = await repository.blob(manifest.config.digest);
  const file = parseJson(await readAll(source, configBytesMax), 'image configuration');
  return isImageFile(file) ? [{ architecture: file.architecture, os: file.os }] : [];
}

export function distributionRoutes(images: ImageStore): Route[] {
  return [{ method: 'GET', path: '/distribution/{name*}/json', handle: (context) => inspect(images, context) }];
}
