/**
 * `GET /images/{name}/attestations` (since API 1.55): the in-toto statements that an index has for one of its images.
 * Source: BuildKit's documents, "Attestation storage".
 */
import { ApiError } from '#base/errors.ts';
import { referenceDigest } from '#content/image-indexes.ts';
import { parseJson, parseManifest } from '#content/image-records.ts';
import { attestationBytesMax, manifestBytesMax } from '#content/limits.ts';
import type { Descriptor } from '#content/manifest.ts';
import type { ImageStore } from '#engine/images.ts';
import { platformOfQuery } from './image-manifests.ts';
import { queryFlag } from './route.ts';
import type { RouteContext } from './route.ts';

const predicateAnnotation = 'in-toto.io/predicate-type';

interface Statement {
  Descriptor: Descriptor;
  PredicateType: string;
  Statement?: unknown;
}

export async function listAttestations(images: ImageStore, context: RouteContext): Promise<Statement[]> {
  const { params, query, version } = context;
  if (version[1] < 55) throw new ApiError('NotFound', 'page not found');
  const { name = '' } = params;
  const types = query.getAll('type').filter((type) => type !== '');
  const wantsBodies = queryFlag(query, 'statement');
  const { index } = images.target(name);
  const image = images.record(name, platformOfQuery(context, 55));
  const attested = index?.manifests.find(
    ({ kind, descriptor }) =>
      kind === 'attestation' && descriptor.annotations?.[referenceDigest] === image.manifestDigest,
  );
  if (attested === undefined) return [];
  const { blobs } = images.options.content;
  const read = async (digest: string, bytesMax: number): Promise<Uint8Array> => {
    if (blobs.has(digest)) return blobs.readBytes(digest, bytesMax);
    throw new ApiError('InternalError', `attestation statement ${digest} is not available locally`);
  };
  const { digest: manifest } = attested.descriptor;
  const { layers } = parseManifest(await read(manifest, manifestBytesMax), manifest);
  const wanted = layers.flatMap((layer): Statement[] => {
    const type = layer.annotations?.[predicateAnnotation] ?? '';
    return type === '' || (types.length > 0 && !types.includes(type))
      ? []
      : [{ Descriptor: layer, PredicateType: type }];
  });
  if (!wantsBodies) return wanted;
  if (wanted.reduce((sum, { Descriptor: { size } }) => sum + size, 0) > attestationBytesMax)
    throw new ApiError(
      'RequestEntityTooLarge',
      `the statements of ${name} have more than ${attestationBytesMax} bytes`,
    );
  for (const each of wanted) {
    const { digest } = each.Descriptor;
    each.Statement = parseJson(await read(digest, attestationBytesMax), digest);
  }
  return wanted;
}
