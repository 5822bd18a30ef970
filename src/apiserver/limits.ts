/** Bounds of the API server. */
export const requestBodyBytesMax = 3 * 1024 * 1024;
/** Parsed views kept per generation; two generations live at a time. */
export const viewsMax = 10_000;
/** Bytes of the values whose views one generation keeps; a view takes some five times as much. */
export const viewsBytesMax = 32 * 1024 * 1024;
export const watchBookmarkIntervalMs = 60_000;
export const eventTtlSeconds = 3600;
/** Retries of the whole write path when another writer was faster. */
export const conflictRetriesMax = 100;
/** Turns of an apply between creating and updating, while others create and delete the object. */
export const applyRetriesMax = 100;
/** Attempts to create where an address, a generated name or a quota was taken meanwhile. */
export const createRetriesMax = 50;
export const historyKeepMs = 5 * 60_000;
export const historyStepsPerKeep = 10;
/** Revisions kept at most, whatever their age. */
export const historyRevisionsMax = 20_000;
/**
 * Revisions written or forgotten between two looks that make a burst; after one, memory is given back so often, so far
 * apart.
 */
export const burstRevisionsMin = 200;
export const releasesAfterBurst = 3;
export const releaseIntervalMs = 5_000;
/** Bytes of old values kept at most, whatever their age; what is beyond is forgotten at once, down to half of it. */
export const historyBytesMax = 64 * 1024 * 1024;
/** Objects that a watch of the same process hands over at once when it begins: each may have to be parsed. */
export const watchInitialObjectsMax = 500;
/** Bytes that a watch hands to its connection at once. */
export const watchPieceBytesMax = 256 * 1024;
/**
 * So many watchers of the same objects are told together of changes that follow each other this closely; where telling
 * them takes longer, up to the longest rest.
 */
export const fanOutWatchersMin = 32;
export const fanOutRestMs = 5;
export const fanOutRestMsMax = 50;
/** Watch frames kept for watchers that have not sent them yet, and their bytes. */
export const watchFramesMax = 4096;
export const watchFramesBytesMax = 32 * 1024 * 1024;
/** Requests under way or waiting at one time, watches and streams not counted; more are told to come back. */
export const requestsInFlightMax = 20_000;
/** Requests that are looked at in one turn of the thread, before it is known whose they are. */
export const intakePerTurn = 16;
/** Those that wait to be looked at. */
export const intakeWaitingMax = 10_000;
/**
 * Streams of a connection; how many of them may wait for their answers before it is allowed fewer, how many those
 * connections then have together, and how often it is looked whether they still press.
 */
export const streamsMax = 1000;
export const pressingStreamsMin = 128;
export const pressingStreamsMax = 64;
export const streamsReviewMs = 1_000;
/** Seats that priority levels share: `--max-requests-inflight` and `--max-mutating-requests-inflight` of upstream. */
export const serverSeats = 600;
/** How often seats are dealt anew among priority levels. */
export const borrowingMs = 10_000;
/** How long a request may take, and how long it may wait in a queue. */
export const requestMsMax = 60_000;
export const queueMsMax = 60_000;
/** Flows of a priority level whose queues are remembered, and directories whose lists are. */
export const flowsMax = 4096;
export const listedPrefixesMax = 4096;
/** Refusals that wait for their turn; beyond that they are answered at once. */
export const refusalsWaitingMax = 10_000;
/** How long after a change the default objects of flow control are looked at. */
export const flowControlKeepMs = 10_000;
export const tokenSecondsMin = 600;
export const upgradeConnectTimeoutMs = 15_000;
/** Words of a kubelet's refusal that are passed on. */
export const kubeletErrorCharsMax = 4096;
/** One warning of an answer, and all of them. */
export const warningCharsMax = 256;
export const warningsCharsMax = 4096;
/** Bodies that are being read or worked on, of everybody and of one user; who comes beyond it is told to come back. */
export const requestBodiesBytesMax = 256 * 1024 * 1024;
export const requestBodiesOfUserBytesMax = 64 * 1024 * 1024;
/** How long a body may take to arrive. */
export const requestBodyMsMax = 60_000;
/** A list up to this size is one buffer with its length told; a larger one goes out in pieces. */
export const listWholeBytesMax = 4 * 1024 * 1024;
export const listPieceBytesMax = 256 * 1024;
/** Items of lists that are kept for whoever asks for the same ones; a list that is not whole is not kept. */
export const keptListBytesMin = 64 * 1024;
export const keptListBytesMax = 16 * 1024 * 1024;
/** Objects that are looked at, or shown, in one go where others wait for the thread. */
export const scannedTogetherMax = 64;
/** Objects that a paged list with a selector looks at in one go. */
export const scanPageMax = 1_000;
/**
 * Bytes of encodings (protobuf, decrypted Secrets) that are kept beside the values they were made of, before they are
 * let go.
 */
