/**
 * What is said of an image, in the form of in-toto, and how its names are written there.
 *
 * Source: in-toto, "Statement" 1; package URLs (purl), type `docker`.
 */
import { formatPlatform } from '#base/platform.ts';
import type { Platform } from '#base/platform.ts';
import { familiarRepository, parseReference, withDefaultTag } from '#base/reference.ts';
import type { Reference } from '#base/reference.ts';
import type { StepLayer } from '../llb/output.ts';
import type { Edge } from '../llb/vertex.ts';
import type { FrontendAttestation } from './result.ts';

export interface Statement {
  predicateType: string;
  predicate: unknown;
  /** In place of the image's names. */
  subjects?: readonly unknown[];
  /** Under which it lies beside files that are exported. */
  filename: string;
}

/** What is attested of. */
export interface Subject {
  /** As the client's display calls it: `linux/amd64`. */
  name: string;
  platform: Platform;
  edge: Edge | undefined;
  /** What the edge is made of, as an exporter gives it away; undefined: it gives no layers away. */
  steps?: readonly StepLayer[];
  /** By the front end itself. */
  stated?: readonly FrontendAttestation[];
}

/** `docker.io/library/x:1` for arm64 → `pkg:docker/x@1?platform=linux%2Farm64`; a digest alone is a qualifier. */
export function purlOf(name: string, platform: Platform | undefined, type: 'docker' | 'oci' = 'docker'): string {
  let reference: Reference;
  try {
    reference = withDefaultTag(parseReference(name));
  } catch {
    return `pkg:${type}/${encodeURIComponent(name)}`;
  }
  const qualifiers = {
    ...(reference.digest === undefined || reference.tag !== undefined ? {} : { digest: reference.digest }),
    ...(platform === undefined ? {} : { platform: formatPlatform(platform) }),
  };
  const shown = Object.entries(qualifiers).map(([key, value]) => `${key}=${encodeURIComponent(value)}`);
  const version = reference.tag === undefined ? '' : `@${encodeURIComponent(reference.tag)}`;
  return `pkg:${type}/${familiarRepository(reference)}${version}${shown.length === 0 ? '' : `?${shown.join('&')}`}`;
}
