/** The Kubernetes version whose API this is. */
export const defaultGitVersion = 'v1.37.2';
