/** Cases of the node: kubelet, networks, names, Ingress. */
import type { FoundCase } from './case.ts';

export const cases: FoundCase[] = [
  {
    id: 'K44',
    behaviour: "A Pod may set safe parameters of its own namespaces only; what is the host's is written by nobody",
    file: 'src/kubelet/admit.test.ts',
    title: 'a Pod sets safe parameters of its own namespaces, and no others',
  },
  {
    id: 'K44b',
    behaviour: 'Whoever asks, the writer of parameters refuses those of the host',
    file: 'src/engine/isolation.root.test.ts',
    title: 'parameters of the host are not written for a sandbox or a container, whoever asked',
  },
  {
    id: 'H5',
    behaviour: 'A bridge that a user names is guarded, publishes ports and goes away as any other',
    file: 'src/engine/isolation.root.test.ts',
    title: 'a bridge that the user names is guarded, publishes on 127.0.0.1, and goes with the network',
  },
  {
    id: 'R10',
    behaviour: 'Pods and containers send with addresses of their own only',
    file: 'src/engine/isolation.root.test.ts',
    title: 'a Pod sends with its own address only',
  },
  {
    id: 'R18',
    behaviour: 'Only published ports of a docker network are reached from Pods and other networks',
    file: 'src/engine/isolation.root.test.ts',
    title: 'Pods and other networks reach published ports of a container, and no others',
  },
  {
    id: 'D24',
    behaviour: 'Of networks with one name that are made at once, one is made',
    file: 'src/engine/isolation.root.test.ts',
    title: 'of ten networks of one name made at once, one is made',
  },
  {
    id: 'K12',
    behaviour: 'A rule for / beats the default backend, which serves hosts without a rule',
    file: 'src/network/ingress-config.test.ts',
    title: 'a rule beats the default backend, which gets what no rule takes and the hosts without one',
  },
  {
    id: 'B7',
    behaviour: 'Names cannot be forged by answers that the node did not ask for',
    file: 'src/net/dns-forwarder.test.ts',
    title: 'an answer from elsewhere, with another number or to another question is not taken',
  },
  {
    id: 'K11',
    behaviour: 'Answers are compressed; what does not fit is cut between records',
    file: 'src/net/dns-message.test.ts',
    title: 'twenty addresses of a long name fit without EDNS, as names are compressed',
  },
  {
    id: 'H9',
    behaviour: 'The embedded resolver is at 127.0.0.11',
    file: 'src/engine/names.root.test.ts',
    title: 'it is at 127.0.0.11, also where the container names resolvers',
  },
  {
    id: 'D28',
    behaviour: 'A container is known by name, aliases, short id and hostname',
    file: 'src/engine/names.root.test.ts',
    title: 'a container is known by its name, alias, short id and hostname, each with the name of the network too',
  },
  {
    id: 'B3',
    behaviour: 'Header blocks of SPDY inflate with a bound',
    file: 'test/hostile/node.rows.ts',
    title: 'SPDY inflates a header block',
  },
  {
    id: 'K41',
    behaviour: 'A sidecar that has ended is not ready',
    file: 'src/kubelet/status.test.ts',
    title: 'an init container that is done is ready, a sidecar that has ended is not',
  },
  {
    id: 'K47',
    behaviour: 'A client of the older WebSocket form of port-forward gets the end',
    file: 'src/kubelet/port-forward.test.ts',
    title: 'a client of the older WebSocket form gets the data, then the end',
  },
  {
    id: 'R3',
    behaviour: 'No other user of the host enters what containers write',
    file: 'test/e2e/up.clients.root.test.ts',
    title: 'two ups at once make one platform, on two nodes, that comes back with its data',
  },
  {
    id: 'R4',
    behaviour: 'Database and log are for their owner alone',
    file: 'src/store/sqlite.test.ts',
    title: 'the file, its log and its index are for their owner alone, also where they were made otherwise',
  },
  {
    id: 'K42',
    behaviour: 'wget of the busybox image takes a timeout instead of crashing',
    file: 'src/build/bootstrap/busybox.test.ts',
    title: 'wget of the image takes -T in every form and leaves all other words as they are',
  },
  {
    id: 'K01',
    behaviour: 'The token belongs to the one user of all containers; a group reads what is projected',
    file: 'src/kubelet/volumes.root.test.ts',
    title: 'the token belongs to the one user of all containers, and to nobody else',
  },
  {
    id: 'K02',
    behaviour: 'A container that cannot be started is governed by restartPolicy',
    file: 'src/kubelet/attempts.test.ts',
    title: 'a container that cannot be started is over, and its Pod fails where nothing is to be tried again',
  },
  {
    id: 'R16',
    behaviour: 'Commands run in containers are as dear to the kernel as these; the platform goes last',
    file: 'src/engine/isolation.root.test.ts',
    title: 'a command that is run in a container is as dear to the kernel as the container',
  },
  {
    id: 'R12b',
    behaviour: 'DiskPressure follows what the file system has left',
    file: 'src/kubelet/node-pressure.test.ts',
    title: 'disk: all else has its turn first, and the condition holds for five minutes after the last sign',
  },
  {
    id: 'B14',
    behaviour: 'A seccomp profile of the node is followed or refused, never replaced by the default',
    file: 'src/kubelet/container-spec.test.ts',
    title: 'a seccomp profile that is not there or leads out is refused, never replaced by the default',
  },
  {
    id: 'B5',
    behaviour: 'A Pod that is deleted while its image is pulled or its hook runs is stopped at once',
    file: 'src/sim/waits.test.ts',
    title: 'a Pod that is deleted while its postStart hook runs stops within its grace period',
  },
  {
    id: 'B8',
    behaviour: 'Nodes report and evict under pressure of memory',
    file: 'src/kubelet/node-pressure.test.ts',
    title:
      'memory: one Pod at once and one every ten seconds, those first that use more than they asked for, by priority',
  },
  {
    id: 'B9',
    behaviour: "A probe's own grace period counts, also in a simulation",
    file: 'src/sim/pod-statuses.test.ts',
    title: 'probes: the startup probe holds the others back, readiness comes and goes, liveness restarts',
  },
  {
    id: 'B12',
    behaviour: 'Node processes hold no keys of the cluster: their certificates come by requests and renew themselves',
    file: 'src/platform/managed-certificate.test.ts',
    title: 'a certificate is asked for by the bootstrap token, kept, and renewed by the node itself before it ends',
  },
];
