/** Cases of the node: kubelet, networks, names, Ingress. */
import type { FoundCase } from './case.ts';

export const cases: FoundCase[] = [
  { id: 'K44', behaviour: 'A Pod may set safe parameters of its own namespaces only; what is the host\'s is written by nobody', file: 'src/kubelet/admit.test.ts', title: 'a Pod sets safe parameters of its own namespaces, and no others' },
  { id: 'K44b', behaviour: 'Whoever asks, the writer of parameters refuses those of the host', file: 'src/engine/isolation.root.test.ts', title: 'parameters of the host are not written for a sandbox or a container, whoever asked' },
  { id: 'H5', behaviour: 'A bridge that a user names is guarded, publishes ports and goes away as any other', file: 'src/engine/isolation.root.test.ts', title: 'a bridge that the user names is guarded, publishes on 127.0.0.1, and goes with the network' },
  { id: 'R10', behaviour: 'Pods and containers send with addresses of their own only', file: 'src/engine/isolation.root.test.ts', title: 'a Pod sends with its own address only' },
  { id: 'R18', behaviour: 'Only published ports of a docker network are reached from Pods and other networks', file: 'src/engine/isolation.root.test.ts', title: 'Pods and other networks reach published ports of a container, and no others' },
  { id: 'D24', behaviour: 'Of networks with one name that are made at once, one is made', file: 'src/engine/isolation.root.test.ts', title: 'of ten networks of one name made at once, one is made' },
  { id: 'K12', behaviour: 'A rule for / beats the default backend, which serves hosts without a rule', file: 'src/network/ingress-config.test.ts', title: 'a rule beats the default backend, which gets what no rule takes and the hosts without one' },
  { id: 'B7', behaviour: 'Names cannot be forged by answers that the node did not ask for', file: 'src/net/dns-forwarder.test.ts', title: 'an answer from elsewhere, with another number or to another question is not taken' },
  { id: 'K11', behaviour: 'Answers are compressed; what does not fit is cut between records', file: 'src/net/dns-message.test.ts', title: 'twenty addresses of a long name fit without EDNS, as names are compressed' },
  { id: 'H9', behaviour: 'The embedded resolver is at 127.0.0.11', file: 'src/engine/names.root.test.ts', title: 'it is at 127.0.0.11, also where the container names resolvers' },
  { id: 'D28', behaviour: 'A container is known by name, aliases, short id and hostname', file: 'src/engine/names.root.test.ts', title: 'a container is known by its name, alias, short id and hostname, each with the name of the network too' },
];
