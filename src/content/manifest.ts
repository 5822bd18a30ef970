/**
 * Manifests and indexes as registries and archives have them, and an index as it is kept here.
 *
 * Specification: OCI image 1.1 ("Content Descriptors", "Image Manifest", "Image Index"); docker's schema 2 has the same
 * shapes.
 */
export interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
  platform?: Platform;
  annotations?: Record<string, string>;
  artifactType?: string;
  data?: string;
  urls?: string[];
}
export interface Platform {
  os: string;
  architecture: string;
  variant?: string;
  'os.version'?: string;
}
export interface Manifest {
  schemaVersion: number;
  mediaType?: string;
  artifactType?: string;
  config: Descriptor;
  layers: Descriptor[];
  subject?: Descriptor;
  annotations?: Record<string, string>;
}
export interface Index {
  schemaVersion: number;
  mediaType?: string;
  artifactType?: string;
  manifests: Descriptor[];
  subject?: Descriptor;
  annotations?: Record<string, string>;
}

export type ManifestKind = 'image' | 'attestation' | 'unknown';

/** One manifest of an index. */
export interface IndexEntry {
  descriptor: Descriptor;
  kind: ManifestKind;
  /** What the manifest names, where all of it is here and is to stay. `configDigest` of an image is its id. */
  content?: { configDigest: string; blobs: string[]; sizeBytes: number };
}

export interface IndexRecord {
  digest: string;
  mediaType: string;
  sizeBytes: number;
  /** Digests of indexes within it. */
  inner: string[];
  /** In its order; those of indexes within it in their place. */
  manifests: IndexEntry[];
}
