/**
 * What a connection says of its client. Over TLS an engine of the platform is known by its node's client certificate,
 * which the cluster's authority signed for the group `system:nodes`.
 */
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { nodeGroup, type NodeCertificate } from '#base/node-identity.ts';
import { certificateBackdateMs } from '#base/x509.ts';
import { internalUser, type Identity } from './access.ts';

export function isSecure(socket: Socket): boolean {
  return socket instanceof TLSSocket;
}

/** The identity of an engine of the platform; undefined for everybody else. */
export function engineOf(socket: Socket, isRemoved: (certificate: NodeCertificate) => boolean): Identity | undefined {
  if (!(socket instanceof TLSSocket) || !socket.authorized) return undefined;
  const { subject, valid_from: from } = socket.getPeerCertificate();
  const [name = ''] = [subject.CN].flat();
  if (![subject.O].flat().includes(nodeGroup)) return undefined;
  if (isRemoved({ name, issuedAtMs: Date.parse(from) + certificateBackdateMs })) return undefined;
  return { name: internalUser, canWrite: true, isAdministrator: true, isInternal: true };
}
