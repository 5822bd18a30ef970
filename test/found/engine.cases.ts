/** The engine and docker's API. */
import type { FoundCase } from './case.ts';

const hour = 'test/e2e/docker-first-hour.clients.root.test.ts';

export const cases: FoundCase[] = [
  {
    id: 'R1',
    behaviour: 'Reading a log takes what is asked for, not what is there, and lets others work meanwhile.',
    file: 'src/engine/logs.test.ts',
    title: 'what is asked for decides how much is read, and other work has its turn',
  },
  {
    id: 'R2',
    behaviour: 'A log stays within its bound, whoever writes and however fast, and while no engine runs.',
    file: 'src/engine/log-rotation.test.ts',
    title: 'what a fast writer left too long is cut, and the newest lines are kept',
  },
  {
    id: 'D18',
    behaviour: 'Logs since a time give every line from it on, to the nanosecond.',
    file: 'src/engine/logs.test.ts',
    title: 'a time of nanoseconds bounds to the nanosecond, both ends included',
  },
  {
    id: 'D20',
    behaviour: 'The last lines of a log are lines, though they came in pieces.',
    file: 'src/engine/logs.test.ts',
    title: 'lines are counted, whatever number of pieces they came in and whatever lies between',
  },
  {
    id: 'D22',
    behaviour: 'max-size and max-file hold for a writer that is faster than any look.',
    file: hour,
    title: 'max-size and max-file bound the log of a fast writer too',
  },
  {
    id: 'H1',
    behaviour: 'Pause or commit while the process ends leaves no container that cannot be removed.',
    file: hour,
    title: 'pause and commit while the process ends leave nothing stuck',
  },
  {
    id: 'H2',
    behaviour: 'An image made by commit has the whole configuration of its base, and the comment.',
    file: hour,
    title: 'commit keeps the configuration of the base, and the comment',
  },
  {
    id: 'D1',
    behaviour: 'A file, socket or device that -v names is bound as it is.',
    file: hour,
    title: '-v binds a file, a socket and a device node that are there, and makes a directory where nothing is',
  },
  {
    id: 'D2',
    behaviour: 'An input that ended before anybody listened has ended.',
    file: hour,
    title: 'input that has already ended ends: run -i, exec -i',
  },
  {
    id: 'D6',
    behaviour: 'A container is committed in every state.',
    file: hour,
    title: 'diff and commit take a container in any state, and an empty answer is an empty list',
  },
  {
    id: 'D23',
    behaviour: 'A command ends with its process, whoever else holds its output.',
    file: hour,
    title: 'exec ends with its process, though a child of it holds the output, and loses nothing of it',
  },
  {
    id: 'D26',
    behaviour: '--tmpfs takes the options of the kernel, and refuses what is none.',
    file: hour,
    title: 'tmpfs takes the options of the kernel and no others',
  },
  {
    id: 'D27',
    behaviour: '--read-only holds for hosts, hostname and resolv.conf.',
    file: hour,
    title: '--read-only holds for the files of the engine, and below a read-only bind',
  },
  {
    id: 'D34',
    behaviour: 'cp -a keeps owners where the image names no user.',
    file: hour,
    title: 'cp -a without a user of the image keeps owners',
  },
  {
    id: 'D35',
    behaviour: 'docker top takes the options of ps in its own grammar.',
    file: 'src/docker/top.test.ts',
    title: 'options are read as ps reads them',
  },
  {
    id: 'D36',
    behaviour: 'diff of a container without changes is empty.',
    file: hour,
    title: 'diff and commit take a container in any state, and an empty answer is an empty list',
  },
  {
    id: 'H6',
    behaviour: 'A seccomp profile holds for privileged containers too.',
    file: hour,
    title: 'privileged has the devices of the host, and the seccomp profile that was named',
  },
  {
    id: 'H7',
    behaviour: 'A privileged container has all devices of the host.',
    file: hour,
    title: 'privileged has the devices of the host, and the seccomp profile that was named',
  },
  {
    id: 'H8',
    behaviour: 'restart of a --rm container restarts it.',
    file: hour,
    title: 'restart of a --rm container restarts it; its end removes it',
  },
  {
    id: 'H12',
    behaviour:
      'Mounts reach containers that bind rslave or rshared, also where both kinds of cgroups are; where they cannot, the start is refused.',
    file: hour,
    title: 'a mount on the host reaches a container that binds rslave, and a place that cannot is refused',
  },
  {
    id: 'H14',
    behaviour: 'version, info, inspect, ps, top and logs tell what docker tells.',
    file: hour,
    title: 'version, info, inspect, ps, top and logs --details tell what docker tells',
  },
  {
    id: 'H15',
    behaviour: 'What the host cannot hold is refused or warned of.',
    file: hour,
    title: 'what this host cannot hold is refused or warned of',
  },
  {
    id: 'H17',
    behaviour: 'Control groups made for --cgroup-parent go with the last container in them, and with the instance.',
    file: 'src/os/cgroup-parents.test.ts',
    title: 'what was made goes with its last member, what was there stays',
  },
  {
    id: 'R6',
    behaviour: "$HOSTNAME in a Pod is the Pod's hostname.",
    file: hour,
    title: 'in a Pod $HOSTNAME is that of the Pod',
  },
  {
    id: 'DB4',
    behaviour: 'A field that is called as something of the language is passed over like any other unknown one.',
    file: 'src/docker/shapes.test.ts',
    title: 'a field named as something of the language is passed over',
  },
  {
    id: 'DB6',
    behaviour: 'Integers beyond 64 bits are refused when they are sent.',
    file: 'src/docker/shapes.test.ts',
    title: 'integers have 64 bits',
  },
  {
    id: 'DB11',
    behaviour: 'A NUL in a path of a request is a bad request.',
    file: hour,
    title: 'numbers out of range, names of the language and NULs are refused, not failures',
  },
  {
    id: 'DB12',
    behaviour: 'A NUL in a variable or an argument is refused, wherever it comes from.',
    file: 'src/engine/spec-checks.test.ts',
    title: 'a NUL is refused in every text that the kernel would cut',
  },
  {
    id: 'DB15',
    behaviour: 'A file with several names counts once in the size of a volume.',
    file: 'src/engine/tree-size.test.ts',
    title: 'a file with several names is counted once',
  },
  {
    id: 'A1',
    behaviour: 'A volume made while its namesake is removed keeps its directory and its files.',
    file: 'src/engine/volumes.test.ts',
    title: 'a volume made while its namesake is removed keeps its own directory and files',
  },
  {
    id: 'A2',
    behaviour: 'A volume that a container is being made with cannot be pruned from under it.',
    file: 'src/engine/volumes.test.ts',
    title: 'a volume that is promised to a container is in use',
  },
  {
    id: 'A3',
    behaviour:
      'The host address of a published port, from a user or a Pod, is an address before it is a word of a rule.',
    file: 'src/net/ports.test.ts',
    title: 'an address that is none never gets among the rules',
  },
  {
    id: 'A4',
    behaviour: 'An image whose configuration has other types than an image is not taken.',
    file: 'src/content/image-file.test.ts',
    title: 'a configuration of other types than an image has is none',
  },
  {
    id: 'A5',
    behaviour: 'A client that keeps its connection leaves nothing behind with each request.',
    file: 'src/docker/server.test.ts',
    title: 'requests of one connection leave nothing that listens to it',
  },
  {
    id: 'A6',
    behaviour: 'Addresses of a network that do not fit each other are refused.',
    file: 'src/engine/network-addresses.test.ts',
    title: 'subnet, range, gateway and further addresses must fit each other',
  },
  {
    id: 'A7',
    behaviour: 'Ports, ranges and addresses of a create request are what they must be.',
    file: 'src/docker/request.test.ts',
    title: 'a port, its address and its range are what they must be',
  },
  {
    id: 'A8',
    behaviour: 'Names and addresses that become lines of hosts or resolv.conf are one entry each.',
    file: 'src/docker/request.test.ts',
    title: 'what becomes a line of hosts or resolv.conf is one entry',
  },
  {
    id: 'A9',
    behaviour: 'A checksum of ADD is never passed over.',
    file: 'src/build/build.root.test.ts',
    title: 'flags that need BuildKit are refused, not dropped',
  },
  {
    id: 'H13',
    behaviour: 'docker build with buildx installed builds here',
    file: 'src/build/grpc/services.root.test.ts',
    title: 'files come from the session, the builder builds, and the client gets names and digests',
  },
];
