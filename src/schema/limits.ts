/** Bounds of the work that objects and schemas cost. */

/** Field errors that one answer names, and their characters; what is beyond is said in one line. */
export const fieldErrorsMax = 500;
export const fieldErrorsCharsMax = 131_072;
/** Characters of a value that a message shows. */
export const shownValueCharsMax = 4_096;
/** Fields that nobody declared which one answer names; all are dropped. */
export const unknownFieldsMax = 100;
/** Schema nodes that one object's validation visits: alternatives and items multiply. */
export const schemaStepsMax = 2_000_000;
/** Nested messages of one protobuf body. */
export const protobufDepthMax = 100;
/** Messages and list items of one protobuf body: an empty one takes two bytes. */
export const protobufItemsMax = 100_000;
/** Paths of a field set that a message names. */
export const setPathsMax = 500;
/** Name servers and search paths of a Pod's dnsConfig (the bounds of the reference implementation). */
export const nameserversMax = 3;
export const dnsSearchesMax = 32;
export const dnsSearchCharsMax = 2048;
/** Exit codes and Pod conditions of one rule of a Job's podFailurePolicy, and rules of one policy (the same). */
export const jobExitCodesMax = 255;
export const jobConditionsMax = 20;
export const jobRulesMax = 20;
export const jobIndexesCharsMax = 64 * 1024;
/** Indexes that a Job's status may have to list. */
export const jobIndexesMax = 100_000;
/** The same at once, of a Job that has more completions than that. */
export const jobIndexesOfManyMax = 10_000;
export const jobManagerCharsMax = 63;
/** Rules of when a container starts again, and exit codes that one of them names. */
export const restartRulesMax = 20;
export const restartCodesMax = 255;
/**
 * Seconds an autoscaler may look back, and the period of one of its policies (the bounds of the reference
 * implementation).
 */
export const stabilizationSecondsMax = 3_600;
export const scalingPeriodSecondsMax = 1_800;
/**
 * Requests, constraints, configurations and selectors of one claim for devices or class of them, alternatives of one
 * request, consumers of one claim, characters of a selector's expression and of a driver's parameters (the bounds of
 * the reference implementation).
 */
export const deviceListMax = 32;
export const alternativesMax = 8;
export const consumersMax = 256;
export const expressionCharsMax = 10_240;
export const parameterBytesMax = 10_240;
/**
 * Devices of one slice, and where they have taints or counters; counter sets of a slice; attributes and capacities of
 * one device, characters of an attribute, taints, counter sets that a device uses, conditions of its binding (the
 * same).
 */
export const sliceDevicesMax = 128;
export const advancedDevicesMax = 64;
export const counterSetsMax = 8;
export const deviceAttributesMax = 32;
export const attributeCharsMax = 64;
export const deviceTaintsMax = 16;
export const deviceCountersMax = 2;
export const bindingConditionsMax = 4;
/** Annotations of one object, keys and values together. */
export const annotationsBytesMax = 262_144;
/** The text of one ClusterTrustBundle. */
export const trustBundleBytesMax = 1_048_576;
/** The request in a PodCertificateRequest, and the certificates of its answer. */
export const podRequestBytesMax = 10_240;
export const certificateChainBytesMax = 102_400;
/** How long a Pod's certificate may hold, in seconds: an hour to 91 days, of the cluster's own signers to one day. */
export const certificateSecondsMin = 3_600;
export const certificateSecondsMax = 7_862_400;
export const ownCertificateSecondsMax = 86_400;
/** Texts of a condition. */
export const conditionReasonBytesMax = 1_024;
export const conditionMessageBytesMax = 32_768;
/**
 * Validation rules of custom resources: what all that one request runs may cost, a message that an expression makes,
 * the estimated cost of one rule and of all of a schema, and the bytes of a request that sizes without a bound are
 * estimated by (the bounds of the reference implementation).
 */
export const ruleBudgetMax = 10_000_000;
export const ruleMessageBytesMax = 5_120;
export const ruleEstimateMax = 10_000_000;
export const rulesEstimateMax = 100_000_000;
export const ruleRequestBytesMax = 3_145_728;
/** Fields of one version of a custom resource that are selectable (the same). */
export const selectableFieldsMax = 8;
/** Match conditions of one webhook or policy, and audit annotations of one policy with their expressions. */
export const matchConditionsMax = 64;
export const auditAnnotationsMax = 20;
export const auditExpressionBytesMax = 5_120;
/** Of an Event's texts, and of what it says (Kubernetes, "Event"). */
export const eventTextBytesMax = 128;
export const eventNoteBytesMax = 1_024;
