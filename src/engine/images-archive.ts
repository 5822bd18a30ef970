/**
 * What `docker save` writes and `docker load` reads: a docker archive (`manifest.json`, `repositories`) and an OCI
 * image layout (`oci-layout`, `index.json`, `blobs/`) at once. Here are the words that both need; `images-save.ts`
 * writes, `images-load.ts` reads.
 */
export interface DockerManifestItem {
  Config: string;
  RepoTags: string[] | null;
  Layers: string[];
}

export const blobPath = (digest: string): string => `blobs/${digest.replace(':', '/')}`;

/** In an index of ours: the image's own manifest, in place of which the layout has one of OCI's types. */
export const originalAnnotation = 'io.tiphys.image.manifest';
