/** Content: registry, images, builds, archives. */
import type { FoundCase } from './case.ts';

export const cases: FoundCase[] = [
  {
    id: 'R9',
    behaviour: 'A user of the registry writes below his own name only; an administrator writes everywhere.',
    file: 'src/registry/registry.test.ts',
    title: 'a user writes and deletes below his own name, an administrator everywhere, and the first user is one',
  },
  {
    id: 'R5',
    behaviour: 'Guessing passwords at the registry takes a bounded share of one core and keeps nobody else waiting.',
    file: 'src/registry/password-checks.test.ts',
    title: 'who guesses costs a bounded share of the time and makes nobody else wait for more than one check',
  },
  {
    id: 'DB8',
    behaviour: 'Uploads that one user abandons do not keep others from pushing.',
    file: 'src/registry/registry.test.ts',
    title: 'abandoned uploads of one user keep nobody from pushing, and go in time',
  },
  {
    id: 'DB3',
    behaviour: 'Requests that finish one upload at the same moment: one succeeds, none fails with 500.',
    file: 'src/registry/registry.test.ts',
    title: 'a finished upload is finished once, whoever else comes at the same moment',
  },
  {
    id: 'DB1',
    behaviour: 'A malformed escape in a path of the registry is answered with 400.',
    file: 'src/registry/registry.test.ts',
    title: 'escapes that are none are wrong names, not failures',
  },
  {
    id: 'DB10',
    behaviour: 'A manifest with impossible sizes, digests or annotations is refused.',
    file: 'src/registry/registry.test.ts',
    title: 'a manifest that says nonsense is refused',
  },
  {
    id: 'D17',
    behaviour:
      'The registry asks for a credential on /v2/ although pulls are open, so that every client sends what it was given.',
    file: 'src/registry/registry.test.ts',
    title: '/v2/ asks who is there though pulls are open, and a token answers it',
  },
  {
    id: 'B6',
    behaviour: 'A commit that could not be written leaves nothing behind, whatever came before and after it.',
    file: 'src/content/records.test.ts',
    title: 'a rejected commit leaves nothing, whatever came before and after it to the same keys',
  },
  {
    id: 'D4',
    behaviour:
      "An archive without its last padding and end mark is whole, as docker's client writes it for a Dockerfile from standard input.",
    file: 'src/base/tar.test.ts',
    title: 'an archive that ends without its padding and its end mark is whole; one that ends in a file is not',
  },
  {
    id: 'D8',
    behaviour: 'ADD unpacks xz and bzip2 archives.',
    file: 'src/build/build.root.test.ts',
    title: 'ADD unpacks what is an archive, whatever it is called and however it is compressed',
  },
  {
    id: 'D9',
    behaviour: 'What ADD unpacks is told by its content, not by its name.',
    file: 'src/build/build.root.test.ts',
    title: 'ADD unpacks what is an archive, whatever it is called and however it is compressed',
  },
  {
    id: 'D11',
    behaviour: 'File names that are not UTF-8 go through layers, builds and copies byte for byte.',
    file: 'src/content/unpack.root.test.ts',
    title: 'names that are not UTF-8 are unpacked, packed and removed byte for byte',
  },
  {
    id: 'D13',
    behaviour: 'A load that loads nothing, or whose files are not what their digests say, fails.',
    file: 'src/docker/images-archive.root.test.ts',
    title: 'a load that loads nothing, or whose content is not what its name says, is an error',
  },
  {
    id: 'D15',
    behaviour: "An index in the platform's own registry is pulled for this machine.",
    file: 'src/docker/images-registry.root.test.ts',
    title:
      'an index with an attestation is pulled for this machine or another, from the registry of the process and over the wire',
  },
  {
    id: 'D30',
    behaviour: 'Variables in the JSON form of VOLUME are expanded.',
    file: 'src/build/dockerfile/dockerfile.test.ts',
    title: 'JSON forms that docker expands are expanded, the others are not',
  },
  {
    id: 'D31',
    behaviour: 'A number in --from is a stage or an error, never the beginning of an image id.',
    file: 'src/build/build.root.test.ts',
    title: 'a stage number is a stage or an error, and a letter of an image id is a name',
  },
  {
    id: 'DB13',
    behaviour: 'File times before 1970 are kept.',
    file: 'src/content/unpack.root.test.ts',
    title: 'a time before 1970 is kept, and two unpackings are equal',
  },
  {
    id: 'DB14',
    behaviour: 'A socket that a build step leaves is in no layer.',
    file: 'src/content/unpack.root.test.ts',
    title: 'a socket is in no layer, neither in the packed one nor in the directory that stands for it',
  },
  {
    id: 'H3',
    behaviour: 'docker load takes archives compressed with gzip, xz, bzip2 and zstd.',
    file: 'src/docker/images-archive.root.test.ts',
    title: 'a compressed archive is loaded as well, and one that ends without its end mark',
  },
  {
    id: 'H4',
    behaviour: 'What .dockerignore keeps out of an ignored directory is in the context.',
    file: 'src/build/build.root.test.ts',
    title: 'what is kept out of an ignored directory is copied, and nothing else of it',
  },
  {
    id: 'H11',
    behaviour: 'docker pull --platform fetches another platform though one is here.',
    file: 'src/docker/images-registry.root.test.ts',
    title:
      'an index with an attestation is pulled for this machine or another, from the registry of the process and over the wire',
  },
  {
    id: 'D39',
    behaviour: 'A directory that a layer does not name stays as the layers below have it.',
    file: 'src/content/implied-directories.root.test.ts',
    title: 'a directory that a layer does not name stays as it was below',
  },
  {
    id: 'H16',
    behaviour: 'What does not become smaller is stored in layers, and the rest is deflated on several threads.',
    file: 'src/content/gzip.test.ts',
    title: 'what does not become smaller is stored, what does is deflated',
  },
  {
    id: 'H10',
    behaviour: 'docker build --ulimit and every other parameter of a build is carried out, refused or warned about.',
    file: 'src/docker/image-parameters.test.ts',
    title: 'every parameter of a build is carried out, refused or warned about',
  },
];