export const encodingsBytesMax = 32 * 1024 * 1024;
/** How long to wait before the server's own objects are put back again, when that failed. */
export const ownObjectsRetryMs = 1_000;
/** Lines and items of a YAML body. */
export const yamlLinesMax = 50_000;
/**
 * Bodies above this are measured before they are worked on: what will not be stored need not be defaulted, validated,
 * tracked.
 */
export const measuredBodyBytesMin = 262_144;
/** How long a live view waits before it asks the store again, when that failed: at first, and at most. */
export const relistDelayMs = 250;
export const relistDelayMsMax = 30_000;
/** How long a conversion webhook may take, and how many objects it is given at once. */
export const conversionMs = 30_000;
export const conversionObjectsMax = 1_000;
/** How long a definition waits that could not be brought in line, or whose last objects have not gone yet. */
export const definitionRetryMs = 1_000;
/** What the expressions of one policy may cost for one request and one set of parameters, as upstream has it. */
export const policyCostMax = 10_000_000;
/** Objects that one binding's selector may find as parameters. */
export const policyParamsMax = 1_000;
/** Kinds that the expressions of one policy are checked against. */
export const policyKindsMax = 10;
/** How often it is looked whether an aggregated API server is there, and, while it is not, again. */
export const remoteCheckMs = 30_000;
export const remoteRetryMs = 1_000;
/** How long one answer of it may take where this process asks itself, and how long it may be. */
export const remoteCallMs = 30_000;
export const remoteAnswerBytesMax = 64 * 1024 * 1024;

/** Of one tag of a page that comes through `proxy`: a longer one is passed on as it is. */
export const proxiedTagBytesMax = 64 * 1024;
/** For how long a server decides by permissions that no majority of its store has confirmed. */
export const unconfirmedMsMax = 10_000;
/** A server that shares its store is among the endpoints for so long after it was last seen; it renews so often. */
export const serverLeaseSeconds = 9;
export const serverLeaseSteps = 3;
/** Configuration files that flags name. */
export const configFileBytesMax = 1024 * 1024;
/** What a webhook that a kubeconfig names may answer. */
export const webhookAnswerBytesMax = 1024 * 1024;
/** An audit event's id and user agent, where a client gives them. */
export const auditIdCharsMax = 64;
export const userAgentCharsMax = 1024;
/** Audit events that wait to be sent, beside the bound on their number. */
export const auditBufferBytesMax = 64 * 1024 * 1024;
/** Of the audit log, where no flag says it. */
export const auditLogBytesDefault = 100 * 1024 * 1024;
/** How long the audit webhook may take, and how often it is asked to take a batch. */
export const auditWebhookMs = 30_000;
export const auditWebhookTriesMax = 5;
/** A bearer token, and the keys of one issuer. */
export const tokenCharsMax = 64 * 1024;
export const jwksKeysMax = 100;
/** What an issuer may answer, how long it may take, and how soon it is asked again. */
export const issuerAnswerBytesMax = 1024 * 1024;
export const issuerMs = 10_000;
export const issuerPauseMs = 10_000;
/** What the expressions of one token may cost together. */
export const claimsCostMax = 1_000_000;
/** Tokens whose users are remembered, and requests that wait for others to say whose a token is. */
export const knownTokensMax = 4096;
export const tokenQuestionsMax = 256;
/** How long a token is remembered, where nothing else says so. */
export const knownTokenMs = 10_000;
/** How often configuration files are looked at. */
export const configPollMs = 5_000;
/** How long a token webhook may take, and how often it is asked. */
export const tokenWebhookMs = 30_000;
export const tokenWebhookTriesMax = 5;
/** How long an authorization webhook may take where nothing says it, how often it is asked, by how many at a time. */
export const accessWebhookMs = 30_000;
export const accessWebhookTriesMax = 3;
export const accessQuestionsMax = 256;
/** Answers of it that are remembered. */
export const knownAnswersMax = 8192;
/** Certificates between a client's and an authority's. */
export const chainLengthMax = 10;
/** Objects that are sealed anew at a time, when the key that seals has changed. */
export const sealedTogetherMax = 100;

/** Owners of an object that are compared with each other, which costs the square of their number. */
export const ownersComparedMax = 256;
/** Connections that wait on a port for a server that is about to begin. */
export const heldConnectionsMax = 4096;
